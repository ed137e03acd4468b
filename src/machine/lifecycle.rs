//! Starting, pausing, waiting for and closing a machine, from any thread.
//! It never waits while it holds a lock that a vCPU thread needs.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::exit::{Exit, Interruption};
use crate::kvm::Irqchip;

use super::cpu::Slot;
use super::run::{Poll, Run};
use super::session::{Limits, Outcome, Session};
use super::{Life, Machine};

/// What a thread of a machine's is for.
pub type Work<'a> = &'a mut (dyn FnMut() + Send);

/// What a machine is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing: it has not run, or its run in the background was stopped.
    #[default]
    Stopped,
    /// A thread is in `run`.
    Foreground,
    /// Its own threads run it.
    Background,
    /// It has run, and is held between two instructions.
    Paused,
    /// Somebody is closing it.
    Closing,
    /// It is gone.
    Closed,
}

/// The stack of a vCPU's thread, on which handlers run: more than Python's main thread has. A handler that calls itself
/// without end is to meet Python's limit, not the end of the stack, which kills the process.
const STACK: usize = 16 << 20;

/// How often a wait comes up to look for signals.
const SLICE: Duration = Duration::from_millis(40);

fn vcpu_thread(id: u32) -> std::thread::Builder {
    std::thread::Builder::new().name(format!("belljar-vcpu{id}")).stack_size(STACK)
}

/// A vCPU's part in a run, which ends also by a panic: who waits for the run must not wait for ever.
struct Leaving<'a> {
    machine: &'a Machine,
    session: &'a Session,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.session.end(Err(Error::Invalid("a vCPU's thread panicked: a defect of belljar".into())));
        }
        self.session.leave();
        self.machine.kick_all();
    }
}

impl Machine {
    /// What the machine is doing.
    pub fn phase(&self) -> Phase {
        self.life().phase()
    }

    /// Do threads of its own run it now?
    pub fn is_background(&self) -> bool {
        self.phase() == Phase::Background
    }

    /// The vCPUs that a run runs: all with interrupt controllers (they wait there to be started), else those that were
    /// given something to run.
    fn runnable(self: &Arc<Self>) -> Vec<u32> {
        let ready = |s: &&Slot| self.irqchip != Irqchip::None || s.is_ready();
        let ids: Vec<_> = self.cpus.iter().filter(ready).map(|s| s.id).collect();
        if ids.is_empty() { vec![0] } else { ids }
    }

    pub(super) fn refuse_in_handler(&self, what: &'static str) -> Result<()> {
        if self.cpus.iter().any(Slot::is_in_handler) { Err(Error::InHandler { what }) } else { Ok(()) }
    }

    pub(super) fn refuse_inherited(&self) -> Result<()> {
        if !self.is_inherited() {
            return Ok(());
        }
        Err(Error::Invalid("this VM belongs to the process that made it; a forked child makes its own".into()))
    }

    fn open_session(&self, ids: &[u32], phase: Phase, limits: Limits) -> Result<Arc<Session>> {
        self.refuse_inherited()?;
        self.refuse_in_handler("run")?;
        let mut life = self.life();
        match life.phase() {
            Phase::Stopped | Phase::Paused => {}
            Phase::Foreground | Phase::Background => {
                return Err(Error::Running { vcpu: ids.first().copied().unwrap_or(0) });
            }
            Phase::Closing | Phase::Closed => return Err(Error::Closed),
        }
        let mut failures = life.session.as_ref().map_or_else(Vec::new, |s| s.take_failures()).into_iter();
        if let Some(first) = failures.next() {
            drop(life);
            failures.for_each(Error::unheard);
            return Err(first); // of the last run in the background, which nobody has joined
        }
        let caller = (phase == Phase::Foreground).then(|| std::thread::current().id());
        let session = Arc::new(Session::new(ids, limits, caller));
        life.phase = phase;
        life.session = Some(Arc::clone(&session));
        self.promise(ids, true);
        Ok(session)
    }

    fn promise(&self, ids: &[u32], yes: bool) {
        self.cpus.iter().filter(|slot| ids.contains(&slot.id)).for_each(|slot| slot.promise(yes));
    }

    /// Runs all vCPUs, the first on this thread, until one stops.
    pub fn run(self: &Arc<Self>, limits: Limits, poll: Poll<'_>) -> Outcome {
        let ids = self.runnable();
        self.run_these(&ids, limits, poll)
    }

    /// Runs the vCPUs `ids`, the first on this thread, until one stops.
    pub fn run_these(self: &Arc<Self>, ids: &[u32], limits: Limits, poll: Poll<'_>) -> Outcome {
        if limits.exits == Some(0) {
            return Err(Error::Invalid("max_exits is at least 1".into()));
        }
        let session = self.open_session(ids, Phase::Foreground, limits)?;
        let (first, others) = ids.split_first().ok_or(Error::Invalid("no vCPU to run".into()))?;
        std::thread::scope(|scope| {
            let run: &Session = &session;
            self.spawn_all(others, run, |id| {
                let thread = vcpu_thread(id);
                thread.spawn_scoped(scope, move || self.within(&mut || self.drive(id, run, None))).map(drop)
            });
            self.drive(*first, &session, Some(poll));
        });
        self.leave_session(&session, Phase::Paused);
        self.ended_by(&session)
    }

    /// Why a run ended; what else would have ended it is kept until the next one.
    fn ended_by(&self, session: &Session) -> Outcome {
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = session.take_others();
        session.take_outcome()
    }

    /// Exits that were answered when the last run ended, and would have ended it too.
    pub fn other_exits(&self) -> Vec<(u32, Exit)> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has `spawn` start a thread for each vCPU; if it cannot, the run is over.
    fn spawn_all(&self, ids: &[u32], session: &Session, spawn: impl Fn(u32) -> std::io::Result<()>) {
        for (spawned, id) in ids.iter().enumerate() {
            if let Err(e) = spawn(*id) {
                session.end(Err(Error::Host { what: "pthread_create", errno: e.raw_os_error().unwrap_or(0) }));
                self.promise(&ids[spawned..], false);
                ids[spawned..].iter().for_each(|_| session.leave());
                self.kick_all();
                break;
            }
        }
    }

    /// Has `work`, which is what a thread is for, done within whatever there is around the machine's threads.
    pub fn within(&self, work: Work<'_>) {
        match self.around.get() {
            Some(around) => around(work),
            None => work(),
        }
    }

    fn drive(&self, id: u32, session: &Session, poll: Option<Poll<'_>>) {
        let _leaving = Leaving { machine: self, session };
        match self.cpu(id) {
            Ok(slot) => Run::drive(self, slot, session, poll),
            Err(error) => session.end(Err(error)),
        }
    }

    /// Forgets a run that is over, and whose outcome is handed out; from now on the machine is in `phase`.
    fn leave_session(&self, session: &Arc<Session>, phase: Phase) {
        let mut life = self.life();
        if life.is_of(session) {
            life.session = None;
            if !matches!(life.phase, Phase::Closing | Phase::Closed) {
                life.phase = phase;
            }
        }
        drop(life);
        self.changed.notify_all();
    }

    /// Runs all vCPUs on threads of their own.
    pub fn start(self: &Arc<Self>) -> Result<()> {
        self.join_threads();
        let ids = self.runnable();
        let session = self.open_session(&ids, Phase::Background, Limits::default())?;
        self.set_console_ended(false);
        self.spawn_all(&ids, &session, |id| self.spawn(id, &session));
        Ok(())
    }

    /// Runs one vCPU on a thread of its own.
    fn spawn(self: &Arc<Self>, id: u32, session: &Arc<Session>) -> std::io::Result<()> {
        let (machine, session) = (Arc::clone(self), Arc::clone(session));
        let handle = vcpu_thread(id).spawn(move || {
            machine.within(&mut || machine.drive(id, &session, None));
            if !session.is_running() {
                machine.background_over(&session);
            }
        })?;
        self.life().threads.push(handle);
        Ok(())
    }

    /// The last vCPU thread has stopped. Another run may have begun since.
    fn background_over(&self, session: &Arc<Session>) {
        let life = self.life();
        if life.is_of(session) {
            self.set_console_ended(true);
        }
        drop(life);
        self.changed.notify_all();
    }

    fn set_console_ended(&self, yes: bool) {
        if let Some(serial) = &self.serial {
            serial.console.end(yes);
        }
    }

    /// Waits for the background run to end and hands out why; `None` at the end of `patience`. The machine is then
    /// paused, as after `pause`.
    pub fn join(&self, patience: Option<Duration>, poll: Poll<'_>) -> Result<Option<(u32, Exit)>> {
        self.refuse_in_handler("join")?;
        let (session, phase) = self.present();
        if phase == Phase::Closing {
            return Err(Error::Closed); // who closes asks for the outcome, or who is in `run`
        }
        let Some(session) = session.filter(|_| phase != Phase::Foreground && !self.is_inherited()) else {
            return Err(Error::Invalid("the machine does not run in the background: start() it first".into()));
        };
        if !self.wait(&session, patience, poll)? {
            return Ok(None);
        }
        self.join_threads();
        self.ended_by(&session).map(Some)
    }

    /// Why the run in the background is over, if it is, and no other has begun since: the vCPU, and its exit unless it
    /// was an error. Once.
    pub fn take_end(&self) -> Option<(u32, Option<Exit>)> {
        let life = self.life();
        let session = life.session.as_ref().filter(|_| matches!(life.phase, Phase::Background | Phase::Paused))?;
        session.take_reason()
    }

    fn present(&self) -> (Option<Arc<Session>>, Phase) {
        let life = self.life();
        (life.session.clone(), life.phase())
    }

    fn wait(&self, session: &Session, patience: Option<Duration>, poll: Poll<'_>) -> Result<bool> {
        let deadline = patience.and_then(|p| std::time::Instant::now().checked_add(p));
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(std::time::Instant::now()));
            if session.wait(left.map_or(SLICE, |l| l.min(SLICE))) {
                return Ok(true);
            }
            poll()?;
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
            if session.is_stopping() {
                self.kick_all(); // again: the kernel drops signals of a user who has too many
            }
        }
    }

    fn join_threads(&self) {
        let mut life = self.life();
        let threads = if life.is_running() { Vec::new() } else { std::mem::take(&mut life.threads) };
        drop(life);
        for thread in threads {
            let _ = thread.join();
        }
    }

    /// Asks a run to stop and waits until it has, unless this is one of its handlers. Hands out why it ended.
    pub fn halt(&self, why: Interruption, poll: Poll<'_>) -> Result<Option<(u32, Exit)>> {
        if self.is_inherited() {
            return Ok(None);
        }
        let (session, phase) = self.present();
        let Some(session) = session else { return Ok(None) };
        session.interrupt(why);
        self.kick_all();
        if self.cpus.iter().any(Slot::is_in_handler) {
            return Ok(None);
        }
        self.wait(&session, None, poll)?;
        self.join_threads();
        let background = matches!(phase, Phase::Background | Phase::Paused);
        if why == Interruption::Stop && background {
            self.leave_session(&session, Phase::Stopped);
        }
        if background { self.ended_by(&session).map(Some) } else { Ok(None) }
    }

    /// Goes on in the background from where it is held.
    pub fn resume(self: &Arc<Self>) -> Result<()> {
        match self.phase() {
            Phase::Paused => self.start(),
            Phase::Closing | Phase::Closed => Err(Error::Closed),
            Phase::Stopped => Err(Error::Invalid("this VM is stopped: start() it".into())),
            Phase::Foreground | Phase::Background => Err(Error::Invalid("this VM is running already".into())),
        }
    }

    /// Ends all runs and gives everything back. Does nothing if it has been done. Hands out the errors of a run in the
    /// background that nobody has asked for.
    pub fn close(&self, poll: Poll<'_>) -> Result<Vec<Error>> {
        if self.is_inherited() {
            return Ok(Vec::new());
        }
        self.refuse_in_handler("close")?;
        let Some((session, phase)) = self.begin_closing(poll)? else { return Ok(Vec::new()) };
        let result = self.finish_closing(session.as_ref(), poll);
        let session = session.filter(|_| phase != Phase::Foreground);
        let mut life = self.life();
        life.phase = match &result {
            Ok(()) => Phase::Closed,
            Err(_) if life.is_running() => phase, // it has been told to end, and somebody may wait for that again
            Err(_) if session.is_some() => Phase::Paused, // what its handlers raised is still to be asked for
            Err(_) => Phase::Stopped,
        };
        if !life.is_running() && life.phase != Phase::Paused {
            life.session = None;
        }
        drop(life);
        self.changed.notify_all();
        result.map(|()| session.map_or_else(Vec::new, |s| s.take_failures()))
    }

    /// Becomes the one who closes, with the run that is on and the phase until now; `None` if the machine is closed.
    fn begin_closing(&self, poll: Poll<'_>) -> Result<Option<(Option<Arc<Session>>, Phase)>> {
        loop {
            let mut life = self.life();
            match life.phase {
                Phase::Closed => return Ok(None),
                Phase::Closing => drop(self.wait_for_change(life)),
                _ if self.memory.exports() > 0 => return Err(Error::ViewsLive(self.memory.exports())),
                _ => {
                    let phase = std::mem::replace(&mut life.phase, Phase::Closing);
                    return Ok(Some((life.session.clone(), phase)));
                }
            }
            poll()?;
        }
    }

    fn wait_for_change<'a>(&self, life: std::sync::MutexGuard<'a, Life>) -> std::sync::MutexGuard<'a, Life> {
        self.changed.wait_timeout(life, SLICE).map_or_else(|e| e.into_inner().0, |(life, _)| life)
    }

    fn finish_closing(&self, session: Option<&Arc<Session>>, poll: Poll<'_>) -> Result<()> {
        if let Some(session) = session {
            session.interrupt(Interruption::Close);
            self.kick_all();
            self.wait(session, None, poll)?;
        }
        self.join_threads();
        let memory = self.memory.close()?;
        for slot in &self.cpus {
            while !slot.close(SLICE) {
                poll()?;
            }
        }
        self.set_console_ended(true);
        self.dismantle();
        drop(memory);
        Ok(())
    }
}
