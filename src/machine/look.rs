//! A vCPU's registers as expressions look at them: at the vCPU in hand, or at one in its slot. It never changes any.

use crate::error::{Error, Result};
use crate::hook::Registers;
use crate::kvm::Vcpu;
use crate::x86::{Regs, Sregs};

use super::Machine;
use super::cpu::Cpu;

/// What has been looked at already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    general: Option<Regs>,
    system: Option<Sregs>,
}

/// At the vCPU in hand, each group once.
#[derive(Debug)]
pub(super) struct InHand<'a> {
    pub(super) vcpu: &'a mut Vcpu,
    pub(super) seen: &'a mut Seen,
}

impl Registers for InHand<'_> {
    fn general(&mut self) -> Option<Regs> {
        self.seen.general = self.seen.general.or_else(|| self.vcpu.regs().ok());
        self.seen.general
    }

    fn system(&mut self) -> Option<Sregs> {
        self.seen.system = self.seen.system.or_else(|| self.vcpu.sregs().ok());
        self.seen.system
    }
}

/// At a vCPU in its slot, which has to be stopped, or in a handler of its own.
pub struct InSlot<'a> {
    machine: &'a Machine,
    vcpu: u32,
    /// Why it could not be looked at.
    pub failure: Option<Error>,
}

impl<'a> InSlot<'a> {
    /// At vCPU `vcpu` of `machine`.
    pub fn new(machine: &'a Machine, vcpu: u32) -> Self {
        Self { machine, vcpu, failure: None }
    }

    fn look<T>(&mut self, at: impl FnOnce(&mut Cpu) -> Result<T>) -> Option<T> {
        let found = self.machine.cpu(self.vcpu).and_then(|slot| slot.with(at));
        found.map_err(|error| self.failure = Some(error)).ok()
    }
}

impl Registers for InSlot<'_> {
    fn general(&mut self) -> Option<Regs> {
        self.look(|cpu| cpu.vcpu.regs())
    }

    fn system(&mut self) -> Option<Sregs> {
        self.look(|cpu| cpu.vcpu.sregs())
    }
}
