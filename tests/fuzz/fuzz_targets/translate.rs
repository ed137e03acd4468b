//! Page walks of every paging mode, virtual memory and mappings over memory of any content.
#![no_main]

mod bytes;

use std::cell::Cell;

use belljar::addr::{GuestPhys, GuestVirt};
use belljar::error::{Error, Result};
use belljar::inspect::{Tour, VirtualMemory, read_entry};
use belljar::source::ReadMemory;
use belljar::x86::access::Access;
use belljar::x86::{Space, Sregs, translate, walk};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

/// The input, again and again, with a hole now and then. It counts how often it is read.
struct Again<'a>(&'a [u8], Cell<usize>);

impl ReadMemory for Again<'_> {
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
        self.1.set(self.1.get() + 1);
        let unbacked = Error::Unbacked { at: at.0, len: 1, near: None };
        if self.0.is_empty() || at.0 >> 12 & 0xff == 0xfe {
            return Err(unbacked);
        }
        let from = usize::try_from(at.0 % (1 << 40)).expect("40 bits");
        let endless = self.0.iter().cycle().skip(from % self.0.len());
        into.iter_mut().zip(endless).for_each(|(byte, known)| *byte = *known);
        Ok(())
    }
}

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    let (cr0, cr4, efer, cr3) = (bytes.u64(), bytes.u64(), bytes.u64(), bytes.u64());
    let at = GuestVirt(bytes.u64());
    let memory = Again(bytes.0, Cell::new(0));
    let sregs = Sregs { cr0, cr3, cr4, efer, ..Sregs::default() };
    let space = Space::of(&sregs).with_physical_bits(u32::try_from(cr3 >> 58).expect("6 bits"));

    let one = walk(&space, at, |at, size| read_entry(&memory, at, size));
    assert!(one.entries().len() <= usize::from(space.levels()));
    assert!(memory.1.get() <= usize::from(space.levels()));
    if let Ok(page) = one.result {
        assert!(page.gpa.0 < 1 << 52, "{:#x} is no physical address", page.gpa);
        assert_eq!((page.gpa.0 ^ at.0) & 0xfff, 0);
        let access = Access { write: cr0 & 2 != 0, execute: cr0 & 4 != 0, user: cr0 & 8 != 0, ac: false };
        if let Err(denied) = access.check(&space, &page) {
            assert!(access.error_code(&space, Err(denied)).is_some());
        }
    }
    let found = translate(&sregs, at, |at, size| read_entry(&memory, at, size));
    assert!(found.is_err() || found.is_ok_and(|found| found.0 < 1 << 52));

    let seen = VirtualMemory::new(&memory, space);
    let mut read = [0; 64];
    let _ = seen.read(at, &mut read);
    assert!(seen.read_cstring(at, 100).is_err() || one.result.is_ok());
    let kept = seen.find(at);
    assert_eq!(kept.ok(), one.result.ok().map(|page| page.gpa));

    let tour = Tour { most: 64, ..Tour::default() };
    memory.1.set(0);
    let listed = seen.mappings(tour, &|| Ok(())).expect("nobody stops it");
    assert!(memory.1.get() <= 64);
    assert!(listed.ranges.windows(2).all(|pair| pair[0].last < pair[1].start));
    for range in listed.ranges.iter().take(16) {
        let page = seen.walk(GuestVirt(range.start)).result.expect("it is mapped");
        assert_eq!((page.gpa, page.size, page.writable), (range.gpa, range.page_size, range.rights.writable));
        assert!(seen.walk(GuestVirt(range.last)).result.is_ok());
    }
});
