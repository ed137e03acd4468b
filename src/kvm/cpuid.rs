//! A vCPU's CPUID leaves: read, and set before it first runs. It knows no leaf's meaning.

use std::collections::BTreeSet;

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};

use crate::error::{Error, Result};
use crate::x86::CpuidLeaf;

use super::host::Host;
use super::vcpu::Vcpu;

impl From<&kvm_cpuid_entry2> for CpuidLeaf {
    fn from(entry: &kvm_cpuid_entry2) -> Self {
        let is_indexed = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
        let words = [entry.eax, entry.ebx, entry.ecx, entry.edx];
        Self { leaf: entry.function, subleaf: is_indexed.then_some(entry.index), words }
    }
}

impl From<&CpuidLeaf> for kvm_cpuid_entry2 {
    fn from(leaf: &CpuidLeaf) -> Self {
        let [eax, ebx, ecx, edx] = leaf.words;
        let flags = if leaf.subleaf.is_some() { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 };
        Self { function: leaf.leaf, index: leaf.subleaf.unwrap_or(0), flags, eax, ebx, ecx, edx, ..Self::default() }
    }
}

impl Host {
    /// What guests may be given here (`KVM_GET_SUPPORTED_CPUID`).
    pub fn cpuid(&self) -> Result<Vec<CpuidLeaf>> {
        Ok(self.supported_cpuid()?.as_slice().iter().map(CpuidLeaf::from).collect())
    }
}

impl Vcpu {
    /// The leaves that the guest sees (`KVM_GET_CPUID2`).
    pub fn cpuid(&self) -> Result<Vec<CpuidLeaf>> {
        let leaves = self.fd().get_cpuid2(KVM_MAX_CPUID_ENTRIES).map_err(Error::host("KVM_GET_CPUID2"))?;
        // Older kernels (6.1) fill what is left of the room with zeroes, and count that, too.
        let mut known = BTreeSet::new();
        let leaves = leaves.as_slice().iter().filter(|leaf| known.insert((leaf.function, leaf.index)));
        Ok(leaves.map(CpuidLeaf::from).collect())
    }

    /// Sets them all (`KVM_SET_CPUID2`), which KVM allows until the vCPU first runs: a guest has looked by then.
    pub fn change_cpuid(&self, leaves: &[CpuidLeaf]) -> Result<()> {
        if self.has_run() {
            let id = self.id();
            return Err(Error::Value(format!(
                "vCPU {id} has run, and CPUID is fixed from the first run on: change it before, or make a new VM with \
                 VM(cpuid=...)"
            )));
        }
        let entries: Vec<_> = leaves.iter().map(kvm_cpuid_entry2::from).collect();
        let most = KVM_MAX_CPUID_ENTRIES;
        let leaves = CpuId::from_entries(&entries)
            .map_err(|_| Error::Value(format!("{} CPUID leaves; a vCPU has at most {most}", entries.len())))?;
        self.fd().set_cpuid2(&leaves).map_err(|error| match error.errno() {
            errno @ libc::EINVAL => Error::Value(format!(
                "KVM refuses these CPUID leaves (KVM_SET_CPUID2: errno {errno}): leaf 0x80000008 says how wide addresses \
                 are, leaf 0xd what XSAVE keeps"
            )),
            errno => Error::Host { what: "KVM_SET_CPUID2", errno },
        })
    }

    /// Sets those of a new vCPU.
    pub fn set_cpuid(&self, leaves: &CpuId) -> Result<()> {
        self.fd().set_cpuid2(leaves).map_err(Error::host("KVM_SET_CPUID2"))
    }
}
