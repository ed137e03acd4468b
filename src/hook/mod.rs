//! Who may answer an exit before the devices do, and how the one concerned is found.
//! It never runs a vCPU and never knows what language a callback is written in.

mod by_point;
mod clock;
mod common;
mod expression;
mod field;
mod native;
mod ring;
mod table;
mod text;
mod trace;
mod trail;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::addr::Span;
use crate::error::Result;
use crate::exit::{Exit, ExitKind as K, Reply};

pub use clock::ticks;
pub use expression::{Binary, Expression, MOST_DEPTH, MOST_PARTS, NoRegisters, Range, Registers, Scope, System};
pub use field::Field;
pub use native::{Guest, Native};
pub use ring::{Batch, Pushed, Ring};
pub use table::Tables;
pub use trace::{Column, MOST_COLUMNS, Policy, Trace};

/// What is called when a hook's exit happens. The guest waits for it.
pub trait Callback: Send + Sync {
    /// Says what is to become of `exit`, which vCPU `vcpu` made.
    fn call(&self, exit: &Exit, vcpu: u32) -> Result<Reply>;
}

/// What is asked whether a run has come to where it was to go.
pub trait Condition: Send + Sync {
    /// Is it there? After each exit of vCPU `vcpu` has been answered, and every now and then without one.
    fn holds(&self, exit: Option<&Exit>, vcpu: u32) -> Result<bool>;
}

/// What a run goes on until, beside kinds of exits.
#[derive(Clone)]
pub enum Until {
    /// It is computed on the spot.
    Expression(Expression),
    /// Somebody foreign is asked.
    Foreign(Arc<dyn Condition>),
}

/// Which exits a hook wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Accesses to ports.
    Port(Span),
    /// Accesses to guest-physical addresses without memory, and writes to ROM.
    Mmio(Span),
    /// Accesses to MSRs.
    Msr(Span),
    /// All exits of one kind.
    Kind(K),
    /// The hits of the breakpoint or watchpoint of that number.
    Point(u32),
    /// All exits.
    Any,
}

impl Subject {
    /// Has each exit that is recorded for it this field, with a value?
    pub fn has(self, field: Field) -> bool {
        field == Field::Vcpu
            || match self {
                Self::Port(_) => matches!(field, Field::Port | Field::Size | Field::Data),
                Self::Mmio(_) => matches!(field, Field::Address | Field::Size | Field::Data),
                Self::Msr(_) => field == Field::Index, // a read that ends in an exception has no data
                Self::Point(_) | Self::Kind(K::Breakpoint | K::Watchpoint) => {
                    matches!(field, Field::Id | Field::Address)
                }
                Self::Kind(K::Step) => matches!(field, Field::Address | Field::Source | Field::Size | Field::Taken),
                Self::Kind(_) | Self::Any => false,
            }
    }
}

/// Which direction of access a hook wants, seen from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Reads.
    pub reads: bool,
    /// Writes.
    pub writes: bool,
    /// Of ports: several elements of a string instruction at once, not one by one.
    pub strings: bool,
}

impl Wanted {
    /// Every access, element by element.
    pub const ALL: Self = Self { reads: true, writes: true, strings: false };
}

/// Who answers, or what is recorded.
enum Handler {
    /// Somebody foreign, to whom the guest is lent.
    Foreign(Box<dyn Callback>),
    /// A C function; and whom it may pass an exit on to.
    Native(Native, Option<Box<dyn Callback>>),
    /// Nobody: a trace.
    Record(Arc<Trace>),
}

/// One registered handler, or one subject of a trace.
pub struct Hook {
    /// What it wants.
    pub subject: Subject,
    /// Which accesses.
    pub wanted: Wanted,
    /// Which of these exits: those at which it holds.
    pub when: Option<Expression>,
    handler: Handler,
    enabled: AtomicBool,
    use_of: Arc<Use>,
}

/// What a hook has been used for; outlives it.
#[derive(Debug, Default)]
pub struct Use {
    hits: AtomicU64,
    /// In ticks of the time-stamp counter.
    time: AtomicU64,
}

impl Use {
    /// How often it was called.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// How long whoever is foreign has taken, in ticks of the time-stamp counter.
    pub fn ticks(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("subject", &self.subject).field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Hook {
    /// A hook that is enabled and has not been hit.
    pub fn new(subject: Subject, wanted: Wanted, when: Option<Expression>, callback: Box<dyn Callback>) -> Arc<Self> {
        Self::of(subject, wanted, when, Handler::Foreign(callback))
    }

    /// As `new`, of a C function, which may pass exits on to `fallback`.
    pub fn native(
        subject: Subject,
        wanted: Wanted,
        when: Option<Expression>,
        native: Native,
        fallback: Option<Box<dyn Callback>>,
    ) -> Arc<Self> {
        Self::of(subject, wanted, when, Handler::Native(native, fallback))
    }

    /// A hook that records what it wants, and lets it pass.
    pub fn recording(subject: Subject, wanted: Wanted, when: Option<Expression>, trace: Arc<Trace>) -> Arc<Self> {
        Self::of(subject, wanted, when, Handler::Record(trace))
    }

    /// What it records into, if it records.
    pub fn trace(&self) -> Option<&Arc<Trace>> {
        if let Handler::Record(trace) = &self.handler { Some(trace) } else { None }
    }

    fn of(subject: Subject, wanted: Wanted, when: Option<Expression>, handler: Handler) -> Arc<Self> {
        Arc::new(Self { subject, wanted, when, handler, enabled: AtomicBool::new(true), use_of: Arc::default() })
    }

    /// How often it was called.
    pub fn hits(&self) -> u64 {
        self.use_of.hits()
    }

    /// What it has been used for, which outlives it.
    pub fn counter(&self) -> Arc<Use> {
        Arc::clone(&self.use_of)
    }

    /// Whoever is foreign has taken so many ticks of the time-stamp counter.
    pub fn took(&self, ticks: u64) {
        self.use_of.time.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Is it called at all?
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Switches it on or off, from the next exit on.
    pub fn enable(&self, yes: bool) {
        self.enabled.store(yes, Ordering::Relaxed);
    }

    fn wants(&self, exit: &Exit, is_element: bool) -> bool {
        let reads = exit.kind().is_read();
        let direction = if reads { self.wanted.reads } else { self.wanted.writes };
        direction
            && match self.subject {
                Subject::Any => !is_element,
                Subject::Kind(kind) => kind == exit.kind(),
                Subject::Port(_) if is_element => !self.wanted.strings,
                Subject::Port(_) => self.wanted.strings || !matches!(exit.kind(), K::PortStringIn | K::PortStringOut),
                Subject::Mmio(_) | Subject::Msr(_) | Subject::Point(_) => true,
            }
    }

    /// Is this exit one that it is to be asked about: is it enabled, does it want the exit, and does its filter let it
    /// through? `is_element`: the exit is one of a string's elements, which was offered whole before.
    pub fn matches(&self, exit: &Exit, is_element: bool, scope: &mut Scope<'_>) -> bool {
        self.is_enabled() && self.wants(exit, is_element) && self.when.as_ref().is_none_or(|when| when.holds(scope))
    }

    /// Is it a C function?
    pub fn is_native(&self) -> bool {
        matches!(self.handler, Handler::Native(..))
    }

    /// The first to be asked, while nobody has been lent the guest: the C function's answer. None where somebody foreign is
    /// to be asked.
    pub fn ask_native(&self, exit: &Exit, vcpu: u32, guest: &mut dyn Guest) -> Result<Option<Reply>> {
        self.use_of.hits.fetch_add(1, Ordering::Relaxed);
        let Handler::Native(native, fallback) = &self.handler else { return Ok(None) };
        Ok(match (native.call(exit, vcpu, guest)?, fallback) {
            (native::Said::Reply(reply), _) => Some(reply),
            (native::Said::Call, Some(_)) => None,
            (native::Said::Call, None) => Some(Reply::Default),
        })
    }

    /// Asks whoever is foreign; after `ask_native` has said so.
    pub fn ask(&self, exit: &Exit, vcpu: u32) -> Result<Reply> {
        match &self.handler {
            Handler::Foreign(callback) | Handler::Native(_, Some(callback)) => callback.call(exit, vcpu),
            Handler::Native(_, None) | Handler::Record(_) => Ok(Reply::Default),
        }
    }
}

/// The hooks of one machine. Changing them takes effect before the next exit of every vCPU.
#[derive(Debug, Default)]
pub struct Hooks {
    generation: AtomicU64,
    current: Mutex<Arc<Tables>>,
}

impl Hooks {
    /// Changes with every change of the hooks.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The tables of this moment.
    pub fn tables(&self) -> Arc<Tables> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a hook; it is asked before those that are there.
    pub fn add(&self, hook: Arc<Hook>) {
        self.change(|tables| tables.change(&Arc::clone(&hook), |tables| tables.add(hook)));
    }

    /// Removes a hook; does nothing if it has been removed. Says whether it was there.
    pub fn remove(&self, hook: &Arc<Hook>) -> bool {
        let mut was_there = false;
        self.change(|tables| was_there = tables.change(hook, |tables| tables.remove(hook)));
        was_there
    }

    /// Removes all hooks.
    pub fn clear(&self) {
        self.change(|tables| *tables = Tables::default());
    }

    fn change(&self, how: impl FnOnce(&mut Tables)) {
        let old = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            let mut tables = Tables::clone(&current);
            how(&mut tables);
            std::mem::replace(&mut *current, Arc::new(tables))
        };
        self.generation.fetch_add(1, Ordering::Release);
        drop(old); // outside the lock: it may drop the last reference to a callback, which is foreign
    }
}
