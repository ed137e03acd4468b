//! The page that KVM and user space share for one vCPU: reading exits from it, writing answers into it.
//! It never issues an ioctl and never forms a reference into the page, since the kernel writes it too.

#![allow(unsafe_code)] // the page is shared memory; each access is one raw read or write

use std::ptr::NonNull;
use std::sync::atomic::AtomicU8;

use kvm_bindings as kb;

use crate::addr::GuestPhys;
use crate::exit::{Exit, Hypercall, MsrReason, Paravirtual, Unknown};
use crate::x86::{Regs, Sregs};

use super::entered::{Access, Direction, Entered, Events};

/// A pointer to a mapped `struct kvm_run` of `size` bytes, owned by the vCPU that mapped it.
#[derive(Debug)]
pub(super) struct RunPage {
    run: NonNull<kb::kvm_run>,
    size: usize,
}

// SAFETY: the page is only accessed by the thread that owns the vCPU; `immediate_exit` only atomically.
unsafe impl Send for RunPage {}

const _: () = assert!(size_of::<Regs>() == size_of::<kb::kvm_regs>());
const _: () = assert!(size_of::<Sregs>() == size_of::<kb::kvm_sregs>());
const _: () = assert!(std::mem::offset_of!(Sregs, efer) == std::mem::offset_of!(kb::kvm_sregs, efer));
const _: () = assert!(std::mem::offset_of!(Sregs, idt) == std::mem::offset_of!(kb::kvm_sregs, idt));

/// Reads one field of the page.
macro_rules! get {
    ($page:expr, $($field:tt)+) => {{
        // SAFETY: the page is mapped while `self` lives, and the field is plain data.
        unsafe { (&raw const (*$page.run.as_ptr()).$($field)+).read_volatile() }
    }};
}

/// Writes one field of the page.
macro_rules! set {
    ($page:expr, $value:expr, $($field:tt)+) => {{
        // SAFETY: the page is mapped while `self` lives, and the field is plain data.
        unsafe { (&raw mut (*$page.run.as_ptr()).$($field)+).write_volatile($value) }
    }};
}

impl RunPage {
    pub(super) fn new(run: NonNull<kb::kvm_run>, size: usize) -> Self {
        Self { run, size }
    }

    pub(super) fn immediate_exit(&self) -> NonNull<AtomicU8> {
        // SAFETY: the field lies in the mapped page.
        let byte = unsafe { &raw mut (*self.run.as_ptr()).immediate_exit };
        // SAFETY: the address of a field of a non-null page is not null.
        unsafe { NonNull::new_unchecked(byte.cast()) }
    }

    pub(super) fn want(&self, valid: u64) {
        set!(self, valid, kvm_valid_regs);
    }

    pub(super) fn wanted(&self) -> u64 {
        get!(self, kvm_valid_regs)
    }

    pub(super) fn dirty(&self) -> u64 {
        get!(self, kvm_dirty_regs)
    }

    pub(super) fn set_dirty(&self, dirty: u64) {
        set!(self, dirty, kvm_dirty_regs);
    }

    pub(super) fn regs(&self) -> Regs {
        let kernel = get!(self, s.regs.regs);
        // SAFETY: both are eighteen u64 in the same order, as asserted above.
        unsafe { std::mem::transmute::<kb::kvm_regs, Regs>(kernel) }
    }

    pub(super) fn set_regs(&self, regs: &Regs) {
        // SAFETY: both are eighteen u64 in the same order, as asserted above.
        let kernel = unsafe { std::mem::transmute::<Regs, kb::kvm_regs>(*regs) };
        set!(self, kernel, s.regs.regs);
    }

    pub(super) fn sregs(&self) -> Sregs {
        let kernel = get!(self, s.regs.sregs);
        // SAFETY: the same integers in the same order, as asserted above; padding is a field in both.
        unsafe { std::mem::transmute::<kb::kvm_sregs, Sregs>(kernel) }
    }

    pub(super) fn set_sregs(&self, sregs: &Sregs) {
        // SAFETY: the same integers in the same order, as asserted above.
        let kernel = unsafe { std::mem::transmute::<Sregs, kb::kvm_sregs>(*sregs) };
        set!(self, kernel, s.regs.sregs);
        // Without a local APIC in the kernel, every KVM_RUN sets CR8 to this field.
        set!(self, sregs.cr8, cr8);
    }

    pub(super) fn events(&self) -> Events {
        Events(get!(self, s.regs.events))
    }

    pub(super) fn set_events(&self, events: &Events) {
        set!(self, events.0, s.regs.events);
    }

    /// The exit that `KVM_RUN` has just left in the page.
    pub(super) fn exit(&self) -> Entered {
        match get!(self, exit_reason) {
            kb::KVM_EXIT_IO => self.port_access(),
            kb::KVM_EXIT_MMIO => self.mmio_access(),
            kb::KVM_EXIT_HLT => Entered::Exit(Exit::Hlt),
            kb::KVM_EXIT_SHUTDOWN => Entered::Exit(Exit::Shutdown),
            kb::KVM_EXIT_INTR => Entered::Interrupted,
            kb::KVM_EXIT_X86_RDMSR => self.msr_access(Direction::In),
            kb::KVM_EXIT_X86_WRMSR => self.msr_access(Direction::Out),
            kb::KVM_EXIT_DEBUG => Entered::Exit(self.debug()),
            kb::KVM_EXIT_INTERNAL_ERROR => self.internal_error(),
            kb::KVM_EXIT_FAIL_ENTRY => Entered::Exit(self.fail_entry()),
            kb::KVM_EXIT_SYSTEM_EVENT => Entered::Exit(self.system_event()),
            reason => Entered::Exit(self.rare(reason)),
        }
    }

    /// The exits that few guests ever make.
    fn rare(&self, reason: u32) -> Exit {
        match reason {
            kb::KVM_EXIT_HYPERCALL => self.hypercall(),
            kb::KVM_EXIT_IRQ_WINDOW_OPEN => Exit::InterruptWindow,
            kb::KVM_EXIT_SET_TPR => Exit::TprLowered { tpr: u8::try_from(get!(self, cr8) & 0xf).unwrap_or(0) },
            kb::KVM_EXIT_TPR_ACCESS => {
                let access = get!(self, __bindgen_anon_1.tpr_access);
                Exit::TprAccess { rip: access.rip, is_write: access.is_write != 0 }
            }
            kb::KVM_EXIT_IOAPIC_EOI => Exit::IoapicEoi { vector: get!(self, __bindgen_anon_1.eoi.vector) },
            kb::KVM_EXIT_DIRTY_RING_FULL => Exit::DirtyRingFull,
            kb::KVM_EXIT_AP_RESET_HOLD => Exit::ApResetHold,
            kb::KVM_EXIT_X86_BUS_LOCK => Exit::BusLock,
            kb::KVM_EXIT_NOTIFY => Exit::Notify { flags: get!(self, __bindgen_anon_1.notify.flags) },
            kb::KVM_EXIT_HYPERV => Exit::HyperV(Box::new(self.paravirtual())),
            kb::KVM_EXIT_XEN => Exit::Xen(Box::new(self.paravirtual())),
            reason => Exit::Unknown(Box::new(Unknown { reason, data: self.words() })),
        }
    }

    fn hypercall(&self) -> Exit {
        const LONG_MODE: u64 = 1; // KVM_EXIT_HYPERCALL_LONG_MODE
        let call = get!(self, __bindgen_anon_1.hypercall);
        // SAFETY: both members are a 64-bit word.
        let flags = unsafe { call.__bindgen_anon_1.flags };
        let long_mode = flags & LONG_MODE != 0;
        Exit::Hypercall(Box::new(Hypercall { number: call.nr, args: call.args, long_mode }))
    }

    /// Answers a hypercall.
    pub(super) fn set_hypercall_result(&self, result: u64) {
        set!(self, result, __bindgen_anon_1.hypercall.ret);
    }

    /// A kind, padding, and the words of a union.
    fn paravirtual(&self) -> Paravirtual {
        let mut words = self.words();
        Paravirtual { kind: u32::try_from(words.remove(0) & 0xffff_ffff).unwrap_or(0), data: words }
    }

    /// The first words of what comes with an exit.
    fn words(&self) -> Vec<u64> {
        const WORDS: usize = 8;
        let bytes = get!(self, __bindgen_anon_1.padding);
        let bytes: Vec<u8> = bytes.iter().take(8 * WORDS).map(|byte| byte.cast_unsigned()).collect();
        bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes)).collect()
    }

    /// Would an interrupt that is injected now be delivered? As of the last exit.
    pub(super) fn takes_interrupts(&self) -> bool {
        get!(self, ready_for_interrupt_injection) != 0
    }

    /// What the last exit said is no longer so: no interrupt may be injected before the next one says otherwise.
    pub(super) fn forget_interrupts(&self) {
        set!(self, 0, ready_for_interrupt_injection);
    }

    /// Were interrupts enabled at the last exit?
    pub(super) fn interrupts_enabled(&self) -> bool {
        get!(self, if_flag) != 0
    }

    /// Has KVM exit as soon as the guest takes interrupts, or no more.
    pub(super) fn request_interrupt_window(&self, yes: bool) {
        set!(self, u8::from(yes), request_interrupt_window);
    }

    /// `KVM_EXIT_MEMORY_FAULT`, which alone comes with an error of the ioctl.
    pub(super) fn memory_fault(&self) -> Option<Exit> {
        (get!(self, exit_reason) == kb::KVM_EXIT_MEMORY_FAULT).then(|| {
            let fault = get!(self, __bindgen_anon_1.memory_fault);
            Exit::MemoryFault { flags: fault.flags, at: GuestPhys(fault.gpa), size: fault.size }
        })
    }

    /// The exit, if it is an access of one element to a port.
    #[inline]
    pub(super) fn single_access(&self) -> Option<Access> {
        let access = (get!(self, exit_reason) == kb::KVM_EXIT_IO).then(|| self.access()).flatten();
        access.filter(|access| access.count == 1)
    }

    fn port_access(&self) -> Entered {
        let unknown =
            || Entered::Exit(Exit::Unknown(Box::new(Unknown { reason: kb::KVM_EXIT_IO, data: self.words() })));
        self.access().map_or_else(unknown, Entered::Port)
    }

    /// The access to a port that is in the page; none whose data does not lie there.
    #[inline]
    fn access(&self) -> Option<Access> {
        let io = get!(self, __bindgen_anon_1.io);
        let bytes = u64::from(io.size) * u64::from(io.count);
        let offset = usize::try_from(io.data_offset).unwrap_or(usize::MAX);
        let end = offset.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX));
        if end > self.size || !matches!(io.size, 1 | 2 | 4) {
            return None;
        }
        let direction = if u32::from(io.direction) == kb::KVM_EXIT_IO_IN { Direction::In } else { Direction::Out };
        Some(Access { port: io.port, size: io.size, count: io.count, direction, offset })
    }

    /// Element `index` of a port access.
    #[inline]
    pub(super) fn port_data(&self, access: &Access, index: u32) -> u32 {
        let mut word = [0; 4];
        for (n, byte) in word.iter_mut().take(usize::from(access.size)).enumerate() {
            *byte = self.byte(access.element(index) + n);
        }
        u32::from_le_bytes(word)
    }

    /// Answers element `index` of a port access.
    #[inline]
    pub(super) fn set_port_data(&self, access: &Access, index: u32, data: u32) {
        for (n, byte) in data.to_le_bytes().into_iter().take(usize::from(access.size)).enumerate() {
            let at = access.element(index) + n;
            if at < self.size {
                // SAFETY: `at` is inside the mapped page.
                let to = unsafe { self.run.as_ptr().cast::<u8>().add(at) };
                // SAFETY: a byte of the data area, which the kernel reads on the next entry.
                unsafe { to.write_volatile(byte) };
            }
        }
    }

    fn byte(&self, at: usize) -> u8 {
        if at >= self.size {
            return 0xff;
        }
        // SAFETY: `at` is inside the mapped page.
        let from = unsafe { self.run.as_ptr().cast::<u8>().add(at) };
        // SAFETY: a byte of the data area, which the kernel filled.
        unsafe { from.read_volatile() }
    }

    fn mmio_access(&self) -> Entered {
        let mmio = get!(self, __bindgen_anon_1.mmio);
        let at = GuestPhys(mmio.phys_addr);
        let size = u8::try_from(mmio.len).unwrap_or(8).clamp(1, 8);
        let mask = u64::MAX >> (64 - 8 * u32::from(size));
        match mmio.is_write {
            0 => Entered::Exit(Exit::MmioRead { at, size }),
            _ => Entered::Exit(Exit::MmioWrite { at, size, data: u64::from_le_bytes(mmio.data) & mask }),
        }
    }

    pub(super) fn set_mmio_data(&self, data: u64) {
        set!(self, data.to_le_bytes(), __bindgen_anon_1.mmio.data);
    }

    fn msr_access(&self, direction: Direction) -> Entered {
        let msr = get!(self, __bindgen_anon_1.msr);
        let reason = match msr.reason {
            kb::KVM_MSR_EXIT_REASON_FILTER => MsrReason::Filter,
            kb::KVM_MSR_EXIT_REASON_UNKNOWN => MsrReason::Unknown,
            _ => MsrReason::Invalid,
        };
        Entered::Exit(match direction {
            Direction::In => Exit::MsrRead { index: msr.index, reason },
            Direction::Out => Exit::MsrWrite { index: msr.index, data: msr.data, reason },
        })
    }

    /// Answers an MSR access: the data of a read, or a #GP for the guest.
    pub(super) fn set_msr_answer(&self, answer: Option<u64>) {
        set!(self, u8::from(answer.is_none()), __bindgen_anon_1.msr.error);
        if let Some(data) = answer {
            set!(self, data, __bindgen_anon_1.msr.data);
        }
    }

    fn debug(&self) -> Exit {
        let debug = get!(self, __bindgen_anon_1.debug.arch);
        Exit::Debug { exception: debug.exception, pc: debug.pc, dr6: debug.dr6, dr7: debug.dr7 }
    }

    fn fail_entry(&self) -> Exit {
        let fail = get!(self, __bindgen_anon_1.fail_entry);
        Exit::FailEntry { reason: fail.hardware_entry_failure_reason, cpu: fail.cpu }
    }

    fn system_event(&self) -> Exit {
        let kind = get!(self, __bindgen_anon_1.system_event.type_);
        let count = get!(self, __bindgen_anon_1.system_event.ndata);
        let data = get!(self, __bindgen_anon_1.system_event.__bindgen_anon_1.data);
        let count = usize::try_from(count).unwrap_or(0).min(data.len());
        Exit::SystemEvent { kind, data: data[..count].to_vec() }
    }

    /// KVM's words on a failure; data[1] holds the instruction: its length in the low byte, then the bytes
    /// (Linux, `prepare_emulation_failure_exit`; the flag in data[0] says that they are there).
    fn internal_error(&self) -> Entered {
        let error = get!(self, __bindgen_anon_1.internal);
        let count = usize::try_from(error.ndata).unwrap_or(0).min(error.data.len());
        let data = error.data[..count].to_vec();
        let has_bytes = error.suberror == kb::KVM_INTERNAL_ERROR_EMULATION
            && count >= 3
            && data[0] & u64::from(kb::KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0;
        let mut instruction: Vec<u8> =
            if has_bytes { data[1..3].iter().flat_map(|w| w.to_le_bytes()).collect() } else { Vec::new() };
        if has_bytes {
            let length = usize::from(instruction[0]).min(15);
            instruction = instruction[1..=length].to_vec();
        }
        Entered::InternalError { suberror: error.suberror, data, instruction }
    }
}

#[cfg(test)]
#[path = "run_page_tests.rs"]
mod tests;
