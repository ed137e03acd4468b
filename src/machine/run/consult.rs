//! Asking the hooks: those that want an exit, newest first, until one has an opinion. It never does what they say.

use crate::addr::GuestPhys;
use crate::error::Result;
use crate::exit::{Exit, Reply};
use crate::hook::{Guest, Hook, Scope};
use crate::kvm::Vcpu;
use crate::machine::cpu::Cpu;
use crate::machine::look::{InHand, Seen};
use crate::machine::merge::merged;
use crate::memory::Memory;
use crate::source::ReadMemory;
use crate::x86::Regs;

use super::Run;

impl Run<'_> {
    /// Asks the hooks that want `exit`, the vCPU being put back while somebody foreign is asked.
    pub(super) fn consult(&mut self, exit: &Exit) -> Result<Reply> {
        self.consult_about(exit, false)
    }

    /// As `consult`; `is_element`: the exit is one of a string's elements.
    pub(super) fn consult_about(&mut self, exit: &Exit, is_element: bool) -> Result<Reply> {
        self.record_before(exit, is_element);
        let Self { machine, lease, tables, rewritten, has_failed, watch, .. } = self;
        let Some(chain) = tables.find(exit).filter(|_| !*has_failed) else { return Ok(Reply::Default) };
        let vcpu = &mut lease.cpu().vcpu;
        let id = vcpu.id();
        if let Some((before, wanted)) = rewritten {
            // Another access of an instruction at which registers were set already.
            let regs = merged(exit, before, &vcpu.regs()?, wanted);
            vcpu.set_regs(&regs);
        }
        let mut seen = Seen::default();
        for hook in chain.iter() {
            if !matches(hook, exit, is_element, &mut lease.cpu().vcpu, &mut seen, &machine.memory) {
                continue;
            }
            seen = Seen::default(); // whoever is asked may change them
            let mut guest = Inside { cpu: lease.cpu(), memory: &machine.memory };
            let mut reply = hook.ask_native(exit, id, &mut guest)?;
            if reply.is_none() {
                let foreign = watch.handler(|| lease.lend(|| hook.ask(exit, id)));
                hook.took(watch.took());
                reply = Some(foreign?);
            }
            match reply.unwrap_or(Reply::Default) {
                Reply::Default => {}
                reply => return Ok(reply),
            }
        }
        Ok(Reply::Default)
    }
}

/// Is `hook` to be asked about `exit`? Its filter looks at the vCPU as it is now.
fn matches(hook: &Hook, exit: &Exit, is_element: bool, vcpu: &mut Vcpu, seen: &mut Seen, memory: &Memory) -> bool {
    let id = vcpu.id();
    let registers = &mut InHand { vcpu, seen };
    hook.matches(exit, is_element, &mut Scope { exit: Some(exit), answer: None, vcpu: id, registers, memory })
}

/// The guest as a native handler sees it, on the thread that runs the vCPU.
struct Inside<'a> {
    cpu: &'a mut Cpu,
    memory: &'a Memory,
}

impl Guest for Inside<'_> {
    fn registers(&mut self) -> Result<Regs> {
        self.cpu.vcpu.regs()
    }

    fn set_registers(&mut self, registers: &Regs) -> Result<()> {
        self.cpu.vcpu.set_regs(registers);
        Ok(())
    }

    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
        self.memory.read(at, into)
    }

    fn write(&self, at: GuestPhys, from: &[u8]) -> Result<()> {
        self.memory.write(at, from)
    }
}
