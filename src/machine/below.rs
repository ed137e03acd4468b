//! What a port or memory access meets behind one hook: the hooks after it, then the native device.
//! It never runs a vCPU: the hook that asks does so while its own exit waits.

use std::sync::Arc;

use crate::addr::GuestPhys;
use crate::bus::{Effect, all_ones};
use crate::error::Result;
use crate::exit::{Exit, Reply};
use crate::hook::{Guest, Hook, Scope};
use crate::source::ReadMemory;
use crate::x86::Regs;

use super::Machine;
use super::look::InSlot;

impl Machine {
    /// Does what `exit` would do if `hook` and those asked before it were not there, and says what `hook` is to answer so
    /// that this counts: the data of a read, `Skip` for a write that has been done, `Stop` where somebody behind wants
    /// the run to end (then nothing has been read, and a write is to be done again).
    pub fn pass_on(&self, exit: &Exit, vcpu: u32, hook: &Arc<Hook>) -> Result<Reply> {
        let reply = self.ask_behind(exit, vcpu, hook)?;
        Ok(match *exit {
            Exit::PortIn { port, size } => read(reply, size, || self.ports.devices().read(u64::from(port), size)),
            Exit::MmioRead { at, size } => read(reply, size, || self.mmio.devices().read(at.0, size)),
            Exit::PortOut { port, size, data } => {
                write(reply, || self.ports.devices().write(u64::from(port), size, u64::from(data)))
            }
            Exit::MmioWrite { at, size, data } => write(reply, || self.mmio.devices().write(at.0, size, data)),
            _ => reply,
        })
    }

    /// The answer of the hooks that are asked after `hook`.
    fn ask_behind(&self, exit: &Exit, vcpu: u32, hook: &Arc<Hook>) -> Result<Reply> {
        let tables = self.hooks.tables();
        let Some(chain) = tables.find(exit) else { return Ok(Reply::Default) };
        // Not there: it has been removed while its exit waited, or `exit` is one that it does not want.
        let first = chain.iter().position(|h| Arc::ptr_eq(h, hook)).map_or(0, |at| at + 1);
        let mut registers = InSlot::new(self, vcpu);
        for behind in chain.iter().skip(first) {
            let mut scope =
                Scope { exit: Some(exit), answer: None, vcpu, registers: &mut registers, memory: &*self.memory };
            if !behind.matches(exit, false, &mut scope) {
                continue;
            }
            let reply = match behind.ask_native(exit, vcpu, &mut Lent { machine: self, vcpu })? {
                Some(reply) => reply,
                None => behind.ask(exit, vcpu)?,
            };
            match reply {
                Reply::Default => {}
                reply => return Ok(reply),
            }
        }
        Ok(Reply::Default)
    }
}

/// The guest as a native handler sees it, while its vCPU is put back.
struct Lent<'a> {
    machine: &'a Machine,
    vcpu: u32,
}

impl Guest for Lent<'_> {
    fn registers(&mut self) -> Result<Regs> {
        self.machine.cpu(self.vcpu)?.with(|cpu| cpu.vcpu.regs())
    }

    fn set_registers(&mut self, registers: &Regs) -> Result<()> {
        self.machine.cpu(self.vcpu)?.with(|cpu| {
            cpu.vcpu.set_regs(registers);
            Ok(())
        })
    }

    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
        self.machine.memory.read(at, into)
    }

    fn write(&self, at: GuestPhys, from: &[u8]) -> Result<()> {
        self.machine.memory.write(at, from)
    }
}

fn read(reply: Reply, size: u8, native: impl FnOnce() -> Option<u64>) -> Reply {
    let ones = all_ones(size);
    match reply {
        Reply::Default => Reply::Value(native().unwrap_or(ones)),
        Reply::Skip | Reply::Deny | Reply::Bytes(_) => Reply::Value(ones),
        Reply::Value(value) => Reply::Value(value & ones),
        Reply::Stop => Reply::Stop,
    }
}

fn write(reply: Reply, native: impl FnOnce() -> Option<Effect>) -> Reply {
    match reply {
        Reply::Stop => Reply::Stop,
        Reply::Default if native() == Some(Effect::Reset) => Reply::Stop, // the run resets when it repeats the write
        Reply::Default | Reply::Skip | Reply::Deny | Reply::Value(_) | Reply::Bytes(_) => Reply::Skip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_nobody_answers_is_all_ones_of_its_width() {
        assert_eq!(read(Reply::Default, 2, || None), Reply::Value(0xffff));
        assert_eq!(read(Reply::Skip, 1, || Some(7)), Reply::Value(0xff));
        assert_eq!(read(Reply::Value(0x1234), 1, || Some(7)), Reply::Value(0x34));
        assert_eq!(read(Reply::Default, 1, || Some(7)), Reply::Value(7));
    }

    #[test]
    fn a_stop_reads_and_writes_nothing_yet() {
        assert_eq!(read(Reply::Stop, 1, || unreachable!("the run reads it")), Reply::Stop);
        assert_eq!(write(Reply::Stop, || unreachable!("the run writes it")), Reply::Stop);
    }

    #[test]
    fn a_write_that_resets_is_left_to_the_run() {
        assert_eq!(write(Reply::Default, || Some(Effect::Reset)), Reply::Stop);
        assert_eq!(write(Reply::Default, || Some(Effect::None)), Reply::Skip);
        assert_eq!(write(Reply::Default, || None), Reply::Skip);
        assert_eq!(write(Reply::Skip, || unreachable!("dropped")), Reply::Skip);
    }
}
