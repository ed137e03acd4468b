//! Parts of general registers by name: EAX, AX, AL, AH, R8D and their like. It never touches a register.

use super::regs::{Gpr, Regs};

/// Some bits of a general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The register's place in [`Regs::NAMES`].
    pub at: usize,
    /// The lowest bit.
    pub shift: u32,
    /// How many bits: 8, 16, 32 or 64.
    pub bits: u32,
}

impl Part {
    /// All 64 bits of a register.
    #[allow(clippy::as_conversions)] // a fieldless enum's discriminant
    pub const fn whole(which: Gpr) -> Self {
        Self { at: which as usize, shift: 0, bits: 64 }
    }

    /// The part of that name, in small letters.
    pub fn named(name: &str) -> Option<Self> {
        let whole = |name: &str| Regs::NAMES.iter().position(|n| *n == name);
        if let Some(at) = whole(name) {
            return Some(Self { at, shift: 0, bits: 64 });
        }
        let is_numbered = |name: &str| name.starts_with('r') && name.ends_with(|last: char| last.is_ascii_digit());
        let low = |name: &str, bits| Some(Self { at: whole(name)?, shift: 0, bits });
        let (first, last) = name.split_at_checked(name.len().checked_sub(1)?)?;
        match (name, first, last) {
            ("eflags", ..) => low("rflags", 32),
            ("flags", ..) => low("rflags", 16),
            ("ah" | "bh" | "ch" | "dh", ..) => Some(Self { shift: 8, ..low(&format!("r{first}x"), 8)? }),
            ("al" | "bl" | "cl" | "dl", ..) => low(&format!("r{first}x"), 8),
            ("sil" | "dil" | "spl" | "bpl", ..) => low(&format!("r{first}"), 8),
            (_, numbered, "d") if is_numbered(numbered) => low(numbered, 32),
            (_, numbered, "w") if is_numbered(numbered) => low(numbered, 16),
            (_, numbered, "b") if is_numbered(numbered) => low(numbered, 8),
            _ if name.starts_with('e') => low(&format!("r{}", name.get(1..)?), 32),
            _ if name.len() == 2 => low(&format!("r{name}"), 16),
            _ => None,
        }
    }

    /// Its name, by which [`Part::named`] finds it.
    pub fn name(self) -> String {
        let whole = Regs::NAMES[self.at];
        let short = whole.get(1..).unwrap_or_default();
        let is_letter = short.len() == 2 && short.ends_with('x');
        let is_numbered = short.starts_with(|first: char| first.is_ascii_digit());
        match (self.bits, is_numbered) {
            (64, _) => whole.into(),
            (32, false) => format!("e{short}"),
            (16, false) => short.into(),
            (_, false) if is_letter => {
                format!("{}{}", short.trim_end_matches('x'), if self.shift == 8 { 'h' } else { 'l' })
            }
            (_, false) => format!("{short}l"),
            (32, true) => format!("{whole}d"),
            (16, true) => format!("{whole}w"),
            (_, true) => format!("{whole}b"),
        }
    }

    /// Its value, from the whole register's.
    pub fn of(self, whole: u64) -> u64 {
        whole >> self.shift & self.most()
    }

    /// The largest value that it can have.
    pub fn most(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    /// The whole register after a write: of 32 bits it clears the upper half, of less it keeps the rest (Intel SDM
    /// vol. 1, 3.4.1.1).
    pub fn merged(self, whole: u64, value: u64) -> u64 {
        match self.bits {
            32 | 64 => value & self.most(),
            _ => whole & !(self.most() << self.shift) | (value & self.most()) << self.shift,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_manuals_and_no_others() {
        let part = |name| Part::named(name).map(|p| (Regs::NAMES[p.at], p.shift, p.bits));
        assert_eq!(part("rax"), Some(("rax", 0, 64)));
        assert_eq!(part("ah"), Some(("rax", 8, 8)));
        assert_eq!(part("sil"), Some(("rsi", 0, 8)));
        assert_eq!(part("r10d"), Some(("r10", 0, 32)));
        assert_eq!(part("r8b"), Some(("r8", 0, 8)));
        assert_eq!(part("bp"), Some(("rbp", 0, 16)));
        assert_eq!(part("eflags"), Some(("rflags", 0, 32)));
        for none in [
            "", "e", "r", "eax ", "r16d", "rd", "rb", "eflagsd", "raxd", "rspb", "8d", "er8", "rr8", "\u{e9}x",
            "e\u{e9}",
        ] {
            assert_eq!(part(none), None, "{none}");
        }
    }

    #[test]
    fn a_part_is_called_by_the_name_that_finds_it() {
        let names =
            ["rax", "ecx", "dx", "bl", "ah", "sil", "bp", "r8d", "r15w", "r10b", "eip", "eflags", "flags", "rip"];
        for name in names {
            assert_eq!(Part::named(name).expect("known").name(), name);
        }
    }

    #[test]
    fn writes_do_to_the_rest_what_the_processor_does() {
        let write = |name, value| Part::named(name).expect("known").merged(0x1122_3344_5566_7788, value);
        assert_eq!(write("eax", 0xffff_ffff), 0xffff_ffff);
        assert_eq!(write("ax", 1), 0x1122_3344_5566_0001);
        assert_eq!(write("al", 1), 0x1122_3344_5566_7701);
        assert_eq!(write("ah", 1), 0x1122_3344_5566_0188);
    }
}
