//! A server for gdb: a thread that listens, holds the guest while a client is connected, and carries messages between
//! the client and the machine. It never runs a vCPU and never holds a lock while it reads or writes the socket.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use gdbstub::common::Signal;
use gdbstub::stub::state_machine::{GdbStubStateMachine as Stub, GdbStubStateMachineInner as Inner, state};
use gdbstub::stub::{DisconnectReason, GdbStub, MultiThreadStopReason as Reason};

use crate::error::{Error, Result};
use crate::exit::Interruption;
use crate::machine::{Machine, Phase};

use super::grip::{Grip, Stop, Why};
use super::link::{Address, Link, Listener, Stream, Waiter};
use super::target::{Guest, thread_of};

/// How often the thread looks whether the machine is still there, and whether its run is over.
const TICK: Duration = Duration::from_millis(50);

/// How often it looks whether all vCPUs are at rest.
const SHORT: Duration = Duration::from_millis(1);

/// The most bytes of a packet: what bounds each read or write of memory.
const PACKET: usize = 0x4000;

/// A server for gdb, of one machine.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    grip: Arc<Grip>,
    thread: Mutex<Option<JoinHandle<()>>>,
    clients: Arc<AtomicU64>,
    process: u32,
}

impl Server {
    /// Listens for a client of `machine`'s, on a thread of its own. `starts`: where nobody runs the machine, gdb's
    /// `continue` starts it in the background.
    pub fn start(machine: &Arc<Machine>, listener: Listener, starts: bool) -> Result<Self> {
        if machine.is_inherited() || matches!(machine.phase(), Phase::Closing | Phase::Closed) {
            return Err(Error::Closed);
        }
        let address = listener.address()?;
        let grip = Arc::new(Grip::new(machine.cpus.len())?);
        let waiter = Waiter::new(listener.fd(), &grip.news)?;
        let clients = Arc::new(AtomicU64::new(0));
        let mut host = Host {
            machine: Arc::clone(machine),
            listener,
            waiter,
            grip: Arc::clone(&grip),
            clients: Arc::clone(&clients),
            starts,
        };
        let name = std::thread::Builder::new().name("belljar-gdb".into());
        let around = Arc::clone(machine);
        let thread = name
            .spawn(move || around.within(&mut || host.serve()))
            .map_err(|e| Error::Host { what: "pthread_create", errno: e.raw_os_error().unwrap_or(0) })?;
        Ok(Self { address, grip, thread: Mutex::new(Some(thread)), clients, process: std::process::id() })
    }

    /// Is a client connected?
    pub fn is_connected(&self) -> bool {
        self.grip.is_connected()
    }

    /// Does it serve no more?
    pub fn is_closed(&self) -> bool {
        self.grip.is_closing()
    }

    /// How many clients have come so far.
    pub fn clients(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
    }

    /// Waits until a client is connected and the guest is held, or for so long.
    pub fn wait(&self, patience: Duration) -> bool {
        self.grip.wait_for_client(patience)
    }

    /// Has the thread end, and lets the guest go on; waits for it unless this is that thread.
    pub fn close(&self) {
        if self.process != std::process::id() {
            return; // the thread stayed behind
        }
        self.grip.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the thread has in hand.
struct Host {
    machine: Arc<Machine>,
    listener: Listener,
    waiter: Waiter,
    grip: Arc<Grip>,
    clients: Arc<AtomicU64>,
    starts: bool,
}

/// The guest is held while it lives.
struct Visit<'a> {
    grip: &'a Grip,
    machine: &'a Machine,
}

impl<'a> Visit<'a> {
    fn begin(grip: &'a Grip, machine: &'a Machine) -> Self {
        grip.forget_stops();
        grip.hold_all(machine);
        Self { grip, machine }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.grip.set_client(None);
        self.grip.forget_stops();
        self.grip.release_all(self.machine);
    }
}

/// Why a connection is over.
enum End {
    /// The client let go, or is gone.
    Detached,
    /// It wants the guest ended.
    Killed,
}

impl Host {
    fn serve(&mut self) {
        while !self.is_over() {
            self.waiter.wait(TICK);
            Waiter::heard(&self.grip.news);
            if let Some(stream) = self.listener.accept() {
                // A defect of ours or of gdbstub's costs the client its connection, and nobody the guest.
                let _ = catch_unwind(AssertUnwindSafe(|| self.attend(stream)));
            }
        }
        self.grip.close();
    }

    fn is_over(&self) -> bool {
        self.grip.is_closing() || matches!(self.machine.phase(), Phase::Closing | Phase::Closed)
    }

    /// Holds the guest for as long as the client is there, and leaves nothing behind.
    fn attend(&self, stream: Stream) {
        let _visit = Visit::begin(&self.grip, &self.machine);
        let end = self.debug(stream).unwrap_or_else(|error| {
            log::info!("the connection to gdb is over: {error}");
            End::Detached
        });
        if matches!(end, End::Killed) {
            self.machine.interrupt(Interruption::Stop);
        }
    }

    fn debug(&self, stream: Stream) -> Result<End, String> {
        let text = |error: Error| error.to_string();
        if !self.settle() {
            return Ok(End::Detached);
        }
        let guest = Guest::new(Arc::clone(&self.machine), Arc::clone(&self.grip), self.starts).map_err(text)?;
        let handle = stream.try_clone().map_err(|e| e.to_string())?;
        let link = Link::new(stream, &self.grip.news).map_err(text)?;
        self.clients.fetch_add(1, Ordering::Relaxed);
        self.grip.set_client(Some(handle));
        Session { host: self, guest }.talk(link)
    }

    /// Waits until no vCPU moves; false if the machine goes away instead.
    fn settle(&self) -> bool {
        while !self.machine.is_at_rest() {
            if self.is_over() {
                return false;
            }
            std::thread::sleep(SHORT);
        }
        true
    }
}

/// One client, connected.
struct Session<'a> {
    host: &'a Host,
    guest: Guest,
}

type Next = Result<Stub<'static, Guest, Link>, String>;

impl Session<'_> {
    fn talk(mut self, link: Link) -> Result<End, String> {
        let stub = GdbStub::builder(link).packet_buffer_size(PACKET).build().map_err(|e| e.to_string())?;
        let mut stub = stub.run_state_machine(&mut self.guest).map_err(|e| e.to_string())?;
        loop {
            stub = match stub {
                Stub::Idle(idle) => self.listen(idle)?,
                Stub::Running(running) => self.run(running)?,
                Stub::CtrlCInterrupt(interrupt) => self.interrupt(interrupt)?,
                Stub::Disconnected(over) => return Ok(end(over.get_reason())),
            };
        }
    }

    /// The guest is held: what the client wants.
    fn listen(&mut self, mut idle: Inner<'static, state::Idle<Guest>, Guest, Link>) -> Next {
        let byte = idle.borrow_conn().next(TICK).map_err(|e| e.to_string())?;
        Waiter::heard(&self.host.grip.news);
        if self.host.is_over() {
            return Err("the server is closed".into());
        }
        match byte {
            Some(byte) => {
                self.guest.new_packet();
                idle.incoming_data(&mut self.guest, byte).map_err(|e| e.to_string())
            }
            None => Ok(idle.into()),
        }
    }

    /// The guest runs, until it stops or the client says something.
    fn run(&mut self, mut running: Inner<'static, state::Running, Guest, Link>) -> Next {
        Waiter::heard(&self.host.grip.news);
        if self.host.is_over() {
            let _ = running.report_stop(&mut self.guest, Reason::Exited(0));
            return Err("the server is closed".into());
        }
        if let Some(stop) = self.stopped() {
            return running.report_stop(&mut self.guest, reason(stop)).map_err(|e| e.to_string());
        }
        match running.borrow_conn().next(TICK).map_err(|e| e.to_string())? {
            Some(byte) => {
                self.guest.new_packet();
                running.incoming_data(&mut self.guest, byte).map_err(|e| e.to_string())
            }
            None => Ok(running.into()),
        }
    }

    /// Ctrl-C: everything stops, for its own reason if it had one just now.
    fn interrupt(&mut self, interrupt: Inner<'static, state::CtrlCInterrupt, Guest, Link>) -> Next {
        self.host.grip.hold_all(&self.host.machine);
        if !self.host.settle() {
            return Err("the server is closed".into());
        }
        let stop = self.next_stop();
        let reason = stop.map_or(Reason::SignalWithThread { tid: thread_of(0), signal: Signal::SIGINT }, reason);
        interrupt.interrupt_handled(&mut self.guest, Some(reason)).map_err(|e| e.to_string())
    }

    /// A stop to tell, everything being at rest.
    fn stopped(&mut self) -> Option<Stop> {
        let is_one = |stop: &Stop| self.guest.plan.moves(stop.vcpu) && self.guest.is_still(stop);
        if !self.host.grip.has_stop(is_one) && !self.is_run_over() {
            return None;
        }
        self.host.grip.hold_all(&self.host.machine);
        self.host.settle().then(|| self.next_stop()).flatten()
    }

    /// The next stop that is still one: gdb may have taken the breakpoint away since.
    fn next_stop(&self) -> Option<Stop> {
        self.host.grip.next_stop(|stop| self.guest.plan.moves(stop.vcpu), |stop| self.guest.is_still(stop))
    }

    /// Has a run in the background come to its end by itself, since the guest was told to go on?
    fn is_run_over(&self) -> bool {
        let Some((vcpu, signal)) = self.guest.run_over() else { return false };
        self.host.grip.stopped(&self.host.machine, Stop { vcpu, why: Why::Over(signal) });
        true
    }
}

fn reason(stop: Stop) -> Reason<u64> {
    let tid = thread_of(stop.vcpu);
    match stop.why {
        Why::Software(_) => Reason::SwBreak(tid),
        Why::Hardware(_) => Reason::HwBreak(tid),
        Why::Watched(kind, addr) => Reason::Watch { tid, kind, addr },
        Why::Stepped => Reason::SignalWithThread { tid, signal: Signal::SIGTRAP },
        Why::Over(signal) => Reason::SignalWithThread { tid, signal },
    }
}

fn end(reason: DisconnectReason) -> End {
    if reason == DisconnectReason::Kill { End::Killed } else { End::Detached }
}
