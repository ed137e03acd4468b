//! Where the handlers in a guest's interrupt descriptor table begin. It never delivers anything.

use crate::memory::Memory;
use crate::source::ReadMemory;
use crate::x86::{Segment, Sregs, cr0, efer};

use super::repair::locate;

/// The linear address of the first instruction of the handler of `vector`; none where the table has none, or none that is
/// mapped (Intel SDM vol. 3, 6.10 to 6.14; in real mode 21.1.4).
pub(super) fn handler(vector: u8, sregs: &Sregs, memory: &Memory) -> Option<u64> {
    const PRESENT: u64 = 1 << 47;
    let read = |at: u64| memory.read_u64(locate(sregs, memory, at)?.0).ok();
    let entry = |size: u64| {
        let offset = u64::from(vector) * size;
        (offset + size - 1 <= sregs.idt.limit.into()).then(|| sregs.idt.base.wrapping_add(offset))
    };
    if sregs.cr0 & cr0::PE == 0 {
        let vector = read(entry(4)?)?;
        return Some((vector >> 16 & 0xffff) * 16 + (vector & 0xffff));
    }
    let is_long = sregs.efer & efer::LMA != 0;
    let at = entry(if is_long { 16 } else { 8 })?;
    let gate = read(at)?;
    let (kind, selector) = (gate >> 40 & 0x1f, gate >> 16 & 0xffff);
    let offset = match kind {
        _ if gate & PRESENT == 0 => return None,
        0x0e | 0x0f => gate & 0xffff | gate >> 32 & 0xffff_0000,
        0x06 | 0x07 if !is_long => gate & 0xffff,
        _ => return None, // a task's, or none
    };
    if is_long {
        return Some(offset | read(at.wrapping_add(8))? << 32);
    }
    let descriptor = read(sregs.gdt.base.wrapping_add(selector & 0xfff8))?;
    let code = Segment::from_descriptor(descriptor, 0);
    Some(code.base.wrapping_add(offset) & 0xffff_ffff)
}
