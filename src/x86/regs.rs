//! General and system registers as values. They never know where they came from or whether they were changed.

use std::ops::{Index, IndexMut};

use super::segment::{DescriptorTable, Segment};
use super::{cr0, cr4, efer};

/// A general register, RIP or RFLAGS; the order is that of `struct kvm_regs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
#[allow(missing_docs)] // their names are the manual's
pub enum Gpr {
    Rax,
    Rbx,
    Rcx,
    Rdx,
    Rsi,
    Rdi,
    Rsp,
    Rbp,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    Rip,
    Rflags,
}

impl Gpr {
    /// The general registers in the order of their numbers in an encoding (Intel SDM vol. 2, 2.1.5).
    pub const BY_NUMBER: [Self; 16] = [
        Self::Rax,
        Self::Rcx,
        Self::Rdx,
        Self::Rbx,
        Self::Rsp,
        Self::Rbp,
        Self::Rsi,
        Self::Rdi,
        Self::R8,
        Self::R9,
        Self::R10,
        Self::R11,
        Self::R12,
        Self::R13,
        Self::R14,
        Self::R15,
    ];
}

/// The general registers, RIP and RFLAGS. Laid out as `struct kvm_regs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Regs {
    /// The values, in the order of [`Gpr`].
    pub words: [u64; Self::COUNT],
}

impl Regs {
    /// How many there are.
    pub const COUNT: usize = 18;
    /// Their names, in order.
    pub const NAMES: [&'static str; Self::COUNT] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "rip", "rflags",
    ];
}

impl Index<Gpr> for Regs {
    type Output = u64;
    #[allow(clippy::as_conversions)] // a fieldless enum's discriminant
    fn index(&self, which: Gpr) -> &u64 {
        &self.words[which as usize]
    }
}

impl IndexMut<Gpr> for Regs {
    #[allow(clippy::as_conversions)] // a fieldless enum's discriminant
    fn index_mut(&mut self, which: Gpr) -> &mut u64 {
        &mut self.words[which as usize]
    }
}

/// Segment registers, descriptor tables and control registers. Laid out as `struct kvm_sregs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)] // their names are the manual's
pub struct Sregs {
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldt: Segment,
    pub gdt: DescriptorTable,
    pub idt: DescriptorTable,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cr8: u64,
    pub efer: u64,
    pub apic_base: u64,
    pub interrupt_bitmap: [u64; 4],
}

/// How linear addresses become physical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Paging {
    /// CR0.PG is clear: they are the same.
    Off,
    /// Two levels of 32-bit entries.
    Bits32,
    /// Three levels of 64-bit entries.
    Pae,
    /// Four levels.
    Level4,
    /// Five levels.
    Level5,
}

impl Paging {
    /// What to call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Bits32 => "32-bit",
            Self::Pae => "PAE",
            Self::Level4 => "4-level",
            Self::Level5 => "5-level",
        }
    }
}

impl Sregs {
    /// 16, 32 or 64: the width of the code segment's default operand.
    pub fn code_bits(&self) -> u32 {
        match (self.efer & efer::LMA != 0 && self.cs.l == 1, self.cs.db == 1) {
            (true, _) => 64,
            (false, true) => 32,
            (false, false) => 16,
        }
    }

    /// The paging mode (Intel SDM vol. 3, 4.1.1).
    pub fn paging(&self) -> Paging {
        let has = |register: u64, bit: u64| register & bit != 0;
        match (has(self.cr0, cr0::PG), has(self.cr4, cr4::PAE), has(self.efer, efer::LMA), has(self.cr4, cr4::LA57)) {
            (false, ..) => Paging::Off,
            (true, false, ..) => Paging::Bits32,
            (true, true, false, _) => Paging::Pae,
            (true, true, true, false) => Paging::Level4,
            (true, true, true, true) => Paging::Level5,
        }
    }

    /// The privilege level that code runs at now: SS.DPL, as KVM keeps it.
    pub fn cpl(&self) -> u8 {
        self.ss.dpl
    }
}
