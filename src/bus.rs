//! Native devices by port and by guest-physical address: ranges that never overlap.
//! It never knows what a device does, and asks one at a time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::addr::Span;
use crate::error::{Error, Result};

/// What a device asks of the machine after an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Reset the machine.
    Reset,
}

/// A device that belljar answers natively.
pub trait Device: Send {
    /// The `size` bytes (1 to 8) that the guest reads at `offset` of the device's range.
    fn read(&mut self, offset: u64, size: u8) -> u64;

    /// Takes the `size` bytes that the guest writes at `offset`.
    fn write(&mut self, offset: u64, size: u8, data: u64) -> Effect;
}

/// A device as the bus keeps it.
pub type SharedDevice = Arc<Mutex<dyn Device>>;

#[derive(Clone)]
struct Entry {
    span: Span,
    name: &'static str,
    device: SharedDevice,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}", self.name, self.span.first)
    }
}

/// The devices of one moment, in the order of their ranges. A vCPU keeps them for as long as it runs, so that an access
/// takes no lock but the device's own.
#[derive(Clone, Debug, Default)]
pub struct Devices(Vec<Entry>);

impl Devices {
    /// The device that the whole access of `size` bytes at `at` belongs to, and the offset in it.
    fn find(&self, at: u64, size: u8) -> Option<(&SharedDevice, u64)> {
        let after = self.0.partition_point(|e| e.span.first <= at);
        let entry = self.0.get(after.checked_sub(1)?)?;
        let last = at.checked_add(u64::from(size).checked_sub(1)?)?;
        entry.span.contains(last).then(|| (&entry.device, at - entry.span.first))
    }

    /// What the device at `at` answers, if there is one.
    pub fn read(&self, at: u64, size: u8) -> Option<u64> {
        let (device, offset) = self.find(at, size)?;
        Some(device.lock().unwrap_or_else(PoisonError::into_inner).read(offset, size) & all_ones(size))
    }

    /// What the device at `at` makes of a write, if there is one.
    pub fn write(&self, at: u64, size: u8, data: u64) -> Option<Effect> {
        let (device, offset) = self.find(at, size)?;
        Some(device.lock().unwrap_or_else(PoisonError::into_inner).write(offset, size, data))
    }
}

/// One address space of devices. A change of it is for the next run.
#[derive(Debug, Default)]
pub struct Bus {
    current: RwLock<Arc<Devices>>,
}

impl Bus {
    /// Connects `device` to `span`, which no other device has.
    pub fn insert(&self, span: Span, name: &'static str, device: SharedDevice) -> Result<()> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let entries = &mut Arc::make_mut(&mut current).0;
        if let Some(taken) = entries.iter().find(|e| e.span.first <= span.last && span.first <= e.span.last) {
            let len = span.last - span.first + 1;
            return Err(Error::Overlap { at: span.first, len, with: taken.span.first, what: taken.name });
        }
        let at = entries.partition_point(|e| e.span.first < span.first);
        entries.insert(at, Entry { span, name, device });
        Ok(())
    }

    /// The devices of this moment.
    pub fn devices(&self) -> Arc<Devices> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The devices: first and last number of their range, and name.
    pub fn list(&self) -> Vec<(u64, u64, &'static str)> {
        self.devices().0.iter().map(|e| (e.span.first, e.span.last, e.name)).collect()
    }

    /// Disconnects all devices.
    pub fn clear(&self) {
        let old = std::mem::take(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner));
        drop(old);
    }
}

/// All ones in `size` bytes: what an empty bus reads as.
pub fn all_ones(size: u8) -> u64 {
    match size {
        0 => 0,
        1..=7 => (1 << (u32::from(size) * 8)) - 1,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Echo(u64);

    impl Device for Echo {
        fn read(&mut self, offset: u64, _: u8) -> u64 {
            self.0 + offset
        }

        fn write(&mut self, offset: u64, _: u8, data: u64) -> Effect {
            self.0 = data.wrapping_sub(offset);
            Effect::None
        }
    }

    fn bus() -> Bus {
        let bus = Bus::default();
        let span = Span::new(0x60, 5, 0xffff).expect("a range");
        bus.insert(span, "echo", Arc::new(Mutex::new(Echo(7)))).expect("free");
        bus
    }

    #[test]
    fn a_device_sees_offsets_in_its_own_range() {
        let devices = bus().devices();
        assert_eq!(devices.read(0x64, 1), Some(11));
        assert_eq!(devices.write(0x61, 1, 101), Some(Effect::None));
        assert_eq!(devices.read(0x60, 1), Some(100));
    }

    #[test]
    fn an_access_that_only_begins_in_a_range_reaches_nobody() {
        let devices = bus().devices();
        assert_eq!(devices.read(0x64, 2), None);
        assert_eq!(devices.read(0x65, 1), None);
        assert_eq!(devices.read(0x5f, 2), None);
        assert_eq!(devices.read(u64::MAX, 8), None);
    }

    #[test]
    fn a_read_has_no_more_bits_than_its_bytes() {
        let devices = bus().devices();
        devices.write(0x60, 1, 0x1_2345);
        assert_eq!((devices.read(0x60, 1), devices.read(0x60, 2)), (Some(0x45), Some(0x2345)));
    }

    /// What the bus is held against: who has which number.
    type Model = std::collections::BTreeMap<u64, (u64, u64)>;

    proptest! {
        #[test]
        fn an_access_reaches_the_device_that_has_all_of_its_numbers(
            spans in prop::collection::vec((0u64..200, 1u64..40), 0..10), at in 0u64..260, size in 1u8..=8, high: bool,
        ) {
            let (bus, mut model, far) = (Bus::default(), Model::new(), if high { u64::MAX - 260 } else { 0 });
            for (n, (first, len)) in (1..).zip(&spans) {
                let free = (*first..first + len).all(|number| !model.contains_key(&number));
                let span = Span::new(far + first, *len, u64::MAX).expect("a range");
                let inserted = bus.insert(span, "echo", Arc::new(Mutex::new(Echo(1000 * n))));
                prop_assert_eq!(inserted.is_ok(), free);
                if free {
                    model.extend((*first..first + len).map(|number| (number, (n, *first))));
                }
            }
            let owners = (at..at + u64::from(size)).map(|number| model.get(&number)).collect::<Vec<_>>();
            let whole = owners[0].filter(|owner| owners.iter().all(|other| *other == Some(owner)));
            let expected = whole.map(|(n, first)| (1000 * n + at - first) & all_ones(size));
            let devices = bus.devices();
            prop_assert_eq!(devices.read(far + at, size), expected);
            prop_assert_eq!(devices.write(far + at, size, 0).is_some(), expected.is_some());
            prop_assert!(bus.list().windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    #[test]
    fn two_devices_never_share_a_port() {
        let bus = bus();
        let span = Span::new(0x64, 1, 0xffff).expect("a range");
        let error = bus.insert(span, "second", Arc::new(Mutex::new(Echo(0)))).expect_err("taken");
        assert!(error.to_string().contains("overlaps echo at 0x60"), "{error}");
    }
}
