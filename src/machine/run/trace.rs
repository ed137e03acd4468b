//! Recording exits for traces, and making room where their rings are full. It never answers an exit.

use std::sync::Arc;
use std::time::Duration;

use crate::bus::all_ones;
use crate::error::Result;
use crate::exit::{Exit, Interruption};
use crate::hook::{Scope, Trace};
use crate::kvm::Access;
use crate::machine::look::{InHand, Seen};

use super::Run;

/// How often a vCPU that waits for room looks whether the run is over.
const SLICE: Duration = Duration::from_millis(10);

impl Run<'_> {
    /// Records an exit that nobody has been asked about yet; a read waits for its answer.
    #[inline]
    pub(super) fn record_before(&mut self, exit: &Exit, is_element: bool) {
        if self.tables.traces().is_some() && !exit.kind().is_read() {
            self.record(exit, is_element, None);
        }
    }

    /// Records a read with its answer: none where the guest gets an exception instead, and for a whole string.
    #[inline]
    pub(super) fn record_answer(&mut self, exit: &Exit, is_element: bool, answer: Option<u64>) {
        if self.tables.traces().is_some() {
            let size = match *exit {
                Exit::PortIn { size, .. } | Exit::MmioRead { size, .. } => size,
                _ => 8,
            };
            self.record(exit, is_element, answer.map(|data| data & all_ones(size)));
        }
    }

    /// Records an element of a string that a hook has answered whole; a read was answered with `data`.
    pub(super) fn record_element(&mut self, access: &Access, index: u32, data: u32) {
        if self.tables.traces().is_some() {
            match self.element(access, index) {
                exit @ Exit::PortIn { .. } => self.record_answer(&exit, true, Some(u64::from(data))),
                exit => self.record(&exit, true, None),
            }
        }
    }

    fn record(&mut self, exit: &Exit, is_element: bool, answer: Option<u64>) {
        let Self { lease, tables, machine, watch, may_be_full, .. } = self;
        let Some(chain) = tables.traces().and_then(|traces| traces.find(exit)) else { return };
        let vcpu = &mut lease.cpu().vcpu;
        let id = vcpu.id();
        let mut registers = InHand { vcpu, seen: &mut Seen::default() };
        let memory = &*machine.memory;
        let mut scope = Scope { exit: Some(exit), answer, vcpu: id, registers: &mut registers, memory };
        for hook in chain.iter() {
            let Some(trace) = hook.trace().filter(|_| hook.is_enabled()) else { continue };
            if hook.matches(exit, is_element, &mut scope) {
                *may_be_full |= trace.record(exit, watch.ticks(), &mut scope);
            }
            trace.note(exit, id);
        }
    }

    /// A trace that has no room for what this vCPU may do next.
    fn full_trace(&self) -> Option<Arc<Trace>> {
        let traces = self.tables.traces()?.recorders().filter(|hook| hook.is_enabled());
        traces.filter_map(|hook| hook.trace()).find(|trace| trace.is_full(self.slot.id)).cloned()
    }

    /// Waits until every trace has room, if somebody reads it meanwhile; else that is a reason to end the run. Only a record of
    /// this vCPU's own can have filled one since the last look.
    #[inline]
    pub(super) fn make_room(&mut self) -> Result<Option<Exit>> {
        if self.may_be_full { self.wait_for_readers() } else { Ok(None) }
    }

    #[cold]
    fn wait_for_readers(&mut self) -> Result<Option<Exit>> {
        while let Some(trace) = self.full_trace() {
            if !trace.is_awaited(self.session.caller()) {
                return Ok(Some(Exit::Interrupted(Interruption::Trace)));
            }
            if self.session.is_stopping() {
                return Ok(Some(Exit::Interrupted(Interruption::Stop)));
            }
            if self.session.time_left() == Some(Duration::ZERO) {
                return Ok(Some(Exit::Timeout));
            }
            if let Some(poll) = self.poll {
                self.lease.lend(poll)?;
            }
            trace.wait_for_room(self.slot.id, SLICE);
            self.look_up_hooks();
        }
        self.may_be_full = false;
        Ok(None)
    }
}
