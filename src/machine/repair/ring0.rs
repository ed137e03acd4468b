//! The vCPU as one repaired instruction sees it: copies of its registers, and memory by linear address as ring 0
//! reaches it. It never brings a change back to the vCPU, and never writes accessed or dirty bits.

use crate::addr::{GuestPhys, GuestVirt, PAGE};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::source::ReadMemory;
use crate::x86::regs::Paging;
use crate::x86::{Gpr, PageFault, Regs, Sregs, cr0, pte, rflags, translate};

use super::flags;

/// Why an instruction does not complete.
#[derive(Debug)]
pub(super) enum Trap {
    /// The guest gets this exception, at the instruction.
    Exception {
        /// 0 to 31.
        vector: u8,
        /// Where the vector has one.
        error: Option<u32>,
        /// The address that faulted, for #PF.
        cr2: Option<u64>,
    },
    /// This is not repaired; nothing has changed.
    Unknown,
    /// The host failed.
    Host(Error),
}

/// What one step of an instruction gives.
pub(super) type Step<T = ()> = std::result::Result<T, Trap>;

impl Trap {
    /// #UD.
    pub(super) const INVALID_OPCODE: Self = Self::Exception { vector: 6, error: None, cr2: None };

    /// #GP with an error code.
    pub(super) fn protection(error: u32) -> Self {
        Self::Exception { vector: 13, error: Some(error), cr2: None }
    }

    /// #PF at `at`: the page is there but may not be used so (`present`), or is not there.
    fn page(at: u64, present: bool, write: bool) -> Self {
        let error = u32::from(present) | u32::from(write) << 1;
        Self::Exception { vector: 14, error: Some(error), cr2: Some(at) }
    }

    /// #PF at `at`: an entry on the way has a reserved bit set.
    fn reserved(at: u64, write: bool) -> Self {
        let error = 1 | u32::from(write) << 1 | 1 << 3;
        Self::Exception { vector: 14, error: Some(error), cr2: Some(at) }
    }
}

/// CR4.SMAP.
const SMAP: u64 = 1 << 21;

/// What an instruction may change beside memory: copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) regs: Regs,
    pub(super) sregs: Sregs,
    /// The MXCSR that LDMXCSR and STMXCSR see here.
    pub(super) mxcsr: u32,
    /// Translations that the processor holds are to be dropped.
    pub(super) flush: bool,
}

/// A vCPU in ring 0.
pub(super) struct Ring0<'a> {
    pub(super) state: State,
    memory: &'a Memory,
    /// Pages without their accessed bit (written to: dirty bit) are left alone.
    marks: bool,
    /// No other vCPU could come between a read and a write.
    is_alone: bool,
    msr: &'a mut dyn FnMut(u32) -> Result<Option<u64>>,
}

impl<'a> Ring0<'a> {
    pub(super) fn new(
        regs: &Regs,
        sregs: &Sregs,
        mxcsr: u32,
        memory: &'a Memory,
        msr: &'a mut dyn FnMut(u32) -> Result<Option<u64>>,
    ) -> Self {
        Self {
            state: State { regs: *regs, sregs: *sregs, mxcsr, flush: false },
            memory,
            marks: false,
            is_alone: false,
            msr,
        }
    }

    /// The value of an MSR that every processor has.
    pub(super) fn msr(&mut self, index: u32) -> Step<u64> {
        (self.msr)(index).map_err(Trap::Host)?.ok_or(Trap::Unknown)
    }

    /// Sets the flags in `mask` to those in `value`.
    pub(super) fn set_flags(&mut self, mask: u64, value: u64) {
        self.state.regs[Gpr::Rflags] = self.state.regs[Gpr::Rflags] & !mask | value & mask;
    }

    /// Sets or clears ZF alone.
    pub(super) fn set_zero(&mut self, yes: bool) {
        self.set_flags(rflags::ZF, if yes { u64::MAX } else { 0 });
    }

    /// Sets or clears CF alone.
    pub(super) fn set_carry(&mut self, yes: bool) {
        self.set_flags(flags::CF, u64::from(yes));
    }

    /// Is it in ring 0 to 2, for which pages of the supervisor are?
    pub(super) fn is_supervisor(&self) -> bool {
        self.state.sregs.cpl() != 3
    }

    /// As the processor would mark each page that it touches: only those that are marked already.
    pub(super) fn insist_on_marks(&mut self) {
        self.marks = true;
    }

    /// No other vCPU is there.
    pub(super) fn be_alone(&mut self) {
        self.is_alone = true;
    }

    pub(super) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Is a protected mode on (not real mode)?
    pub(super) fn is_protected(&self) -> bool {
        self.state.sregs.cr0 & cr0::PE != 0
    }

    /// Is the code 64 bits wide?
    pub(super) fn is_64bit(&self) -> bool {
        self.state.sregs.code_bits() == 64
    }

    /// May `at` be a linear address of 64-bit code?
    pub(super) fn is_canonical(&self, at: u64) -> bool {
        let unused = if self.state.sregs.paging() == Paging::Level5 { 7 } else { 16 };
        ((at << unused).cast_signed() >> unused).cast_unsigned() == at
    }

    /// Moves RIP to `rip`, in the width of the code segment.
    pub(super) fn jump(&mut self, rip: u64) {
        let width = if self.is_64bit() { u64::MAX } else { 0xffff_ffff };
        self.state.regs[Gpr::Rip] = rip & if self.is_protected() { width } else { 0xffff };
    }

    /// The linear address `by` bytes behind `at`: outside 64-bit code, 0 follows upon the last one of 32 bits.
    fn behind(&self, at: u64, by: u64) -> u64 {
        at.wrapping_add(by) & if self.is_64bit() { u64::MAX } else { 0xffff_ffff }
    }

    /// The linear address of RIP.
    fn here(&self) -> u64 {
        let base = if self.is_64bit() { 0 } else { self.state.sregs.cs.base };
        self.behind(base, self.state.regs[Gpr::Rip])
    }

    /// Reads `N` bytes at linear address `at`.
    pub(super) fn read<const N: usize>(&self, at: u64) -> Step<[u8; N]> {
        let mut bytes = [0; N];
        let split = first_part(at, N);
        let (head, tail) = bytes.split_at_mut(split);
        self.read_part(at, head)?;
        self.read_part(self.behind(at, size(split)), tail)?;
        Ok(bytes)
    }

    fn read_part(&self, at: u64, into: &mut [u8]) -> Step {
        if into.is_empty() {
            return Ok(());
        }
        let from = self.physical(at, false)?;
        self.memory.read(from, into).map_err(|_| Trap::Unknown)
    }

    /// Writes `bytes` at linear address `at`: all of them, or none and a trap.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Step {
        let (head, tail) = bytes.split_at(first_part(at, bytes.len()));
        let parts = [(at, head), (self.behind(at, size(head.len())), tail)];
        let mut places = [GuestPhys(0); 2];
        for (place, (at, part)) in places.iter_mut().zip(parts).filter(|(_, (_, part))| !part.is_empty()) {
            *place = self.physical(at, true)?;
            let region = self.memory.region_at(*place).filter(|r| !r.rom && r.end().0 - place.0 >= size(part.len()));
            region.ok_or(Trap::Unknown)?;
        }
        let mut parts = places.into_iter().zip(parts).filter(|(_, (_, part))| !part.is_empty());
        parts.try_for_each(|(place, (_, part))| self.memory.write(place, part)).map_err(|_| Trap::Unknown)
    }

    /// May what lies at `at` be a page-table entry that the processor has used? A KVM that keeps tables of its own beside the
    /// guest's must see it written, or goes by the old one for ever.
    pub(super) fn is_entry(&self, at: u64, len: usize) -> bool {
        const USED: u64 = pte::PRESENT | pte::ACCESSED;
        const LOW: u64 = 1 << 32; // devices, too
        let (unit, address) = match self.state.sregs.paging() {
            Paging::Off => return false,
            Paging::Bits32 => (4, 0xffff_f000),
            _ => (8, pte::ADDRESS),
        };
        let is_used = |word: u64| {
            let leads_to = GuestPhys(word & address);
            word & USED == USED && (leads_to.0 < LOW || self.memory.region_at(leads_to).is_some())
        };
        let first = at & !(unit - 1);
        let words = (first..=at.saturating_add(size(len) - 1)).step_by(usize::try_from(unit).unwrap_or(8));
        let mut places = words.filter_map(|at| self.physical(at, false).ok());
        self.is_supervisor() && places.any(|place| read_entry(self.memory, place, unit).is_some_and(is_used))
    }

    /// Traps as a write of the byte at `at` would, before anything is read there.
    pub(super) fn check_writable(&self, at: u64) -> Step {
        self.physical(at, true).map(drop)
    }

    /// Where the linear address `at` lies, if ring 0 may read it (or write it).
    fn physical(&self, at: u64, write: bool) -> Step<GuestPhys> {
        let mut walk = Walk::new(&self.state.sregs);
        match walk.to(self.memory, at) {
            Err(PageFault::NotCanonical) => Err(Trap::protection(0)),
            Err(PageFault::Unbacked { .. }) => Err(Trap::Unknown),
            Err(PageFault::NotPresent { .. }) => Err(Trap::page(at, false, write)),
            Err(PageFault::Reserved { .. }) => Err(Trap::reserved(at, write)),
            Ok(_) if self.marks && !(walk.is_marked(write) && self.has_no_key(&walk)) => Err(Trap::Unknown),
            Ok(_) if self.is_forbidden(&walk, write) => Err(Trap::page(at, true, write)),
            Ok(place) => Ok(place),
        }
    }

    /// Does no protection key have a say (Intel SDM vol. 3, 4.6.2)?
    fn has_no_key(&self, walk: &Walk) -> bool {
        const KEYS: u64 = 1 << 22 | 1 << 24;
        const KEY: u64 = 0xf << 59;
        self.state.sregs.cr4 & KEYS == 0 || walk.leaf & KEY == 0
    }

    /// Do the last of `len` bytes at RIP, if they lie on another page than the first, allow to be executed as those do?
    pub(super) fn may_fetch(&self, len: usize) -> bool {
        let first = self.here();
        let last = self.behind(first, size(len).saturating_sub(1));
        if first / PAGE == last / PAGE {
            return true;
        }
        let [mut one, mut other] = [Walk::new(&self.state.sregs), Walk::new(&self.state.sregs)];
        let are_there = one.to(self.memory, first).is_ok() && other.to(self.memory, last).is_ok();
        are_there && other.is_executable() && other.is_marked(false) && one.is_user() == other.is_user()
    }

    /// Supervisor rights (Intel SDM vol. 3, 4.6.1): CR0.WP for writes, CR4.SMAP and AC for pages of ring 3.
    fn is_forbidden(&self, walk: &Walk, write: bool) -> bool {
        if !self.is_supervisor() {
            return !walk.is_user() || write && !walk.is_writable();
        }
        let smap = self.state.sregs.cr4 & SMAP != 0 && self.state.regs[Gpr::Rflags] & rflags::AC == 0;
        write && self.state.sregs.cr0 & cr0::WP != 0 && !walk.is_writable() || smap && walk.is_user()
    }

    /// The bytes at RIP, as many as are mapped, at most 15.
    pub(super) fn code(&self) -> Vec<u8> {
        let start = self.here();
        let mut bytes = vec![0; 15];
        let split = first_part(start, bytes.len());
        let (head, tail) = bytes.split_at_mut(split);
        let got = match (self.read_part(start, head), self.read_part(self.behind(start, size(split)), tail)) {
            (Ok(()), Ok(())) => 15,
            (Ok(()), Err(_)) => split,
            (Err(_), _) => 0,
        };
        bytes.truncate(got);
        bytes
    }
}

/// A walk through the page tables that remembers what the entries on its way allow.
pub(super) struct Walk<'a> {
    sregs: &'a Sregs,
    allowed: u64,
    no_execute: bool,
    /// The entry that holds the address of the page.
    leaf: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(sregs: &'a Sregs) -> Self {
        Self { sregs, allowed: pte::WRITE | pte::USER, no_execute: false, leaf: pte::ACCESSED | pte::DIRTY }
    }

    /// Walks to the linear address `at`.
    pub(super) fn to(&mut self, memory: &Memory, at: u64) -> std::result::Result<GuestPhys, PageFault> {
        let paging = self.sregs.paging();
        if paging == Paging::Off {
            self.allowed = pte::WRITE;
        }
        // The entries of a PAE root allow nothing and forbid nothing.
        let mut silent = paging == Paging::Pae;
        translate(self.sregs, GuestVirt(at), |slot, size| {
            let entry = read_entry(memory, slot, size)?;
            self.leaf = entry;
            if !std::mem::take(&mut silent) {
                self.allowed &= entry;
                self.no_execute |= entry >> 63 != 0;
            }
            Some(entry)
        })
    }

    pub(super) fn is_writable(&self) -> bool {
        self.allowed & pte::WRITE != 0
    }

    /// Has the processor noted that the page was used (written)?
    pub(super) fn is_marked(&self, write: bool) -> bool {
        let wanted = pte::ACCESSED | if write { pte::DIRTY } else { 0 };
        self.leaf & wanted == wanted
    }

    pub(super) fn is_user(&self) -> bool {
        self.allowed & pte::USER != 0
    }

    pub(super) fn is_executable(&self) -> bool {
        !self.no_execute
    }
}

fn read_entry(memory: &Memory, at: GuestPhys, size: u64) -> Option<u64> {
    let mut word = [0; 8];
    let len = usize::try_from(size).ok().filter(|len| *len <= 8)?;
    memory.read(at, &mut word[..len]).ok()?;
    Some(u64::from_le_bytes(word))
}

/// How many of `len` bytes from `at` on lie in its page.
fn first_part(at: u64, len: usize) -> usize {
    usize::try_from(PAGE - at % PAGE).map_or(len, |left| left.min(len))
}

/// A length as a guest counts it.
fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
