//! Traces: what of an exit is recorded, into one ring per vCPU, and what becomes of it when a ring is full.
//! They never answer an exit, and nothing foreign is called for an event.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

use crate::error::{Error, Result};
use crate::exit::Exit;

use super::Subject;
use super::clock;
use super::common::{Columns, Common};
use super::expression::{Expression, Scope};
use super::ring::{Batch, Pushed, Ring};
use super::trail::Trail;

/// The most columns of a record.
pub const MOST_COLUMNS: usize = 64;

/// Records that one instruction may add to a full ring, before the run looks: KVM emulates at most 1,024 rounds of a
/// string at once, and hands over at most a page of one (4,096 elements).
const SPARE: u64 = 8192;

/// A reader that was here so recently is expected to come back.
const RECENTLY: Duration = Duration::from_secs(1);

/// One 64-bit word of a record. What an exit does not have is 0, and told apart by the record's last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// CLOCK_MONOTONIC, in nanoseconds.
    Time,
    /// The exit's kind, as its index in [`crate::exit::ExitKind::ALL`].
    Kind,
    /// The number of the record among the vCPU's, from 0 on; those that were lost count.
    Sequence,
    /// A value computed from the exit and the vCPU.
    Value(Expression),
}

impl Column {
    /// Its word; none where the exit, or the guest at it, has no such thing.
    #[inline]
    fn word(&self, exit: &Exit, ticks: u64, scope: &mut Scope<'_>, sequence: u64) -> Option<u64> {
        match self {
            Self::Value(Expression::Exit(field)) => scope.field(*field), // most are
            Self::Time => Some(clock::nanoseconds(ticks)),
            Self::Kind => u64::try_from(exit.kind().index()).ok(),
            Self::Sequence => Some(sequence),
            Self::Value(expression) => expression.value(scope),
        }
    }

    /// Has each exit of all these subjects such a thing?
    pub fn is_sure(&self, subjects: &[Subject]) -> bool {
        match self {
            Self::Time | Self::Kind | Self::Sequence => true,
            Self::Value(expression) => expression.is_sure(&|field| subjects.iter().all(|one| one.has(field))),
        }
    }
}

/// What becomes of records for which there is no room.
#[derive(Debug)]
pub enum Policy {
    /// The guest waits for a reader, or its run ends; nothing is lost.
    Stop,
    /// They are counted.
    Drop,
    /// They go to a file: one word per column.
    Spill(Mutex<BufWriter<File>>),
}

/// Who reads, and whether it is expected to go on.
#[derive(Debug, Default)]
struct Reader {
    last: Option<(ThreadId, Instant)>,
    staying: usize,
}

/// When a file descriptor is to become readable.
#[derive(Debug)]
struct Alarm {
    timer: TimerFd,
    every: Option<Duration>,
    count: u64,
}

/// What is recorded, and where.
///
/// If there is a column that not every record has, each record ends with one more word: which columns it has, by bit.
#[derive(Debug)]
pub struct Trace {
    columns: Box<[Column]>,
    /// The columns, if they are what most records consist of.
    common: Option<Columns>,
    sure: Box<[bool]>,
    rings: Box<[Arc<Ring>]>,
    trails: Box<[Trail]>,
    policy: Policy,
    spilled: AtomicU64,
    bell: EventFd,
    epoll: Epoll,
    alarm: Mutex<Option<Alarm>>,
    reader: Mutex<Reader>,
}

impl Trace {
    /// A trace of `subjects` by `vcpus` vCPUs, each with a ring of `capacity` records.
    pub fn new(
        columns: Vec<Column>,
        subjects: &[Subject],
        vcpus: usize,
        capacity: u64,
        policy: Policy,
    ) -> Result<Arc<Self>> {
        if columns.is_empty() || columns.len() > MOST_COLUMNS {
            return Err(Error::Invalid(format!("a record of {} fields; 1 to {MOST_COLUMNS} can be", columns.len())));
        }
        let spare = if matches!(policy, Policy::Stop) { SPARE } else { 0 };
        let sure: Box<[bool]> = columns.iter().map(|column| column.is_sure(subjects)).collect();
        let width = columns.len() + usize::from(sure.contains(&false));
        let rings: Result<_> = (0..vcpus).map(|_| Ring::new(width, capacity, spare)).collect();
        clock::nanoseconds(clock::ticks()); // the first time takes a millisecond: now, and not at an exit
        let bell = EventFd::new(EFD_NONBLOCK).map_err(host("eventfd"))?;
        let epoll = Epoll::new().map_err(host("epoll_create1"))?;
        watch(&epoll, bell.as_raw_fd())?;
        Ok(Arc::new(Self {
            common: Columns::of(&columns),
            columns: columns.into(),
            sure,
            rings: rings?,
            trails: (0..vcpus).map(|_| Trail::default()).collect(),
            policy,
            spilled: AtomicU64::new(0),
            bell,
            epoll,
            alarm: Mutex::default(),
            reader: Mutex::default(),
        }))
    }

    /// What a record consists of.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Has every record this column? What has it not says so in the record's last word.
    pub fn is_sure(&self, column: usize) -> bool {
        self.sure.get(column).is_none_or(|sure| *sure)
    }

    /// Words per record: one per column, and that last one where a column is not sure.
    pub fn width(&self) -> usize {
        self.columns.len() + usize::from(self.sure.contains(&false))
    }

    fn ring(&self, vcpu: u32) -> Option<&Arc<Ring>> {
        usize::try_from(vcpu).ok().and_then(|at| self.rings.get(at))
    }

    /// Records `exit` of the scope's vCPU, which came when the time-stamp counter was `ticks`, on the thread that runs it.
    /// Is that vCPU to make no more records until somebody has read some?
    pub fn record(&self, exit: &Exit, ticks: u64, scope: &mut Scope<'_>) -> bool {
        let Some(ring) = self.ring(scope.vcpu) else { return false };
        let pushed = match (&self.common, Common::of(exit, scope.answer, scope.vcpu)) {
            (Some(columns), Some(common)) => {
                let time = if columns.has_time { clock::nanoseconds(ticks) } else { 0 };
                ring.push(|words, sequence| common.write(columns, words, time, sequence))
            }
            _ => ring.push(|words, sequence| self.write(words, exit, ticks, scope, sequence)),
        };
        match pushed {
            Pushed::Kept => {}
            Pushed::Awaited => self.ring_the_bell(),
            Pushed::Full => self.overflow(ring, exit, ticks, scope),
        }
        matches!(self.policy, Policy::Stop) && ring.is_full()
    }

    /// Writes a record, column by column.
    #[inline(never)]
    fn write(&self, words: &[AtomicU64], exit: &Exit, ticks: u64, scope: &mut Scope<'_>, sequence: u64) {
        let mut present = 0_u64;
        for (n, (column, word)) in self.columns.iter().zip(words).enumerate() {
            let value = column.word(exit, ticks, scope, sequence);
            present |= u64::from(value.is_some()) << n;
            word.store(value.unwrap_or(0), Ordering::Relaxed);
        }
        if let Some(last) = words.get(self.columns.len()) {
            last.store(present, Ordering::Relaxed);
        }
    }

    /// Notes where a step of vCPU `vcpu` led, whether or not it was recorded: after that.
    pub fn note(&self, exit: &Exit, vcpu: u32) {
        if let Exit::Step { at, executed } = exit
            && let Some(trail) = usize::try_from(vcpu).ok().and_then(|n| self.trails.get(n))
        {
            trail.step(executed.from, *at);
        }
    }

    /// Where the steps of each vCPU began, and where they have led to.
    pub fn trails(&self) -> Vec<Option<(u64, u64)>> {
        self.trails.iter().map(Trail::ends).collect()
    }

    #[cold]
    fn ring_the_bell(&self) {
        let _ = self.bell.write(1); // it can only be full of rings
    }

    #[cold]
    fn overflow(&self, ring: &Ring, exit: &Exit, ticks: u64, scope: &mut Scope<'_>) {
        if let Policy::Spill(file) = &self.policy {
            let word = |c: &Column| c.word(exit, ticks, scope, ring.sequence()).unwrap_or(0).to_le_bytes();
            let words = self.columns.iter().flat_map(word);
            let record: Vec<u8> = words.collect();
            let written = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&record);
            if written.is_ok() {
                self.spilled.fetch_add(1, Ordering::Relaxed);
            }
        }
        ring.count_dropped();
    }

    /// Has what was spilled reach the file.
    pub fn flush(&self) -> Result<()> {
        let Policy::Spill(file) = &self.policy else { return Ok(()) };
        file.lock().unwrap_or_else(PoisonError::into_inner).flush().map_err(host("write"))
    }

    /// Is the vCPU to make no more records until somebody has read some?
    pub fn is_full(&self, vcpu: u32) -> bool {
        matches!(self.policy, Policy::Stop) && self.ring(vcpu).is_some_and(|ring| ring.is_full())
    }

    /// Waits until there is room in the vCPU's ring; false at the end of `patience`.
    pub fn wait_for_room(&self, vcpu: u32, patience: Duration) -> bool {
        self.ring(vcpu).is_none_or(|ring| ring.wait_for_room(patience))
    }

    fn reader(&self) -> MutexGuard<'_, Reader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This thread reads, and so may come back. `staying`: one more that stays until it says otherwise (or one fewer).
    pub fn reading(&self, staying: Option<bool>) {
        let mut reader = self.reader();
        reader.last = Some((std::thread::current().id(), Instant::now()));
        reader.staying = match staying {
            Some(true) => reader.staying + 1,
            Some(false) => reader.staying.saturating_sub(1),
            None => reader.staying,
        };
    }

    /// Is a reader expected, on another thread than this one and `caller`, which waits for the run to end?
    pub fn is_awaited(&self, caller: Option<ThreadId>) -> bool {
        let reader = self.reader();
        reader.last.is_some_and(|(thread, when)| {
            let is_free = Some(thread) != caller && thread != std::thread::current().id();
            is_free && (reader.staying > 0 || when.elapsed() < RECENTLY)
        })
    }

    /// How many records wait to be read.
    pub fn waiting(&self) -> u64 {
        self.rings.iter().map(|ring| ring.waiting()).sum()
    }

    /// How many have been made: kept, spilled, and lost.
    pub fn hits(&self) -> u64 {
        self.rings.iter().map(|ring| ring.sequence()).sum()
    }

    /// How many went to the file.
    pub fn spilled(&self) -> u64 {
        self.spilled.load(Ordering::Relaxed)
    }

    /// How many were lost.
    pub fn dropped(&self) -> u64 {
        let missing: u64 = self.rings.iter().map(|ring| ring.dropped()).sum();
        missing.saturating_sub(self.spilled())
    }

    /// Hands out at most `most` records of one vCPU, without a copy: the one with the oldest, where records say their time.
    pub fn take(&self, most: u64) -> Option<Batch> {
        self.reading(None);
        let batch = self.oldest().and_then(|(ring, _)| ring.take(most));
        self.rearm();
        batch
    }

    /// The ring whose first record is the oldest (by time, else by the number of the vCPU), and how many of its records
    /// are older than all others.
    fn oldest(&self) -> Option<(&Arc<Ring>, u64)> {
        let Some(time) = self.columns.iter().position(|column| *column == Column::Time) else {
            return self.rings.iter().find(|ring| ring.waiting() > 0).map(|ring| (ring, u64::MAX));
        };
        let mut ages: Vec<_> = self.rings.iter().filter_map(|ring| Some((ring.peek(time)?, ring))).collect();
        ages.sort_by_key(|(age, _)| *age);
        let (_, ring) = ages.first()?;
        Some((ring, ages.get(1).map_or(u64::MAX, |(next, _)| ring.up_to(time, *next).max(1))))
    }

    /// Hands out at most `most` of the records that wait now, ordered by time where they have one, else by vCPU.
    pub fn read(&self, most: u64) -> Vec<Batch> {
        self.reading(None);
        let (mut batches, mut left) = (Vec::new(), most.min(self.waiting())); // what comes meanwhile is for the next time
        while let Some(batch) = self.oldest().filter(|_| left > 0).and_then(|(ring, n)| ring.take(left.min(n))) {
            left -= batch.count();
            batches.push(batch);
        }
        self.rearm();
        batches
    }

    /// Has the bell ring when `count` records wait. Each vCPU's ring gets a share: one of them must reach its own before
    /// all of them have reached the sum.
    fn arm(&self, count: u64) {
        let share = count.saturating_sub(self.waiting()) / u64::try_from(self.rings.len()).unwrap_or(1).max(1);
        self.rings.iter().for_each(|ring| ring.wake_after(ring.waiting() + share.max(1)));
    }

    /// Waits until `count` records wait, once; false at the end of `patience`, or when it is worth asking again.
    pub fn wait(&self, count: u64, patience: Duration) -> bool {
        self.reading(None);
        let _ = self.bell.read(); // it may still ring for the alarm's count
        self.arm(count);
        if self.waiting() < count {
            let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
            let _ = self.epoll.wait(patience, &mut [EpollEvent::default()]); // a signal ends it: the caller asks again
            let _ = self.bell.read();
        }
        let is_there = self.waiting() >= count;
        self.rearm();
        is_there
    }

    /// A descriptor that is readable when `count` records wait, or `every` so often.
    pub fn alarm(&self, count: u64, every: Option<Duration>) -> Result<RawFd> {
        let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |what| move |e: vmm_sys_util::errno::Error| Error::Host { what, errno: e.errno() };
        if alarm.is_none() {
            let timer = TimerFd::new().map_err(failed("timerfd_create"))?;
            watch(&self.epoll, timer.as_raw_fd())?;
            *alarm = Some(Alarm { timer, every, count });
        }
        if let Some(alarm) = &mut *alarm {
            (alarm.count, alarm.every) = (count, every);
        }
        drop(alarm);
        self.rearm();
        Ok(self.epoll.as_raw_fd())
    }

    /// After somebody has read: the descriptor is readable again when the next records wait.
    fn rearm(&self) {
        let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Alarm { timer, every, count }) = &mut *alarm else { return };
        let _ = self.bell.read();
        let _ = if let Some(every) = *every { timer.reset(every, Some(every)) } else { timer.clear() };
        self.arm(*count);
        if self.waiting() >= *count {
            self.ring_the_bell();
        }
    }
}

fn watch(epoll: &Epoll, fd: RawFd) -> Result<()> {
    let data = u64::try_from(fd).unwrap_or(0);
    epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, data)).map_err(host("epoll_ctl"))
}

fn host(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::Host { what, errno: e.raw_os_error().unwrap_or(0) }
}
