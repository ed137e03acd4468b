//! Model-specific registers by name and by number. It never says which of them exist on a processor.

use std::sync::LazyLock;

use super::msr_names::{NUMBERED, SINGLE};

/// Names and numbers, in the order of the numbers.
pub static NAMES: LazyLock<Vec<(String, u32)>> = LazyLock::new(|| {
    let single = SINGLE.iter().map(|(name, number)| ((*name).to_string(), *number));
    let numbered = NUMBERED.iter().flat_map(|(before, after, first, step, count)| {
        (0..*count).map(move |n| (format!("{before}{n}{after}"), first + step * n))
    });
    let mut all: Vec<_> = single.chain(numbered).collect();
    all.sort_by_key(|(_, number)| *number);
    all
});

/// The APIC base and its enable bit.
pub const APIC_BASE: u32 = 0x1b;
/// The time-stamp counter.
pub const TSC: u32 = 0x10;
/// `EFER`: long mode, SYSCALL, NX.
pub const EFER: u32 = 0xc000_0080;
/// `STAR`: the selectors of SYSCALL and SYSRET.
pub const STAR: u32 = 0xc000_0081;
/// `LSTAR`: where SYSCALL goes.
pub const LSTAR: u32 = 0xc000_0082;
/// `SYSCALL_MASK`: the flags that SYSCALL clears.
pub const SYSCALL_MASK: u32 = 0xc000_0084;
/// The base of FS.
pub const FS_BASE: u32 = 0xc000_0100;
/// The base of GS.
pub const GS_BASE: u32 = 0xc000_0101;

/// Those that count by themselves: the TSC, MPERF and APERF, Hyper-V's run time and reference time.
pub const COUNTERS: [u32; 7] = [TSC, 0xe7, 0xe8, 0x4000_0010, 0x4000_0020, 0xc000_00e7, 0xc000_00e8];

/// The name as the table has it: `MSR_`, `IA32_` and case do not matter.
fn bare(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("MSR_").unwrap_or(&upper);
    bare.strip_prefix("IA32_").unwrap_or(bare).to_string()
}

/// The number of a name; `MSR_`, `IA32_` and case do not matter.
pub fn number(name: &str) -> Option<u32> {
    let bare = bare(name);
    NAMES.iter().find(|(n, _)| *n == bare).map(|(_, number)| *number)
}

/// The name of a number, where it has one here.
pub fn name(number: u32) -> Option<&'static str> {
    NAMES.binary_search_by_key(&number, |(_, n)| *n).ok().map(|at| NAMES[at].0.as_str())
}

/// The names most like `name`, the nearest first.
pub fn names_like(name: &str) -> Vec<&'static str> {
    let wanted = bare(name);
    let pairs = |text: &str| text.as_bytes().windows(2).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let theirs = pairs(&wanted);
    let likeness = |candidate: &str| {
        let own = pairs(candidate);
        let common = own.iter().filter(|pair| theirs.contains(pair)).count();
        2000 * common / (own.len() + theirs.len()).max(1)
    };
    let mut found: Vec<_> = NAMES.iter().map(|(n, _)| (likeness(n), n.as_str())).filter(|(l, _)| *l >= 450).collect();
    found.sort_by_key(|(likeness, name)| (std::cmp::Reverse(*likeness), name.len()));
    found.into_iter().map(|(_, name)| name).take(5).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_and_no_number_is_there_twice() {
        let mut names: Vec<_> = NAMES.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
        let twice: Vec<_> = NAMES.windows(2).filter(|pair| pair[0].1 == pair[1].1).collect();
        assert!(twice.is_empty(), "{twice:x?}");
    }

    #[test]
    fn names_are_found_however_they_are_spelt() {
        assert_eq!(number("msr_ia32_tsc"), Some(TSC));
        assert_eq!(number("Mc3_Status"), Some(0x40d));
        assert_eq!(name(0x20f), Some("MTRR_PHYSMASK7"));
        assert_eq!(name(0x9999_9999), None);
    }

    #[test]
    fn a_slip_of_the_keyboard_is_answered_with_the_name() {
        assert_eq!(names_like("LSTRA").first(), Some(&"LSTAR"));
        assert!(names_like("SYSCAL_MASK").contains(&"SYSCALL_MASK"));
        assert!(names_like("qqqqqq").is_empty());
    }
}
