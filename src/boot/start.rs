//! The state in which a vCPU begins: registers for each mode. It never writes memory.

use crate::addr::GuestPhys;
use crate::x86::segment::kind;
use crate::x86::{DescriptorTable, Gpr, Regs, Segment, Sregs, cr0, cr4, efer, rflags};

/// Selectors in the GDTs that the host builds; a kernel's first instructions may reload them.
pub mod selector {
    /// Ring-0 code.
    pub const CODE: u16 = 0x10;
    /// Ring-0 data.
    pub const DATA: u16 = 0x18;
    /// Ring-3 data (its requested privilege level included).
    pub const USER_DATA: u16 = 0x2b;
    /// Ring-3 code (its requested privilege level included).
    pub const USER_CODE: u16 = 0x33;
    /// The task-state segment (16 bytes).
    pub const TSS: u16 = 0x40;
}

/// Registers for a vCPU's first entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// General registers.
    pub regs: Regs,
    /// System registers.
    pub sregs: Sregs,
}

impl Start {
    fn at(rip: u64, rsp: u64, sregs: &Sregs) -> Self {
        let mut regs = Regs::default();
        regs[Gpr::Rip] = rip;
        regs[Gpr::Rsp] = rsp;
        regs[Gpr::Rflags] = rflags::FIXED;
        Self { regs, sregs: *sregs }
    }

    /// Real mode at `code`: segment bases are zero below 64 KiB, else the code segment begins at `code`.
    pub fn real(reset: &Sregs, code: GuestPhys, stack: u16) -> Self {
        let (paragraph, ip) = if code.0 < 0x1_0000 { (0, code.0) } else { (code.0 >> 4, code.0 & 0xf) };
        let cs = Segment::real(u16::try_from(paragraph).unwrap_or(u16::MAX), kind::CODE);
        let data = Segment::real(0, kind::DATA);
        let mut sregs = with_data(reset, data);
        (sregs.cs, sregs.cr0) = (cs, cr0::ET);
        sregs.idt.limit = 0x3ff; // 256 vectors of four bytes
        Self::at(ip, u64::from(stack), &sregs)
    }

    /// 32-bit protected mode without paging, flat segments, with the GDT of [`flat_gdt`] at `gdt`.
    pub fn protected(reset: &Sregs, code: GuestPhys, stack: GuestPhys, gdt: GuestPhys) -> Self {
        let cs = Segment::flat(selector::CODE, kind::CODE, 0);
        let mut sregs = with_data(reset, Segment::flat(selector::DATA, kind::DATA, 0));
        sregs.cs = cs;
        sregs.cr0 = cr0::PE | cr0::ET | cr0::NE;
        sregs.gdt.base = gdt.0;
        sregs.gdt.limit = GDT_LIMIT;
        Self::at(code.0, stack.0, &sregs)
    }

    /// 64-bit mode in ring 0 with page tables at `cr3` and the GDT of [`flat_gdt`] at `gdt`.
    pub fn long(reset: &Sregs, code: GuestPhys, stack: GuestPhys, cr3: GuestPhys, gdt: GuestPhys) -> Self {
        let mut start = Self::protected(reset, code, stack, gdt);
        let sregs = &mut start.sregs;
        sregs.cs = Segment::long_code(selector::CODE, 0);
        sregs.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::PG;
        sregs.cr3 = cr3.0;
        sregs.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT;
        sregs.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
        start
    }
}

fn with_data(reset: &Sregs, data: Segment) -> Sregs {
    let tr = Segment { limit: 0xffff, kind: kind::TSS64, present: 1, ..Segment::default() };
    let ldt = Segment { unusable: 1, ..Segment::default() };
    let none = DescriptorTable::default();
    let (gdt, idt) = (none, none);
    Sregs { ds: data, es: data, fs: data, gs: data, ss: data, tr, ldt, gdt, idt, efer: 0, cr3: 0, cr4: 0, ..*reset }
}

/// Bytes of [`flat_gdt`] less one, with room for a task-state segment.
pub const GDT_LIMIT: u16 = 0x4f;

/// A GDT whose entries are where [`selector`] says; the code segment is 64 or 32 bits wide. The task-state
/// segment's two words stay zero.
pub fn flat_gdt(long: bool) -> [u64; 10] {
    let code = if long { Segment::long_code(selector::CODE, 0) } else { Segment::flat(selector::CODE, kind::CODE, 0) };
    let mut gdt = [0; 10];
    gdt[2] = code.descriptor();
    gdt[3] = Segment::flat(selector::DATA, kind::DATA, 0).descriptor();
    gdt[5] = Segment::flat(selector::USER_DATA, kind::DATA, 3).descriptor();
    gdt[6] = Segment::long_code(selector::USER_CODE, 3).descriptor();
    gdt
}
