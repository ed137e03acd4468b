//! CPUID leaves for Python: of the host, of vCPUs. What they mean, and the table, is `belljar.cpuid`'s; never here.

use pyo3::prelude::*;

use crate::error::Result as CoreResult;
use crate::kvm::Host;
use crate::machine::{Machine, Slot};
use crate::x86::CpuidLeaf;

use super::typed::Cpuid;
use super::vcpu::Vcpu;
use super::vm::VM;

/// Leaf, subleaf (where it counts), and the four words.
pub type Row = (u32, Option<u32>, (u32, u32, u32, u32));

fn row(leaf: &CpuidLeaf) -> Row {
    let [eax, ebx, ecx, edx] = leaf.words;
    (leaf.leaf, leaf.subleaf, (eax, ebx, ecx, edx))
}

fn leaf(&(leaf, subleaf, (eax, ebx, ecx, edx)): &Row) -> CpuidLeaf {
    CpuidLeaf { leaf, subleaf, words: [eax, ebx, ecx, edx] }
}

fn rows(slot: &Slot) -> CoreResult<Vec<Row>> {
    slot.with(|cpu| Ok(cpu.vcpu.cpuid()?.iter().map(row).collect()))
}

fn change(slot: &Slot, rows: &[Row]) -> CoreResult<()> {
    let leaves: Vec<_> = rows.iter().map(leaf).collect();
    slot.with(|cpu| cpu.vcpu.change_cpuid(&leaves))
}

/// Changes the leaves of all vCPUs as `wish` says, a mapping as `VM(cpuid=...)` takes.
pub(super) fn shape(machine: &Machine, wish: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = wish.py();
    let shaped = py.import("belljar.cpuid")?.getattr("shaped")?;
    for slot in &machine.cpus {
        let rows: Vec<Row> = shaped.call1((rows(slot)?, wish))?.extract()?;
        change(slot, &rows)?;
    }
    Ok(())
}

/// The CPUID leaves that a guest may be given here, as KVM tells them. HostError where there is none.
#[pyfunction]
pub fn supported_cpuid(py: Python<'_>) -> PyResult<Vec<Row>> {
    Ok(py.detach(|| Host::open()?.cpuid())?.iter().map(row).collect())
}

#[pymethods]
impl Vcpu {
    /// What the guest's CPUID instruction says, as a table of leaves: `cpu.cpuid["avx2"] = False` before the first run.
    ///
    /// From the first run on it is fixed (RegisterError). Not all KVMs have the guest see it: bj.host.quirks.cpuid_masks_hold.
    #[getter]
    fn cpuid<'py>(slf: &Bound<'py, Self>) -> PyResult<Cpuid<'py>> {
        Cpuid::of(slf.py(), "_of", (vec![slf],))
    }

    /// Every leaf: its number, its subleaf where that counts, and EAX, EBX, ECX, EDX.
    fn cpuid_leaves(&self) -> PyResult<Vec<Row>> {
        Ok(rows(self.slot()?)?)
    }

    /// Sets every leaf. RegisterError once the vCPU has run, and for what KVM refuses.
    fn set_cpuid_leaves(&self, leaves: Vec<Row>) -> PyResult<()> {
        Ok(change(self.slot()?, &leaves)?)
    }
}

#[pymethods]
impl VM {
    /// The CPUID of all vCPUs as one table: it shows the first one's, and what is set in it is set for all.
    #[getter]
    fn cpuid<'py>(slf: &Bound<'py, Self>) -> PyResult<Cpuid<'py>> {
        let cpus = slf.getattr("cpus")?;
        Cpuid::of(slf.py(), "_of", (cpus,))
    }
}
