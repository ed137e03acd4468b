//! Segment registers and descriptors. They never know which table they are in.

/// A segment register with its hidden part. Laid out as `struct kvm_segment`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
#[allow(missing_docs)] // their names are the manual's (Intel SDM vol. 3, 3.4.5)
pub struct Segment {
    pub base: u64,
    pub limit: u32,
    pub selector: u16,
    pub kind: u8,
    pub present: u8,
    pub dpl: u8,
    pub db: u8,
    pub s: u8,
    pub l: u8,
    pub g: u8,
    pub avl: u8,
    pub unusable: u8,
    pub padding: u8,
}

/// GDTR or IDTR. Laid out as `struct kvm_dtable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[allow(missing_docs)] // base and limit are what they are
pub struct DescriptorTable {
    pub base: u64,
    pub limit: u16,
    pub padding: [u16; 3],
}

/// Descriptor types of code and data segments (Intel SDM vol. 3, table 3-1).
pub mod kind {
    /// Data, read and write, accessed.
    pub const DATA: u8 = 0b0011;
    /// Code, execute and read, accessed.
    pub const CODE: u8 = 0b1011;
    /// A busy 64-bit task-state segment.
    pub const TSS64: u8 = 0b1011;
    /// A 64-bit interrupt gate.
    pub const INTERRUPT_GATE: u8 = 0b1110;
}

impl Segment {
    /// A real-mode segment: base is sixteen times the selector.
    pub fn real(selector: u16, kind: u8) -> Self {
        let base = u64::from(selector) << 4;
        Self { base, limit: 0xffff, selector, kind, present: 1, s: 1, ..Self::default() }
    }

    /// A flat 4 GiB segment of 32-bit code or data.
    pub fn flat(selector: u16, kind: u8, dpl: u8) -> Self {
        Self { limit: 0xffff_ffff, selector, kind, present: 1, dpl, db: 1, s: 1, g: 1, ..Self::default() }
    }

    /// A 64-bit code segment.
    pub fn long_code(selector: u16, dpl: u8) -> Self {
        Self { db: 0, l: 1, ..Self::flat(selector, kind::CODE, dpl) }
    }

    /// The segment that an 8-byte descriptor describes, loaded by `selector`.
    pub fn from_descriptor(descriptor: u64, selector: u16) -> Self {
        let field = |at: u32, bits: u32| descriptor >> at & ((1 << bits) - 1);
        let byte = |at: u32, bits: u32| u8::try_from(field(at, bits)).unwrap_or(0);
        let limit = u32::try_from(field(0, 16) | field(48, 4) << 16).unwrap_or(0);
        let g = byte(55, 1);
        Self {
            base: field(16, 24) | field(56, 8) << 24,
            limit: if g == 1 { limit << 12 | 0xfff } else { limit },
            selector,
            kind: byte(40, 4),
            present: byte(47, 1),
            dpl: byte(45, 2),
            db: byte(54, 1),
            s: byte(44, 1),
            l: byte(53, 1),
            g,
            avl: byte(52, 1),
            unusable: 1 - byte(47, 1),
            padding: 0,
        }
    }

    /// The fields by name.
    pub fn values(&self) -> [(&'static str, u64); 12] {
        [
            ("selector", self.selector.into()),
            ("base", self.base),
            ("limit", self.limit.into()),
            ("type", self.kind.into()),
            ("present", self.present.into()),
            ("dpl", self.dpl.into()),
            ("db", self.db.into()),
            ("s", self.s.into()),
            ("l", self.l.into()),
            ("g", self.g.into()),
            ("avl", self.avl.into()),
            ("unusable", self.unusable.into()),
        ]
    }

    /// All fields in three words, for storing.
    pub fn words(&self) -> [u64; 3] {
        let Self { kind, present, dpl, db, s, l, g, avl, .. } = *self;
        let visible = u64::from(self.limit) | u64::from(self.selector) << 32 | u64::from(self.unusable) << 48;
        [self.base, visible, u64::from_le_bytes([kind, present, dpl, db, s, l, g, avl])]
    }

    /// What was stored.
    pub fn from_words([base, visible, attributes]: [u64; 3]) -> Self {
        let [kind, present, dpl, db, s, l, g, avl] = attributes.to_le_bytes();
        let [l0, l1, l2, l3, s0, s1, unusable, _] = visible.to_le_bytes();
        let (limit, selector) = (u32::from_le_bytes([l0, l1, l2, l3]), u16::from_le_bytes([s0, s1]));
        Self { base, limit, selector, kind, present, dpl, db, s, l, g, avl, unusable, padding: 0 }
    }

    /// The 8-byte descriptor that loads into this segment register.
    pub fn descriptor(&self) -> u64 {
        let limit = u64::from(if self.g == 1 { self.limit >> 12 } else { self.limit });
        let bit = |value: u8, at: u32| u64::from(value & 1) << at;
        (limit & 0xffff)
            | (self.base & 0xff_ffff) << 16
            | u64::from(self.kind & 0xf) << 40
            | bit(self.s, 44)
            | u64::from(self.dpl & 3) << 45
            | bit(self.present, 47)
            | (limit >> 16 & 0xf) << 48
            | bit(self.avl, 52)
            | bit(self.l, 53)
            | bit(self.db, 54)
            | bit(self.g, 55)
            | (self.base >> 24 & 0xff) << 56
    }
}

/// A 16-byte gate of a 64-bit IDT: an interrupt gate to `handler` through `selector`, callable from ring `dpl`.
pub fn interrupt_gate(handler: u64, selector: u16, dpl: u8) -> [u64; 2] {
    let low = (handler & 0xffff)
        | u64::from(selector) << 16
        | u64::from(kind::INTERRUPT_GATE) << 40
        | u64::from(dpl & 3) << 45
        | 1 << 47
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The segment that a processor loads from `descriptor` (Intel SDM vol. 3, 3.4.5), field by field.
    fn loaded(descriptor: u64, selector: u16) -> Segment {
        let bits = |from: u32, count: u32| descriptor >> from & ((1 << count) - 1);
        let bit = |at: u32| u8::try_from(bits(at, 1)).expect("one bit");
        let limit = u32::try_from(bits(48, 4) << 16 | bits(0, 16)).expect("20 bits");
        Segment {
            base: bits(56, 8) << 24 | bits(16, 24),
            limit: if bit(55) == 1 { limit << 12 | 0xfff } else { limit },
            selector,
            kind: u8::try_from(bits(40, 4)).expect("4 bits"),
            s: bit(44),
            dpl: u8::try_from(bits(45, 2)).expect("2 bits"),
            present: bit(47),
            avl: bit(52),
            l: bit(53),
            db: bit(54),
            g: bit(55),
            ..Segment::default()
        }
    }

    proptest! {
        #[test]
        fn a_descriptor_loads_into_the_segment_that_it_was_made_from(descriptor: u64, selector: u16) {
            let segment = loaded(descriptor, selector);
            prop_assert_eq!(segment.descriptor(), descriptor);
            prop_assert_eq!(loaded(segment.descriptor(), selector), segment);
        }

        #[test]
        fn made_segments_survive_their_descriptor(selector: u16, kind in 0u8..16, dpl in 0u8..4) {
            let segments = [Segment::real(selector, kind), Segment::flat(selector, kind, dpl),
                Segment::long_code(selector, dpl)];
            for segment in segments {
                prop_assert_eq!(loaded(segment.descriptor(), selector), segment);
            }
        }

        #[test]
        fn a_gate_holds_handler_selector_and_ring(handler: u64, selector: u16, dpl in 0u8..4) {
            let [low, high] = interrupt_gate(handler, selector, dpl);
            prop_assert_eq!(high << 32 | low >> 48 << 16 | low & 0xffff, handler);
            prop_assert_eq!((low >> 16 & 0xffff, low >> 45 & 3), (u64::from(selector), u64::from(dpl)));
            prop_assert_eq!(low >> 32 & 0x1fff, 0xe00); // no stack of its own; type 14; the S bit is clear
        }
    }

    #[test]
    fn flat_descriptors_are_the_ones_every_boot_loader_uses() {
        assert_eq!(Segment::flat(0x8, kind::CODE, 0).descriptor(), 0x00cf_9b00_0000_ffff);
        assert_eq!(Segment::flat(0x10, kind::DATA, 0).descriptor(), 0x00cf_9300_0000_ffff);
        assert_eq!(Segment::long_code(0x8, 0).descriptor(), 0x00af_9b00_0000_ffff);
    }

    proptest! {
        #[test]
        fn a_descriptor_comes_back_from_the_segment_that_it_describes(descriptor in any::<u64>(), selector in any::<u16>()) {
            let segment = Segment::from_descriptor(descriptor, selector);
            prop_assert_eq!(segment.descriptor(), descriptor);
            prop_assert_eq!(Segment::from_words(segment.words()), segment);
        }
    }

    #[test]
    fn a_gate_holds_its_handler() {
        let [low, high] = interrupt_gate(0x1234_5678_9abc_def0, 8, 3);
        assert_eq!(low, 0x9abc_ee00_0008_def0);
        assert_eq!(high, 0x1234_5678);
    }
}
