//! The bits of RFLAGS that instructions set, beside those that the rest of the core knows. Plain numbers, no logic.

/// Carry.
pub(super) const CF: u64 = 1;
/// Trap: single step.
pub(super) const TF: u64 = 1 << 8;
/// Overflow.
pub(super) const OF: u64 = 1 << 11;
/// Nested task.
pub(super) const NT: u64 = 1 << 14;
/// Resume.
pub(super) const RF: u64 = 1 << 16;
/// Virtual 8086.
pub(super) const VM: u64 = 1 << 17;
/// The six flags of arithmetic: CF, PF, AF, ZF, SF, OF.
pub(super) const ARITHMETIC: u64 = 0x8d5;
