//! A vCPU that is held: its thread waits between two instructions until it is released or the run ends.
//! It never looks at the vCPU meanwhile: others may be changing it.

use std::time::Duration;

use crate::error::Result;
use crate::exit::Exit;

use super::Run;

/// How often a thread that waits looks for signals and for the end of its time.
const SLICE: Duration = Duration::from_millis(40);

impl Run<'_> {
    /// Goes on by steps from here, if somebody wants that.
    pub(super) fn look_for_stepper(&mut self) {
        self.debug.is_stepped = self.slot.holds.are_steps_wanted();
        self.debug.is_first |= self.debug.is_stepped;
        self.debug.is_on |= self.debug.is_stepped;
    }

    /// A step has been taken, after which the vCPU is at `at`: tells who wanted it.
    pub(super) fn tell_stepper(&mut self, at: u64) {
        if self.debug.is_stepped {
            let slot = self.slot;
            self.debug.is_stepped = self.lease.lend(|| slot.holds.stepped(slot.id, at));
            if !self.debug.is_stepped {
                self.slice.end(); // who wanted the step may have held it
            }
        }
    }

    /// Completes the instruction at hand and waits until nobody holds the vCPU. Hands out the exit that ends the run
    /// instead, if there is one: it came while the instruction completed, or the time is over.
    pub(super) fn wait_until_released(&mut self) -> Result<Option<Exit>> {
        self.complete()?;
        if let Some(exit) = self.ended.take() {
            return Ok(Some(exit));
        }
        let (slot, session, poll) = (self.slot, self.session, self.poll);
        slot.holds.set_parked(true);
        let released = self.lease.park(|| {
            while !slot.holds.wait(SLICE) && !session.is_stopping() {
                if let Some(poll) = poll {
                    poll()?;
                }
                if session.time_left() == Some(Duration::ZERO) {
                    return Ok(Some(Exit::Timeout));
                }
            }
            Ok(None)
        });
        slot.holds.set_parked(false);
        self.look_for_stepper();
        self.begin_slice();
        released
    }
}
