//! Runs of one vCPU that are to be short: some instructions, over a call, out of a function, up to an address. They are made
//! of ordinary runs, and end as those do where something else comes first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use iced_x86::{FlowControl, Instruction};

use crate::debug::{Place, Wish};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::hook::{Binary, Expression};
use crate::x86::{Gpr, Part};

use super::Machine;
use super::repair::instruction_at;
use super::run::Poll;
use super::session::{Limits, Outcome};

/// Arguments that a function takes off the stack as it returns are no more bytes than that.
const POPPED: u64 = 4096;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// So many instructions.
    Steps(u64),
    /// One instruction; a call, or a repeated one, as a whole.
    Over,
    /// Behind the return of the function at hand.
    Out,
    /// To this linear address.
    Until(u64),
}

/// When it is to be over at the latest.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn limits(self) -> Limits {
        let timeout = self.0.map(|at| at.saturating_duration_since(Instant::now()));
        Limits { timeout, ..Limits::default() }
    }
}

impl Machine {
    /// Runs vCPU `id` alone, on this thread, as far as `goal` says or until something else ends the run.
    pub fn step(self: &Arc<Self>, id: u32, goal: Goal, timeout: Option<Duration>, poll: Poll<'_>) -> Outcome {
        let deadline = Deadline(timeout.and_then(|timeout| Instant::now().checked_add(timeout)));
        match goal {
            Goal::Steps(0) => Err(Error::Invalid("at least one step".into())),
            Goal::Steps(n) => self.run_these(&[id], Limits { steps: Some(n), ..deadline.limits() }, poll),
            Goal::Until(at) => self.run_to(id, at, None, deadline, poll),
            Goal::Over => self.over(id, deadline, poll),
            Goal::Out => self.out(id, deadline, poll),
        }
    }

    /// The instruction at which vCPU `id` is, and RSP.
    fn instruction(&self, id: u32) -> Result<(Option<Instruction>, u64)> {
        let (regs, sregs) = self.cpu(id)?.with(|cpu| Ok((cpu.vcpu.regs()?, cpu.vcpu.sregs()?)))?;
        Ok((instruction_at(&regs, &sregs, &self.memory), regs[Gpr::Rsp]))
    }

    fn over(self: &Arc<Self>, id: u32, deadline: Deadline, poll: Poll<'_>) -> Outcome {
        let (instruction, rsp) = self.instruction(id)?;
        match instruction {
            Some(call) if is_call(&call) => self.run_to(id, call.next_ip(), Some(rsp), deadline, poll),
            Some(string) if string.has_rep_prefix() || string.has_repne_prefix() => {
                self.run_to(id, string.next_ip(), None, deadline, poll)
            }
            _ => self.run_these(&[id], Limits { steps: Some(1), ..deadline.limits() }, poll),
        }
    }

    fn out(self: &Arc<Self>, id: u32, deadline: Deadline, poll: Poll<'_>) -> Outcome {
        loop {
            let (instruction, rsp) = self.instruction(id)?;
            let (outcome, is_last) = match instruction {
                Some(call) if is_call(&call) => (self.run_to(id, call.next_ip(), Some(rsp), deadline, poll)?, false),
                Some(back) if back.flow_control() == FlowControl::Return => {
                    (self.run_these(&[id], Limits { steps: Some(1), ..deadline.limits() }, poll)?, true)
                }
                _ => {
                    let limits = Limits { steps: Some(u64::MAX), to_flow: true, ..deadline.limits() };
                    (self.run_these(&[id], limits, poll)?, false)
                }
            };
            if is_last || !matches!(outcome.1, Exit::Step { .. }) {
                return Ok(outcome);
            }
        }
    }

    /// To linear address `at`; with `rsp`, only where the stack is back there: deeper, the function has called itself, and
    /// elsewhere it is another task's.
    fn run_to(self: &Arc<Self>, id: u32, at: u64, rsp: Option<u64>, deadline: Deadline, poll: Poll<'_>) -> Outcome {
        let when = rsp.map(|rsp| {
            let top = Arc::new(Expression::Register(Part::whole(Gpr::Rsp)));
            let above = Expression::Binary(Binary::Subtract, top, Arc::new(Expression::Constant(rsp)));
            Expression::Binary(Binary::Less, Arc::new(above), Arc::new(Expression::Constant(POPPED)))
        });
        let point = self.add_point(Wish { vcpu: Some(id), when, is_step: true, ..Wish::at(Place::Linear(at)) })?;
        let outcome = self.run_these(&[id], deadline.limits(), poll);
        self.remove_point(&point)?;
        outcome
    }
}

fn is_call(instruction: &Instruction) -> bool {
    matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
        && (instruction.is_call_near() || instruction.is_call_near_indirect())
}

/// Is it a call, or the return from one?
pub(super) fn is_of_flow(instruction: &Instruction) -> bool {
    is_call(instruction) || instruction.flow_control() == FlowControl::Return
}
