//! Registers as core files carry them: `struct user_regs_struct` of Linux (sys/user.h), the body of an NT_PRSTATUS note.
//! It never reads a file.

use super::regs::{Gpr, Regs, Sregs};
use super::segment::Segment;

/// Words of `struct user_regs_struct`.
pub const COUNT: usize = 27;

/// The general registers among them: where each is, and which.
const GENERAL: [(usize, Gpr); Regs::COUNT] = [
    (0, Gpr::R15),
    (1, Gpr::R14),
    (2, Gpr::R13),
    (3, Gpr::R12),
    (4, Gpr::Rbp),
    (5, Gpr::Rbx),
    (6, Gpr::R11),
    (7, Gpr::R10),
    (8, Gpr::R9),
    (9, Gpr::R8),
    (10, Gpr::Rax),
    (11, Gpr::Rcx),
    (12, Gpr::Rdx),
    (13, Gpr::Rsi),
    (14, Gpr::Rdi),
    (16, Gpr::Rip),
    (18, Gpr::Rflags),
    (19, Gpr::Rsp),
];
const ORIG_RAX: usize = 15;
const FS_BASE: usize = 21;
const GS_BASE: usize = 22;

/// Where the selectors are.
fn selectors(s: &mut Sregs) -> [(usize, &mut Segment); 6] {
    [(17, &mut s.cs), (20, &mut s.ss), (23, &mut s.ds), (24, &mut s.es), (25, &mut s.fs), (26, &mut s.gs)]
}

/// The words for these registers. There is no number of a system call in them: ORIG_RAX is -1.
pub fn words(regs: &Regs, sregs: &Sregs) -> [u64; COUNT] {
    let mut words = [0; COUNT];
    for (at, which) in GENERAL {
        words[at] = regs[which];
    }
    for (at, segment) in selectors(&mut sregs.clone()) {
        words[at] = segment.selector.into();
    }
    (words[ORIG_RAX], words[FS_BASE], words[GS_BASE]) = (u64::MAX, sregs.fs.base, sregs.gs.base);
    words
}

/// What the words say of the registers; the rest of `sregs` stays as it is.
pub fn take(words: &[u64; COUNT], regs: &mut Regs, sregs: &mut Sregs) {
    for (at, which) in GENERAL {
        regs[which] = words[at];
    }
    for (at, segment) in selectors(sregs) {
        segment.selector = u16::try_from(words[at] & 0xffff).unwrap_or(0);
    }
    (sregs.fs.base, sregs.gs.base) = (words[FS_BASE], words[GS_BASE]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn registers_come_back_from_the_words(general in any::<[u64; 18]>(), base in any::<u64>(), cs in any::<u16>()) {
            let regs = Regs { words: general };
            let mut sregs = Sregs::default();
            (sregs.cs.selector, sregs.gs.base) = (cs, base);
            let (mut back, mut sback) = (Regs::default(), Sregs::default());
            take(&words(&regs, &sregs), &mut back, &mut sback);
            prop_assert_eq!((back, sback), (regs, sregs));
        }
    }
}
