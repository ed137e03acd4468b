//! The mini-guests by which the quirks of this KVM are found, a few instructions per question.
//! They never touch a user's machine, and each is given little time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::addr::GuestPhys;
use crate::boot::bare::Mode;
use crate::boot::layout::CODE;
use crate::error::Result;
use crate::exit::Exit;
use crate::kvm::{Host, Quirks, RunGuard, Sync, Vcpu, thread_time};
use crate::x86::{Gpr, cr0, efer, msr};

use super::{Config, Limits, Machine};

/// Long enough for a few instructions on an emulated PC, short enough for a question that hangs.
const PATIENCE: Duration = Duration::from_millis(100);
/// A question that took less of the processor than this did not hang: others kept the processor from it, or the processor
/// is an emulated one that meets this code for the first time.
const HANGS: Duration = Duration::from_secs(1);
/// The most time for all questions together.
pub const WHOLE: Duration = Duration::from_secs(10);

// KVM_GUESTDBG_*
const ENABLE: u32 = 1;
const SINGLE_STEP: u32 = 2;
const SOFTWARE_BREAKPOINTS: u32 = 1 << 16;
const HARDWARE_BREAKPOINTS: u32 = 1 << 17;

// Machine code of the questions.
const POPCNT: &[u8] = &[0xf3, 0x0f, 0xb8, 0xc3, 0xf4]; // popcnt eax, ebx; hlt
const INT3: &[u8] = &[0xcc, 0xf4]; // int3; hlt
const NOPS: &[u8] = &[0x90, 0x90, 0x90, 0xf4]; // nop; nop; nop; hlt
const STORE: &[u8] = &[0x89, 0x04, 0x25, 0x00, 0x20, 0, 0, 0x90, 0xf4]; // mov [0x2000], eax; nop; hlt
const OUT: &[u8] = &[0xe6, 0x10, 0xf4]; // out 0x10, al; hlt
const OUT_IN_RING3: &[u8] = &[0xe6, 0x10, 0xcc]; // out 0x10, al; int3
const BREAKPOINT: u8 = 3;
const HLT: &[u8] = &[0xf4];
const INT_80: &[u8] = &[0xcd, 0x80, 0xcc]; // int 0x80; int3
const SYSCALL: &[u8] = &[0x0f, 0x05, 0xcc, 0xf4]; // syscall; int3; and, where LSTAR points: hlt
const CPUID: &[u8] = &[0xb8, 1, 0, 0, 0, 0x31, 0xc9, 0x0f, 0xa2, 0xcc]; // mov eax, 1; xor ecx, ecx; cpuid; int3
const HYPERCALLS: [&[u8]; 2] = [
    &[0xb8, 0x63, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xf4], // mov eax, 99; vmcall; hlt
    &[0xb8, 0x63, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xf4], // mov eax, 99; vmmcall; hlt
];
const STORE_WATCHED: u64 = 0x2000;

/// What was found out.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The answers.
    pub quirks: Quirks,
    /// Every question was asked; else the time was over before, and what is left counts as no.
    pub in_time: bool,
}

/// How this KVM behaves. Takes a few milliseconds; on a host that is very busy, at most about [`WHOLE`].
pub fn probe() -> Result<Found> {
    let until = Instant::now() + WHOLE;
    let mut quirks = ask(until)?;
    let in_time = Instant::now() < until;
    quirks.are_known = in_time;
    if !in_time {
        log::warn!(
            "this host is so busy that its KVM was not asked everything within {WHOLE:?}; the next VM asks again"
        );
    }
    Ok(Found { quirks, in_time })
}

fn ask(until: Instant) -> Result<Quirks> {
    let guest = Guest::new(until)?;
    Ok(Quirks {
        ring0_is_native: matches!(guest.run(Mode::Long, POPCNT)?, Exit::Hlt),
        syscall_enters_ring0: guest.syscall()?,
        int_n_in_ring3: guest.exception_vector(INT_80)? == Some(0x80),
        int3_exits_in_ring0: guest.debug_exit(Mode::Long, INT3, SOFTWARE_BREAKPOINTS, [0; 8])?,
        int3_exits_in_ring3: guest.debug_exit(Mode::User, INT3, SOFTWARE_BREAKPOINTS, [0; 8])?,
        single_step_in_ring0: guest.debug_exit(Mode::Long, NOPS, SINGLE_STEP, [0; 8])?,
        single_step_in_ring3: guest.debug_exit(Mode::User, NOPS, SINGLE_STEP, [0; 8])?,
        hardware_breakpoints_in_ring0: guest.debug_exit(Mode::Long, NOPS, HARDWARE_BREAKPOINTS, breakpoint())?,
        hardware_breakpoints_in_ring3: guest.debug_exit(Mode::User, NOPS, HARDWARE_BREAKPOINTS, breakpoint())?,
        hardware_watchpoints: guest.debug_exit(Mode::Long, STORE, HARDWARE_BREAKPOINTS, watchpoint())?,
        port_map_in_ring3: guest.exception_vector(OUT_IN_RING3)? == Some(BREAKPOINT),
        hypercalls: guest.hypercalls()?,
        paging_32bit: guest.paging_32bit()?,
        out_advances_rip: guest.out_advances_rip()?,
        cpuid_masks_hold: Guest::new(until)?.cpuid_masks_hold()?,
        are_known: true,
    })
}

/// DR0-7 with an execution breakpoint on the second instruction of `NOPS` (Intel SDM vol. 3, 19.2.4).
fn breakpoint() -> [u64; 8] {
    [CODE.0 + 1, 0, 0, 0, 0, 0, 0, 0x402]
}

/// DR0-7 with a watchpoint on four bytes written by `STORE`.
fn watchpoint() -> [u64; 8] {
    [STORE_WATCHED, 0, 0, 0, 0, 0, 0, 0xd_0402]
}

/// A small machine for one question after the other.
struct Guest {
    machine: Arc<Machine>,
    until: Instant,
}

impl Guest {
    fn new(until: Instant) -> Result<Self> {
        let config = Config { memory: Some(1 << 20), ..Config::default() };
        let machine = Machine::new(&config, Quirks::DOCUMENTED).map(Arc::new)?;
        Ok(Self { machine, until })
    }

    fn load(&self, mode: Mode, code: &[u8]) -> Result<()> {
        self.machine.load(code, mode, CODE, 0)
    }

    /// Runs until an exit that says something. What counts is the time that the guest had: on a busy host it goes on.
    fn go(&self) -> Result<Exit> {
        let began = thread_time();
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let limits = Limits { timeout: Some(PATIENCE.min(left)), exits: Some(16), ..Limits::default() };
            let (_, exit) = self.machine.run(limits, &|| Ok(()))?;
            let hangs = thread_time().saturating_sub(began) > HANGS;
            if exit != Exit::Timeout || hangs || left.is_zero() {
                return Ok(exit);
            }
        }
    }

    fn run(&self, mode: Mode, code: &[u8]) -> Result<Exit> {
        self.load(mode, code)?;
        self.go()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vcpu) -> Result<T>) -> Result<T> {
        self.machine.cpu(0)?.with(|cpu| work(&mut cpu.vcpu))
    }

    fn exception_vector(&self, code: &[u8]) -> Result<Option<u8>> {
        Ok(match self.run(Mode::User, code)? {
            Exit::Exception(exception) => Some(exception.vector),
            _ => None,
        })
    }

    /// Does `code` end in a debug exit, when debugging is asked for as `control` says?
    fn debug_exit(&self, mode: Mode, code: &[u8], control: u32, registers: [u64; 8]) -> Result<bool> {
        self.load(mode, code)?;
        self.with(|vcpu| vcpu.set_guest_debug(ENABLE | control, registers))?;
        let exit = self.go();
        self.with(|vcpu| vcpu.set_guest_debug(0, [0; 8]))?;
        Ok(matches!(exit?, Exit::Debug { .. }))
    }

    /// SYSCALL to a HLT that ring 3 may fetch: it halts in ring 0, and faults in ring 3.
    fn syscall(&self) -> Result<bool> {
        self.load(Mode::User, SYSCALL)?;
        self.with(|vcpu| {
            let mut sregs = vcpu.sregs()?;
            sregs.efer |= efer::SCE;
            vcpu.set_sregs(&sregs);
            vcpu.set_msr(msr::STAR, 0x0023_0010 << 32)?;
            vcpu.set_msr(msr::LSTAR, CODE.0 + 3)
        })?;
        Ok(matches!(self.go()?, Exit::Hlt))
    }

    /// One of the two instructions is this processor's.
    fn hypercalls(&self) -> Result<bool> {
        for code in HYPERCALLS {
            if matches!(self.run(Mode::Long, code)?, Exit::Hlt) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One page directory with one 4 MiB page, in the page after the code.
    fn paging_32bit(&self) -> Result<bool> {
        const PSE: u64 = 1 << 4;
        self.load(Mode::Protected, HLT)?;
        let directory = GuestPhys(CODE.0 + crate::addr::PAGE);
        self.machine.memory.write(directory, &0x83_u32.to_le_bytes())?;
        self.with(|vcpu| {
            let mut sregs = vcpu.sregs()?;
            (sregs.cr3, sregs.cr4, sregs.cr0) = (directory.0, PSE, sregs.cr0 | cr0::PG);
            vcpu.set_sregs(&sregs);
            Ok(())
        })?;
        Ok(matches!(self.go(), Ok(Exit::Hlt)))
    }

    fn out_advances_rip(&self) -> Result<bool> {
        self.load(Mode::Long, OUT)?;
        let left = self.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let _guard = RunGuard::begin(&self.machine.cpu(0)?.kick, Some(left))?;
        self.with(|vcpu| {
            vcpu.want(Sync::Regs, true);
            vcpu.enter()?;
            let rip = vcpu.regs()?[Gpr::Rip];
            vcpu.complete()?;
            Ok(rip != CODE.0)
        })
    }

    /// Masks POPCNT out of leaf 1, and asks ring 3. Before the vCPU has run.
    fn cpuid_masks_hold(&self) -> Result<bool> {
        const POPCNT_BIT: u32 = 1 << 23;
        let mut leaves = Host::open()?.cpuid_for(0, &Quirks::DOCUMENTED)?;
        leaves.as_mut_slice().iter_mut().filter(|leaf| leaf.function == 1).for_each(|leaf| leaf.ecx &= !POPCNT_BIT);
        self.with(|vcpu| vcpu.set_cpuid(&leaves))?;
        self.run(Mode::User, CPUID)?;
        self.with(|vcpu| Ok(vcpu.regs()?[Gpr::Rcx] & u64::from(POPCNT_BIT) == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_the_time_is_over_no_question_takes_any() {
        if Host::open().is_err() {
            return;
        }
        let began = Instant::now();
        let guest = Guest::new(began).expect("a machine");
        guest.load(Mode::User, &[0xeb, 0xfe]).expect("loads");
        assert_eq!(guest.go().expect("runs"), Exit::Timeout);
        assert!(thread_time() > Duration::ZERO && began.elapsed() < WHOLE);
    }

    #[test]
    fn a_question_that_hangs_is_given_up_and_the_next_one_is_asked() {
        if Host::open().is_err() {
            return;
        }
        let guest = Guest::new(Instant::now() + WHOLE).expect("a machine");
        assert_eq!(guest.run(Mode::User, &[0xeb, 0xfe]).expect("runs"), Exit::Timeout);
        assert_eq!(guest.exception_vector(&[0xcc]).expect("runs"), Some(BREAKPOINT));
    }
}
