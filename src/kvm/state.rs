//! The slower state of a vCPU, which has an ioctl per kind: debug registers, XSAVE, LAPIC, MP state, events, and all at once.
//! It never runs the vCPU and never interprets what it moves.

#![allow(unsafe_code)] // the XSAVE area is longer than the structure that kvm-ioctls knows

use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use kvm_bindings as kb;

use crate::error::{Error, Result};
use crate::x86::xsave::Layout;
use crate::x86::{DebugRegs, Pending, State, lapic};

use super::entered::{Events, Sync};
use super::host::Host;
use super::vcpu::Vcpu;

/// `_IOR(KVMIO, 0xa4, struct kvm_xsave)`: the first 4096 bytes.
const KVM_GET_XSAVE: libc::c_ulong = 0x9000_aea4;
/// `_IOW(KVMIO, 0xa5, struct kvm_xsave)`: as many as `KVM_CAP_XSAVE2` says.
const KVM_SET_XSAVE: libc::c_ulong = 0x5000_aea5;
/// `_IOR(KVMIO, 0xcf, struct kvm_xsave)`: likewise.
const KVM_GET_XSAVE2: libc::c_ulong = 0x9000_aecf;
/// Bytes of `struct kvm_xsave`.
const XSAVE_LEAST: usize = 4096;

/// What the XSAVE area of this host's vCPUs looks like.
#[derive(Clone, Debug, Default)]
pub struct XsaveForm {
    /// Where the registers lie.
    pub layout: Layout,
    /// Bytes of the area.
    size: usize,
    /// The features that XCR0 may enable; 0 without XSAVE.
    pub features: u64,
}

impl XsaveForm {
    /// Of this host; asked once in a process.
    pub fn get() -> Result<&'static Self> {
        static FORM: OnceLock<XsaveForm> = OnceLock::new();
        if let Some(known) = FORM.get() {
            return Ok(known);
        }
        let host = Host::open()?;
        let (layout, features) = host.xsave_layout()?;
        let form = Self { layout, size: host.xsave_size(), features };
        Ok(FORM.get_or_init(|| form))
    }
}

impl Vcpu {
    fn refusal(&self) -> impl Fn(vmm_sys_util::errno::Error) -> Error + use<> {
        let vcpu = self.id();
        move |e| match e.errno() {
            libc::EINVAL => Error::Registers { vcpu, errno: e.errno(), dropped: false },
            errno => Error::Host { what: "setting a vCPU's state", errno },
        }
    }

    /// DR0 to DR3, DR6, DR7.
    pub fn debug_regs(&self) -> Result<DebugRegs> {
        let kernel = self.fd().get_debug_regs().map_err(Error::host("KVM_GET_DEBUGREGS"))?;
        let [dr0, dr1, dr2, dr3] = kernel.db;
        Ok(DebugRegs { words: [dr0, dr1, dr2, dr3, kernel.dr6, kernel.dr7] })
    }

    /// Sets DR0 to DR3, DR6, DR7.
    pub fn set_debug_regs(&self, regs: &DebugRegs) -> Result<()> {
        self.debug_changes.set(self.debug_changes.get().wrapping_add(1));
        let [dr0, dr1, dr2, dr3, dr6, dr7] = regs.words;
        let kernel = kb::kvm_debugregs { db: [dr0, dr1, dr2, dr3], dr6, dr7, ..Default::default() };
        self.fd().set_debug_regs(&kernel).map_err(self.refusal())
    }

    /// XCR0; 0 on a processor without XSAVE.
    pub fn xcr0(&self) -> Result<u64> {
        let kernel = self.fd().get_xcrs().map_err(Error::host("KVM_GET_XCRS"))?;
        let count = usize::try_from(kernel.nr_xcrs).unwrap_or(0);
        Ok(kernel.xcrs.iter().take(count).find(|x| x.xcr == 0).map_or(0, |x| x.value))
    }

    /// Sets XCR0.
    pub fn set_xcr0(&self, value: u64) -> Result<()> {
        let mut kernel = kb::kvm_xcrs { nr_xcrs: 1, ..Default::default() };
        kernel.xcrs[0].value = value;
        self.fd().set_xcrs(&kernel).map_err(self.refusal())
    }

    /// The XSAVE area in its standard form.
    pub fn xsave(&self) -> Result<Vec<u8>> {
        let size = XsaveForm::get()?.size;
        let request = if size == 0 { KVM_GET_XSAVE } else { KVM_GET_XSAVE2 };
        let mut area = vec![0_u64; size.max(XSAVE_LEAST).div_ceil(8)];
        // SAFETY: the buffer has the size that KVM names (4096 bytes where it names none), and KVM fills no more.
        let result = unsafe { libc::ioctl(self.fd().as_raw_fd(), request, area.as_mut_ptr()) };
        if result < 0 {
            return Err(Error::last_os("KVM_GET_XSAVE"));
        }
        Ok(area.iter().flat_map(|w| w.to_le_bytes()).collect())
    }

    /// Sets the XSAVE area: as many bytes as [`Vcpu::xsave`] gives.
    pub fn set_xsave(&self, bytes: &[u8]) -> Result<()> {
        let size = XsaveForm::get()?.size.max(XSAVE_LEAST).next_multiple_of(8);
        if bytes.len() != size {
            return Err(Error::Invalid(format!("this host's XSAVE area has {size} bytes, not {}", bytes.len())));
        }
        let word = |chunk: &[u8]| chunk.try_into().map_or(0, u64::from_le_bytes);
        let area: Vec<u64> = bytes.chunks(8).map(word).collect();
        // SAFETY: the buffer has the size that KVM names, and KVM reads no more.
        let result = unsafe { libc::ioctl(self.fd().as_raw_fd(), KVM_SET_XSAVE, area.as_ptr()) };
        if result < 0 { Err(self.refusal()(vmm_sys_util::errno::Error::last())) } else { Ok(()) }
    }

    /// The registers of the local APIC in the kernel.
    pub fn lapic(&mut self) -> Result<Vec<u8>> {
        self.flush_sregs()?; // CR8 is the page's TPR
        let page = self.fd().get_lapic().map_err(Error::host("KVM_GET_LAPIC"))?;
        Ok(page.regs.iter().map(|b| b.cast_unsigned()).collect())
    }

    /// Sets the registers of the local APIC in the kernel.
    pub fn set_lapic(&mut self, page: &[u8]) -> Result<()> {
        if page.len() != lapic::SIZE {
            return Err(Error::Invalid(format!("a LAPIC page has {} bytes, not {}", lapic::SIZE, page.len())));
        }
        self.flush_sregs()?;
        let mut kernel = kb::kvm_lapic_state::default();
        kernel.regs.iter_mut().zip(page).for_each(|(to, from)| *to = from.cast_signed());
        self.fd().set_lapic(&kernel).map_err(self.refusal())?;
        self.forget(Sync::Sregs); // CR8 is the page's TPR
        Ok(())
    }

    /// `KVM_MP_STATE_*`.
    pub fn mp_state(&self) -> Result<u32> {
        Ok(self.fd().get_mp_state().map_err(Error::host("KVM_GET_MP_STATE"))?.mp_state)
    }

    /// Sets `KVM_MP_STATE_*`.
    pub fn set_mp_state(&self, mp_state: u32) -> Result<()> {
        self.fd().set_mp_state(kb::kvm_mp_state { mp_state }).map_err(self.refusal())
    }

    /// Pending exceptions and interrupts, all of them.
    pub fn pending(&mut self) -> Result<Pending> {
        Ok(Pending::from(&self.events()?))
    }

    /// Sets them all; they reach the vCPU on its next entry.
    pub fn set_pending(&mut self, pending: &Pending) -> Result<()> {
        let events = self.events()?.with(pending);
        self.set_events(&events);
        Ok(())
    }

    /// Everything that this vCPU holds. Between an exit and the completion of its access, it is the state before.
    pub fn state(&mut self) -> Result<State> {
        let form = XsaveForm::get()?;
        let saveable = Host::msr_numbers()?;
        let (regs, sregs, pending) = self.apart(|cpu| Ok((cpu.regs()?, cpu.sregs()?, cpu.pending()?)))?;
        Ok(State {
            regs,
            sregs,
            pending,
            debug: self.debug_regs()?,
            mp_state: u64::from(self.mp_state()?),
            xcr0: if form.features == 0 { 0 } else { self.xcr0()? },
            layout: form.layout.clone(),
            xsave: self.xsave()?,
            msrs: self.msrs(saveable)?,
            lapic: self.lapic().unwrap_or_default(),
        })
    }

    /// Puts a state back, and says which MSRs KVM would not set. Those that count by themselves go on, unless `counters`.
    /// The order is KVM's: what decides on the validity of others comes first, what others would clear comes last.
    pub fn restore(&mut self, state: &State, counters: bool) -> Result<Vec<u32>> {
        let form = XsaveForm::get()?;
        if state.layout != form.layout {
            return Err(Error::Invalid("this state is of a processor whose XSAVE area differs".into()));
        }
        if state.lapic.is_empty() == self.fd().get_lapic().is_ok() {
            return Err(Error::Invalid("a state with a local APIC in the kernel fits only a VM with irqchip=, and one without only one without".into()));
        }
        self.clear_dirty(Sync::Events);
        self.set_sregs(&state.sregs);
        self.set_regs(&state.regs);
        let settled = self.restore_rest(state, counters, form);
        self.forget_all();
        settled
    }

    fn restore_rest(&mut self, state: &State, counters: bool, form: &XsaveForm) -> Result<Vec<u32>> {
        if let Err(error) = self.flush() {
            self.clear_dirty(Sync::Regs);
            return Err(error);
        }
        if form.features != 0 {
            self.set_xcr0(state.xcr0)?;
        }
        self.set_xsave(&state.xsave)?;
        self.set_debug_regs(&state.debug)?;
        if !state.lapic.is_empty() {
            self.set_lapic(&state.lapic)?;
        }
        let refused = self.restore_msrs(&state.msrs, counters)?;
        self.set_pending(&state.pending)?;
        self.flush()?;
        self.set_mp_state(u32::try_from(state.mp_state).unwrap_or(u32::MAX))?;
        Ok(refused)
    }
}

impl From<&Events> for Pending {
    fn from(events: &Events) -> Self {
        let e = &events.0;
        let (exception, interrupt, nmi, smi) = (&e.exception, &e.interrupt, &e.nmi, &e.smi);
        let active = exception.injected | exception.pending != 0;
        let if_active = |value: u64| if active { value } else { 0 };
        let words = [
            exception.injected.into(),
            exception.pending.into(),
            if_active(exception.nr.into()),
            if_active(exception.has_error_code.into()),
            if_active(exception.error_code.into()),
            if_active(e.exception_has_payload.into()),
            if_active(e.exception_payload),
            interrupt.injected.into(),
            if interrupt.injected == 0 { 0 } else { interrupt.nr.into() },
            interrupt.soft.into(),
            interrupt.shadow.into(),
            nmi.injected.into(),
            nmi.pending.into(),
            nmi.masked.into(),
            e.sipi_vector.into(),
            smi.smm.into(),
            smi.pending.into(),
            smi.smm_inside_nmi.into(),
            smi.latched_init.into(),
            e.triple_fault.pending.into(),
        ];
        Self { words }
    }
}

impl Events {
    /// These events, with the values of `pending`.
    fn with(mut self, pending: &Pending) -> Self {
        let byte = |at: usize| u8::try_from(pending.words[at] & 0xff).unwrap_or(0);
        let word = |at: usize| u32::try_from(pending.words[at] & 0xffff_ffff).unwrap_or(0);
        let e = &mut self.0;
        (e.exception.injected, e.exception.pending, e.exception.nr) = (byte(0), byte(1), byte(2));
        (e.exception.has_error_code, e.exception.error_code) = (byte(3), word(4));
        (e.exception_has_payload, e.exception_payload) = (byte(5), pending.words[6]);
        (e.interrupt.injected, e.interrupt.nr) = (byte(7), byte(8));
        (e.interrupt.soft, e.interrupt.shadow) = (byte(9), byte(10));
        (e.nmi.injected, e.nmi.pending, e.nmi.masked) = (byte(11), byte(12), byte(13));
        e.sipi_vector = word(14);
        if e.sipi_vector != 0 {
            e.flags |= kb::KVM_VCPUEVENT_VALID_SIPI_VECTOR;
        }
        (e.smi.smm, e.smi.pending, e.smi.smm_inside_nmi, e.smi.latched_init) = (byte(15), byte(16), byte(17), byte(18));
        e.triple_fault.pending = byte(19);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The largest value of each word: flags are 0 or 1 to KVM.
    const MOST: [u64; Pending::COUNT] =
        [1, 1, 255, 1, 0xffff_ffff, 1, u64::MAX, 1, 255, 1, 3, 1, 2, 1, 0xffff_ffff, 1, 1, 1, 1, 1];

    proptest! {
        #[test]
        fn pending_events_come_back_from_kvms_structure(raw in any::<[u64; Pending::COUNT]>()) {
            let mut words: [u64; Pending::COUNT] = std::array::from_fn(|n| raw[n] % MOST[n].saturating_add(1).max(1));
            if words[0] == 0 && words[1] == 0 {
                words[2..7].fill(0); // no exception: its fields mean nothing
            }
            if words[7] == 0 {
                words[8] = 0;
            }
            let pending = Pending { words };
            prop_assert_eq!(Pending::from(&Events(kb::kvm_vcpu_events::default()).with(&pending)), pending);
        }
    }
}
