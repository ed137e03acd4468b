//! What is where in the guest-physical address space: memory, native devices, interrupt controllers, and the holes
//! between them. It looks, and never changes anything.

use crate::devices::ioapic;
use crate::error::Result;
use crate::kvm::{Host, Irqchip};
use crate::memory::RegionInfo;

use super::Machine;
use super::memory::LOCAL_APIC;

/// What answers in a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RAM or ROM.
    Memory(RegionInfo),
    /// A device or an interrupt controller, by its name: of belljar's own, or of the kernel's.
    Device {
        /// What it is called.
        name: &'static str,
        /// The kernel answers it.
        in_kernel: bool,
    },
    /// Nothing: accesses exit.
    Hole,
}

/// A range of addresses, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// What answers there.
    pub kind: Kind,
}

impl Machine {
    /// Memory and devices, in the order of their addresses.
    pub fn places(&self) -> Result<Vec<Place>> {
        let memory = self.memory.list()?.into_iter().map(|r| Place {
            first: r.at.0,
            last: r.end().0 - 1,
            kind: Kind::Memory(r),
        });
        let native = self.mmio.list().into_iter().map(|(first, last, name)| device(first, last, name, false));
        let mut places: Vec<_> = memory.chain(native).chain(self.controllers()).collect();
        places.sort_by_key(|p| p.first);
        Ok(places)
    }

    /// The interrupt controllers that the kernel answers.
    fn controllers(&self) -> Vec<Place> {
        let apic = device(LOCAL_APIC, LOCAL_APIC + 0xfff, "local APIC", true);
        let io = device(ioapic::ADDRESS, ioapic::ADDRESS + ioapic::LENGTH - 1, "ioapic", true);
        match self.irqchip {
            Irqchip::None => Vec::new(),
            Irqchip::Split => vec![apic],
            Irqchip::Full => vec![io, apic],
        }
    }

    /// The last address that the host lets a guest have.
    pub fn last_address() -> u64 {
        (1 << Host::open().map_or(52, |host| host.physical_bits().min(52))) - 1
    }
}

fn device(first: u64, last: u64, name: &'static str, in_kernel: bool) -> Place {
    Place { first, last, kind: Kind::Device { name, in_kernel } }
}

/// The ranges up to `last` that none of `taken` (first and last address) has.
pub fn holes(taken: impl IntoIterator<Item = (u64, u64)>, last: u64) -> Vec<Place> {
    let mut taken: Vec<_> = taken.into_iter().collect();
    taken.sort_unstable();
    let mut holes = Vec::new();
    let mut from = Some(0);
    for (first, end) in taken {
        let Some(free) = from else { break };
        if free < first && free <= last {
            holes.push(Place { first: free, last: (first - 1).min(last), kind: Kind::Hole });
        }
        from = end.checked_add(1).map(|after| after.max(free));
    }
    holes.extend(from.filter(|free| *free <= last).map(|first| Place { first, last, kind: Kind::Hole }));
    holes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holes_are_what_nothing_covers(taken in prop::collection::vec((0u64..80, 0u64..20), 0..8), last in 0u64..90) {
            let taken: Vec<_> = taken.into_iter().map(|(first, len)| (first, first + len)).collect();
            let holes = holes(taken.clone(), last);
            for at in 0..120 {
                let covered = taken.iter().any(|(a, b)| (*a..=*b).contains(&at));
                let in_hole = holes.iter().filter(|h| (h.first..=h.last).contains(&at)).count();
                prop_assert_eq!(in_hole, usize::from(!covered && at <= last));
            }
            prop_assert!(holes.windows(2).all(|pair| pair[0].last + 1 < pair[1].first), "as wide as they can be");
        }
    }

    #[test]
    fn what_reaches_the_last_address_leaves_nothing_behind_it() {
        assert_eq!(holes([(5, u64::MAX), (7, 9)], u64::MAX), [Place { first: 0, last: 4, kind: Kind::Hole }]);
        assert_eq!(holes([], 3), [Place { first: 0, last: 3, kind: Kind::Hole }]);
    }
}
