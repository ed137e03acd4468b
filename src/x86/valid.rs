//! Values that a register cannot have, whatever the others hold. It never compares one register with another: KVM does.

use crate::error::{Error, Result};

use super::cr0;

/// The bits of CR4 that Intel or AMD define (Intel SDM vol. 3, 2.5; AMD APM vol. 2, 3.1.3; Intel FRED specification).
const CR4: u64 = 0x1_1bff_7fff;
/// The bits of EFER that Intel or AMD define (AMD APM vol. 2, 3.1.7).
const EFER: u64 = 0x0036_fd01;
/// The bits of MXCSR: AMD has one more than Intel's sixteen (AMD APM vol. 1, 4.2.2).
const MXCSR: u64 = 0x2_ffff;

/// CR0's caching bits.
const NOT_WRITE_THROUGH: u64 = 1 << 29;
const CACHE_DISABLE: u64 = 1 << 30;

/// XCR0's components (Intel SDM vol. 1, 13.3).
const X87: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const MPX: u64 = 3 << 3;
const AVX512: u64 = 7 << 5;
const AMX: u64 = 3 << 17;

fn refused<T>(words: impl Into<String>) -> Result<T> {
    Err(Error::Value(words.into()))
}

fn known(name: &str, value: u64, bits: u64) -> Result<()> {
    let unknown = value & !bits;
    if unknown == 0 {
        return Ok(());
    }
    let bit = unknown.trailing_zeros();
    refused(format!("{name} has no bit {bit} (in {value:#x})"))
}

/// Could CR0 be `value`? The lower of its reserved bits are ignored (Intel SDM vol. 3, 2.5).
pub fn cr0(value: u64) -> Result<()> {
    known("CR0", value, 0xffff_ffff)?;
    if value & (cr0::PG | cr0::PE) == cr0::PG {
        return refused(
            "paging (PG, bit 31) needs protection (PE, bit 0): `cpu.cr0.update(pe=True, pg=True)` sets both",
        );
    }
    if value & (NOT_WRITE_THROUGH | CACHE_DISABLE) == NOT_WRITE_THROUGH {
        return refused("NW (bit 29) needs CD (bit 30): `cpu.cr0.update(nw=True, cd=True)` sets both");
    }
    Ok(())
}

/// Could CR4 be `value`, on any processor?
pub fn cr4(value: u64) -> Result<()> {
    known("CR4", value, CR4)
}

/// Could EFER be `value`, on any processor?
pub fn efer(value: u64) -> Result<()> {
    known("EFER", value, EFER)
}

/// Could MXCSR be `value`, on any processor?
pub fn mxcsr(value: u64) -> Result<()> {
    known("MXCSR", value, MXCSR)
}

/// Could XCR0 be `value` (Intel SDM vol. 1, 13.3)?
pub fn xcr0(value: u64) -> Result<()> {
    if value & X87 == 0 || value & (SSE | AVX) == AVX {
        return refused("x87 (bit 0) must be set; AVX needs SSE: `cpu.xcr0 = 7`");
    }
    if !matches!(value & AVX512, 0 | AVX512) || value & AVX512 != 0 && value & AVX == 0 {
        return refused("AVX-512 (bits 5 to 7) goes together, and needs AVX: `cpu.xcr0 = 0xe7`");
    }
    if !matches!(value & MPX, 0 | MPX) || !matches!(value & AMX, 0 | AMX) {
        return refused("bits 3 and 4 (MPX) go together, and so do bits 17 and 18 (AMX)");
    }
    Ok(())
}
