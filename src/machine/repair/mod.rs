//! Repair for a KVM that interprets ring 0: instructions that its emulator lacks, and system calls that stay in ring 3.
//! It never touches a guest on a KVM that behaves as documented, and never asks for a vendor, only for the quirks.

mod alu;
mod descriptor;
mod flags;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod instruction;
mod interrupt;
mod operand;
mod ring0;
mod simple;
#[cfg(test)]
mod simple_tests;
mod syscall;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

use crate::addr::GuestPhys;
use crate::error::Result;
use crate::exit::InternalError;
use crate::kvm::{Quirks, Vcpu};
use crate::memory::Memory;
use crate::x86::{Gpr, Regs, Sregs, msr, rflags};

use instruction::{Then, execute};
use ring0::{Ring0, State, Trap};
use syscall::Placed;

/// CR4.PGE: a change of it drops every translation.
const PGE: u64 = 1 << 7;
/// MXCSR after reset.
const MXCSR: u32 = 0x1f80;

/// Repair for one vCPU. It holds nothing that a snapshot would miss but the MXCSR of ring 0 and the counts.
#[derive(Debug)]
pub struct Repair {
    instructions: bool,
    syscalls: bool,
    mxcsr: u32,
    counts: BTreeMap<Mnemonic, u64>,
    /// How often the stub was put into the guest.
    stubs: u64,
    /// What the guest wrote to LSTAR.
    lstar: Option<u64>,
    /// A #PF handler behind which there is no room for the stub.
    hopeless: Option<u64>,
}

impl Repair {
    /// What this KVM needs.
    pub fn new(quirks: &Quirks) -> Self {
        let (instructions, syscalls) = (!quirks.ring0_is_native, !quirks.syscall_enters_ring0);
        Self { instructions, syscalls, mxcsr: MXCSR, counts: BTreeMap::new(), stubs: 0, lstar: None, hopeless: None }
    }

    /// Does this KVM need system calls repaired? Then the machine catches the guest's writes of LSTAR.
    pub fn wants_lstar(&self) -> bool {
        self.syscalls
    }

    /// The guest writes `value` to LSTAR: does so, and has its system calls arrive there. `false`: the vCPU refuses it.
    pub fn lstar_written(&mut self, cpu: &mut Vcpu, memory: &Memory, value: u64) -> Result<bool> {
        if !cpu.set_msr(msr::LSTAR, value)? {
            return Ok(false);
        }
        self.lstar = Some(value).filter(|lstar| self.syscalls && *lstar != 0);
        let sregs = cpu.sregs()?;
        self.put_stub(memory, &sregs);
        Ok(true)
    }

    /// Has a #PF gate that the guest has made since LSTAR was written lead to the stub, unless LSTAR is another by now
    /// (the vCPU may have gone back to an earlier state).
    fn check_stub(&mut self, cpu: &mut Vcpu, memory: &Memory, sregs: &Sregs) -> Result<()> {
        let Some(lstar) = self.lstar.filter(|lstar| !syscall::is_placed(memory, sregs, *lstar)) else { return Ok(()) };
        if cpu.msr(msr::LSTAR)? == Some(lstar) {
            self.put_stub(memory, sregs);
        } else {
            self.lstar = None;
        }
        Ok(())
    }

    fn put_stub(&mut self, memory: &Memory, sregs: &Sregs) {
        let Some(lstar) = self.lstar else { return };
        match syscall::place(memory, sregs, lstar, self.hopeless) {
            Placed::Now(at) => {
                log::debug!("system calls to {lstar:#x} come through a stub at {at:#x}");
                self.stubs += 1;
            }
            Placed::NoRoom(handler) if self.hopeless != Some(handler) => {
                log::warn!("no room for a stub behind the #PF handler at {handler:#x}: system calls will fail");
                self.hopeless = Some(handler);
            }
            Placed::Before | Placed::NotYet | Placed::NoRoom(_) => {}
        }
    }

    /// How often what was repaired: instructions by their mnemonics, and system-call stubs that were put in.
    pub fn counts(&self) -> Vec<(String, u64)> {
        let mnemonics = self.counts.iter().map(|(mnemonic, n)| (format!("{mnemonic:?}").to_lowercase(), *n));
        let stubs = (self.stubs > 0).then(|| ("syscall stub".to_owned(), self.stubs));
        mnemonics.chain(stubs).collect()
    }

    /// Executes the instruction that KVM could not emulate, or delivers the exception that it raises. `false`: it is
    /// none of those that are repaired, nothing has changed, and the exit is the user's.
    pub fn instruction(&mut self, cpu: &mut Vcpu, memory: &Memory, error: &InternalError) -> Result<bool> {
        if !self.instructions || error.suberror != InternalError::EMULATION {
            return Ok(false);
        }
        let (regs, sregs) = (cpu.regs()?, cpu.sregs()?);
        if sregs.cpl() != 0 {
            return Ok(false);
        }
        self.check_stub(cpu, memory, &sregs)?;
        let mut msr = |index| cpu.msr(index);
        let mut ring0 = Ring0::new(&regs, &sregs, self.mxcsr, memory, &mut msr);
        let Some(instruction) = decode(&ring0, &error.instruction) else { return Ok(false) };
        let then = execute(&instruction, &mut ring0);
        let after = ring0.state;
        match then {
            Ok(then) => self.commit(cpu, &sregs, &after, then)?,
            Err(Trap::Exception { vector, error, cr2 }) => fault(cpu, &sregs, vector, error, cr2)?,
            Err(Trap::Unknown) => return Ok(false),
            Err(Trap::Host(error)) => return Err(error),
        }
        *self.counts.entry(instruction.mnemonic()).or_default() += 1;
        Ok(true)
    }

    /// Brings what an instruction did to the vCPU.
    fn commit(&mut self, cpu: &mut Vcpu, before: &Sregs, after: &State, then: Then) -> Result<()> {
        self.mxcsr = after.mxcsr;
        if after.flush {
            cpu.set_sregs(&Sregs { cr4: after.sregs.cr4 ^ PGE, ..after.sregs });
            cpu.flush()?;
        }
        if after.flush || *before != after.sregs {
            cpu.set_sregs(&after.sregs);
        }
        cpu.set_regs(&after.regs);
        match then {
            Then::Exception(vector) => inject(cpu, vector, None),
            Then::Next | Then::Jumped => Ok(()),
        }
    }
}

/// What the registers are after the instruction at RIP, if it is a plain one; what it writes to memory is written.
/// `is_alone`: no other vCPU could come between its read and its write.
pub fn emulate(regs: &Regs, sregs: &Sregs, memory: &Memory, is_alone: bool) -> Option<Regs> {
    /// CR0.AM: with RFLAGS.AC, ring 3 may not reach across.
    const AM: u64 = 1 << 18;
    let is_aligned = sregs.cpl() == 3 && sregs.cr0 & AM != 0 && regs[Gpr::Rflags] & rflags::AC != 0;
    if is_aligned || regs[Gpr::Rflags] & flags::TF != 0 {
        return None;
    }
    let mut msr = |_| Ok(None);
    let mut cpu = Ring0::new(regs, sregs, MXCSR, memory, &mut msr);
    let code = cpu.code();
    let instruction = one(&cpu, &code)?;
    if !cpu.may_fetch(instruction.len()) || is_ambiguous(&instruction, &code) {
        return None;
    }
    cpu.insist_on_marks();
    if is_alone {
        cpu.be_alone();
    }
    simple::execute(&instruction, &mut cpu).ok()?;
    Some(cpu.state.regs)
}

/// Is it a jump with an operand-size prefix, which processors take differently?
fn is_ambiguous(instruction: &Instruction, code: &[u8]) -> bool {
    let is_prefix = |byte: &&u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf2 | 0xf3);
    instruction.flow_control() != FlowControl::Next && code.iter().take_while(is_prefix).any(|byte| *byte == 0x66)
}

/// The instruction at RIP, where its bytes are mapped.
pub fn instruction_at(regs: &Regs, sregs: &Sregs, memory: &Memory) -> Option<Instruction> {
    let mut msr = |_| Ok(None);
    let cpu = Ring0::new(regs, sregs, MXCSR, memory, &mut msr);
    one(&cpu, &cpu.code())
}

/// Where the linear address `at` lies, and whether ring 3 may use it.
pub fn locate(sregs: &Sregs, memory: &Memory, at: u64) -> Option<(GuestPhys, bool)> {
    let mut walk = ring0::Walk::new(sregs);
    let place = walk.to(memory, at).ok()?;
    Some((place, walk.is_user()))
}

/// Where the linear address `at` lies, if the processor would fetch an instruction from there without a fault and without
/// marking the page (Intel SDM vol. 3, 4.6.1).
pub fn fetched_from(sregs: &Sregs, memory: &Memory, at: u64) -> Option<GuestPhys> {
    const SMEP: u64 = 1 << 20;
    let mut walk = ring0::Walk::new(sregs);
    let place = walk.to(memory, at).ok()?;
    let is_right_ring = if sregs.cpl() == 3 { walk.is_user() } else { sregs.cr4 & SMEP == 0 || !walk.is_user() };
    (is_right_ring && walk.is_executable() && walk.is_marked(false)).then_some(place)
}

/// The instruction at RIP, from the bytes that KVM gave or else from memory.
fn decode(cpu: &Ring0<'_>, given: &[u8]) -> Option<Instruction> {
    one(cpu, given).or_else(|| one(cpu, &cpu.code()))
}

fn one(cpu: &Ring0<'_>, bytes: &[u8]) -> Option<Instruction> {
    let rip = cpu.state.regs[Gpr::Rip];
    let mut decoder = Decoder::try_with_ip(cpu.state.sregs.code_bits(), bytes, rip, DecoderOptions::NONE).ok()?;
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// The instruction raises an exception, at which nothing but CR2 changes.
fn fault(cpu: &mut Vcpu, sregs: &Sregs, vector: u8, error: Option<u32>, cr2: Option<u64>) -> Result<()> {
    if let Some(cr2) = cr2 {
        cpu.set_sregs(&Sregs { cr2, ..*sregs });
    }
    inject(cpu, vector, error)
}

fn inject(cpu: &mut Vcpu, vector: u8, error: Option<u32>) -> Result<()> {
    let mut events = cpu.events()?;
    events.inject(vector, error);
    cpu.set_events(&events);
    Ok(())
}
