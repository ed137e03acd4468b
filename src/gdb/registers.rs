//! The registers that gdb is shown, in one table: the target description, the order of `g` packets and the numbers of
//! `p` packets all come from it. It never asks a vCPU: it works on a copy of its registers.
//!
//! Names, order and types within a feature are gdb's (its manual, appendix G.5.5, "i386 Features").

use crate::x86::xsave::{Layout, Register};
use crate::x86::{Gpr, Regs, Segment, Sregs, cr0};

/// One register as gdb sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// A general register, RIP or RFLAGS.
    General(Gpr),
    /// The selector of CS, SS, DS, ES, FS, GS.
    Selector(usize),
    /// A register of the XSAVE area that gdb takes as it is.
    Vector(Register),
    /// A control register of the x87 unit, as gdb has it: 32 bits each.
    Control(Control),
    /// The upper half of a YMM register.
    YmmHigh(usize),
    /// A base or a control register.
    System(System),
}

/// The x87 unit's control registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // gdb's names
pub enum Control {
    Fctrl,
    Fstat,
    Ftag,
    Fiseg,
    Fioff,
    Foseg,
    Fooff,
    Fop,
}

/// Bases and control registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the manual's names
pub enum System {
    FsBase,
    GsBase,
    KernelGsBase,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Cr8,
    Efer,
    GdtBase,
    IdtBase,
}

const GENERAL: [(&str, Gpr); 18] = [
    ("rax", Gpr::Rax),
    ("rbx", Gpr::Rbx),
    ("rcx", Gpr::Rcx),
    ("rdx", Gpr::Rdx),
    ("rsi", Gpr::Rsi),
    ("rdi", Gpr::Rdi),
    ("rbp", Gpr::Rbp),
    ("rsp", Gpr::Rsp),
    ("r8", Gpr::R8),
    ("r9", Gpr::R9),
    ("r10", Gpr::R10),
    ("r11", Gpr::R11),
    ("r12", Gpr::R12),
    ("r13", Gpr::R13),
    ("r14", Gpr::R14),
    ("r15", Gpr::R15),
    ("rip", Gpr::Rip),
    ("eflags", Gpr::Rflags),
];

const SELECTORS: [&str; 6] = ["cs", "ss", "ds", "es", "fs", "gs"];

const CONTROL: [(&str, Control); 8] = [
    ("fctrl", Control::Fctrl),
    ("fstat", Control::Fstat),
    ("ftag", Control::Ftag),
    ("fiseg", Control::Fiseg),
    ("fioff", Control::Fioff),
    ("foseg", Control::Foseg),
    ("fooff", Control::Fooff),
    ("fop", Control::Fop),
];

/// The first two are gdb's own feature of segments, the others ours.
const SYSTEM: [(&str, System); 11] = [
    ("fs_base", System::FsBase),
    ("gs_base", System::GsBase),
    ("k_gs_base", System::KernelGsBase),
    ("cr0", System::Cr0),
    ("cr2", System::Cr2),
    ("cr3", System::Cr3),
    ("cr4", System::Cr4),
    ("cr8", System::Cr8),
    ("efer", System::Efer),
    ("gdt_base", System::GdtBase),
    ("idt_base", System::IdtBase),
];

const CORE: &str = "org.gnu.gdb.i386.core";
const SSE: &str = "org.gnu.gdb.i386.sse";
const SEGMENTS: &str = "org.gnu.gdb.i386.segments";
const SYSTEM_FEATURE: &str = "org.belljar.x86.system";
const AVX: &str = "org.gnu.gdb.i386.avx";

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The feature that it belongs to.
    pub feature: &'static str,
    /// Its name.
    pub name: String,
    /// What it is.
    pub reg: Reg,
    /// Its type, in the words of target descriptions.
    pub kind: &'static str,
}

impl Row {
    /// How many bytes gdb exchanges.
    pub fn size(&self) -> usize {
        self.reg.size()
    }
}

impl Reg {
    fn size(self) -> usize {
        match self {
            Self::General(Gpr::Rflags) | Self::Selector(_) | Self::Control(_) | Self::Vector(Register::Mxcsr) => 4,
            Self::General(_) | Self::System(_) => 8,
            Self::Vector(Register::St(_)) => 10,
            Self::Vector(_) | Self::YmmHigh(_) => 16,
        }
    }
}

/// All registers in gdb's order; those of AVX, which not every processor has, are the last ones.
pub fn table(avx: bool) -> Vec<Row> {
    let row = |feature, name: String, reg, kind| Row { feature, name, reg, kind };
    let general = GENERAL.iter().map(|(name, gpr)| {
        let kind = match gpr {
            Gpr::Rip => "code_ptr",
            Gpr::Rsp | Gpr::Rbp => "data_ptr",
            Gpr::Rflags => "i386_eflags",
            _ => "int64",
        };
        row(CORE, (*name).into(), Reg::General(*gpr), kind)
    });
    let selectors = SELECTORS.iter().enumerate().map(|(n, name)| row(CORE, (*name).into(), Reg::Selector(n), "int32"));
    let st = (0..8).map(|n| row(CORE, format!("st{n}"), Reg::Vector(Register::St(n)), "i387_ext"));
    let control = CONTROL.iter().map(|(name, which)| row(CORE, (*name).into(), Reg::Control(*which), "int"));
    let xmm = (0..16).map(|n| row(SSE, format!("xmm{n}"), Reg::Vector(Register::Xmm(n)), "vec128"));
    let mxcsr = std::iter::once(row(SSE, "mxcsr".into(), Reg::Vector(Register::Mxcsr), "i386_mxcsr"));
    let system = SYSTEM.iter().map(|(name, which)| {
        let ours = !matches!(which, System::FsBase | System::GsBase);
        row(if ours { SYSTEM_FEATURE } else { SEGMENTS }, (*name).into(), Reg::System(*which), "int64")
    });
    let high = (0..16).map(|n| row(AVX, format!("ymm{n}h"), Reg::YmmHigh(n), "uint128"));
    let all = general.chain(selectors).chain(st).chain(control).chain(xmm).chain(mxcsr).chain(system);
    if avx { all.chain(high).collect() } else { all.collect() }
}

/// The registers of one vCPU, read together, and what has been changed since.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// General registers.
    pub regs: Regs,
    /// Segments and control registers.
    pub sregs: Sregs,
    /// The XSAVE area.
    pub xsave: Vec<u8>,
    /// The MSR of that name.
    pub kernel_gs_base: u64,
    /// Which of them have been changed.
    pub changed: Changed,
}

/// Parts of a register file that have been changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // as the parts are called
pub struct Changed {
    pub regs: bool,
    pub sregs: bool,
    pub xsave: bool,
    pub kernel_gs_base: bool,
}

impl File {
    /// The bytes of a register, lowest first; nothing for one that this processor does not have.
    pub fn get(&self, layout: &Layout, reg: Reg) -> Option<Vec<u8>> {
        Some(match reg {
            Reg::General(Gpr::Rflags) => low32(self.regs[Gpr::Rflags]),
            Reg::General(gpr) => self.regs[gpr].to_le_bytes().to_vec(),
            Reg::Selector(n) => u32::from(self.segment(n).selector).to_le_bytes().to_vec(),
            Reg::Vector(register) => layout.get(&self.xsave, register)?,
            Reg::YmmHigh(n) => layout.get(&self.xsave, Register::Ymm(n))?.split_off(16),
            Reg::Control(which) => low32(self.control(layout, which)?),
            Reg::System(which) => self.system(which).to_le_bytes().to_vec(),
        })
    }

    /// Sets a register; false for bytes that do not fit it. `descriptor` looks a selector up in the guest's tables.
    pub fn set(
        &mut self,
        layout: &Layout,
        reg: Reg,
        bytes: &[u8],
        descriptor: impl Fn(&Sregs, u16) -> Option<Segment>,
    ) -> bool {
        match self.get(layout, reg) {
            None => return false,
            Some(now) if now == bytes => return true,
            Some(now) if now.len() != bytes.len() => return false,
            Some(_) => {}
        }
        let word = bytes.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        match reg {
            Reg::General(gpr) => {
                self.changed.regs = true;
                self.regs[gpr] = word;
                true
            }
            Reg::Selector(n) => self.load_segment(n, word, descriptor),
            Reg::System(which) => self.set_system(which, word),
            Reg::Vector(register) => self.set_vector(layout, register, bytes),
            Reg::YmmHigh(n) => {
                let Some(mut whole) = layout.get(&self.xsave, Register::Ymm(n)) else { return false };
                whole[16..].copy_from_slice(bytes);
                self.set_vector(layout, Register::Ymm(n), &whole)
            }
            Reg::Control(which) => self.set_control(layout, which, word),
        }
    }

    fn set_vector(&mut self, layout: &Layout, register: Register, bytes: &[u8]) -> bool {
        self.changed.xsave = true;
        layout.set(&mut self.xsave, register, bytes)
    }

    fn segment(&self, n: usize) -> &Segment {
        let s = &self.sregs;
        [&s.cs, &s.ss, &s.ds, &s.es, &s.fs, &s.gs][n.min(5)]
    }

    fn segment_mut(&mut self, n: usize) -> &mut Segment {
        self.changed.sregs = true;
        let s = &mut self.sregs;
        match n {
            0 => &mut s.cs,
            1 => &mut s.ss,
            2 => &mut s.ds,
            3 => &mut s.es,
            4 => &mut s.fs,
            _ => &mut s.gs,
        }
    }

    /// Loads a segment register as an instruction would: in real mode its base is computed, else its descriptor is read.
    fn load_segment(&mut self, n: usize, word: u64, descriptor: impl Fn(&Sregs, u16) -> Option<Segment>) -> bool {
        let Ok(selector) = u16::try_from(word) else { return false };
        if self.sregs.cr0 & cr0::PE == 0 {
            let segment = self.segment_mut(n);
            (segment.selector, segment.base) = (selector, u64::from(selector) << 4);
            return true;
        }
        let Some(loaded) = descriptor(&self.sregs, selector) else { return false };
        *self.segment_mut(n) = loaded;
        true
    }

    fn system(&self, which: System) -> u64 {
        let s = &self.sregs;
        match which {
            System::FsBase => s.fs.base,
            System::GsBase => s.gs.base,
            System::KernelGsBase => self.kernel_gs_base,
            System::Cr0 => s.cr0,
            System::Cr2 => s.cr2,
            System::Cr3 => s.cr3,
            System::Cr4 => s.cr4,
            System::Cr8 => s.cr8,
            System::Efer => s.efer,
            System::GdtBase => s.gdt.base,
            System::IdtBase => s.idt.base,
        }
    }

    fn set_system(&mut self, which: System, value: u64) -> bool {
        let s = &mut self.sregs;
        match which {
            System::FsBase => s.fs.base = value,
            System::GsBase => s.gs.base = value,
            System::KernelGsBase => {
                self.kernel_gs_base = value;
                self.changed.kernel_gs_base = true;
                return true;
            }
            System::Cr0 => s.cr0 = value,
            System::Cr2 => s.cr2 = value,
            System::Cr3 => s.cr3 = value,
            System::Cr4 => s.cr4 = value,
            System::Cr8 => s.cr8 = value & 0xf,
            System::Efer => s.efer = value,
            System::GdtBase => s.gdt.base = value,
            System::IdtBase => s.idt.base = value,
        }
        self.changed.sregs = true;
        true
    }

    fn control(&self, layout: &Layout, which: Control) -> Option<u64> {
        let word = |register| {
            let bytes = layout.get(&self.xsave, register)?;
            Some(bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
        };
        match which {
            Control::Fctrl => word(Register::Fcw),
            Control::Fstat => word(Register::Fsw),
            Control::Ftag => Some(full_tags(word(Register::Ftw)?)),
            Control::Fiseg => Some(word(Register::Fip)? >> 32 & 0xffff),
            Control::Fioff => Some(word(Register::Fip)? & 0xffff_ffff),
            Control::Foseg => Some(word(Register::Fdp)? >> 32 & 0xffff),
            Control::Fooff => Some(word(Register::Fdp)? & 0xffff_ffff),
            Control::Fop => word(Register::Fop),
        }
    }

    fn set_control(&mut self, layout: &Layout, which: Control, value: u64) -> bool {
        let (register, value) = match which {
            Control::Fctrl => (Register::Fcw, value),
            Control::Fstat => (Register::Fsw, value),
            Control::Ftag => (Register::Ftw, abridged_tags(value)),
            Control::Fop => (Register::Fop, value & 0x7ff),
            Control::Fioff | Control::Fiseg => (Register::Fip, self.pointer(layout, Control::Fioff, which, value)),
            Control::Fooff | Control::Foseg => (Register::Fdp, self.pointer(layout, Control::Fooff, which, value)),
        };
        let width = layout.width(register).unwrap_or(0).min(8);
        self.set_vector(layout, register, &value.to_le_bytes()[..width])
    }

    /// One of the two halves of the last x87 instruction's or operand's address, joined to the other half.
    fn pointer(&self, layout: &Layout, offset: Control, which: Control, value: u64) -> u64 {
        let segment = if offset == Control::Fioff { Control::Fiseg } else { Control::Foseg };
        let half = |half| if half == which { value } else { self.control(layout, half).unwrap_or(0) };
        (half(segment) & 0xffff) << 32 | half(offset) & 0xffff_ffff
    }
}

fn low32(word: u64) -> Vec<u8> {
    word.to_le_bytes()[..4].to_vec()
}

/// Two bits for each x87 register: valid (0) where it is in use, empty (3) where not.
fn full_tags(abridged: u64) -> u64 {
    (0..8).filter(|n| abridged >> n & 1 == 0).fold(0, |tags, n| tags | 3 << (2 * n))
}

/// One bit for each: not empty.
fn abridged_tags(full: u64) -> u64 {
    (0..8).filter(|n| full >> (2 * n) & 3 != 3).fold(0, |tags, n| tags | 1 << n)
}

#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
