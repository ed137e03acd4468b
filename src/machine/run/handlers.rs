//! Steps that lead into a handler of the guest's. KVM steps by the trap flag, which an exception or interrupt would take along
//! into its frame, to come back when nobody steps any more. So debug registers stop the vCPU at the first instruction of the
//! handlers of faults, and interrupts come in between two steps, without the flag. It never delivers anything itself.

use std::time::{Duration, Instant};

use iced_x86::{Instruction, Mnemonic};

use crate::error::Result;
use crate::exit::Exit;
use crate::kvm::{Entered, Irqchip};
use crate::machine::idt;
use crate::machine::repair::instruction_at;
use crate::x86::{Gpr, Regs, Sregs, lapic, rflags};

use super::Run;
use super::debug::linear;
use super::step_control::{ALONE, BLOCK_INTERRUPTS, HARDWARE};
use super::turn::Prepared;

/// How long an interrupt waits at least while each instruction is stepped, and for how many of them.
const PATIENCE: (Duration, u64) = (Duration::from_micros(200), 16);

const DIVIDE: u8 = 0;
const NMI: u8 = 2;
const OVERFLOW: u8 = 4;
const BOUND: u8 = 5;
const INVALID_OPCODE: u8 = 6;
const NO_COPROCESSOR: u8 = 7;
const PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;
const COPROCESSOR: u8 = 16;
const VECTORS: u8 = 19;

/// What a run knows of the guest's handlers.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    /// Where those of the first exceptions are, and the table that says so.
    entries: [Option<u64>; 32],
    table: Option<(u64, u16)>,
    /// When it was last looked for interrupts, and how many steps had been made.
    looked: Option<(Instant, u64)>,
    /// How many have been made.
    steps: u64,
    /// How many had been when the last interrupt came in.
    came: Option<u64>,
    /// As many are made before the next one comes.
    next: u64,
    /// The vCPU may be waiting inside KVM.
    pub(super) may_wait: bool,
    /// An interrupt was let in at this linear address.
    door: Option<u64>,
}

impl Handlers {
    /// A step has been made; a halt, if `is_halt`.
    pub(super) fn stepped(&mut self, is_halt: bool) {
        self.steps += 1;
        self.may_wait |= is_halt;
    }

    /// Is it time to look for interrupts?
    fn is_due(&self) -> bool {
        self.looked.is_none_or(|(last, steps)| self.steps - steps >= PATIENCE.1 && last.elapsed() >= PATIENCE.0)
    }

    /// May the next interrupt come? What they interrupt gets as many steps as their handlers take: a timer is much faster than
    /// a guest that is stepped.
    fn is_their_turn(&mut self) -> bool {
        if let Some(came) = self.came.take() {
            self.next = self.steps + (self.steps - came);
        }
        self.steps >= self.next
    }
}

impl Run<'_> {
    /// Can a step be stopped at the guest's handlers? Not where debug registers do not work, nor where the guest has its own
    /// in use or the handlers are belljar's.
    fn has_guards(&mut self) -> Result<bool> {
        let quirks = &self.machine.quirks;
        let works = quirks.ring0_is_native
            && quirks.single_step_in_ring0
            && quirks.single_step_in_ring3
            && quirks.hardware_breakpoints_in_ring0
            && quirks.hardware_breakpoints_in_ring3;
        Ok(works && self.lease.cpu().shim.is_none() && !self.guest_has_debug_registers()?)
    }

    /// What has KVM make one step that takes no interrupt, with `registers` in use beside it: its flags, and the registers with
    /// those that are free at the handlers of what the instruction may raise. None where nothing guards the step.
    pub(super) fn guarded(
        &mut self,
        registers: Option<[u64; 8]>,
        regs: &Regs,
        sregs: &Sregs,
    ) -> Result<Option<(u32, [u64; 8])>> {
        if !self.has_guards()? {
            return Ok(None);
        }
        let instruction = instruction_at(regs, sregs, &self.machine.memory);
        let other = instruction.as_ref().map_or(INVALID_OPCODE, raised_by);
        let entries = [PAGE_FAULT, PROTECTION, NO_COPROCESSOR, other].map(|vector| self.entry(vector, sregs));
        let elsewhere = entries.into_iter().flatten().filter(|entry| *entry != linear(regs, sregs));
        Ok(Some((ALONE | HARDWARE, with_stops(registers.unwrap_or_default(), elsewhere))))
    }

    /// The debug registers of those that KVM has been told of that hold no point's address, as bits of DR6.
    pub(super) fn guards(&mut self) -> u64 {
        let (_, told) = self.lease.cpu().debug.told;
        let slots = self.debug.plan.slots.iter().zip(told);
        let is_point = slots.map(|(slot, linear)| slot.as_ref().is_some_and(|slot| slot.linear == linear));
        is_point
            .enumerate()
            .filter(|(n, is_point)| is_used(&told, *n) && !is_point)
            .fold(0, |bits, (n, _)| bits | 1 << n)
    }

    /// The linear address of the guest's handler of `vector`.
    fn entry(&mut self, vector: u8, sregs: &Sregs) -> Option<u64> {
        let handlers = &mut self.debug.handlers;
        let table = (sregs.idt.base, sregs.idt.limit);
        if handlers.table != Some(table) {
            handlers.table = Some(table);
            handlers.entries = [None; 32];
        }
        let find = || idt::handler(vector, sregs, &self.machine.memory);
        match handlers.entries.get_mut(usize::from(vector)) {
            None => find(),
            Some(known) => {
                *known = known.or_else(find);
                *known
            }
        }
    }

    /// Is the vCPU at a handler because the instruction of a step has faulted?
    pub(super) fn is_at_handler(&mut self, entered: &Entered) -> bool {
        let Entered::Exit(Exit::Debug { exception: 1, dr6, pc, .. }) = entered else { return false };
        let (guards, told) = (self.guards() & dr6, self.lease.cpu().debug.told.1);
        (0..4).any(|n| guards >> n & 1 != 0 && told[n] == *pc)
    }

    /// Before a step: lets an interrupt in that waits, as far as the first instruction of its handler. Counted steps take only
    /// what is on its way already.
    pub(super) fn let_in(&mut self) -> Result<Option<Prepared>> {
        let is_short = self.debug.left.is_some() || self.debug.is_stepped;
        let is_on_its_way = self.vcpu().is_interrupted();
        let is_due = self.debug.handlers.is_due();
        let may_wait = self.debug.handlers.may_wait && !is_short;
        if !(is_on_its_way || is_due || may_wait) || !self.has_guards()? {
            return Ok(None);
        }
        let (regs, sregs) = self.registers()?;
        if regs[Gpr::Rflags] & rflags::RF != 0 {
            return Ok(None); // a debug register would not stop it where it is
        }
        self.debug.handlers.may_wait &= is_short;
        let (vectors, control) = if may_wait && self.is_halted_inside()? {
            (self.debug.handlers.looked, self.debug.handlers.came, self.debug.handlers.next) = (None, None, 0); // once it is awake
            self.debug.handlers.may_wait = true;
            (Vec::new(), HARDWARE | BLOCK_INTERRUPTS)
        } else {
            self.debug.handlers.looked = Some((Instant::now(), self.debug.handlers.steps));
            self.debug.handlers.table = None; // the guest may have changed it
            let vectors = self.waiting(&regs, is_short)?;
            if vectors.is_empty() {
                return Ok(None);
            }
            (vectors, HARDWARE)
        };
        let at = linear(&regs, &sregs);
        let entries: Vec<_> = vectors.into_iter().filter_map(|vector| self.entry(vector, &sregs)).collect();
        let registers = with_stops([0; 8], [at].into_iter().chain(entries));
        self.lease.cpu().debug.is_stepping = false;
        self.tell(control, registers)?;
        self.debug.handlers.door = Some(at);
        Ok(Some(Prepared::Enter))
    }

    /// Has the entry let in what waited, or nothing? None if it was not for that.
    pub(super) fn has_come_in(&mut self, entered: &Entered) -> Option<bool> {
        let handlers = &mut self.debug.handlers;
        let door = handlers.door.take()?;
        let has_come = matches!(entered, Entered::Exit(Exit::Debug { exception: 1, pc, .. }) if *pc != door);
        if has_come {
            handlers.came = Some(handlers.steps);
        } else if matches!(entered, Entered::Interrupted) {
            handlers.looked = None; // it may be on its way now
        }
        Some(has_come)
    }

    /// The vectors of what is on its way into the guest, or, unless only that is asked for, waits to be.
    fn waiting(&mut self, regs: &Regs, is_short: bool) -> Result<Vec<u8>> {
        let events = self.vcpu().events()?;
        let mut vectors: Vec<u8> = events.on_their_way().collect();
        if is_short || !vectors.is_empty() {
            return Ok(vectors);
        }
        vectors.extend(events.has_nmi().then_some(NMI));
        if regs[Gpr::Rflags] & rflags::IF == 0 || events.is_in_shadow() || !self.debug.handlers.is_their_turn() {
            return Ok(vectors);
        }
        if self.machine.irqchip != Irqchip::None {
            const IRR: usize = 0x200;
            vectors.extend(lapic::vectors(&self.vcpu().lapic()?, IRR).into_iter().max());
        }
        if self.machine.irqchip == Irqchip::Full {
            vectors.extend(self.machine.vm()?.waiting_at_pic()?);
        }
        Ok(vectors)
    }
}

/// `registers` with the free ones set to stop at instructions.
fn with_stops(mut registers: [u64; 8], at: impl Iterator<Item = u64>) -> [u64; 8] {
    const FIXED: u64 = 1 << 10;
    registers[7] |= FIXED;
    let free: Vec<_> = (0..4).filter(|n| !is_used(&registers, *n)).collect();
    for (n, linear) in free.into_iter().zip(at) {
        registers[n] = linear;
        registers[7] |= 2 << (2 * n);
    }
    registers
}

/// Is debug register `n` switched on (Intel SDM vol. 3, 19.2.4)?
fn is_used(registers: &[u64; 8], n: usize) -> bool {
    registers[7] >> (2 * n) & 3 != 0
}

/// The exception that `instruction` may raise beside page faults, protection faults and that of a coprocessor that is off.
fn raised_by(instruction: &Instruction) -> u8 {
    match instruction.mnemonic() {
        Mnemonic::Int => instruction.immediate8(),
        Mnemonic::Int3 => 3,
        Mnemonic::Int1 => 1,
        Mnemonic::Into => OVERFLOW,
        Mnemonic::Bound => BOUND,
        Mnemonic::Div | Mnemonic::Idiv | Mnemonic::Aam => DIVIDE,
        _ if instruction.op0_register().is_st() => COPROCESSOR,
        _ if instruction.op0_register().is_vector_register() => VECTORS,
        _ => INVALID_OPCODE,
    }
}
