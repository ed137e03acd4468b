//! The ring page by which KVM hands over queued writes: one for a VM, mapped behind the run page of each vCPU.
//! It never says what a write means, and trusts no index that it finds there.

#![allow(unsafe_code)] // the page is shared with the kernel; each access is one atomic or volatile one

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use kvm_bindings as kb;

use crate::addr::PAGE;

/// A write that KVM has queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// To a port, not to an address.
    pub is_port: bool,
    /// Port number, or first guest-physical address.
    pub at: u64,
    /// 1 to 8 bytes.
    pub size: u8,
    /// What is written, little-endian, zero-extended.
    pub data: u64,
}

/// `struct kvm_coalesced_mmio_ring` without its entries.
const HEADER: usize = 8;
const ENTRY: usize = size_of::<kb::kvm_coalesced_mmio>();
/// Entries in the page (`KVM_COALESCED_MMIO_MAX`); one is always free.
const ENTRIES: u32 = 170;

const _: () = assert!((HEADER + 170 * ENTRY <= 4096) && (HEADER + 171 * ENTRY > 4096));

#[derive(Debug)]
struct Page(NonNull<u8>);

// SAFETY: the page is only accessed by whoever holds the mutex that it is in, and by the kernel.
unsafe impl Send for Page {}

/// The queue of a VM, while the vCPU lives behind whose run page it is mapped.
#[derive(Debug, Default)]
pub struct Queue(Mutex<Option<Page>>);

impl Queue {
    /// The queue in the mapping of `size` bytes at `run`; nothing where the mapping has no such page.
    pub(super) fn arm(&self, run: NonNull<u8>, size: usize) {
        let offset = usize::try_from(u64::from(kb::KVM_COALESCED_MMIO_PAGE_OFFSET) * PAGE).unwrap_or(usize::MAX);
        let fits = offset.checked_add(4096).is_some_and(|end| end <= size);
        // SAFETY: the page lies in the mapping.
        let page = fits.then(|| Page(unsafe { run.add(offset) }));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = page;
    }

    /// The mapping is about to go.
    pub(super) fn retire(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes the writes that are queued now, oldest first: at most as many as the page holds, whatever the guest does.
    pub fn drain(&self, mut take: impl FnMut(Write)) {
        let page = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(page) = page.as_ref() else { return };
        let (first, last) = (page.index(0), page.index(4));
        let last = last.load(Ordering::Acquire) % ENTRIES;
        let mut at = first.load(Ordering::Relaxed) % ENTRIES;
        while at != last {
            take(page.entry(at));
            at = (at + 1) % ENTRIES;
        }
        first.store(at, Ordering::Release);
    }
}

impl Page {
    fn index(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: within the page, which is aligned.
        let word = unsafe { self.0.add(offset) }.cast::<AtomicU32>();
        // SAFETY: mapped while `self` is in its mutex; the kernel accesses it as a word, too.
        unsafe { word.as_ref() }
    }

    fn entry(&self, index: u32) -> Write {
        let offset = HEADER + usize::try_from(index % ENTRIES).unwrap_or(0) * ENTRY;
        // SAFETY: the entry lies in the page, as asserted above.
        let entry = unsafe { self.0.add(offset) }.cast::<kb::kvm_coalesced_mmio>();
        // SAFETY: plain data, eight-byte aligned like the page's header; the kernel does not write it before `first` passes.
        let entry = unsafe { entry.read_volatile() };
        // SAFETY: both views of the word are an integer.
        let is_port = unsafe { entry.__bindgen_anon_1.pio } != 0;
        let size = u8::try_from(entry.len.min(8)).unwrap_or(8);
        let data = (0..usize::from(size)).rev().fold(0, |word, byte| word << 8 | u64::from(entry.data[byte]));
        Write { is_port, at: entry.phys_addr, size, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(4096))]
    struct Mapping([u8; 3 * 4096]);

    fn mapping(first: u32, last: u32, entries: &[(usize, u64, u32, u64)]) -> Box<Mapping> {
        let mut mapping = Box::new(Mapping([0; 3 * 4096]));
        let page = &mut mapping.0[2 * 4096..];
        page[..4].copy_from_slice(&first.to_le_bytes());
        page[4..8].copy_from_slice(&last.to_le_bytes());
        for (index, at, len, data) in entries {
            let entry = &mut page[HEADER + index * ENTRY..][..ENTRY];
            entry[..8].copy_from_slice(&at.to_le_bytes());
            entry[8..12].copy_from_slice(&len.to_le_bytes());
            entry[16..].copy_from_slice(&data.to_le_bytes());
        }
        mapping
    }

    fn drained(mapping: &mut Mapping) -> Vec<Write> {
        let (queue, mut found) = (Queue::default(), Vec::new());
        queue.arm(NonNull::from(&mut mapping.0).cast(), 3 * 4096);
        queue.drain(|write| found.push(write));
        queue.drain(|write| found.push(write));
        found
    }

    #[test]
    fn writes_come_out_once_in_their_order_around_the_end_of_the_page() {
        let mut mapping = mapping(169, 1, &[(169, 0x10, 4, 0x1_2345_6789), (0, 0x18, 8, u64::MAX)]);
        let write = |at, size, data| Write { is_port: false, at, size, data };
        assert_eq!(drained(&mut mapping), [write(0x10, 4, 0x2345_6789), write(0x18, 8, u64::MAX)]);
        assert_eq!(mapping.0[2 * 4096..][..8], [1, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn no_index_or_length_leads_out_of_the_page() {
        let mut mapping = mapping(u32::MAX, 170 * 3 + 2, &[(1, 5, u32::MAX, 7)]);
        let found = drained(&mut mapping);
        assert!(found.len() < 170 && found.iter().all(|write| write.size <= 8), "{found:?}");
    }

    #[test]
    fn a_queue_without_its_page_is_empty() {
        let (queue, mut mapping) = (Queue::default(), mapping(0, 5, &[]));
        queue.drain(|_| panic!("nothing is mapped"));
        queue.arm(NonNull::from(&mut mapping.0).cast(), 4096);
        queue.drain(|_| panic!("the mapping ends before"));
        queue.arm(NonNull::from(&mut mapping.0).cast(), 3 * 4096);
        queue.retire();
        queue.drain(|_| panic!("the mapping is gone"));
    }
}
