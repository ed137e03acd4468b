//! One vCPU: its registers through the synchronised area, and its slower state through ioctls.
//! It never decides what an exit means and never runs without being asked (enter.rs).

#![allow(unsafe_code)] // registers are the same integers in KVM's structures and in ours

use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

use kvm_bindings as kb;
use kvm_ioctls::VcpuFd;

use crate::error::{Error, Result};
use crate::x86::{Regs, Sregs};

use super::entered::{Access, Events, Sync};
use super::kick::Kick;
use super::queue::Queue;
use super::run_page::RunPage;

/// A vCPU and its run page. Whoever owns it may run it.
#[derive(Debug)]
pub struct Vcpu {
    pub(super) page: RunPage,
    fd: VcpuFd,
    kick: Arc<Kick>,
    queue: Arc<Queue>,
    id: u32,
    /// Which groups of the synchronised area hold the vCPU's present state.
    pub(super) fresh: u64,
    /// Ioctls spent on registers since creation.
    register_ioctls: u64,
    /// The registers as the last exit left them, if they have been set since.
    pub(super) before: Option<Regs>,
    /// A run is on: a group that is looked at once is synchronised from then on.
    running: bool,
    /// The groups that somebody looked at or set since the last run began.
    looked_at: u64,
    /// The general registers when the last run began, where they were known.
    at_begin: Option<Regs>,
    /// Somebody asks what a run has changed: they are to be known.
    keeps_begin: bool,
    pub(super) has_run: bool,
    pub(super) debug_changes: Cell<u64>,
    /// An exception or interrupt has been put on its way since the guest was last in.
    pub(super) is_interrupted: bool,
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.kick.retire();
        self.queue.retire();
    }
}

impl Vcpu {
    pub(super) fn new(mut fd: VcpuFd, id: u32, run_size: usize, kick: Arc<Kick>) -> Self {
        let run = NonNull::from(fd.get_kvm_run());
        let (page, queue) = (RunPage::new(run, run_size), Arc::<Queue>::default());
        kick.arm(page.immediate_exit());
        queue.arm(run.cast(), run_size);
        Self {
            page,
            fd,
            kick,
            queue,
            id,
            fresh: 0,
            register_ioctls: 0,
            before: None,
            running: false,
            looked_at: 0,
            at_begin: None,
            keeps_begin: false,
            has_run: false,
            debug_changes: Cell::new(0),
            is_interrupted: false,
        }
    }

    /// The number of this vCPU.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Has it ever been entered?
    pub fn has_run(&self) -> bool {
        self.has_run
    }

    /// How often the guest's debug registers have been set from outside.
    pub fn debug_changes(&self) -> u64 {
        self.debug_changes.get()
    }

    /// Does the next entry begin with an exception or interrupt that was injected? It comes before the instruction at RIP.
    pub fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }

    /// The writes that KVM queues for the VM; the same ones behind every vCPU.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// How many ioctls were spent on reading or writing registers; none per exit (see [`Vcpu::begin_run`]).
    pub fn register_ioctls(&self) -> u64 {
        self.register_ioctls
    }

    /// The data of element `index` of a port write.
    #[inline]
    pub fn port_data(&self, access: &Access, index: u32) -> u32 {
        self.page.port_data(access, index)
    }

    /// Answers element `index` of a port read.
    #[inline]
    pub fn answer_port(&mut self, access: &Access, index: u32, data: u32) {
        self.page.set_port_data(access, index, data);
    }

    /// Answers an MMIO read.
    pub fn answer_mmio(&mut self, data: u64) {
        self.page.set_mmio_data(data);
    }

    /// Answers an MSR access: the data of a read (anything for a write), or `None` for a #GP.
    pub fn answer_msr(&mut self, answer: Option<u64>) {
        self.page.set_msr_answer(answer);
    }

    /// Answers a hypercall with what RAX is to be.
    pub fn answer_hypercall(&mut self, result: u64) {
        self.page.set_hypercall_result(result);
    }

    /// Has KVM copy `group` out at every exit from now on (or no more).
    pub fn want(&mut self, group: Sync, yes: bool) {
        let wanted = self.page.wanted();
        let new = if yes { wanted | group.bit() } else { wanted & !group.bit() };
        if new != wanted {
            self.page.want(new);
        }
    }

    /// The general registers.
    pub fn regs(&mut self) -> Result<Regs> {
        self.looked_at |= Sync::Regs.bit();
        if self.fresh & Sync::Regs.bit() == 0 {
            let kernel = self.fd.get_regs().map_err(Error::host("KVM_GET_REGS"))?;
            // SAFETY: eighteen u64 in the same order (asserted in run_page.rs).
            self.page.set_regs(&unsafe { std::mem::transmute::<kb::kvm_regs, Regs>(kernel) });
            self.loaded(Sync::Regs);
        }
        Ok(self.page.regs())
    }

    /// Sets the general registers; they reach the vCPU on its next entry.
    pub fn set_regs(&mut self, regs: &Regs) {
        if self.before.is_none() && self.fresh & Sync::Regs.bit() != 0 {
            self.before = Some(self.page.regs());
        }
        self.page.set_regs(regs);
        self.changed(Sync::Regs);
    }

    /// The system registers.
    pub fn sregs(&mut self) -> Result<Sregs> {
        self.looked_at |= Sync::Sregs.bit();
        if self.fresh & Sync::Sregs.bit() == 0 {
            let kernel = self.fd.get_sregs().map_err(Error::host("KVM_GET_SREGS"))?;
            // SAFETY: the same integers in the same order (asserted in run_page.rs).
            self.page.set_sregs(&unsafe { std::mem::transmute::<kb::kvm_sregs, Sregs>(kernel) });
            self.loaded(Sync::Sregs);
        }
        Ok(self.page.sregs())
    }

    /// Sets the system registers; they reach the vCPU on its next entry.
    pub fn set_sregs(&mut self, sregs: &Sregs) {
        self.page.set_sregs(sregs);
        self.changed(Sync::Sregs);
    }

    /// Pending exceptions and interrupts.
    pub fn events(&mut self) -> Result<Events> {
        self.looked_at |= Sync::Events.bit();
        if self.fresh & Sync::Events.bit() == 0 {
            let kernel = self.fd.get_vcpu_events().map_err(Error::host("KVM_GET_VCPU_EVENTS"))?;
            self.page.set_events(&Events(kernel));
            self.loaded(Sync::Events);
        }
        Ok(self.page.events())
    }

    /// Sets pending exceptions and interrupts; they reach the vCPU on its next entry.
    pub fn set_events(&mut self, events: &Events) {
        self.is_interrupted = events.is_busy();
        self.page.set_events(events);
        self.changed(Sync::Events);
    }

    /// If general registers have been changed since the last exit: what they were, and what they were set to. The change
    /// is taken back, to be made again when the instruction is complete. Setting them to what they are is no change.
    pub fn take_rewritten(&mut self) -> Option<(Regs, Regs)> {
        let before = self.before.take().filter(|_| self.is_dirty(Sync::Regs))?;
        let after = self.page.regs();
        self.page.set_regs(&before);
        self.clear_dirty(Sync::Regs);
        (before != after).then_some((before, after))
    }

    /// Have general registers been set since the last exit?
    #[inline]
    pub fn is_rewritten(&self) -> bool {
        self.before.is_some()
    }

    /// A run begins. Synchronising a group costs every exit of the run, and looking at one that is not synchronised
    /// costs one ioctl, after which it is. So a run begins with the groups that were looked at since the run before
    /// began: handlers that never look pay for nothing, and those that do pay with one ioctl at the first look of all.
    pub fn begin_run(&mut self) {
        let known = self.fresh & Sync::Regs.bit() != 0 || self.keeps_begin && self.regs().is_ok();
        self.at_begin = known.then(|| self.page.regs());
        self.running = true;
        self.page.want(self.looked_at);
        self.looked_at = 0;
    }

    /// The general registers when the last run began; nothing if nobody had looked at them.
    pub fn regs_at_begin(&self) -> Option<Regs> {
        self.at_begin
    }

    /// From now on they are known at each beginning, for an ioctl where nobody has looked at them.
    pub fn keep_regs_at_begin(&mut self) {
        self.keeps_begin = true;
    }

    /// Is a run on, or the handler of one?
    pub fn is_in_run(&self) -> bool {
        self.running
    }

    /// A run has ended.
    pub fn end_run(&mut self) {
        self.running = false;
    }

    fn loaded(&mut self, group: Sync) {
        self.register_ioctls += 1;
        self.fresh |= group.bit();
        if self.running {
            self.want(group, true);
        }
    }

    fn changed(&mut self, group: Sync) {
        self.fresh |= group.bit();
        self.page.set_dirty(self.page.dirty() | group.bit());
    }

    /// Is a change of this group on its way to the vCPU?
    pub fn is_dirty(&self, group: Sync) -> bool {
        self.page.dirty() & group.bit() != 0
    }

    /// Gives up a change of this group that has not reached the vCPU.
    pub fn clear_dirty(&mut self, group: Sync) {
        self.page.set_dirty(self.page.dirty() & !group.bit());
    }

    /// Brings all changes to the vCPU now, for ioctls that look at its state.
    pub fn flush(&mut self) -> Result<()> {
        self.flush_sregs()?;
        let refused = self.refused();
        if self.is_dirty(Sync::Regs) {
            // SAFETY: eighteen u64 in the same order (asserted in run_page.rs).
            let kernel = unsafe { std::mem::transmute::<Regs, kb::kvm_regs>(self.page.regs()) };
            self.put(Sync::Regs);
            self.page.forget_interrupts(); // RFLAGS.IF may differ from what the last exit said
            self.fd.set_regs(&kernel).map_err(&refused)?;
        }
        self.flush_events()
    }

    /// As [`Vcpu::flush`], of the pending events alone. They are read again afterwards.
    pub(super) fn flush_events(&mut self) -> Result<()> {
        if self.is_dirty(Sync::Events) {
            let kernel = self.page.events().0;
            self.put(Sync::Events);
            self.page.forget_interrupts(); // what is on its way now must not be overtaken
            self.fd.set_vcpu_events(&kernel).map_err(self.refused())?;
        }
        self.fresh &= !Sync::Events.bit();
        Ok(())
    }

    /// As [`Vcpu::flush`], of the system registers alone, of which some are MSRs too. Setting the general ones between
    /// an exit and the completion of its instruction would lose the instruction's results.
    pub(super) fn flush_sregs(&mut self) -> Result<()> {
        if self.is_dirty(Sync::Sregs) {
            // SAFETY: the same integers in the same order (asserted in run_page.rs).
            let kernel = unsafe { std::mem::transmute::<Sregs, kb::kvm_sregs>(self.page.sregs()) };
            self.put(Sync::Sregs);
            self.fd.set_sregs(&kernel).map_err(self.refused())?;
        }
        Ok(())
    }

    fn refused(&self) -> impl Fn(vmm_sys_util::errno::Error) -> Error + use<> {
        let vcpu = self.id;
        move |e| Error::Registers { vcpu, errno: e.errno(), dropped: true }
    }

    /// The change of `group` is being brought to the vCPU by an ioctl: what KVM makes of it is to be read again.
    fn put(&mut self, group: Sync) {
        self.register_ioctls += 1;
        self.clear_dirty(group);
        self.fresh &= !group.bit();
    }

    /// The descriptor, for the ioctls of state.rs and msrs.rs.
    pub(super) fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// What is known of `group` is no longer true.
    pub(super) fn forget(&mut self, group: Sync) {
        self.fresh &= !group.bit();
    }

    /// Nothing that is known is true any longer, and no change waits.
    pub(super) fn forget_all(&mut self) {
        self.page.set_dirty(0);
        self.fresh = 0;
        self.before = None;
    }

    /// A look at everything, which does not make later exits synchronise what it looked at.
    pub(super) fn apart<T>(&mut self, look: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let (running, looked_at) = (std::mem::replace(&mut self.running, false), self.looked_at);
        let result = look(self);
        (self.running, self.looked_at) = (running, looked_at);
        result
    }

    /// Has a secondary vCPU under an in-kernel interrupt controller run at once, instead of waiting for INIT and SIPI.
    pub fn make_runnable(&self) -> Result<()> {
        let state = kb::kvm_mp_state { mp_state: kb::KVM_MP_STATE_RUNNABLE };
        self.fd.set_mp_state(state).map_err(Error::host("KVM_SET_MP_STATE"))
    }

    /// Has it wait for an interrupt, as HLT does under an in-kernel interrupt controller.
    pub fn halt(&self) -> Result<()> {
        let state = kb::kvm_mp_state { mp_state: kb::KVM_MP_STATE_HALTED };
        self.fd.set_mp_state(state).map_err(Error::host("KVM_SET_MP_STATE"))
    }

    /// Wires the local APIC as a BIOS does: the PIC to LINT0, NMI to LINT1 (Intel SDM vol. 3, 11.5.1).
    pub fn wire_local_interrupts(&self) -> Result<()> {
        const LINT0: usize = 0x350;
        const EXTERNAL: u8 = 0b111;
        const NMI: u8 = 0b100;
        let mut page = self.fd.get_lapic().map_err(Error::host("KVM_GET_LAPIC"))?;
        for (register, delivery) in [(LINT0, EXTERNAL), (LINT0 + 0x10, NMI)] {
            page.regs[register + 1] = delivery.cast_signed(); // bits 8 to 10
            page.regs[register + 2] = 0; // not masked
        }
        self.fd.set_lapic(&page).map_err(Error::host("KVM_SET_LAPIC"))
    }

    /// Single step, hardware breakpoints (`KVM_SET_GUEST_DEBUG`): `control` is `KVM_GUESTDBG_*`, `debug` is DR0-7.
    pub fn set_guest_debug(&mut self, control: u32, debug: [u64; 8]) -> Result<()> {
        self.flush()?;
        let arch = kb::kvm_guest_debug_arch { debugreg: debug };
        let request = kb::kvm_guest_debug { control, pad: 0, arch };
        self.fd.set_guest_debug(&request).map_err(Error::host("KVM_SET_GUEST_DEBUG"))
    }
}
