//! Breakpoints and watchpoints on the thread that runs the vCPU: from what KVM reports to a hit that hooks see. It never
//! decides where anything is planted, nor how the guest gets past it.

use std::sync::Arc;

use crate::addr::GuestPhys;
use crate::debug::{Outline, Point, Role, Site};
use crate::error::Result;
use crate::exit::{Exception, Executed, Exit, InternalError, Reply, Watched};
use crate::hook::Scope;
use crate::kvm::{Access, Direction, Entered};
use crate::machine::debug_choice::{BREAKPOINT, INVALID_OPCODE, STEP};
use crate::machine::look::{InHand, Seen};
use crate::machine::repair::{instruction_at, locate};
use crate::source::ReadMemory;
use crate::x86::segment::kind;
use crate::x86::{Gpr, Regs, Segment, Sregs};

use iced_x86::Mnemonic;

use super::ahead::Ahead;
use super::door::Door;
use super::handlers::{BY_STEP, Guards};
use super::step_control::{SINGLE_STEP, StepEnd, TRAP_FLAG};
use super::step_made::Decoded;
use super::{Next, Run};

const INT3: u8 = 0xcc;

/// What a run knows of the points, and of the steps that it is to make.
#[derive(Debug, Default)]
pub(super) struct Debugger {
    pub(super) plan: Outline,
    pub(super) generation: u64,
    /// Something is planted, or steps are to be seen.
    pub(super) is_on: bool,
    /// Instructions left, where they are counted.
    pub(super) left: Option<u64>,
    /// A call or a return is where to stop.
    pub(super) to_flow: bool,
    /// No instruction has been counted yet.
    pub(super) is_first: bool,
    /// Somebody wants to see each step.
    pub(super) is_traced: bool,
    /// What the next entry is to execute, where each instruction is to be seen.
    pub(super) next: Option<Decoded>,
    /// Somebody has this vCPU go on by steps: its place knows who.
    pub(super) is_stepped: bool,
    /// RIP before the step, and all of the registers until it has been made.
    pub(super) from: u64,
    pub(super) before: Option<(Regs, Sregs)>,
    /// A step ended while an access was completed.
    pub(super) has_stepped: bool,
    /// Where the instruction lies that is being stepped past a breakpoint.
    pub(super) passing: Option<u64>,
    /// It has been executed, and nothing else since.
    pub(super) has_passed: bool,
    /// Whether the next breakpoint is near.
    pub(super) ahead: Ahead,
    /// Bits as in DR6: the data that the instruction of a step touches, which not every KVM reports with the step.
    pub(super) touched: u64,
    /// Where KVM failed last without a word on the instruction, a planted byte having gone.
    pub(super) believed: Option<u64>,
    pub(super) guards: Guards,
    pub(super) door: Door,
    /// The guest's steal time while it is stepped, as it has set it up.
    pub(super) steal: Option<u64>,
}

impl Debugger {
    pub(super) fn new(steps: Option<(u64, bool)>) -> Self {
        let (counts, to_flow) = (steps.is_some(), steps.is_some_and(|(_, to_flow)| to_flow));
        Self { left: steps.map(|(n, _)| n), to_flow, is_on: counts, is_first: counts, ..Self::default() }
    }

    /// Is each instruction to be seen?
    pub(super) fn steps(&self) -> bool {
        self.left.is_some() || self.is_traced || self.is_stepped
    }
}

/// The linear address of RIP.
pub(super) fn linear(regs: &Regs, sregs: &Sregs) -> u64 {
    if sregs.code_bits() == 64 { regs[Gpr::Rip] } else { sregs.cs.base.wrapping_add(regs[Gpr::Rip]) & 0xffff_ffff }
}

impl Run<'_> {
    /// Asks the hooks about a hit, and counts it as an exit. `stops`: it ends the run unless a hook says that it is to go
    /// on (one that was made with a handler does not: its handler's None goes on).
    pub(super) fn hit(&mut self, exit: Exit, stops: bool) -> Result<Next> {
        let stop = match self.consult(&exit)? {
            Reply::Stop => true,
            Reply::Skip => false,
            Reply::Default | Reply::Deny | Reply::Value(_) | Reply::Bytes(_) => stops,
        };
        self.finish(exit, stop)
    }

    pub(super) fn registers(&mut self) -> Result<(Regs, Sregs)> {
        let vcpu = self.vcpu();
        Ok((vcpu.regs()?, vcpu.sregs()?))
    }

    /// What is to become of a return of `KVM_RUN` that is a debugger's; none for all others.
    pub(super) fn debug_exit(&mut self, entered: &Entered) -> Result<Option<Next>> {
        let has_come_in = self.has_come_in(entered);
        match entered {
            Entered::InternalError { suberror: InternalError::EMULATION, instruction, .. }
                if instruction.first().is_none_or(|byte| *byte == INT3) =>
            {
                self.at_byte(!instruction.is_empty())
            }
            Entered::Exit(Exit::Debug { exception: 3, .. }) => match self.at_byte(true)? {
                Some(next) => Ok(Some(next)),
                None => self.give_breakpoint_back().map(Some),
            },
            Entered::Exit(Exit::Debug { exception: 1, pc, dr6, .. }) => self.at_debug_trap(*pc, *dr6, has_come_in),
            Entered::Port(access) if access.size == 1 && access.count == 1 && access.direction == Direction::In => {
                self.at_port_read(access)
            }
            Entered::Exit(Exit::Hlt) if self.debug.steps() => self.after_halt().map(Some),
            _ => Ok(None),
        }
    }

    /// What is planted at linear address `at`: where, and for whom.
    fn planted(&self, sregs: &Sregs, at: u64) -> Option<(GuestPhys, Option<Site>)> {
        let (place, _) = locate(sregs, &self.machine.memory, at)?;
        Some((place, self.machine.points.site(place.0)))
    }

    /// The vCPU is at a planted byte, or at an int3 of the guest's own: KVM has seen it, or could see nothing.
    fn at_byte(&mut self, is_seen: bool) -> Result<Option<Next>> {
        let (regs, sregs) = self.registers()?;
        let at = linear(&regs, &sregs);
        let Some((place, site)) = self.planted(&sregs, at) else { return Ok(None) };
        match site {
            Some(Site { role: Role::Gate(vector), points, .. }) => self.at_gate(vector, at, &points).map(Some),
            Some(site) => self.at_points(at, &site.points).map(Some),
            None if self.machine.traps.is_trapped(place) => Ok(None),
            None => Ok(self.was_planted(place, at, is_seen).then_some(Next::Go)),
        }
    }

    /// Was there a planted byte when the vCPU came to `at`, which has gone since? If KVM saw none, it is believed once: code
    /// that cannot be fetched would fail there for ever.
    fn was_planted(&mut self, place: GuestPhys, at: u64, is_seen: bool) -> bool {
        let is_gone = self.machine.memory.raw_byte(place).is_some_and(|byte| byte != INT3);
        is_gone && (is_seen || self.debug.believed.replace(at) != Some(at))
    }

    /// A read of a port that no guest asked for: the instruction is completed, and its result taken back.
    fn at_port_read(&mut self, access: &Access) -> Result<Option<Next>> {
        let had_any = self.debug.plan.has_port_reads;
        self.look_up_points(); // another vCPU may have planted one just now, or taken one away
        if !had_any && !self.debug.plan.has_port_reads {
            return Ok(None);
        }
        // RIP is at the read: KVM completes it with the next entry.
        let (regs, sregs) = self.registers()?;
        let at = linear(&regs, &sregs);
        let site = self.planted(&sregs, at).and_then(|(_, site)| site).filter(|site| site.mechanism.is_port_read());
        let is_the_guests = || {
            let instruction = instruction_at(&regs, &sregs, &self.machine.memory);
            instruction.is_some_and(|found| matches!(found.mnemonic(), Mnemonic::In | Mnemonic::Insb))
        };
        if site.is_none() && is_the_guests() {
            return Ok(None);
        }
        self.vcpu().answer_port(access, 0, 0);
        self.vcpu().complete()?;
        self.vcpu().acknowledge_kick();
        self.vcpu().set_regs(&regs);
        match site {
            Some(Site { role: Role::Gate(vector), points, .. }) => self.at_gate(vector, at, &points).map(Some),
            Some(site) => self.at_points(at, &site.points).map(Some),
            None => Ok(Some(Next::Go)), // it has just been taken away
        }
    }

    /// The vCPU is about to execute what is at `at`: asks about each of `points` that wants that.
    pub(super) fn at_points(&mut self, at: u64, points: &[Arc<Point>]) -> Result<Next> {
        let rsp = self.vcpu().regs()?[Gpr::Rsp];
        let debug = &mut self.lease.cpu().debug;
        debug.resume = Some(at);
        if debug.returning.take() == Some((at, rsp)) {
            return Ok(Next::Go);
        }
        let mut next = Next::Go;
        for point in points {
            let exit = Exit::Breakpoint { id: point.id, at };
            if !self.is_wanted(point, at, &exit)? || !point.hit() {
                continue;
            }
            self.report(point, exit, &mut next)?;
        }
        Ok(next)
    }

    /// Do the filters of `point` let a hit at `at` through?
    fn is_wanted(&mut self, point: &Point, at: u64, exit: &Exit) -> Result<bool> {
        let Self { lease, machine, slot, .. } = self;
        let vcpu = &mut lease.cpu().vcpu;
        let cr3 = if point.wish.cr3.is_some() { vcpu.sregs()?.cr3 } else { 0 };
        let registers = &mut InHand { vcpu, seen: &mut Seen::default() };
        let memory = &*machine.memory;
        let mut scope = Scope { exit: Some(exit), answer: None, vcpu: slot.id, registers, memory };
        point.matches(at, slot.id, || Ok(cr3), &mut scope)
    }

    /// Hands a hit to whoever wants it. The first that is to end the run does; others that would have are kept beside it.
    fn report(&mut self, point: &Arc<Point>, exit: Exit, next: &mut Next) -> Result<()> {
        if point.wish.once {
            self.machine.remove_point(point)?;
        }
        let then = match (point.wish.is_step, &exit) {
            (true, Exit::Breakpoint { at, .. }) => Next::Stop(Exit::Step { at: *at, executed: Executed::default() }),
            _ => self.hit(exit, point.wish.stops)?,
        };
        if let Next::Stop(exit) = then {
            match next {
                Next::Go => *next = Next::Stop(exit),
                Next::Stop(_) => self.session.also(self.slot.id, exit),
            }
        }
        Ok(())
    }

    /// A debug register, or the end of a step (`KVM_EXIT_DEBUG`; DR6 as in Intel SDM vol. 3, 19.2.3).
    fn at_debug_trap(&mut self, pc: u64, dr6: u64, has_come_in: Option<bool>) -> Result<Option<Next>> {
        let mut next = Next::Go;
        let mut is_ours = false;
        let end = self.debug.guards.end_with(dr6);
        let dr6 = self.debug.guards.hide(dr6) | std::mem::take(&mut self.debug.touched);
        let slots = self.debug.plan.slots.clone();
        let hit = slots.iter().enumerate().filter(|(n, _)| dr6 >> n & 1 != 0);
        let hit: Vec<_> = hit.filter_map(|(_, slot)| slot.clone()).collect();
        let is_here = |linear, is_code: bool| !is_code || linear == pc;
        let hit: Vec<_> = hit.into_iter().filter(|s| is_here(s.linear, s.point.wish.watch.is_none())).collect();
        let (code, data): (Vec<_>, Vec<_>) = hit.into_iter().partition(|slot| slot.point.wish.watch.is_none());
        for slot in data {
            is_ours = true;
            self.at_data(&slot.point, slot.linear, pc, &mut next)?;
        }
        if !code.is_empty() {
            is_ours = true;
            let points: Vec<_> = code.into_iter().map(|slot| slot.point).collect();
            let then = self.at_points(pc, &points)?;
            next = if matches!(next, Next::Go) { then } else { next };
        }
        let debug = &mut self.lease.cpu().debug;
        let steps = std::mem::take(&mut debug.is_stepping) || debug.told.0 & SINGLE_STEP != 0;
        is_ours |= has_come_in.is_some();
        if has_come_in == Some(true) || steps && (dr6 & BY_STEP != 0 || end == StepEnd::AtHandler || !is_ours) {
            is_ours = true;
            if let Some(before) = self.debug.before.take() {
                self.hide_step(&before, end)?;
            }
            let then = self.after_step()?;
            next = if matches!(next, Next::Go) { then } else { next };
        }
        if is_ours {
            return Ok(Some(next));
        }
        self.give_step_back(dr6).map(Some)
    }

    /// Data that a debug register watches has been accessed, by the instruction before `pc`.
    fn at_data(&mut self, point: &Arc<Point>, linear: u64, pc: u64, next: &mut Next) -> Result<()> {
        let size = point.wish.watch.map_or(1, |watch| watch.size);
        let sregs = self.vcpu().sregs()?;
        let gpa = locate(&sregs, &self.machine.memory, linear).map(|(at, _)| at);
        let mut word = [0; 8];
        let read = gpa.map(|at| self.machine.memory.read(at, &mut word[..usize::from(size).min(8)]));
        let after = if matches!(read, Some(Ok(()))) { u64::from_le_bytes(word) } else { 0 };
        let before = point.replace(after);
        let write = before != after || point.wish.watch.is_none_or(|watch| !watch.reads);
        let gpa = gpa.map(|at| at.0);
        let watched = Watched { id: point.id, at: linear, gpa, size, write, before, after, rip: pc };
        let exit = Exit::Watchpoint(Box::new(watched));
        if self.is_wanted(point, linear, &exit)? && point.hit() {
            self.report(point, exit, next)?;
        }
        Ok(())
    }

    /// The vCPU is at the first instruction of the guest's handler of `vector`: was it a byte or a step of ours that sent it
    /// here? Then it never came.
    fn at_gate(&mut self, vector: u8, entry: u64, points: &[Arc<Point>]) -> Result<Next> {
        let (mut regs, mut sregs) = self.registers()?;
        let Some(frame) = self.frame(&regs, &sregs) else { return self.at_points(entry, points) };
        let [rip, cs, rflags, rsp, ss] = frame;
        let back = if vector == BREAKPOINT { rip.wrapping_sub(1) } else { rip };
        let ring = u8::try_from(cs & 3).unwrap_or(0);
        let before = Sregs { cs: self.code_of(cs, &sregs), ..sregs };
        let site = match vector {
            BREAKPOINT => {
                let Some((place, site)) = self.planted(&before, back) else { return self.at_points(entry, points) };
                let is_gone = site.is_none() && self.machine.memory.raw_byte(place) != Some(INT3);
                let site = site.filter(|site| site.mechanism.byte() == Some(INT3));
                if site.is_none() && !is_gone {
                    return self.at_points(entry, points); // the guest's own
                }
                site
            }
            // An interpreter that knows no int3 in 32-bit code of ring 3 raises this in its place.
            INVALID_OPCODE => {
                let Some((place, site)) = self.planted(&before, back) else { return self.at_points(entry, points) };
                let site = site.filter(|site| site.mechanism.byte() == Some(INT3));
                if site.is_none() && !self.was_planted(place, back, false) {
                    return self.at_points(entry, points);
                }
                site
            }
            STEP if self.lease.cpu().debug.owns_trap_flag => None,
            STEP if ring == 3 && rflags & TRAP_FLAG != 0 && self.adopt_stray()? => None,
            _ => return self.at_points(entry, points),
        };
        let selector = |word: u64| u16::try_from(word & 0xffff).unwrap_or(0);
        (regs[Gpr::Rip], regs[Gpr::Rflags], regs[Gpr::Rsp]) = (back, rflags, rsp);
        if ring != sregs.cpl() {
            sregs.cs = before.cs;
            sregs.ss = Segment::flat(selector(ss), kind::DATA, ring);
        }
        self.vcpu().set_regs(&regs);
        self.vcpu().set_sregs(&sregs);
        match site {
            Some(site) => self.at_points(back, &site.points),
            None if vector == STEP => self.after_step(),
            None => Ok(Next::Go),
        }
    }

    /// The code segment that `selector` of the guest's names, of 64-bit or of compatibility mode (Intel SDM vol. 3, 3.4.5).
    fn code_of(&self, selector: u64, sregs: &Sregs) -> Segment {
        let selector = u16::try_from(selector & 0xffff).unwrap_or(0);
        let entry = locate(sregs, &self.machine.memory, sregs.gdt.base.wrapping_add(u64::from(selector & 0xfff8)));
        let entry = entry.and_then(|(at, _)| self.machine.memory.read_u64(at).ok());
        let loaded = entry.map(|entry| Segment::from_descriptor(entry, selector));
        let is_code = |loaded: &Segment| (loaded.s, loaded.present, loaded.kind & 8) == (1, 1, 8);
        let ring = u8::try_from(selector & 3).unwrap_or(0);
        let loaded = loaded.filter(is_code).unwrap_or_else(|| Segment::long_code(selector, ring));
        Segment { dpl: ring, kind: loaded.kind | 1, ..loaded }
    }

    /// What the processor pushed when it came here: RIP, CS, RFLAGS, RSP, SS of 64-bit code.
    fn frame(&mut self, regs: &Regs, sregs: &Sregs) -> Option<[u64; 5]> {
        let mut words = [0; 5];
        for (n, word) in (0..).zip(&mut words) {
            let (at, _) = locate(sregs, &self.machine.memory, regs[Gpr::Rsp].wrapping_add(8 * n))?;
            *word = self.machine.memory.read_u64(at).ok()?;
        }
        Some(words)
    }

    /// An exception that belljar's own handlers report of a guest in mode="user", which is back where it happened: a byte or
    /// a step of ours, or none.
    pub(super) fn shim_exit(&mut self, exception: &Exception) -> Result<Option<Next>> {
        match exception.vector {
            BREAKPOINT => {
                let (mut regs, sregs) = self.registers()?;
                let at = exception.rip.wrapping_sub(1);
                let Some((place, site)) = self.planted(&sregs, at) else { return Ok(None) };
                let is_gone = site.is_none() && self.machine.memory.raw_byte(place) != Some(INT3);
                if site.is_none() && !is_gone {
                    return Ok(None);
                }
                regs[Gpr::Rip] = at;
                self.vcpu().set_regs(&regs);
                site.map_or(Ok(Next::Go), |site| self.at_points(at, &site.points)).map(Some)
            }
            STEP if self.lease.cpu().debug.owns_trap_flag => self.after_step().map(Some),
            // The instruction at a breakpoint has faulted: when the vCPU comes back to it, it has been hit already.
            _ => {
                let passing = self.debug.passing.take().filter(|at| *at == exception.rip);
                self.lease.cpu().debug.resume = passing.or(self.lease.cpu().debug.resume);
                Ok(None)
            }
        }
    }
}
