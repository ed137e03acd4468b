//! Accesses to trapped memory, made for the guest on the real memory; those that touch what is watched become hits.
//! It never decides what is watched, and asks nobody before the instruction is complete.

use std::sync::Arc;

use crate::addr::{GuestPhys, Span};
use crate::error::Result;
use crate::exit::{Exit, Watched};
use crate::hook::Scope;
use crate::machine::look::{InHand, Seen};
use crate::machine::trap::{Access, Then, Watch, Written, atomic, then};
use crate::source::ReadMemory;
use crate::x86::Gpr;

use super::{Next, Run};

/// A hit that nobody has been asked about yet.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) watch: Arc<Watch>,
    pub(super) watched: Watched,
}

impl Hit {
    /// Of `watch`: its bytes in `span`, which it calls `at`; at most the first eight are told.
    pub(super) fn new(watch: Arc<Watch>, span: Span, at: u64, write: bool) -> Self {
        let size = u8::try_from((span.last - span.first + 1).min(8)).unwrap_or(8);
        let (id, gpa) = (watch.id, Some(span.first));
        Self { watch, watched: Watched { id, at, gpa, size, write, before: 0, after: 0, rip: 0 } }
    }
}

/// What came of an access to trapped memory.
#[derive(Clone, Copy, Debug)]
enum Made {
    /// There is no memory any more.
    Nothing,
    /// Nothing has been accessed: an atomic instruction wanted another value.
    Without,
    /// What was there before, and what is afterwards.
    Changed(u64, u64),
}

impl From<Option<(u64, u64)>> for Made {
    fn from(values: Option<(u64, u64)>) -> Self {
        values.map_or(Self::Nothing, |(before, after)| Self::Changed(before, after))
    }
}

/// The first bytes of a little-endian word, `by` bytes on.
fn part(word: u64, by: u64, size: u8) -> u64 {
    let shift = u32::try_from(8 * by.min(7)).unwrap_or(0);
    (word >> shift) & crate::bus::all_ones(size)
}

impl Run<'_> {
    /// Makes an access to memory that exited because its page is, or was, trapped. False: it is no such access, and goes the
    /// way of all exits (a write to ROM does, after its hits).
    pub(super) fn trapped(&mut self, exit: &Exit) -> Result<bool> {
        if !self.machine.traps.are_used() {
            return Ok(false);
        }
        let (at, size, data) = match *exit {
            Exit::MmioRead { at, size } => (at, size, None),
            Exit::MmioWrite { at, size, data } => (at, size, Some(data)),
            _ => return Ok(false),
        };
        let Some(is_rom) = self.machine.memory.is_rom(at) else { return Ok(false) };
        let made = match data.filter(|_| !is_rom) {
            Some(data) => self.write_trapped(Written { at, size, data })?,
            None => self.value_at(at, size).map(|value| (value, value)).into(),
        };
        self.pending = !(matches!(made, Made::Nothing) || is_rom && data.is_some());
        match made {
            Made::Nothing => return Ok(false),
            Made::Without => {}
            Made::Changed(before, after) => self.note_hits(at, size, data.is_some(), before, after),
        }
        if let (Made::Changed(value, _), None) = (made, data) {
            self.vcpu().answer_mmio(value);
        }
        Ok(self.pending)
    }

    /// Answers an exit that came while an instruction was completed.
    pub(super) fn exit_on_the_way(&mut self, exit: Exit) -> Result<()> {
        if self.trapped(&exit)? {
            return Ok(());
        }
        let (exit, stop) = self.exit(exit)?;
        self.ends_later(exit, stop)
    }

    fn value_at(&self, at: GuestPhys, size: u8) -> Option<u64> {
        let mut word = [0; 8];
        self.machine.memory.read(at, word.get_mut(..usize::from(size))?).ok()?;
        Some(u64::from_le_bytes(word))
    }

    /// Writes to trapped memory, atomically where the instruction is to be so.
    fn write_trapped(&mut self, written: Written) -> Result<Made> {
        let machine = self.machine;
        let mut atomic_one = None;
        if machine.cpus.len() > 1 {
            let vcpu = self.vcpu();
            let (regs, sregs) = (vcpu.regs()?, vcpu.sregs()?);
            atomic_one = atomic(&regs, &sregs, &*machine.memory, written).map(|instruction| (instruction, regs));
        }
        let _turn = machine.traps.turn();
        let Some(before) = self.value_at(written.at, written.size) else { return Ok(Made::Nothing) };
        match atomic_one.map_or(Then::Write, |(instruction, regs)| then(&instruction, &regs, written, before)) {
            Then::Write => {}
            Then::Drop => return Ok(Made::Without),
            Then::Again(regs) => {
                self.vcpu().set_regs(&regs); // of a write, KVM completes nothing but the write itself
                return Ok(Made::Without);
            }
        }
        let bytes = written.data.to_le_bytes();
        let result = machine.memory.write(written.at, &bytes[..usize::from(written.size).min(8)]);
        Ok(result.ok().map(|()| (before, written.data)).into())
    }

    fn note_hits(&mut self, at: GuestPhys, size: u8, write: bool, before: u64, after: u64) {
        let access = if write { Access::Write } else { Access::Read };
        for (watch, span, own) in self.machine.traps.table().touched(at, size.into(), access) {
            let mut hit = Hit::new(watch, span, own, write);
            let by = span.first - at.0;
            hit.watched.before = part(before, by, hit.watched.size);
            hit.watched.after = part(after, by, hit.watched.size);
            self.hits.push(hit);
        }
    }

    /// Asks about the hits of the run's last instruction: the run ends anyway.
    pub(super) fn last_hits(&mut self) -> Result<()> {
        if self.hits.is_empty() || self.has_failed {
            return Ok(());
        }
        if let Next::Stop(exit) = self.hand_out_hits(Next::Go)? {
            self.session.also(self.slot.id, exit);
        }
        Ok(())
    }

    /// Completes the instruction whose accesses were hits, and asks the hooks about each. `next` is what its exit came to.
    #[cold]
    pub(super) fn hand_out_hits(&mut self, mut next: Next) -> Result<Next> {
        self.complete()?;
        let rip = self.vcpu().regs()?[Gpr::Rip];
        for mut hit in std::mem::take(&mut self.hits) {
            if hit.watched.rip == 0 {
                hit.watched.rip = rip;
            }
            match (self.hand_out(hit)?, &next) {
                (Next::Go, _) => {}
                (stop, Next::Go) => next = stop,
                (Next::Stop(exit), Next::Stop(_)) => self.session.also(self.slot.id, exit),
            }
        }
        Ok(next)
    }

    fn hand_out(&mut self, hit: Hit) -> Result<Next> {
        let Hit { watch, watched } = hit;
        let exit = Exit::Watchpoint(Box::new(watched));
        if !self.is_let_through(&watch, &exit) || !watch.hit() {
            return Ok(Next::Go);
        }
        let next = self.hit(exit, watch.stops);
        if watch.once {
            self.machine.remove_watch(&watch)?;
        }
        next
    }

    /// Does the filter of `watch` hold?
    fn is_let_through(&mut self, watch: &Watch, exit: &Exit) -> bool {
        let Self { lease, machine, .. } = self;
        let vcpu = &mut lease.cpu().vcpu;
        let id = vcpu.id();
        let registers = &mut InHand { vcpu, seen: &mut Seen::default() };
        let mut scope = Scope { exit: Some(exit), answer: None, vcpu: id, registers, memory: &*machine.memory };
        watch.when.as_ref().is_none_or(|when| when.holds(&mut scope))
    }
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn a_part_of_a_word_is_told_by_itself() {
        assert_eq!(part(0x8877_6655_4433_2211, 0, 8), 0x8877_6655_4433_2211);
        assert_eq!(part(0x8877_6655_4433_2211, 2, 2), 0x4433);
        assert_eq!(part(0x8877_6655_4433_2211, 7, 1), 0x88);
    }
}
