//! Guest RAM and ROM: which guest-physical ranges exist, and volatile access to their bytes.
//! It never forms a reference into guest memory and never talks to KVM.

mod region;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap};

use crate::addr::GuestPhys;
use crate::error::{Error, Result};
use crate::source::ReadMemory;

pub use region::{Backing, RegionInfo};

/// All memory of one machine. Its regions may be read and written from any thread at any time.
#[derive(Debug, Default)]
pub struct Memory {
    state: RwLock<State>,
    /// How many windows Python holds.
    exports: AtomicUsize,
}

/// Regions that are in no map any more and still mapped.
#[must_use = "dropping it unmaps them: not before the VM is gone"]
#[derive(Debug)]
pub struct Retired(#[expect(dead_code, reason = "held for its drop")] GuestMemoryMmap<()>);

#[derive(Debug, Default)]
struct State {
    map: GuestMemoryMmap<()>,
    regions: Vec<RegionInfo>,
    closed: bool,
}

impl Memory {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a region of `len` zero bytes at `at`, after `install` has given it to the kernel (slot, host address).
    pub fn add(
        &self,
        at: GuestPhys,
        len: u64,
        rom: bool,
        install: impl FnOnce(&Backing, u32) -> Result<()>,
    ) -> Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Error::Closed);
        }
        let info = RegionInfo::new(at, len, rom, free_slot(&state.regions), &state.regions)?;
        let backing = Backing::map(&info)?;
        install(&backing, info.slot)?;
        let map = state.map.insert_region(backing.into_region()).map_err(|e| Error::Invalid(e.to_string()))?;
        state.map = map;
        state.regions.push(info);
        state.regions.sort_by_key(|r| r.at);
        Ok(())
    }

    /// The regions, in the order of their addresses.
    pub fn regions(&self) -> Vec<RegionInfo> {
        self.state().regions.clone()
    }

    /// The region that holds `at`.
    pub fn region_at(&self, at: GuestPhys) -> Option<RegionInfo> {
        self.state().regions.iter().find(|r| r.contains(at)).cloned()
    }

    /// One past the last address of RAM that is contiguous from `from` on.
    pub fn contiguous_end(&self, from: GuestPhys) -> GuestPhys {
        let state = self.state();
        let ram = state.regions.iter().filter(|r| !r.rom);
        ram.fold(from, |end, r| if r.at <= end && end < r.end() { r.end() } else { end })
    }

    /// Writes `bytes` at `at`: the one way by which the host changes guest memory.
    pub fn write(&self, at: GuestPhys, bytes: &[u8]) -> Result<()> {
        let state = self.checked(at, bytes.len())?;
        state.map.write_slice(bytes, GuestAddress(at.0)).map_err(|e| unbacked(&e, at, bytes.len()))
    }

    /// Zeroes `len` bytes from `at` on.
    pub fn zero(&self, at: GuestPhys, len: u64) -> Result<()> {
        const ZEROES: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < len {
            let n = usize::try_from(len - done).map_or(ZEROES.len(), |left| left.min(ZEROES.len()));
            self.write(at.plus(done)?, &ZEROES[..n])?;
            done += size(n);
        }
        Ok(())
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
        with(&self.state().map)
    }

    /// The host address of `len` bytes that lie in one region, counted as exported until [`Memory::unexport`].
    pub fn export(&self, at: GuestPhys, len: u64) -> Result<*mut u8> {
        let state = self.checked(at, usize::try_from(len).unwrap_or(usize::MAX))?;
        let whole = state.regions.iter().any(|r| r.contains(at) && (len == 0 || r.end().0 - at.0 >= len));
        let host = state.map.get_host_address(GuestAddress(at.0)).ok().filter(|_| whole);
        let host =
            host.ok_or_else(|| Error::Invalid(format!("a view lies in one region; {at:#x} + {len:#x} does not")))?;
        self.exports.fetch_add(1, Ordering::SeqCst);
        Ok(host)
    }

    /// Takes one export back.
    pub fn unexport(&self) {
        self.exports.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many windows are exported now.
    pub fn exports(&self) -> usize {
        self.exports.load(Ordering::SeqCst)
    }

    /// Forgets all regions, unless windows on them are live. Drop what it returns once the VM is gone: the kernel may
    /// still use the memory until then, and unmapping it under a VM costs more.
    pub fn close(&self) -> Result<Retired> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match self.exports() {
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
            return Err(Error::Unbacked { at: at.0, len: size(len) });
        }
        Ok(state)
    }
}

impl ReadMemory for Memory {
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
        let state = self.checked(at, into.len())?;
        let len = into.len();
        state.map.read_slice(into, GuestAddress(at.0)).map_err(|e| unbacked(&e, at, len))
    }
}

/// A length as a guest counts it; usize is 64 bits wide wherever KVM runs.
fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn unbacked(_: &GuestMemoryError, at: GuestPhys, len: usize) -> Error {
    Error::Unbacked { at: at.0, len: size(len) }
}

fn free_slot(regions: &[RegionInfo]) -> u32 {
    (0..u32::MAX).find(|slot| regions.iter().all(|r| r.slot != *slot)).unwrap_or(u32::MAX)
}

/// A shared handle on the memory of one machine.
pub type SharedMemory = Arc<Memory>;
