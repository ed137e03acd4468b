//! Accesses to ports: one by one, and strings, which are offered whole before they go element by element.
//! They never answer anything else.

use crate::bus::{Effect, all_ones};
use crate::error::Result;
use crate::exit::{Exit, ExitKind, PortString, Reply};
use crate::kvm::{Access, Direction};

use super::{Next, Run, Verdict};

impl Run<'_> {
    /// Answers a port access. An exit to hand out is made only where one is: moving one about costs more than the rest.
    pub(super) fn port_access(&mut self, access: &Access) -> Result<Next> {
        let verdict = self.port(access)?;
        self.answered(access, access.kind(), verdict)
    }

    /// The same, of one element, right after the exit.
    #[inline]
    pub(super) fn single(&mut self, access: &Access) -> Result<Next> {
        let kind = if access.direction == Direction::In { ExitKind::PortIn } else { ExitKind::PortOut };
        let is_plain = self.tables.ignore(access.port, kind);
        let verdict = if is_plain { self.plain(access)? } else { self.port(access)? };
        self.answered(access, kind, verdict)
    }

    /// Counts an access that was answered.
    #[inline]
    fn answered(&mut self, access: &Access, kind: ExitKind, verdict: Verdict) -> Result<Next> {
        self.slot.counters.count(kind);
        let is_last = self.session.count();
        if verdict == Verdict::Go && !is_last && !self.session.awaits(kind) {
            return Ok(Next::Go);
        }
        self.noteworthy(access, verdict, is_last)
    }

    /// An access that was answered, and may end the run.
    #[cold]
    fn noteworthy(&mut self, access: &Access, verdict: Verdict, is_last: bool) -> Result<Next> {
        let exit = self.whole(access, access.kind());
        match verdict {
            Verdict::Reset => Ok(Next::Stop(Exit::Reset)),
            Verdict::Go if !is_last => self.wait_for(exit),
            Verdict::Go | Verdict::Stop => Ok(Next::Stop(exit)),
        }
    }

    /// Answers an access of one element about which nobody is asked: the short way of what `port` does, right after
    /// the exit: nobody has set registers at it.
    #[inline]
    fn plain(&mut self, access: &Access) -> Result<Verdict> {
        self.pending = true;
        let (at, size) = (u64::from(access.port), access.size);
        match access.direction {
            Direction::In => {
                let data = self.ports.read(at, size).unwrap_or(u64::MAX);
                if self.tables.traces().is_some() {
                    self.record_plain(access, Some(data));
                }
                self.vcpu().answer_port(access, 0, low(data));
            }
            Direction::Out => {
                let data = self.vcpu().port_data(access, 0);
                if self.tables.traces().is_some() {
                    self.record_plain(access, None);
                }
                if self.ports.write(at, size, u64::from(data)) == Some(Effect::Reset) {
                    return self.reset(Verdict::Go);
                }
            }
        }
        Ok(Verdict::Go)
    }

    /// Records such an access; a read was answered with `data`.
    #[inline(never)]
    fn record_plain(&mut self, access: &Access, data: Option<u64>) {
        let exit = self.element(access, 0);
        match data {
            Some(_) => self.record_answer(&exit, false, data),
            None => self.record_before(&exit, false),
        }
    }

    /// Answers what is left of a string while its instruction is completed.
    pub(super) fn rest_of_string(&mut self, access: &Access) -> Result<()> {
        let verdict = self.port(access)?;
        let exit = if verdict == Verdict::Reset { Exit::Reset } else { self.whole(access, access.kind()) };
        self.ends_later(exit, verdict != Verdict::Go)
    }

    /// Answers a port access: a string first whole, then what nobody answered element by element.
    pub(super) fn port(&mut self, access: &Access) -> Result<Verdict> {
        self.pending = true;
        if access.direction == Direction::In {
            // What a handler that fails leaves unanswered reads as an empty bus does.
            (1..access.count).for_each(|index| self.vcpu().answer_port(access, index, u32::MAX));
        }
        let exit = self.element(access, 0);
        let answered = if access.count == 1 { self.one(access, 0, &exit) } else { self.string(access) };
        if access.direction == Direction::Out && !self.is_settling {
            return answered;
        }
        self.settle_after(&exit, answered)
    }

    /// Offers a string whole, and then its elements.
    fn string(&mut self, access: &Access) -> Result<Verdict> {
        let exit = self.whole(access, access.kind());
        let reply = match self.consult(&exit)? {
            Reply::Default => return self.elements(access),
            Reply::Stop => return self.elements(access).map(|verdict| verdict.max(Verdict::Stop)),
            reply => reply,
        };
        for index in 0..access.count {
            let data = element_of(&reply, access, index);
            if access.direction == Direction::In {
                self.vcpu().answer_port(access, index, data);
            }
            self.record_element(access, index, data);
        }
        Ok(Verdict::Go)
    }

    fn elements(&mut self, access: &Access) -> Result<Verdict> {
        (0..access.count).try_fold(Verdict::Go, |verdict, index| {
            let exit = self.element(access, index);
            Ok(verdict.max(self.one(access, index, &exit)?))
        })
    }

    /// Answers element `index` of an access, which is `exit`.
    #[inline]
    fn one(&mut self, access: &Access, index: u32, exit: &Exit) -> Result<Verdict> {
        let is_element = access.count > 1;
        match access.direction {
            Direction::Out => self.write(exit, is_element),
            Direction::In => {
                self.answer_read(exit, is_element, |vcpu, data| vcpu.answer_port(access, index, low(data)))
            }
        }
    }

    /// Element `index` of a port access, as an exit.
    pub(super) fn element(&mut self, access: &Access, index: u32) -> Exit {
        let (port, size) = (access.port, access.size);
        match access.direction {
            Direction::Out => Exit::PortOut { port, size, data: self.vcpu().port_data(access, index) },
            Direction::In => Exit::PortIn { port, size },
        }
    }

    /// A port access of `kind`, as one exit.
    fn whole(&mut self, access: &Access, kind: ExitKind) -> Exit {
        let Access { port, size, count, .. } = *access;
        match kind {
            ExitKind::PortStringIn => Exit::PortStringIn { port, size, count },
            ExitKind::PortStringOut => {
                let element = |index| self.vcpu().port_data(access, index).to_le_bytes();
                let data = (0..count).map(element).flat_map(|word| word.into_iter().take(usize::from(size))).collect();
                Exit::PortStringOut(Box::new(PortString { port, size, data }))
            }
            _ => self.element(access, 0),
        }
    }
}

/// The low half.
fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

/// What element `index` of a string read gets by `reply`.
fn element_of(reply: &Reply, access: &Access, index: u32) -> u32 {
    let size = usize::from(access.size);
    match reply {
        Reply::Value(value) => low(*value),
        Reply::Bytes(bytes) => {
            let from = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(size);
            let element = bytes.get(from..from.saturating_add(size)).unwrap_or(&[0xff; 4]);
            element.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
        }
        _ => low(all_ones(access.size)),
    }
}
