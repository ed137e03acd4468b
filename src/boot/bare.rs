//! Bare code in one line: the host builds segments, tables and a stack, so that a few bytes run in the mode asked for.
//! It never puts more into memory than that mode needs.

use crate::addr::{GuestPhys, PAGE};
use crate::error::{Error, Result};
use crate::memory::{Memory, RegionInfo};
use crate::x86::segment::{interrupt_gate, kind};
use crate::x86::{Segment, Sregs, cr4, efer, pte};

use super::paging::PageTables;
use super::start::{self, Start, selector};

/// The mode that bare code runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 16 bits, segment bases zero.
    Real,
    /// 32 bits, flat, no paging.
    Protected,
    /// 64 bits in ring 0; memory and the first 4 GiB are mapped to themselves.
    Long,
    /// 64 bits in ring 3; exceptions come out to the host.
    User,
}

impl Mode {
    /// The mode of that name.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "real" => Ok(Self::Real),
            "protected" => Ok(Self::Protected),
            "long" => Ok(Self::Long),
            "user" => Ok(Self::User),
            _ => Err(Error::Invalid(format!("mode is \"real\", \"protected\", \"long\" or \"user\", not {name:?}"))),
        }
    }

    /// 16, 32 or 64.
    pub fn bits(self) -> u32 {
        match self {
            Self::Real => 16,
            Self::Protected => 32,
            Self::Long | Self::User => 64,
        }
    }
}

/// The port that the exception handlers of a `user` guest write, to come out to the host.
pub const SHIM_PORT: u16 = 0xf4;
/// Bytes per exception handler.
const STUB: u64 = 8;

/// Where the exception handlers of a `user` guest are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shim {
    stubs: GuestPhys,
}

impl Shim {
    /// The vector whose handler `rip` is in.
    pub fn vector(&self, rip: u64) -> Option<u8> {
        u8::try_from(rip.checked_sub(self.stubs.0)? / STUB).ok()
    }
}

/// Code in memory, and how its vCPU begins.
#[derive(Clone, Debug)]
pub struct Bare {
    /// The registers.
    pub start: Start,
    /// In `user` mode.
    pub shim: Option<Shim>,
    /// Where the tables are that the host built; empty in real mode.
    pub tables: Place,
}

/// Guest-physical addresses from the first up to, but not including, the second.
pub type Place = (GuestPhys, GuestPhys);

/// Puts `code` at `at` and builds around it what `mode` needs, away from what is `taken` by the tables of other vCPUs;
/// `reset` is the vCPU's state before.
pub fn load(memory: &Memory, code: &[u8], mode: Mode, at: GuestPhys, reset: &Sregs, taken: &[Place]) -> Result<Bare> {
    if mode == Mode::Real && at.0 >= REAL_REACH {
        return Err(Error::Invalid(format!("real mode begins below {REAL_REACH:#x}; {at:#x} is beyond")));
    }
    let tables = Tables::place(memory, mode, at, taken)?;
    let end = at.plus(u64::try_from(code.len()).unwrap_or(u64::MAX))?;
    let own = (tables.start, tables.end);
    if let Some((with, _)) = taken.iter().chain([&own]).find(|(from, to)| *from < end && at < *to) {
        return Err(Error::Overlap { at: at.0, len: end.0 - at.0, with: with.0, what: "the host-built tables" });
    }
    memory.write(at, code)?;
    let (start, shim) = match mode {
        Mode::Real => (Start::real(reset, at, real_stack(at)), None),
        Mode::Protected => {
            tables.write_gdt(false)?;
            (Start::protected(reset, at, tables.start, tables.start), None)
        }
        Mode::Long => {
            tables.write_gdt(true)?;
            let cr3 = tables.page_tables(tables.start.plus(PAGE)?, 0)?;
            (Start::long(reset, at, tables.start, cr3, tables.start), None)
        }
        Mode::User => tables.user(reset, at)?,
    };
    Ok(Bare { start, shim, tables: own })
}

/// One past the last paragraph that a segment register can name.
const REAL_REACH: u64 = 0x10_0000;

/// The top of a real-mode stack: below the code, or at the end of the first 64 KiB.
fn real_stack(at: GuestPhys) -> u16 {
    match u16::try_from(at.0) {
        Ok(below) if below >= 0x1000 => below & !1,
        _ => 0xfffe,
    }
}

/// Pages at the end of RAM in which the host builds tables: each vCPU's own, since its exceptions have a stack there.
struct Tables<'a> {
    memory: &'a Memory,
    start: GuestPhys,
    end: GuestPhys,
    /// What the page tables map.
    mapped: Vec<(u64, u64)>,
}

// Pages of a `user` guest, from the start of the tables on.
const STUBS: u64 = 0x800; // in the page of the GDT
const IDT: u64 = PAGE;
const TSS: u64 = 2 * PAGE;
const TSS_PAGES: u64 = 3;
const TSS_SIZE: u64 = 0x68;
const PORTS_BITMAP: u64 = 0x2000;
const RING0_STACK_TOP: u64 = TSS + (TSS_PAGES + 1) * PAGE;
const USER_PAGES: u64 = 2 + TSS_PAGES + 1;

/// All pages of a `user` guest's tables, `paging` of them page tables: the large pages that they lie in are split.
fn user_pages(paging: u64) -> u64 {
    USER_PAGES + paging + 2 + (USER_PAGES + paging) / 512
}

/// The highest `len` bytes of `region` that overlap nothing `taken`.
fn highest_free(region: &RegionInfo, len: u64, taken: &[Place]) -> Option<Place> {
    let ends = taken.iter().map(|(from, _)| *from).filter(|from| region.contains(*from)).chain([region.end()]);
    let places = ends.filter_map(|end| Some((GuestPhys(end.0.checked_sub(len)?), end)));
    let free =
        |(start, end): &Place| *start >= region.at && taken.iter().all(|(from, to)| *end <= *from || *to <= *start);
    places.filter(free).max()
}

impl<'a> Tables<'a> {
    fn place(memory: &'a Memory, mode: Mode, at: GuestPhys, taken: &[Place]) -> Result<Self> {
        let regions = memory.regions();
        let Some(region) = regions.iter().find(|r| !r.rom && r.contains(at)) else {
            memory.read_vec(at, 1)?; // says `Closed` where that is why
            return Err(memory.unbacked(at, 1));
        };
        let mapped = PageTables::ranges(&regions);
        let pages = match mode {
            Mode::Real => 0,
            Mode::Protected => 1,
            Mode::Long => 1 + PageTables::pages_for_ranges(&mapped),
            Mode::User => user_pages(PageTables::pages_for_ranges(&mapped)),
        };
        let (start, end) = highest_free(region, pages * PAGE, taken).ok_or_else(|| {
            Error::Invalid(format!(
                "this mode needs {:#x} bytes of RAM for its tables; {:#x} are there",
                pages * PAGE,
                region.len
            ))
        })?;
        Ok(Self { memory, start, end, mapped })
    }

    fn write_gdt(&self, long: bool) -> Result<()> {
        self.memory.zero(self.start, PAGE)?;
        self.write_words(self.start, &start::flat_gdt(long))
    }

    fn write_words(&self, at: GuestPhys, words: &[u64]) -> Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.memory.write(at, &bytes)
    }

    fn page_tables(&self, at: GuestPhys, flags: u64) -> Result<GuestPhys> {
        let mut tables = PageTables::new(self.memory, at, self.end)?;
        self.mapped.iter().try_for_each(|range| tables.identity_range(*range, flags))?;
        if flags & pte::USER != 0 {
            tables.protect(self.start, self.end, pte::WRITE)?;
        }
        Ok(tables.root())
    }

    /// Ring 3, whose exceptions reach stubs in ring 0 that write [`SHIM_PORT`]; ring 3 may use every port.
    fn user(&self, reset: &Sregs, at: GuestPhys) -> Result<(Start, Option<Shim>)> {
        self.write_gdt(true)?;
        let stubs = self.start.plus(STUBS)?;
        for vector in 0..256 {
            let [port, _] = SHIM_PORT.to_le_bytes();
            self.memory.write(stubs.plus(vector * STUB)?, &[0xe6, port, 0xf4])?; // out SHIM_PORT, al; hlt
            let gate = interrupt_gate(stubs.0 + vector * STUB, selector::CODE, 3);
            self.write_words(self.start.plus(IDT + vector * 16)?, &gate)?;
        }
        self.write_tss()?;
        let cr3 = self.page_tables(self.start.plus(USER_PAGES * PAGE)?, pte::USER)?;
        let mut start = Start::long(reset, at, self.start, cr3, self.start);
        let data = Segment::flat(selector::USER_DATA, kind::DATA, 3);
        let sregs = &mut start.sregs;
        (sregs.cs, sregs.ss) = (Segment::long_code(selector::USER_CODE, 3), data);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (data, data, data, data);
        sregs.tr = self.tss();
        sregs.idt.base = self.start.0 + IDT;
        sregs.idt.limit = 0xfff;
        sregs.efer &= !efer::SCE;
        sregs.cr4 |= cr4::OSFXSR | cr4::OSXMMEXCPT;
        Ok((start, Some(Shim { stubs })))
    }

    fn tss(&self) -> Segment {
        let limit = u32::try_from(TSS_SIZE + PORTS_BITMAP).unwrap_or(u32::MAX);
        Segment {
            base: self.start.0 + TSS,
            limit,
            selector: selector::TSS,
            kind: kind::TSS64,
            present: 1,
            ..Segment::default()
        }
    }

    /// The task-state segment: the ring-0 stack, and an I/O map that allows every port (AMD APM vol. 2, 12.2.5).
    fn write_tss(&self) -> Result<()> {
        let tss = self.start.plus(TSS)?;
        self.memory.zero(tss, (TSS_PAGES + 1) * PAGE)?;
        self.memory.write(tss.plus(4)?, &(self.start.0 + RING0_STACK_TOP).to_le_bytes())?;
        self.memory.write(tss.plus(0x66)?, &u16::try_from(TSS_SIZE).unwrap_or(0).to_le_bytes())?;
        self.memory.write(tss.plus(TSS_SIZE + PORTS_BITMAP)?, &[0xff])?;
        let segment = self.tss();
        let busy = self.start.plus(u64::from(selector::TSS))?;
        self.write_words(busy, &[segment.descriptor(), segment.base >> 32])
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout;
    use super::*;
    use crate::addr::GuestVirt;
    use crate::source::ReadMemory;
    use crate::x86::{Gpr, translate};

    fn memory(len: u64) -> Memory {
        let memory = Memory::default();
        memory.add(GuestPhys(0), len, false, |_, _| Ok(())).expect("RAM");
        memory
    }

    #[test]
    fn long_mode_maps_every_address_to_itself() {
        let memory = memory(0x10_0000);
        let bare = load(&memory, &[0xf4], Mode::Long, layout::CODE, &Sregs::default(), &[]).expect("fits");
        for at in [0, 0x1000, 0xf_ffff, 0xfee0_0010, 0xffff_ffff] {
            let walk = translate(&bare.start.sregs, GuestVirt(at), |at, _| memory.read_u64(at).ok());
            assert_eq!(walk, Ok(GuestPhys(at)));
        }
        assert_eq!(bare.start.regs[Gpr::Rip], 0x1000);
    }

    #[test]
    fn ring_3_cannot_reach_the_tables_but_all_the_rest() {
        let memory = memory(0x40_0000);
        let bare = load(&memory, &[0x90], Mode::User, layout::CODE, &Sregs::default(), &[]).expect("fits");
        let entry = |at: u64| {
            let mut last = 0;
            translate(&bare.start.sregs, GuestVirt(at), |at, _| memory.read_u64(at).ok().inspect(|e| last = *e))
                .expect("mapped");
            last
        };
        assert_ne!(entry(0x1000) & pte::USER, 0);
        assert_ne!(entry(bare.start.regs[Gpr::Rsp] - 8) & pte::USER, 0);
        assert_eq!(entry(bare.start.regs[Gpr::Rsp]) & pte::USER, 0);
        assert_eq!(entry(0x3f_f000) & pte::USER, 0);
    }

    #[test]
    fn too_little_memory_is_an_error_with_the_numbers() {
        let error =
            load(&memory(0x2000), &[0xf4], Mode::Long, layout::CODE, &Sregs::default(), &[]).expect_err("too small");
        assert!(error.to_string().contains("0x2000 are there"), "{error}");
        let code = vec![0x90; 0xff000];
        let error =
            load(&memory(0x10_0000), &code, Mode::Long, layout::CODE, &Sregs::default(), &[]).expect_err("no room");
        assert!(matches!(error, Error::Overlap { .. }), "{error}");
        assert!(load(&memory(0x1000), &[0xf4], Mode::Real, GuestPhys(0x5000), &Sregs::default(), &[]).is_err());
    }

    #[test]
    fn each_vcpu_gets_tables_of_its_own_and_loading_again_does_not_creep() {
        let memory = memory(0x10_0000);
        let place = |mode, taken: &[Place]| {
            load(&memory, &[0xf4], mode, layout::CODE, &Sregs::default(), taken).expect("fits").tables
        };
        let first = place(Mode::Long, &[]);
        let second = place(Mode::User, &[first]);
        assert!(first.1 == GuestPhys(0x10_0000) && second.1 == first.0);
        assert_eq!(place(Mode::Long, &[second]), first);
        assert_eq!(place(Mode::User, &[first]), second);
        assert!(place(Mode::User, &[second]).1 <= second.0, "more than the room above");
    }
}
