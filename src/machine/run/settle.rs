//! Instructions at which handlers set registers: they complete first, and what was set comes on top. It never asks a handler.

use crate::error::Result;
use crate::exit::Exit;
use crate::machine::merge::merged;

use super::Run;

impl Run<'_> {
    /// Settles an access whose answer may have failed: then no handler is asked any more, and that error comes out.
    #[inline]
    pub(super) fn settle_after<T>(&mut self, exit: &Exit, answered: Result<T>) -> Result<T> {
        self.has_failed |= answered.is_err();
        if self.rewritten.is_none() && !self.vcpu().is_rewritten() {
            return answered;
        }
        let settled = self.settle(exit);
        answered.and_then(|answer| settled.map(|()| answer))
    }

    /// After an access has been answered: a handler that set registers means the state after the instruction. Then the
    /// instruction completes first, since KVM's emulator would overwrite RIP, and drops the data of a read whose
    /// registers were set. Accesses that come on the way are part of it; it never calls itself.
    fn settle(&mut self, exit: &Exit) -> Result<()> {
        if let Some((now, wanted)) = self.vcpu().take_rewritten() {
            let before = self.rewritten.map_or(now, |(before, _)| before);
            self.rewritten = Some((before, wanted));
        }
        if self.rewritten.is_none() || self.is_settling {
            return Ok(());
        }
        self.is_settling = true;
        let completed = self.complete();
        self.is_settling = false;
        let Some((before, wanted)) = self.rewritten.take() else { return completed };
        completed?;
        let vcpu = self.vcpu();
        let regs = merged(exit, &before, &vcpu.regs()?, &wanted);
        vcpu.set_regs(&regs);
        Ok(())
    }
}
