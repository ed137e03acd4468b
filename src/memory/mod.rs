//! Guest RAM and ROM: which guest-physical ranges exist, and volatile access to their bytes.
//! It never forms a reference into guest memory and never talks to KVM.

#![cfg_attr(test, allow(clippy::unwrap_used))] // the build without tests is still held to it

mod backing;
mod bulk;
mod export;
mod gather;
mod hexdump;
mod needle;
mod pass;
mod patches;
mod region;
mod saved;
mod search;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap};

use crate::addr::GuestPhys;
use crate::error::{Error, Near, Result};
use crate::source::{Pattern, ReadMemory};

pub use backing::{Backing, FileMap, Pages, Source};
pub use bulk::Poll;
pub use export::Export;
pub use hexdump::{Dump, hexdump};
pub use needle::Needle;
pub use region::RegionInfo;
pub use saved::Part;
pub use search::{Found, Where, search};

/// All memory of one machine. Its regions may be read and written from any thread at any time.
#[derive(Debug, Default)]
pub struct Memory {
    state: RwLock<State>,
    /// What the host has done to it.
    changes: Arc<Changes>,
}

/// What the host has done to a memory, as far as it is not the memory's own doing.
#[derive(Debug, Default)]
struct Changes {
    /// Grows with every change, after it.
    count: AtomicU64,
    /// Windows that Python may write through at any time.
    writers: AtomicUsize,
}

impl Changes {
    fn happened(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Regions that are in no map any more and still mapped.
#[must_use = "dropping it unmaps them: not before KVM has let go of them"]
#[derive(Debug)]
pub struct Retired(#[expect(dead_code, reason = "held for its drop")] GuestMemoryMmap<()>);

/// A region that is in no map any more and still mapped.
#[must_use = "dropping it unmaps it: not before KVM has let go of it"]
#[derive(Debug)]
pub struct Removed(#[expect(dead_code, reason = "held for its drop")] Arc<GuestRegionMmap<()>>);

#[derive(Debug)]
struct Held {
    info: RegionInfo,
    /// How many windows on it Python holds.
    views: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    map: GuestMemoryMmap<()>,
    /// In the order of their addresses.
    regions: Vec<Held>,
    /// What is not what it seems, by address.
    patches: BTreeMap<u64, patches::Patch>,
    closed: bool,
}

impl State {
    fn infos(&self) -> impl DoubleEndedIterator<Item = &RegionInfo> {
        self.regions.iter().map(|held| &held.info)
    }

    fn views(&self) -> usize {
        self.regions.iter().map(|held| held.views.load(Ordering::SeqCst)).sum()
    }

    /// One past the last address of what is contiguous from `from` on.
    fn end_of(&self, from: GuestPhys, wanted: impl Fn(&RegionInfo) -> bool) -> GuestPhys {
        let regions = self.infos().filter(|r| wanted(r));
        regions.fold(from, |end, r| if r.at <= end && end < r.end() { r.end() } else { end })
    }

    /// The memory that is nearest to `at`.
    fn near(&self, at: GuestPhys) -> Option<Near> {
        let before = self.infos().rev().find(|r| r.at <= at);
        let after = self.infos().find(|r| r.at > at);
        let to_before = |r: &RegionInfo| at.0.saturating_sub(r.end().0);
        let region = match (before, after) {
            (Some(b), Some(a)) => Some(if to_before(b) <= a.at.0 - at.0 { b } else { a }),
            (one, other) => one.or(other),
        }?;
        Some(Near { what: region.what(), first: region.at.0, end: self.end_of(region.at, |_| true).0 })
    }

    fn unbacked(&self, at: GuestPhys, len: usize) -> Error {
        Error::Unbacked { at: at.0, len: size(len), near: self.near(at) }
    }
}

impl Memory {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> Result<RwLockWriteGuard<'_, State>> {
        let state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.closed { Err(Error::Closed) } else { Ok(state) }
    }

    /// Adds a region of `len` zero bytes at `at`, after `install` has given it to the kernel (slot, host address).
    pub fn add(
        &self,
        at: GuestPhys,
        len: u64,
        rom: bool,
        install: impl FnOnce(&Backing, u32) -> Result<()>,
    ) -> Result<()> {
        self.add_from(at, len, rom, &Source::default(), install).map(drop)
    }

    /// Adds a region of `len` bytes at `at` that is made from `source`, after `install` has given it to the kernel.
    pub fn add_from(
        &self,
        at: GuestPhys,
        len: u64,
        rom: bool,
        source: &Source,
        install: impl FnOnce(&Backing, u32) -> Result<()>,
    ) -> Result<RegionInfo> {
        let mut state = self.change()?;
        let others: Vec<_> = state.infos().collect();
        let mut info = RegionInfo::new(at, len, rom, free_slot(&others), &others)?;
        info.pages = source.pages;
        info.file = source.file.as_ref().map(|(_, map)| map.clone());
        let backing = Backing::map(&info, source)?;
        install(&backing, info.slot)?;
        let map = state.map.insert_region(backing.into_region()).map_err(|e| Error::Invalid(e.to_string()))?;
        state.map = map;
        let place = state.regions.partition_point(|held| held.info.at < at);
        state.regions.insert(place, Held { info: info.clone(), views: Arc::default() });
        self.changes.happened();
        Ok(info)
    }

    /// Removes the region that begins at `at`, after `uninstall` has taken its slot from the kernel. Nobody may look
    /// at it directly. Drop what it returns to unmap it.
    pub fn remove(
        &self,
        at: GuestPhys,
        uninstall: impl FnOnce(&RegionInfo) -> Result<()>,
    ) -> Result<(RegionInfo, Removed)> {
        let mut state = self.change()?;
        let Some(place) = state.regions.iter().position(|held| held.info.contains(at)) else {
            return Err(state.unbacked(at, 1));
        };
        let (info, views) = (state.regions[place].info.clone(), state.regions[place].views.load(Ordering::SeqCst));
        if info.at != at {
            return Err(Error::Invalid(format!(
                "regions are removed whole: the {} that holds {at:#x} begins at {:#x}",
                info.what(),
                info.at
            )));
        }
        if views > 0 {
            return Err(Error::ViewsLive(views));
        }
        let removed = state.map.remove_region(GuestAddress(at.0), info.len);
        let (map, region) = removed.map_err(|e| Error::Invalid(e.to_string()))?;
        uninstall(&info)?;
        state.map = map;
        state.patches.retain(|at, _| !info.contains(GuestPhys(*at)));
        state.regions.remove(place);
        self.changes.happened();
        Ok((info, Removed(region)))
    }

    /// The regions, in the order of their addresses.
    pub fn regions(&self) -> Vec<RegionInfo> {
        self.state().infos().cloned().collect()
    }

    /// The same, for whom a closed machine's is an error.
    pub fn list(&self) -> Result<Vec<RegionInfo>> {
        let state = self.state();
        if state.closed { Err(Error::Closed) } else { Ok(state.infos().cloned().collect()) }
    }

    /// Refuses where the machine is closed.
    pub fn check_open(&self) -> Result<()> {
        if self.state().closed { Err(Error::Closed) } else { Ok(()) }
    }

    /// The region that holds `at`.
    pub fn region_at(&self, at: GuestPhys) -> Option<RegionInfo> {
        self.state().infos().find(|r| r.contains(at)).cloned()
    }

    /// One past the last address of RAM that is contiguous from `from` on.
    pub fn contiguous_end(&self, from: GuestPhys) -> GuestPhys {
        self.state().end_of(from, |r| !r.rom)
    }

    /// The parts of `first..end` that memory backs, as wide as they are contiguous.
    pub fn stretches(&self, first: GuestPhys, end: GuestPhys) -> Vec<(u64, u64)> {
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for region in self.state().infos() {
            let (from, to) = (region.at.max(first).0, region.end().min(end).0);
            match stretches.last_mut() {
                _ if from >= to => {}
                Some((_, last)) if *last == from => *last = to,
                _ => stretches.push((from, to)),
            }
        }
        stretches
    }

    /// The error for `len` bytes at `at` that are not, or not all, memory.
    pub fn unbacked(&self, at: GuestPhys, len: usize) -> Error {
        self.state().unbacked(at, len)
    }

    /// Is there memory at all of the `len` bytes at `at`?
    pub fn check(&self, at: GuestPhys, len: u64) -> Result<()> {
        self.checked(at, usize::try_from(len).unwrap_or(usize::MAX)).map(drop)
    }

    /// Writes `bytes` at `at`: the one way by which the host changes guest memory.
    pub fn write(&self, at: GuestPhys, bytes: &[u8]) -> Result<()> {
        let state = self.checked(at, bytes.len())?;
        if state.is_patched(at.0, bytes.len()) {
            drop(state);
            return self.write_around(at, bytes);
        }
        let written = state.map.write_slice(bytes, GuestAddress(at.0)).map_err(|_| state.unbacked(at, bytes.len()));
        self.changes.happened();
        written
    }

    /// A number that grows with every change by the host, bytes and regions alike; `None` while somebody may change them
    /// without a word: through a window, or through a file that is shared.
    pub fn quiet_since(&self) -> Option<u64> {
        let count = self.changes.count.load(Ordering::SeqCst);
        let is_shared = |r: &RegionInfo| r.file.as_ref().is_some_and(|file| file.shared);
        let is_quiet = self.changes.writers.load(Ordering::SeqCst) == 0 && !self.state().infos().any(is_shared);
        is_quiet.then_some(count)
    }

    #[cold]
    fn write_around(&self, at: GuestPhys, bytes: &[u8]) -> Result<()> {
        let mut state = self.change()?;
        if !state.map.check_range(GuestAddress(at.0), bytes.len()) {
            return Err(state.unbacked(at, bytes.len()));
        }
        let kept = state.keep_patches(at.0, bytes);
        let written = state.map.write_slice(&kept, GuestAddress(at.0)).map_err(|_| state.unbacked(at, bytes.len()));
        self.changes.happened();
        written
    }

    /// The `len` bytes from `at` on. Checks that they exist before it allocates.
    pub fn read_vec(&self, at: GuestPhys, len: usize) -> Result<Vec<u8>> {
        drop(self.checked(at, len)?);
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Calls `with` with the vm-memory view of all regions, for loaders of other crates.
    pub fn with_map<T>(&self, with: impl FnOnce(&GuestMemoryMmap<()>) -> T) -> T {
        let result = with(&self.state().map);
        self.changes.happened();
        result
    }

    /// Where the host sees the byte at `at`: for the kernel's slots, which go before the region does.
    pub fn host_address(&self, at: GuestPhys) -> Option<*mut u8> {
        self.state().map.get_host_address(GuestAddress(at.0)).ok()
    }

    /// Is there ROM (true) or RAM (false) at `at`?
    pub fn is_rom(&self, at: GuestPhys) -> Option<bool> {
        self.state().infos().find(|r| r.contains(at)).map(|r| r.rom)
    }

    /// Forgets all regions, unless windows on them are live. Drop what it returns once the VM is gone: the kernel may
    /// still use the memory until then, and unmapping it under a VM costs more.
    pub fn close(&self) -> Result<Retired> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.changes.happened();
        match state.views() {
            0 => Ok(Retired(std::mem::replace(&mut *state, State { closed: true, ..State::default() }).map)),
            live => Err(Error::ViewsLive(live)),
        }
    }

    fn checked(&self, at: GuestPhys, len: usize) -> Result<RwLockReadGuard<'_, State>> {
        let state = self.state();
        if state.closed {
            return Err(Error::Closed);
        }
        if !state.map.check_range(GuestAddress(at.0), len) {
            return Err(state.unbacked(at, len));
        }
        Ok(state)
    }
}

impl ReadMemory for Memory {
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
        let state = self.checked(at, into.len())?;
        let len = into.len();
        state.map.read_slice(into, GuestAddress(at.0)).map_err(|_| state.unbacked(at, len))?;
        state.hide(at.0, into);
        Ok(())
    }

    fn read_each(&self, addresses: &[u64], width: usize, into: &mut [u8]) -> Result<()> {
        self.gather_some(addresses, width, into)
    }

    fn pass_over(&self, from: GuestPhys, end: GuestPhys, pattern: &Pattern) -> GuestPhys {
        self.first_maybe(from, end, pattern)
    }
}

/// A length as a guest counts it; usize is 64 bits wide wherever KVM runs.
fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn free_slot(regions: &[&RegionInfo]) -> u32 {
    (0..u32::MAX).find(|slot| regions.iter().all(|r| r.slot != *slot)).unwrap_or(u32::MAX)
}

/// A shared handle on the memory of one machine.
pub type SharedMemory = Arc<Memory>;

#[cfg(test)]
mod tests;
