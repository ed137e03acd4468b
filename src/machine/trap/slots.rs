//! KVM's memory slots under trapped pages: a region's one slot in pieces, and whole again. All vCPUs are out of the guest
//! meanwhile: KVM changes a slot by taking it away first. It never touches the bytes, which stay mapped.

#![allow(unsafe_code)] // a memory slot names host memory

use std::collections::{BTreeMap, BTreeSet};

use crate::addr::{GuestPhys, PAGE};
use crate::error::{Error, Result};
use crate::kvm::{Host, Vm};
use crate::memory::{Memory, RegionInfo};

use super::table::{Kind, Table};

/// A piece of a region, which has a slot of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) read_only: bool,
}

/// The regions that are in pieces, by their first addresses.
#[derive(Debug, Default)]
pub(super) struct Slots {
    regions: BTreeMap<u64, Vec<(Piece, u32)>>,
}

impl Slots {
    /// Has KVM show memory as `table` wants it; the pages `lifted` as if they were not trapped.
    pub(super) fn show(
        &mut self,
        vm: &Vm,
        memory: &Memory,
        table: &Table,
        lifted: Option<&BTreeSet<u64>>,
    ) -> Result<()> {
        for region in memory.regions() {
            let is_lifted = |at: &u64| lifted.is_some_and(|pages| pages.contains(at));
            let trapped = table.pages_in(&region).filter(|(at, _)| !is_lifted(at));
            let wanted = pieces(&region, trapped);
            if self.regions.contains_key(&region.at.0) || wanted != [whole(&region)] {
                self.change(vm, memory, &region, &wanted)?;
            }
        }
        Ok(())
    }

    fn change(&mut self, vm: &Vm, memory: &Memory, region: &RegionInfo, wanted: &[Piece]) -> Result<()> {
        let present = self.regions.get(&region.at.0).cloned().unwrap_or_else(|| vec![(whole(region), region.slot)]);
        let (kept, old): (Vec<_>, Vec<_>) = present.iter().copied().partition(|(piece, _)| wanted.contains(piece));
        let new: Vec<_> = wanted.iter().filter(|piece| !kept.iter().any(|(k, _)| k == *piece)).copied().collect();
        let numbers = self.numbers(region, &kept, wanted, new.len(), memory)?;
        let new: Vec<_> = new.into_iter().zip(numbers).collect();
        for (_, slot) in &old {
            vm.remove_memory(*slot)?;
        }
        for (done, (piece, slot)) in new.iter().enumerate() {
            if let Err(error) = install(vm, memory, *piece, *slot) {
                go_back(vm, memory, &new[..done], &old);
                return Err(error);
            }
        }
        let mut now: Vec<_> = kept.into_iter().chain(new).collect();
        now.sort_by_key(|(piece, _)| piece.at);
        if wanted == [whole(region)] {
            self.regions.remove(&region.at.0);
        } else {
            self.regions.insert(region.at.0, now);
        }
        Ok(())
    }

    /// Numbers for `count` new slots of `region`: its own where it is free, and from the end of KVM's downwards.
    fn numbers(
        &self,
        region: &RegionInfo,
        kept: &[(Piece, u32)],
        wanted: &[Piece],
        count: usize,
        memory: &Memory,
    ) -> Result<Vec<u32>> {
        let others = self.regions.iter().filter(|(at, _)| **at != region.at.0).flat_map(|(_, pieces)| pieces);
        let mut taken: BTreeSet<u32> = others.chain(kept).map(|(_, slot)| *slot).collect();
        let own = (!taken.contains(&region.slot)).then_some(region.slot);
        taken.extend(memory.regions().iter().map(|r| r.slot));
        let most = Host::open()?.memory_slots();
        let others = (0..most).rev().filter(|slot| !taken.contains(slot));
        let numbers: Vec<_> = own.into_iter().chain(others).take(count).collect();
        if numbers.len() < count {
            return Err(Error::Invalid(format!(
                "this KVM has {most} memory slots, and {} pieces of memory are too many: watch fewer places, or whole \
                 ranges of pages, which share one",
                wanted.len()
            )));
        }
        Ok(numbers)
    }
}

/// Shows what was there before, as far as the kernel lets us.
fn go_back(vm: &Vm, memory: &Memory, new: &[(Piece, u32)], old: &[(Piece, u32)]) {
    for (_, slot) in new {
        let _ = vm.remove_memory(*slot);
    }
    for (piece, slot) in old {
        let _ = install(vm, memory, *piece, *slot);
    }
}

fn whole(region: &RegionInfo) -> Piece {
    Piece { at: region.at.0, len: region.len, read_only: region.rom }
}

/// The slots that `region` has when these of its pages are trapped: adjacent pages of a kind share one.
pub(super) fn pieces(region: &RegionInfo, trapped: impl Iterator<Item = (u64, Kind)>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut add = |at: u64, end: u64, read_only: bool| match pieces.last_mut() {
        _ if at == end => {}
        Some(last) if last.at + last.len == at && last.read_only == read_only => last.len += end - at,
        _ => pieces.push(Piece { at, len: end - at, read_only }),
    };
    let mut from = region.at.0;
    for (at, kind) in trapped {
        add(from, at, region.rom);
        if kind == Kind::ReadOnly {
            add(at, at + PAGE, true);
        }
        from = at + PAGE;
    }
    add(from, region.end().0, region.rom);
    pieces
}

fn install(vm: &Vm, memory: &Memory, piece: Piece, slot: u32) -> Result<()> {
    let at = GuestPhys(piece.at);
    let host = memory.host_address(at).ok_or_else(|| memory.unbacked(at, 1))?;
    let len = usize::try_from(piece.len).map_err(|_| Error::Invalid("a piece larger than the host's memory".into()))?;
    // SAFETY: the piece lies in one region, whose mapping lives in `memory`: it is unmapped only after its slots are
    // removed or all vCPUs are gone (see `remove_memory`, which refuses regions with traps, and `close`).
    unsafe { vm.set_memory(slot, at, host, len, piece.read_only) }
}
