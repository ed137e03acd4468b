//! Model-specific registers of a vCPU, one or all, and the TSC among them. It never knows what they mean.

use kvm_bindings as kb;

use crate::error::{Error, Result};
use crate::x86::msr;

use super::entered::Sync;
use super::vcpu::Vcpu;

/// KVM takes so many MSRs in one call.
const MSRS_AT_ONCE: usize = 256;

impl Vcpu {
    /// The value of an MSR, or `None` if this vCPU has none of that number.
    pub fn msr(&mut self, index: u32) -> Result<Option<u64>> {
        self.flush_sregs()?;
        let entry = kb::kvm_msr_entry { index, ..Default::default() };
        let mut msrs = kb::Msrs::from_entries(&[entry]).map_err(|_| Error::Invalid("one MSR".into()))?;
        let got = self.fd().get_msrs(&mut msrs).map_err(Error::host("KVM_GET_MSRS"))?;
        Ok((got == 1).then(|| msrs.as_slice()[0].data))
    }

    /// Sets an MSR; false if this vCPU has none of that number or refuses the value.
    pub fn set_msr(&mut self, index: u32, data: u64) -> Result<bool> {
        self.flush_sregs()?;
        self.forget(Sync::Sregs); // some are both
        let entry = kb::kvm_msr_entry { index, data, ..Default::default() };
        let msrs = kb::Msrs::from_entries(&[entry]).map_err(|_| Error::Invalid("one MSR".into()))?;
        Ok(self.fd().set_msrs(&msrs).map_err(Error::host("KVM_SET_MSRS"))? == 1)
    }

    /// Those of `numbers` that this vCPU has, with their values. KVM stops at the first that it does not have.
    pub fn msrs(&mut self, numbers: &[u32]) -> Result<Vec<(u32, u64)>> {
        self.flush_sregs()?;
        let mut found = Vec::with_capacity(numbers.len());
        let mut left = numbers;
        while !left.is_empty() {
            let asked = &left[..left.len().min(MSRS_AT_ONCE)];
            let entries: Vec<_> =
                asked.iter().map(|index| kb::kvm_msr_entry { index: *index, ..Default::default() }).collect();
            let mut msrs = kb::Msrs::from_entries(&entries).map_err(|_| Error::Invalid("too many MSRs".into()))?;
            let got = self.fd().get_msrs(&mut msrs).map_err(Error::host("KVM_GET_MSRS"))?.min(asked.len());
            found.extend(msrs.as_slice()[..got].iter().map(|entry| (entry.index, entry.data)));
            left = &left[(got + usize::from(got < asked.len()))..];
        }
        Ok(found)
    }

    /// Ticks of the TSC per millisecond.
    pub fn tsc_khz(&self) -> Result<u32> {
        self.fd().get_tsc_khz().map_err(Error::host("KVM_GET_TSC_KHZ"))
    }

    /// Sets the TSC; false if it did not take the value, to within the five seconds that KVM may move it by to keep the
    /// vCPUs of a VM together.
    pub fn set_tsc(&mut self, value: u64) -> Result<bool> {
        let near = u64::from(self.tsc_khz()?) * 5000;
        let is_set = self.set_msr(msr::TSC, value)?;
        let now = self.msr(msr::TSC)?.unwrap_or(0);
        Ok(is_set && now.wrapping_sub(value).min(value.wrapping_sub(now)) < near)
    }

    /// Sets the MSRs that differ, one by one: KVM stops at the first that it refuses.
    pub(super) fn restore_msrs(&mut self, wanted: &[(u32, u64)], counters: bool) -> Result<Vec<u32>> {
        let numbers: Vec<_> = wanted.iter().map(|(number, _)| *number).collect();
        let now = self.msrs(&numbers)?;
        let mut refused = Vec::new();
        for (number, value) in wanted {
            let counts = msr::COUNTERS.contains(number);
            if counts && !counters || now.contains(&(*number, *value)) {
                continue;
            }
            if !self.set_msr(*number, *value)? || !counts && self.msr(*number)? != Some(*value) {
                refused.push(*number);
            }
        }
        Ok(refused)
    }
}
