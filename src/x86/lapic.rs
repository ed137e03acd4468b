//! The registers of a local APIC's page (Intel SDM vol. 3, table 11-1). It never knows where the page came from.

/// Bytes of the page that hold registers.
pub const SIZE: usize = 1024;

/// Names and offsets, in the order of the page.
pub const REGISTERS: &[(&str, usize)] = &[
    ("id", 0x20),
    ("version", 0x30),
    ("tpr", 0x80),
    ("apr", 0x90),
    ("ppr", 0xa0),
    ("ldr", 0xd0),
    ("dfr", 0xe0),
    ("svr", 0xf0),
    ("isr", 0x100),
    ("tmr", 0x180),
    ("irr", 0x200),
    ("esr", 0x280),
    ("lvt_cmci", 0x2f0),
    ("icr_low", 0x300),
    ("icr_high", 0x310),
    ("lvt_timer", 0x320),
    ("lvt_thermal", 0x330),
    ("lvt_pmc", 0x340),
    ("lvt_lint0", 0x350),
    ("lvt_lint1", 0x360),
    ("lvt_error", 0x370),
    ("timer_initial", 0x380),
    ("timer_current", 0x390),
    ("timer_divide", 0x3e0),
];

/// The offset of a register.
pub fn offset(name: &str) -> Option<usize> {
    REGISTERS.iter().find(|(n, _)| *n == name).map(|(_, at)| *at)
}

/// ISR, TMR and IRR have 256 bits: one per vector.
pub fn is_bitmap(offset: usize) -> bool {
    matches!(offset, 0x100 | 0x180 | 0x200)
}

/// Registers that the APIC itself keeps (Intel SDM vol. 3, table 11-1): version, priorities, vectors, the timer's count.
pub fn is_read_only(offset: usize) -> bool {
    matches!(offset, 0x30 | 0x90 | 0xa0 | 0x100..0x280 | 0x390)
}

/// The 32 bits at `offset`, a multiple of sixteen.
pub fn read(page: &[u8], offset: usize) -> Option<u32> {
    let bytes = page.get(offset..offset.checked_add(4)?)?;
    offset.is_multiple_of(16).then(|| bytes.try_into().map(u32::from_le_bytes).ok())?
}

/// Sets the 32 bits at `offset`; false if there is no register.
pub fn write(page: &mut [u8], offset: usize, value: u32) -> bool {
    let end = offset.saturating_add(4);
    match page.get_mut(offset..end).filter(|_| offset.is_multiple_of(16)) {
        Some(place) => {
            place.copy_from_slice(&value.to_le_bytes());
            true
        }
        None => false,
    }
}

/// The 32 bytes of the bitmap at `offset`, which lie four by four.
pub fn bitmap(page: &[u8], offset: usize) -> Vec<u8> {
    (0..8).flat_map(|n| read(page, offset + 16 * n).unwrap_or(0).to_le_bytes()).collect()
}

/// The vectors in the bitmap at `offset`.
pub fn vectors(page: &[u8], offset: usize) -> Vec<u8> {
    let bits = bitmap(page, offset);
    (0..=255).filter(|v: &u8| bits[usize::from(v / 8)] >> (v % 8) & 1 == 1).collect()
}

/// All registers by name, as bytes.
pub fn values(page: &[u8]) -> Vec<(String, Vec<u8>)> {
    let value = |at: usize| {
        if is_bitmap(at) { bitmap(page, at) } else { read(page, at).unwrap_or(0).to_le_bytes().to_vec() }
    };
    REGISTERS.iter().map(|(name, at)| (format!("lapic.{name}"), value(*at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_found_where_the_manual_puts_their_bits() {
        let mut page = [0; SIZE];
        assert!(write(&mut page, 0x200, 1 << 31) && write(&mut page, 0x270, 1 << 31 | 1));
        assert_eq!(vectors(&page, 0x200), [31, 224, 255]);
    }

    #[test]
    fn there_is_no_register_between_two_or_beyond_the_page() {
        let mut page = [0; SIZE];
        assert_eq!(read(&page, 0x84), None);
        assert_eq!(read(&page, 0x400), None);
        assert!(!write(&mut page, usize::MAX, 1) && !write(&mut page, 0x21, 1));
        assert_eq!(values(&[]).len(), REGISTERS.len());
    }
}
