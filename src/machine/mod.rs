//! Owns a machine (VM, vCPUs, memory, devices, hooks) and runs it: configuration, run loop, threads, closing.
//! It never knows Python; what is foreign comes in through the traits of `hook` and a poll function.

mod below;
mod build;
mod cpu;
mod debug;
mod debug_choice;
mod doorbell;
mod idt;
mod interrupts;
mod irq_event;
mod lifecycle;
mod look;
mod map;
mod memory;
mod merge;
mod park;
mod probe;
pub mod repair;
mod ring3;
mod run;
pub mod saved;
mod session;
mod stats;
mod trap;
mod stepping;
mod world;
mod zone;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;

use vmm_sys_util::eventfd::EventFd;

use crate::addr::{GuestPhys, GuestVirt, Span};
use crate::boot::bare::{self, Mode};
use crate::boot::start::Start;
use crate::bus::Bus;
use crate::debug::Points;
use crate::devices::{Console, IoApic, Serial};
use crate::error::{Error, Result};
use crate::exit::{Exit, Interruption};
use crate::hook::{Hook, Hooks, Subject};
use crate::inspect::VirtualMemory;
use crate::kvm::{Host, Irqchip, Quirks, Vm, XsaveForm};
use crate::memory::{Memory, RegionInfo};
use crate::source::ReadRegs;
use crate::x86::{Gpr, Regs, Space, Sregs, State, cr4, msr, rflags};

pub use build::Config;
use build::Routes;
pub use cpu::{Cpu, Slot};
pub use doorbell::Doorbell;
use doorbell::Doorbells;
use interrupts::Lines;
pub use irq_event::InterruptEvent;
use irq_event::Routing;
pub use lifecycle::{Phase, Work};
pub use look::InSlot;
pub use map::{Kind, Place, holes};
pub use park::Stepper;
pub use probe::{WHOLE, probe};
pub use run::Poll;
use session::Session;
pub use session::{Limits, Outcome};
pub use stats::{Stats, time_of};
pub use stepping::Goal;
use trap::Traps;
pub use trap::{Accesses, Kind as TrapKind, Part as WatchedPart, Place as WatchedPlace, Terms, Watch};
use world::World;
use zone::Zones;
pub use zone::{Reader, Zone};

/// A serial line of a machine: the far end, and the device to nudge when input waits.
#[derive(Clone)]
pub struct SerialLine {
    /// The far end.
    pub console: Console,
    /// On the bus, which lets go of it, and of its event, when the machine is closed.
    device: Weak<Mutex<Serial<IrqEvent>>>,
}

impl SerialLine {
    /// Has the guest asked to be interrupted when input comes?
    pub fn is_listening(&self) -> bool {
        self.device.upgrade().is_some_and(|device| device.lock().unwrap_or_else(PoisonError::into_inner).is_listening())
    }

    /// Sends `bytes` to the guest; says how many there was room for.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let taken = self.console.push_input(bytes);
        if let Some(device) = self.device.upgrade() {
            device.lock().unwrap_or_else(PoisonError::into_inner).feed();
        }
        taken
    }
}

/// An interrupt line, as a device pulls it: an event that KVM turns into the interrupt.
#[derive(Debug)]
pub struct IrqEvent(EventFd);

impl vm_superio::Trigger for IrqEvent {
    type E = std::io::Error;

    fn trigger(&self) -> std::io::Result<()> {
        self.0.write(1)
    }
}

/// What changes when a machine starts, stops and closes.
#[derive(Debug, Default)]
struct Life {
    phase: Phase,
    session: Option<Arc<Session>>,
    threads: Vec<JoinHandle<()>>,
}

impl Life {
    fn is_running(&self) -> bool {
        self.session.as_ref().is_some_and(|s| s.is_running())
    }

    /// The run that is on, or over and not forgotten, is this one.
    fn is_of(&self, session: &Arc<Session>) -> bool {
        self.session.as_ref().is_some_and(|s| Arc::ptr_eq(s, session))
    }

    /// What the machine is doing: a run in the background that has ended by itself is one that is held.
    fn phase(&self) -> Phase {
        if self.phase == Phase::Background && !self.is_running() { Phase::Paused } else { self.phase }
    }
}

/// A whole machine.
pub struct Machine {
    /// The vCPUs, in the order of their numbers. Before the memory, which is unmapped when they are gone.
    pub cpus: Vec<Slot>,
    /// RAM and ROM.
    pub memory: Arc<Memory>,
    /// Who may answer first.
    pub hooks: Hooks,
    /// Devices by port.
    pub ports: Bus,
    /// Devices by guest-physical address.
    pub mmio: Bus,
    /// The first serial port, if the machine has one.
    pub serial: Option<SerialLine>,
    /// How this KVM behaves.
    pub quirks: Quirks,
    /// What is done around the whole life of each thread that the machine makes: it calls what it is given, once.
    pub around: OnceLock<fn(Work<'_>)>,
    irqchip: Irqchip,
    lines: Lines,
    /// On the bus, as the serial device is; only with a split irqchip.
    ioapic: Weak<Mutex<IoApic<Routes>>>,
    vm: Mutex<Option<Arc<Vm>>>,
    doorbells: Doorbells,
    zones: Zones,
    /// Breakpoints and watchpoints.
    points: Points,
    world: World,
    routing: Arc<Routing>,
    /// Held from the look at what is watched until KVM has it, so that the newest filter is the last.
    filtering: Mutex<()>,
    traps: Traps,
    life: Mutex<Life>,
    /// Exits that would have ended the last run beside the one that did.
    others: Mutex<Vec<(u32, Exit)>>,
    changed: Condvar,
    /// The process that made it, and the only one that KVM lets run it.
    process: u32,
}

impl Machine {
    fn vm(&self) -> Result<Arc<Vm>> {
        self.vm.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Closed)
    }

    /// The VM, unless it is closed or another process's, whose shortcuts a forked child's copy leaves alone.
    fn own_vm(&self) -> Option<Arc<Vm>> {
        self.vm().ok().filter(|_| !self.is_inherited())
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vCPU with that number.
    pub fn cpu(&self, id: u32) -> Result<&Slot> {
        let found = usize::try_from(id).ok().and_then(|i| self.cpus.get(i));
        found.ok_or_else(|| Error::Invalid(format!("there are {} vCPUs, from 0 on; {id} is none", self.cpus.len())))
    }

    /// Puts bare code at `at` and has vCPU `id` begin there in `mode`.
    pub fn load(&self, code: &[u8], mode: Mode, at: GuestPhys, id: u32) -> Result<()> {
        let slot = self.cpu(id)?;
        let taken: Vec<_> = self.cpus.iter().filter(|s| s.id != id).filter_map(Slot::tables).collect();
        let tables = slot.with(|cpu| {
            let mut bare = bare::load(&self.memory, code, mode, at, &cpu.vcpu.sregs()?, &taken)?;
            if mode == Mode::User && !self.quirks.port_map_in_ring3 {
                bare.start.regs[Gpr::Rflags] |= rflags::IOPL3;
            }
            cpu.shim = bare.shim;
            let features = if mode == Mode::User { XsaveForm::get()?.features } else { 0 };
            if features != 0 && cpu.vcpu.set_xcr0(features).is_ok() {
                // Vector registers of every length that this KVM offers, without a word of the guest's.
                bare.start.sregs.cr4 |= cr4::OSXSAVE;
            }
            self.begin(cpu, &bare.start)?;
            Ok(bare.tables)
        })?;
        slot.loaded(Some(tables));
        Ok(())
    }

    /// Has vCPU `id` begin at `start`.
    pub fn begin_at(&self, start: &Start, id: u32) -> Result<()> {
        let slot = self.cpu(id)?;
        slot.with(|cpu| {
            cpu.shim = None;
            self.begin(cpu, start)
        })?;
        slot.loaded(None);
        Ok(())
    }

    fn begin(&self, cpu: &mut Cpu, start: &Start) -> Result<()> {
        if cpu.vcpu.is_in_run() {
            cpu.vcpu.regs()?; // inside a handler, what they were is what tells that they were set
        }
        cpu.vcpu.set_regs(&start.regs);
        cpu.vcpu.set_sregs(&start.sregs);
        if self.irqchip == Irqchip::None { Ok(()) } else { cpu.vcpu.make_runnable() }
    }

    /// Adds a hook, which takes effect before the next exit.
    pub fn add_hook(&self, hook: Arc<Hook>) -> Result<()> {
        self.vm()?;
        if let Subject::Mmio(span) = hook.subject {
            self.refuse_ram(span, hook.wanted.reads)?;
        }
        let is_msr = matches!(hook.subject, Subject::Msr(_));
        self.hooks.add(Arc::clone(&hook));
        let added = if is_msr { self.filter_msrs() } else { self.vm().map(drop) };
        if added.is_err() {
            self.hooks.remove(&hook); // also where the machine has been closed meanwhile, and its hooks cleared
        }
        added
    }

    /// Removes a hook; does nothing if it has been removed.
    pub fn remove_hook(&self, hook: &Arc<Hook>) -> Result<()> {
        let was_there = self.hooks.remove(hook);
        if was_there && matches!(hook.subject, Subject::Msr(_)) && self.vm().is_ok() {
            return self.filter_msrs();
        }
        Ok(())
    }

    /// Accesses to RAM never exit, nor do reads of ROM.
    fn refuse_ram(&self, span: Span, reads: bool) -> Result<()> {
        let in_the_way = |r: &RegionInfo| r.at.0 <= span.last && span.first < r.end().0 && (!r.rom || reads);
        match self.memory.regions().into_iter().find(in_the_way) {
            Some(r) => {
                Err(Error::Overlap { at: span.first, len: span.last - span.first + 1, with: r.at.0, what: r.what() })
            }
            None => Ok(()),
        }
    }

    /// Has KVM send to us the MSRs that hooks watch, and the one by which system calls are repaired.
    fn filter_msrs(&self) -> Result<()> {
        let _turn = self.filtering.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watched = self.hooks.tables().watched_msrs();
        if repair::Repair::new(&self.quirks).wants_lstar() {
            let lstar = u64::from(msr::LSTAR);
            watched.push((Span { first: lstar, last: lstar }, false, true));
        }
        self.vm()?.filter_msrs(&watched)
    }

    /// The MSR of vCPU `id`, as the guest would read it.
    pub fn read_msr(&self, id: u32, index: u32) -> Result<Option<u64>> {
        self.cpu(id)?.with(|cpu| cpu.vcpu.msr(index))
    }

    /// The MSRs that hold the state of vCPU `id`, with their values: KVM's list, and those that it keeps elsewhere.
    pub fn read_msrs(&self, id: u32) -> Result<Vec<(u32, u64)>> {
        let elsewhere = [msr::APIC_BASE, msr::EFER, msr::FS_BASE, msr::GS_BASE];
        let mut numbers: Vec<_> = Host::msr_numbers()?.iter().copied().chain(elsewhere).collect();
        numbers.sort_unstable();
        numbers.dedup();
        self.cpu(id)?.with(|cpu| cpu.vcpu.msrs(&numbers))
    }

    /// Puts a state back into vCPU `id`, outside of handlers: an access that waits for its answer would complete into it.
    pub fn restore(&self, id: u32, state: &State, counters: bool) -> Result<Vec<u32>> {
        let slot = self.cpu(id)?;
        if slot.is_in_handler() {
            return Err(Error::InHandler { what: "restore" });
        }
        let refused = slot.with(|cpu| cpu.vcpu.restore(state, counters))?;
        slot.set_ready();
        Ok(refused)
    }

    /// The guest's clock (kvmclock), in nanoseconds.
    pub fn clock(&self) -> Result<u64> {
        self.vm()?.clock()
    }

    /// Sets the guest's clock, in nanoseconds.
    pub fn set_clock(&self, clock: u64) -> Result<()> {
        self.vm()?.set_clock(clock)
    }

    /// The bytes at the linear address `rip` of a stopped vCPU, as far as they are mapped.
    pub fn code_at(&self, id: u32, rip: u64, most: usize) -> Result<(Vec<u8>, u32)> {
        let sregs = self.cpu(id)?.with(|cpu| cpu.vcpu.sregs())?;
        let bits = sregs.code_bits();
        let linear = if bits == 64 { rip } else { sregs.cs.base.wrapping_add(rip) & 0xffff_ffff };
        let memory = VirtualMemory::new(&*self.memory, Space::of(&sregs));
        let mut bytes = memory.code(GuestVirt(linear), most.div_ceil(15));
        bytes.truncate(most);
        Ok((bytes, bits))
    }

    /// A number that grows with everything that may have changed the guest's memory: a run, a write by the host. `None` while
    /// a vCPU is in the guest, or somebody may write without a word.
    pub fn quiet_since(&self) -> Option<u64> {
        let turns: Option<u64> = self.cpus.iter().map(Slot::at_rest_since).sum();
        Some(turns?.wrapping_add(self.memory.quiet_since()?))
    }

    /// Is this a forked child's copy? Its vCPU threads stayed behind, perhaps with locks held, so nobody may wait for them.
    pub fn is_inherited(&self) -> bool {
        self.process != std::process::id()
    }

    /// Which interrupt controllers there are.
    pub fn irqchip(&self) -> Irqchip {
        self.irqchip
    }

    /// Stops the run that is on, if one is. Its `run` or `join` hands out why.
    pub fn interrupt(&self, why: Interruption) {
        if self.is_inherited() {
            return;
        }
        let session = self.life().session.clone();
        if let Some(session) = session {
            session.interrupt(why);
            self.kick_all();
        }
    }

    fn kick_all(&self) {
        self.cpus.iter().for_each(|slot| slot.kick.kick());
    }
}

impl ReadRegs for Machine {
    fn vcpus(&self) -> u32 {
        u32::try_from(self.cpus.len()).unwrap_or(u32::MAX)
    }

    fn regs(&self, id: u32) -> Result<Regs> {
        self.cpu(id)?.with(|cpu| cpu.vcpu.regs())
    }

    fn sregs(&self, id: u32) -> Result<Sregs> {
        self.cpu(id)?.with(|cpu| cpu.vcpu.sregs())
    }
}
