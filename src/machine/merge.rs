//! What a handler set while the guest waited, on top of what the instruction then did. It never touches a vCPU.

use crate::bus::all_ones;
use crate::exit::Exit;
use crate::x86::{Gpr, Regs};

/// The registers after the instruction of `exit`: `before` it, as it alone has `done` it, and as the handler `wanted`.
///
/// What the instruction wrote is the instruction's, but for RIP and the flags, which are the handler's if it set them.
/// Of RAX, an IN writes only its own width.
pub(super) fn merged(exit: &Exit, before: &Regs, done: &Regs, wanted: &Regs) -> Regs {
    let mut regs = *done;
    for n in 0..Regs::COUNT {
        if done.words[n] == before.words[n] {
            regs.words[n] = wanted.words[n];
        }
    }
    for which in [Gpr::Rip, Gpr::Rflags] {
        if wanted[which] != before[which] {
            regs[which] = wanted[which];
        }
    }
    let is_string = done[Gpr::Rdi] != before[Gpr::Rdi]; // then the data goes to memory
    if let Exit::PortIn { size, .. } = *exit
        && !is_string
    {
        let kept = if size == 4 { 0 } else { !all_ones(size) }; // IN EAX clears the upper half
        regs[Gpr::Rax] = wanted[Gpr::Rax] & kept | done[Gpr::Rax] & !kept;
    }
    regs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestPhys;

    fn regs(values: &[(Gpr, u64)]) -> Regs {
        let mut regs = Regs::default();
        for (which, value) in values {
            regs[*which] = *value;
        }
        regs
    }

    #[test]
    fn a_narrow_in_keeps_the_rest_of_what_the_handler_put_into_rax() {
        let (before, done) = (regs(&[(Gpr::Rax, 0xff42)]), regs(&[(Gpr::Rax, 0xff42), (Gpr::Rip, 2)]));
        let wanted = regs(&[(Gpr::Rax, 0x1111), (Gpr::Rbx, 5)]);
        let after = |size| merged(&Exit::PortIn { port: 0, size }, &before, &done, &wanted);
        assert_eq!(after(1), regs(&[(Gpr::Rax, 0x1142), (Gpr::Rbx, 5), (Gpr::Rip, 2)]));
        assert_eq!(after(4)[Gpr::Rax], 0xff42);
    }

    #[test]
    fn a_string_moves_its_pointer_and_leaves_rax_to_the_handler() {
        let (before, done) = (regs(&[(Gpr::Rdi, 8)]), regs(&[(Gpr::Rdi, 9), (Gpr::Rip, 2)]));
        let wanted = regs(&[(Gpr::Rdi, 100), (Gpr::Rax, 7)]);
        let after = merged(&Exit::PortIn { port: 0, size: 1 }, &before, &done, &wanted);
        assert_eq!(after, regs(&[(Gpr::Rdi, 9), (Gpr::Rax, 7), (Gpr::Rip, 2)]));
    }

    #[test]
    fn rip_and_the_flags_are_the_handlers_if_it_set_them() {
        let (before, done) = (Regs::default(), regs(&[(Gpr::Rip, 2), (Gpr::Rflags, 0x40), (Gpr::Rcx, 1)]));
        let exit = Exit::MmioRead { at: GuestPhys(0), size: 4 };
        let wanted = regs(&[(Gpr::Rip, 0x5000)]);
        assert_eq!(
            merged(&exit, &before, &done, &wanted),
            regs(&[(Gpr::Rip, 0x5000), (Gpr::Rflags, 0x40), (Gpr::Rcx, 1)])
        );
    }
}
