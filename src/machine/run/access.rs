//! What a read is answered with, and where a write goes: hooks first, then devices. It never says how an answer reaches the guest.

use crate::bus::{Effect, all_ones};
use crate::error::Result;
use crate::exit::{Exit, Reply};
use crate::kvm::Vcpu;

use super::{Run, Verdict};

impl Run<'_> {
    /// The data for a read: a hook's, a device's, or all ones.
    pub(super) fn read(&mut self, exit: &Exit, is_element: bool) -> Result<(u64, Verdict)> {
        let reply = self.consult_about(exit, is_element)?;
        let (devices, at, size) = match *exit {
            Exit::PortIn { port, size } => (&self.ports, u64::from(port), size),
            Exit::MmioRead { at, size } => (&self.mmio, at.0, size),
            _ => return Ok((0, Verdict::Go)),
        };
        let ones = all_ones(size);
        Ok(match reply {
            Reply::Value(value) => (value & ones, Verdict::Go),
            Reply::Skip | Reply::Deny | Reply::Bytes(_) => (ones, Verdict::Go),
            Reply::Default => (devices.read(at, size).unwrap_or(ones), Verdict::Go),
            Reply::Stop => (devices.read(at, size).unwrap_or(ones), Verdict::Stop),
        })
    }

    /// Brings a write to its device, unless a hook keeps it.
    pub(super) fn write(&mut self, exit: &Exit, is_element: bool) -> Result<Verdict> {
        let reply = self.consult_about(exit, is_element)?;
        let (devices, at, size, data) = match *exit {
            Exit::PortOut { port, size, data } => (&self.ports, u64::from(port), size, u64::from(data)),
            Exit::MmioWrite { at, size, data } => (&self.mmio, at.0, size, data),
            _ => return Ok(Verdict::Go),
        };
        let verdict = if reply == Reply::Stop { Verdict::Stop } else { Verdict::Go };
        let effect = match reply {
            Reply::Skip | Reply::Deny | Reply::Value(_) | Reply::Bytes(_) => None,
            Reply::Default | Reply::Stop => devices.write(at, size, data),
        };
        Ok(match effect {
            Some(Effect::Reset) => self.reset(verdict)?,
            _ => verdict,
        })
    }

    /// A device asks for a reset, which a hook may keep.
    #[cold]
    pub(super) fn reset(&mut self, otherwise: Verdict) -> Result<Verdict> {
        Ok(if self.consult(&Exit::Reset)? == Reply::Skip { otherwise } else { Verdict::Reset })
    }

    /// Gives a read its data: all ones where a handler failed.
    pub(super) fn answer_read(
        &mut self,
        exit: &Exit,
        is_element: bool,
        answer: impl FnOnce(&mut Vcpu, u64),
    ) -> Result<Verdict> {
        let read = self.read(exit, is_element);
        let data = read.as_ref().map_or(u64::MAX, |(data, _)| *data);
        self.record_answer(exit, is_element, Some(data));
        answer(self.vcpu(), data);
        read.map(|(_, verdict)| verdict)
    }
}
