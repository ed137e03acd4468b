//! Is there a KVM, may we open it, and what does it offer? It never creates anything but the handle.

use std::sync::OnceLock;

use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, Kvm};

use crate::error::{Error, Result};
use crate::x86::xsave::Layout;

use super::quirks::Quirks;

/// One capability of KVM's and what this host answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The name, without `KVM_CAP_`.
    pub name: &'static str,
    /// What `KVM_CHECK_EXTENSION` says: 0 is no.
    pub value: i32,
    /// Why belljar asks.
    pub used_for: &'static str,
}

/// An open /dev/kvm.
#[derive(Debug)]
pub struct Host {
    kvm: Kvm,
}

const CAPABILITIES: &[(&str, Cap, &str)] = &[
    ("USER_MEMORY", Cap::UserMemory, "guest RAM (needed)"),
    ("SYNC_REGS", Cap::SyncRegs, "registers without ioctls (needed)"),
    ("IMMEDIATE_EXIT", Cap::ImmediateExit, "stopping a vCPU without a race (needed)"),
    ("READONLY_MEM", Cap::ReadonlyMem, "ROM"),
    ("X86_USER_SPACE_MSR", Cap::X86UserSpaceMsr, "on_msr"),
    ("X86_MSR_FILTER", Cap::X86MsrFilter, "on_msr"),
    ("SET_GUEST_DEBUG", Cap::SetGuestDebug, "single step and breakpoints"),
    ("SPLIT_IRQCHIP", Cap::SplitIrqchip, "irqchip=\"split\""),
    ("PIT2", Cap::Pit2, "the timer that a kernel calibrates by"),
    ("IRQFD", Cap::Irqfd, "device interrupts without an ioctl"),
    ("IOEVENTFD", Cap::Ioeventfd, "doorbells"),
    ("COALESCED_MMIO", Cap::CoalescedMmio, "writes to addresses in batches"),
    ("COALESCED_PIO", Cap::CoalescedPio, "writes to ports in batches"),
    ("XSAVE2", Cap::Xsave2, "the whole vector state"),
    ("MAX_VCPUS", Cap::MaxVcpus, "the most vCPUs of a VM"),
];

impl Host {
    /// Opens /dev/kvm, or says what is missing and what to do.
    pub fn open() -> Result<Self> {
        static SUFFICES: OnceLock<()> = OnceLock::new(); // asked until it does: modules come and go
        let host = Self { kvm: Kvm::new().map_err(|e| no_kvm(e.errno()))? };
        if SUFFICES.get().is_none() {
            host.check()?;
            let _ = SUFFICES.set(());
        }
        Ok(host)
    }

    fn check(&self) -> Result<()> {
        let version = self.kvm.get_api_version();
        if u32::try_from(version) != Ok(KVM_API_VERSION) {
            return Err(Error::NoKvm {
                cause: format!("/dev/kvm speaks API version {version}, not {KVM_API_VERSION}"),
                remedy: "use a Linux kernel of version 4.17 or newer".into(),
            });
        }
        match self.capabilities().iter().find(|c| c.used_for.ends_with("(needed)") && c.value == 0) {
            None => Ok(()),
            Some(lacking) => Err(Error::NoKvm {
                cause: format!("this KVM lacks KVM_CAP_{}", lacking.name),
                remedy: "use a Linux kernel of version 4.17 or newer".into(),
            }),
        }
    }

    /// The handle, for creating VMs.
    pub(super) fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// What this KVM answers about the capabilities that belljar uses.
    pub fn capabilities(&self) -> Vec<Capability> {
        let ask = |&(name, cap, used_for)| Capability { name, value: self.kvm.check_extension_int(cap), used_for };
        CAPABILITIES.iter().map(ask).collect()
    }

    /// The most vCPUs that one VM may have.
    pub fn max_vcpus(&self) -> u64 {
        static MOST: OnceLock<u64> = OnceLock::new();
        *MOST.get_or_init(|| u64::try_from(self.kvm.get_max_vcpus()).unwrap_or(u64::MAX))
    }

    /// How many memory slots a VM may have.
    pub fn memory_slots(&self) -> u32 {
        u32::try_from(self.kvm.check_extension_int(Cap::NrMemslots)).unwrap_or(32)
    }

    /// The CPUID leaves that a guest may be given here; asked once in a process.
    pub fn supported_cpuid(&self) -> Result<CpuId> {
        static SUPPORTED: OnceLock<CpuId> = OnceLock::new();
        if let Some(known) = SUPPORTED.get() {
            return Ok(known.clone());
        }
        let asked =
            self.kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(Error::host("KVM_GET_SUPPORTED_CPUID"))?;
        Ok(SUPPORTED.get_or_init(|| asked).clone())
    }
}

impl Host {
    /// Bytes of a vCPU's XSAVE area; 0 where KVM has only the old ioctl for it.
    pub(super) fn xsave_size(&self) -> usize {
        usize::try_from(self.kvm.check_extension_int(Cap::Xsave2)).unwrap_or(0)
    }

    /// Where registers lie in the XSAVE area, and the features that XCR0 may enable (CPUID leaf 0xD).
    pub(super) fn xsave_layout(&self) -> Result<(Layout, u64)> {
        let leaves = self.supported_cpuid()?;
        let leaves = || leaves.as_slice().iter().filter(|leaf| leaf.function == 0xd);
        let layout = Layout::new(leaves().map(|leaf| (leaf.index, leaf.eax, leaf.ebx, leaf.ecx)));
        let features =
            leaves().find(|leaf| leaf.index == 0).map_or(0, |leaf| u64::from(leaf.edx) << 32 | u64::from(leaf.eax));
        Ok((layout, features))
    }

    /// The MSRs that hold a vCPU's state (`KVM_GET_MSR_INDEX_LIST`); asked once in a process.
    pub fn msr_numbers() -> Result<&'static [u32]> {
        static NUMBERS: OnceLock<Vec<u32>> = OnceLock::new();
        if let Some(known) = NUMBERS.get() {
            return Ok(known);
        }
        let list = Self::open()?.kvm.get_msr_index_list().map_err(Error::host("KVM_GET_MSR_INDEX_LIST"))?;
        let mut numbers = list.as_slice().to_vec();
        numbers.sort_unstable();
        Ok(NUMBERS.get_or_init(|| numbers))
    }

    /// How many bits a guest-physical address has here (CPUID leaf 0x80000008).
    pub fn physical_bits(&self) -> u32 {
        let leaves = self.supported_cpuid().ok();
        let leaf = leaves.as_ref().and_then(|l| l.as_slice().iter().find(|leaf| leaf.function == 0x8000_0008));
        leaf.map_or(36, |leaf| leaf.eax & 0xff)
    }

    /// The CPUID leaves of vCPU `id`: what this KVM supports, with the vCPU's APIC id where the leaves name one.
    ///
    /// The hypervisor bit is set (KVM leaves it to us, and a kernel looks for KVM's own leaves only behind it), and
    /// features that need hypercalls are left out where these do not work.
    pub fn cpuid_for(&self, id: u32, quirks: &Quirks) -> Result<CpuId> {
        let mut leaves = self.supported_cpuid()?;
        for leaf in leaves.as_mut_slice() {
            match leaf.function {
                1 => {
                    leaf.ebx = leaf.ebx & 0x00ff_ffff | id << 24;
                    leaf.ecx |= HYPERVISOR_BIT;
                }
                KVM_FEATURES if !quirks.hypercalls => leaf.eax &= !HYPERCALL_FEATURES,
                0xb | 0x1f => leaf.edx = id,
                0x8000_001e => leaf.eax = id,
                _ => {}
            }
        }
        Ok(leaves)
    }
}

/// CPUID leaf 1, ECX: somebody runs under a hypervisor.
const HYPERVISOR_BIT: u32 = 1 << 31;
/// KVM's leaf of features (Linux, Documentation/virt/kvm/x86/cpuid.rst).
const KVM_FEATURES: u32 = 0x4000_0001;
/// Asynchronous page faults, PV unhalt, PV IPIs, PV yield.
const HYPERCALL_FEATURES: u32 = 1 << 4 | 1 << 7 | 1 << 11 | 1 << 13 | 1 << 14;

/// Says why /dev/kvm did not open.
fn no_kvm(errno: i32) -> Error {
    let (cause, remedy) = match errno {
        libc::ENOENT => (
            "there is no /dev/kvm",
            "load the module (modprobe kvm_intel or kvm_amd), enable VT-x or AMD-V in the firmware, or, in a virtual machine, enable nested virtualisation",
        ),
        libc::EACCES | libc::EPERM => (
            "/dev/kvm may not be opened by this user",
            "join the group that owns it (sudo usermod -aG kvm $USER, then log in again), or run as root",
        ),
        libc::ENXIO | libc::ENODEV => (
            "/dev/kvm exists, but no KVM is behind it",
            "load the module (modprobe kvm_intel or kvm_amd); in a container, pass the device in (--device /dev/kvm)",
        ),
        _ => ("/dev/kvm cannot be opened", "look at the kernel's log (dmesg) for kvm"),
    };
    let cause = format!("{cause}: {}", std::io::Error::from_raw_os_error(errno));
    Error::NoKvm { cause, remedy: remedy.into() }
}
