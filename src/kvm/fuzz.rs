//! Ways into this layer for tests and fuzzing: a run page of any bytes, an MSR filter of any spans.
//! It is never part of a build that runs guests, and needs no KVM.

use std::ptr::NonNull;

use crate::addr::Span;
use crate::exit::Exit;

use super::entered::{Access, Entered};
use super::msr_filter;
use super::run_page::RunPage;

/// Bytes that KVM maps for a vCPU on x86: the run page, the data of port accesses, the ring of coalesced writes.
pub const RUN_SIZE: usize = 0x3000;

/// Reads the exit in a run page that begins with `bytes`, and answers all of it. Panics where an answer is not what is
/// read back.
pub fn run_page(bytes: &[u8]) {
    let mut words = vec![0_u64; RUN_SIZE / 8];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut whole = [0; 8];
        whole[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_le_bytes(whole);
    }
    let page = RunPage::new(NonNull::from(words.as_mut_slice()).cast(), RUN_SIZE);
    match page.exit() {
        Entered::Port(access) => port(&page, &access),
        Entered::Exit(Exit::MmioRead { size, .. }) => assert!((1..=8).contains(&size)),
        Entered::Exit(Exit::MmioWrite { size, data, .. }) => assert!((1..=8).contains(&size) && data <= ones(size)),
        other => assert!(!format!("{other:?}").is_empty()),
    }
    let _ = page.memory_fault();
    registers(&page);
    page.set_mmio_data(u64::MAX);
    page.set_msr_answer(Some(7));
    page.set_msr_answer(None);
}

/// All ones in `size` bytes, of which there are 1 to 8.
fn ones(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
}

/// Every element of an access can be answered, and no number of an element leads out of the page.
fn port(page: &RunPage, access: &Access) {
    for index in (0..access.count).chain([access.count, u32::MAX / 4, u32::MAX]) {
        let data = index.wrapping_mul(0x0101_0107);
        page.set_port_data(access, index, data);
        let back = u64::from(page.port_data(access, index));
        let kept = u64::from(data) & ones(access.size);
        assert!(index >= access.count || back == kept, "{access:?} {index}: {back:#x} for {kept:#x}");
    }
}

/// Registers go in as they came out.
fn registers(page: &RunPage) {
    let (regs, sregs, events) = (page.regs(), page.sregs(), page.events());
    page.set_events(&events);
    page.set_regs(&regs);
    page.set_sregs(&sregs);
    assert_eq!((page.regs(), page.sregs()), (regs, sregs));
}

/// Makes the MSR filter for `spans` and holds it against them. Says in how many groups it is, or `None` where KVM
/// would not take it.
pub fn msr_filter(spans: &[Span]) -> Option<usize> {
    let ranges = msr_filter::ranges(spans.iter().copied()).ok()?;
    let is_denied = |number: u64| {
        ranges.iter().any(|range| {
            let bit = number.checked_sub(u64::from(range.base)).filter(|bit| *bit < u64::from(range.count));
            let byte = bit.and_then(|bit| range.bitmap.get(usize::try_from(bit / 8).ok()?));
            byte.zip(bit).is_some_and(|(byte, bit)| byte >> (bit % 8) & 1 == 0)
        })
    };
    for range in &ranges {
        assert!(range.bitmap.len() <= 0x600 && range.bitmap.len() == usize::try_from(range.count.div_ceil(8)).ok()?);
        let numbers = u64::from(range.base)..u64::from(range.base) + u64::from(range.count);
        for n in numbers {
            assert_eq!(is_denied(n), spans.iter().any(|s| s.contains(n)), "{n:#x}");
        }
    }
    for span in spans {
        for n in [span.first, span.last, span.first.wrapping_sub(1), span.last.wrapping_add(1)] {
            assert_eq!(is_denied(n), spans.iter().any(|s| s.contains(n)), "{n:#x}");
        }
    }
    Some(ranges.len())
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use kvm_bindings as kb;
    use proptest::prelude::*;

    use super::*;
    use crate::x86::{Gpr, Regs, Segment, Sregs};

    /// Where the general registers lie in the run page, by KVM's names.
    fn general() -> [(Gpr, usize); Regs::COUNT] {
        macro_rules! at {
            ($($which:ident $field:ident),+) => { [$((Gpr::$which, offset_of!(kb::kvm_regs, $field))),+] };
        }
        at!(
            Rax rax, Rbx rbx, Rcx rcx, Rdx rdx, Rsi rsi, Rdi rdi, Rsp rsp, Rbp rbp, R8 r8, R9 r9, R10 r10, R11 r11,
            R12 r12, R13 r13, R14 r14, R15 r15, Rip rip, Rflags rflags
        )
    }

    fn segment() -> impl Strategy<Value = Segment> {
        (any::<u64>(), any::<u32>(), any::<u16>(), any::<[u8; 9]>()).prop_map(|(base, limit, selector, b)| Segment {
            base,
            limit,
            selector,
            kind: b[0],
            present: b[1],
            dpl: b[2],
            db: b[3],
            s: b[4],
            l: b[5],
            g: b[6],
            avl: b[7],
            unusable: b[8],
            padding: 0,
        })
    }

    /// A segment as KVM lays it out (Linux, arch/x86/include/uapi/asm/kvm.h).
    fn laid_out(s: &Segment) -> Vec<u8> {
        let small = [s.kind, s.present, s.dpl, s.db, s.s, s.l, s.g, s.avl, s.unusable, s.padding];
        [&s.base.to_le_bytes()[..], &s.limit.to_le_bytes(), &s.selector.to_le_bytes(), &small].concat()
    }

    /// The bytes of a run page after `write`, from its synchronised registers on.
    fn synchronised(write: impl FnOnce(&RunPage)) -> Vec<u8> {
        let mut words = vec![0_u64; RUN_SIZE / 8];
        write(&RunPage::new(NonNull::from(words.as_mut_slice()).cast(), RUN_SIZE));
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes[offset_of!(kb::kvm_run, s)..].to_vec()
    }

    /// A run page with `reason` and the words of its exit in place.
    fn page(reason: u32, words: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0; 32];
        bytes[8..12].copy_from_slice(&reason.to_le_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    proptest! {
        #[test]
        fn each_general_register_is_kvms_of_that_name(words: [u64; Regs::COUNT]) {
            let bytes = synchronised(|page| page.set_regs(&Regs { words }));
            for (which, offset) in general() {
                let at = offset_of!(kb::kvm_sync_regs, regs) + offset;
                prop_assert_eq!(&bytes[at..at + 8], &Regs { words }[which].to_le_bytes(), "{:?}", which);
            }
        }

        #[test]
        fn each_system_register_is_kvms_of_that_name(
            segments in prop::collection::vec(segment(), 8), words: [u64; 13], limits: [u16; 2],
        ) {
            let mut sregs = Sregs::default();
            let s = &mut sregs;
            [s.cs, s.ds, s.es, s.fs, s.gs, s.ss, s.tr, s.ldt] = segments.clone().try_into().expect("eight");
            [s.gdt.base, s.idt.base, s.cr0, s.cr2, s.cr3, s.cr4, s.cr8, s.efer, s.apic_base, ..] = words;
            s.interrupt_bitmap.copy_from_slice(&words[9..]);
            [s.gdt.limit, s.idt.limit] = limits;
            let bytes = synchronised(|page| page.set_sregs(&sregs));
            macro_rules! holds {
                ($expected:expr, $($field:tt)+) => {
                    let at = offset_of!(kb::kvm_sync_regs, sregs) + offset_of!(kb::kvm_sregs, $($field)+);
                    prop_assert_eq!(&bytes[at..at + $expected.len()], &$expected[..], "{}", stringify!($($field)+));
                };
            }
            holds!(laid_out(&segments[0]), cs);
            holds!(laid_out(&segments[1]), ds);
            holds!(laid_out(&segments[2]), es);
            holds!(laid_out(&segments[3]), fs);
            holds!(laid_out(&segments[4]), gs);
            holds!(laid_out(&segments[5]), ss);
            holds!(laid_out(&segments[6]), tr);
            holds!(laid_out(&segments[7]), ldt);
            holds!(words[0].to_le_bytes(), gdt.base);
            holds!(limits[0].to_le_bytes(), gdt.limit);
            holds!(words[1].to_le_bytes(), idt.base);
            holds!(limits[1].to_le_bytes(), idt.limit);
            holds!(words[2].to_le_bytes(), cr0);
            holds!(words[3].to_le_bytes(), cr2);
            holds!(words[4].to_le_bytes(), cr3);
            holds!(words[5].to_le_bytes(), cr4);
            holds!(words[6].to_le_bytes(), cr8);
            holds!(words[7].to_le_bytes(), efer);
            holds!(words[8].to_le_bytes(), apic_base);
            holds!(words[9].to_le_bytes(), interrupt_bitmap);
        }

        #[test]
        fn no_run_page_panics(reason in 0u32..64, mut words in prop::collection::vec(any::<u64>(), 2..40), small: bool) {
            if small {
                words[0] &= 0x0000_0fff_ffff_0701; // a port access of a likely size and count
                words[1] &= 0x3fff;
            }
            run_page(&page(reason, &words));
        }

        #[test]
        fn a_filter_denies_the_msrs_that_are_watched_and_no_others(
            spans in prop::collection::vec((prop::sample::select(vec![0_u64, 0x174, 0x2fff, 0xc000_0080, 0xffff_ff00]),
                0u64..0x3100, prop_oneof![1u64..40, 1u64..0x3000]), 0..6),
        ) {
            let spans: Vec<_> = spans.into_iter()
                .filter_map(|(base, off, len)| Span::new(base + off, len, u64::from(u32::MAX)).ok()).collect();
            let groups = msr_filter(&spans);
            prop_assert!(groups.is_some_and(|n| n <= 2 * spans.len()));
        }
    }

    #[test]
    fn an_access_beyond_the_page_is_no_access() {
        for (count, offset) in [(1, 0x3000_u64), (0xffff_ffff, 0x1000), (1, u64::MAX), (0x2001, 0x1000)] {
            let io = 4 << 8 | 0x10 << 16 | count << 32; // in, four bytes, port 0x10
            let mut words = vec![0_u64; RUN_SIZE / 8];
            words[1] = 2; // KVM_EXIT_IO
            words[4..6].copy_from_slice(&[io, offset]);
            let page = RunPage::new(NonNull::from(words.as_mut_slice()).cast(), RUN_SIZE);
            assert!(
                matches!(page.exit(), Entered::Exit(Exit::Unknown(unknown)) if unknown.reason == 2),
                "{count:#x} {offset:#x}"
            );
        }
    }
}
