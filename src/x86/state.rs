//! Everything that a vCPU holds, as one value: by name for people, in words for storing. It never asks a vCPU.

use super::lapic;
use super::msr;
use super::pending::Pending;
use super::regs::{Regs, Sregs};
use super::segment::{DescriptorTable, Segment};
use super::xsave::{Component, Layout};

/// DR0 to DR3, DR6 and DR7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DebugRegs {
    /// The values, in the order of [`DebugRegs::NAMES`].
    pub words: [u64; 6],
}

impl DebugRegs {
    /// Their names.
    pub const NAMES: [&'static str; 6] = ["dr0", "dr1", "dr2", "dr3", "dr6", "dr7"];
}

/// The state of one vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// General registers.
    pub regs: Regs,
    /// System registers.
    pub sregs: Sregs,
    /// Debug registers.
    pub debug: DebugRegs,
    /// What is pending.
    pub pending: Pending,
    /// `KVM_MP_STATE_*`.
    pub mp_state: u64,
    /// XCR0; 0 on a processor without XSAVE.
    pub xcr0: u64,
    /// Where the registers lie in `xsave`.
    pub layout: Layout,
    /// The XSAVE area in its standard form.
    pub xsave: Vec<u8>,
    /// Model-specific registers by number.
    pub msrs: Vec<(u32, u64)>,
    /// The page of the local APIC in the kernel; empty if there is none.
    pub lapic: Vec<u8>,
}

/// The largest task priority: KVM enters no vCPU with a larger one in CR8.
pub const MOST_CR8: u64 = 15;

/// A value with its name, lowest byte first.
pub type Named = (String, Vec<u8>);

/// The first word of an encoded state: a name, and the version of the format.
const MAGIC: u64 = u64::from_le_bytes(*b"bjstate\x01");

impl State {
    /// Every value with a readable name, in the order in which people look at them.
    pub fn values(&self) -> Vec<Named> {
        let word = |name: &str, value: u64| (name.to_string(), value.to_le_bytes().to_vec());
        let mut all: Vec<Named> =
            Regs::NAMES.iter().zip(self.regs.words).map(|(n, v)| word(&format!("regs.{n}"), v)).collect();
        let s = &self.sregs;
        for (name, segment) in s.segments() {
            all.extend(segment.values().map(|(field, value)| word(&format!("{name}.{field}"), value)));
        }
        for (name, table) in [("gdt", s.gdt), ("idt", s.idt)] {
            all.push(word(&format!("{name}.base"), table.base));
            all.push(word(&format!("{name}.limit"), table.limit.into()));
        }
        let control =
            [("cr0", s.cr0), ("cr2", s.cr2), ("cr3", s.cr3), ("cr4", s.cr4), ("cr8", s.cr8), ("efer", s.efer)];
        all.extend(control.map(|(name, value)| word(name, value)));
        all.extend([word("apic_base", s.apic_base), word("xcr0", self.xcr0)]);
        all.extend(DebugRegs::NAMES.iter().zip(self.debug.words).map(|(name, value)| word(name, value)));
        all.extend(self.layout.values(&self.xsave));
        all.extend(self.msrs.iter().map(|(number, value)| word(&msr_name(*number), *value)));
        if !self.lapic.is_empty() {
            all.extend(lapic::values(&self.lapic));
        }
        all.extend(Pending::NAMES.iter().zip(self.pending.words).map(|(n, v)| word(&format!("events.{n}"), v)));
        all.push(word("mp_state", self.mp_state));
        all
    }

    /// The names of values that change by themselves, while the vCPU is stopped.
    pub fn volatile() -> Vec<String> {
        let counters = msr::COUNTERS.iter().map(|number| msr_name(*number));
        counters.chain(["lapic.timer_current".to_string()]).collect()
    }

    /// For storing: 64-bit words, little end first.
    pub fn encode(&self) -> Vec<u8> {
        let mut words = vec![MAGIC];
        words.extend(self.regs.words);
        words.extend(self.sregs.words());
        words.extend(self.debug.words);
        words.extend(self.pending.words);
        words.extend([self.mp_state, self.xcr0]);
        let components = self.layout.components.iter().flat_map(|c| [c.number, c.offset, c.size].map(u64::from));
        put(&mut words, self.layout.components.len(), components);
        put(&mut words, self.xsave.len(), self.xsave.chunks(8).map(word_of));
        put(&mut words, self.msrs.len(), self.msrs.iter().flat_map(|(number, value)| [u64::from(*number), *value]));
        put(&mut words, self.lapic.len(), self.lapic.chunks(8).map(word_of));
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// What was encoded; nothing for bytes that are no state.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = Words(bytes);
        if words.next()? != MAGIC {
            return None;
        }
        let state = Self {
            regs: Regs { words: words.array()? },
            sregs: Sregs::from_words(&words.array()?),
            debug: DebugRegs { words: words.array()? },
            pending: Pending { words: words.array()? },
            mp_state: words.next()?,
            xcr0: words.next()?,
            layout: words.layout()?,
            xsave: words.bytes()?,
            msrs: words.msrs()?,
            lapic: words.bytes()?,
        };
        (words.0.is_empty() && state.is_sound()).then_some(state)
    }

    /// Is it one that a vCPU could have had? Numbers rise, and what is said to lie in the XSAVE area does.
    fn is_sound(&self) -> bool {
        let components = &self.layout.components;
        let inside = |c: &Component| {
            let end = u64::from(c.offset) + u64::from(c.size);
            (2..63).contains(&c.number) && usize::try_from(end).is_ok_and(|end| end <= self.xsave.len())
        };
        self.sregs.cr8 <= MOST_CR8
            && components.iter().all(inside)
            && components.windows(2).all(|pair| pair[0].number < pair[1].number)
            && self.msrs.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && matches!(self.lapic.len(), 0 | lapic::SIZE)
    }
}

fn msr_name(number: u32) -> String {
    msr::name(number).map_or_else(|| format!("msr.{number:#x}"), |name| format!("msr.{name}"))
}

fn word_of(chunk: &[u8]) -> u64 {
    chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn put(words: &mut Vec<u64>, count: usize, items: impl Iterator<Item = u64>) {
    words.push(u64::try_from(count).unwrap_or(0));
    words.extend(items);
}

/// Encoded words that are left.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn next(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    fn array<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut array = [0; N];
        for word in &mut array {
            *word = self.next()?;
        }
        Some(array)
    }

    /// A count that the bytes left can hold.
    fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.next()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }

    fn number(&mut self) -> Option<u32> {
        u32::try_from(self.next()?).ok()
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let count = self.count()?;
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            bytes.extend(self.next()?.to_le_bytes());
        }
        bytes.truncate(count);
        Some(bytes)
    }

    fn layout(&mut self) -> Option<Layout> {
        let component = |w: &mut Self| Some(Component { number: w.number()?, offset: w.number()?, size: w.number()? });
        let components = (0..self.count()?).map(|_| component(self)).collect::<Option<_>>()?;
        Some(Layout { components })
    }

    fn msrs(&mut self) -> Option<Vec<(u32, u64)>> {
        (0..self.count()?).map(|_| Some((self.number()?, self.next()?))).collect()
    }
}

/// Words of a segment, of which there are eight, and of all system registers.
const SEGMENT: usize = 3;
const SREGS: usize = 8 * SEGMENT + 2 * 2 + 7 + 4;

impl Sregs {
    /// The segment registers by name.
    pub fn segments(&self) -> [(&'static str, &Segment); 8] {
        [
            ("cs", &self.cs),
            ("ds", &self.ds),
            ("es", &self.es),
            ("fs", &self.fs),
            ("gs", &self.gs),
            ("ss", &self.ss),
            ("tr", &self.tr),
            ("ldt", &self.ldt),
        ]
    }

    fn words(&self) -> Vec<u64> {
        let mut words: Vec<u64> = self.segments().iter().flat_map(|(_, segment)| segment.words()).collect();
        words.extend([self.gdt.base, self.gdt.limit.into(), self.idt.base, self.idt.limit.into()]);
        words.extend([self.cr0, self.cr2, self.cr3, self.cr4, self.cr8, self.efer, self.apic_base]);
        words.extend(self.interrupt_bitmap);
        words
    }

    fn from_words(words: &[u64; SREGS]) -> Self {
        let segment = |n: usize| Segment::from_words([words[3 * n], words[3 * n + 1], words[3 * n + 2]]);
        let table = |at: usize| DescriptorTable {
            base: words[at],
            limit: u16::try_from(words[at + 1] & 0xffff).unwrap_or(0),
            ..DescriptorTable::default()
        };
        let rest = &words[8 * SEGMENT + 4..];
        Self {
            cs: segment(0),
            ds: segment(1),
            es: segment(2),
            fs: segment(3),
            gs: segment(4),
            ss: segment(5),
            tr: segment(6),
            ldt: segment(7),
            gdt: table(8 * SEGMENT),
            idt: table(8 * SEGMENT + 2),
            cr0: rest[0],
            cr2: rest[1],
            cr3: rest[2],
            cr4: rest[3],
            cr8: rest[4],
            efer: rest[5],
            apic_base: rest[6],
            interrupt_bitmap: [rest[7], rest[8], rest[9], rest[10]],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(seed: u64, xsave: Vec<u8>, msrs: Vec<(u32, u64)>, lapic: bool) -> State {
        let mut state = State { xsave, msrs, xcr0: seed, mp_state: seed >> 60, ..State::default() };
        state.regs.words[3] = seed;
        state.sregs.gs.base = seed;
        state.sregs.gs.limit = 0xffff_ffff;
        state.sregs.ldt.unusable = 1;
        state.sregs.idt.limit = 0xfff;
        state.sregs.interrupt_bitmap[3] = seed;
        state.pending.words[19] = 1;
        state.lapic = if lapic { vec![7; lapic::SIZE] } else { vec![] };
        if state.xsave.len() >= 832 {
            state.layout.components.push(Component { number: 2, offset: 576, size: 256 });
        }
        state.msrs.sort_by_key(|(number, _)| *number);
        state.msrs.dedup_by_key(|(number, _)| *number);
        state
    }

    #[test]
    fn what_no_vcpu_could_have_had_is_no_state() {
        let good = state(1, vec![0; 1024], vec![(1, 2), (3, 4)], true);
        assert!(State::decode(&good.encode()).is_some());
        let damage: [fn(&mut State); 6] = [
            |s| s.sregs.cr8 = 16,
            |s| s.layout.components[0].number = 64,
            |s| s.layout.components[0].offset = 1000,
            |s| s.layout.components.extend_from_within(..),
            |s| s.msrs[1].0 = 1,
            |s| s.lapic.truncate(8),
        ];
        for damage in damage {
            let mut bad = good.clone();
            damage(&mut bad);
            assert_eq!(State::decode(&bad.encode()), None);
        }
    }

    proptest! {
        #[test]
        fn a_state_comes_back_from_its_encoding(
            seed in any::<u64>(), xsave in proptest::collection::vec(any::<u8>(), 0..1200),
            msrs in proptest::collection::vec(any::<(u32, u64)>(), 0..9), lapic in any::<bool>(),
        ) {
            let state = state(seed, xsave, msrs, lapic);
            prop_assert_eq!(State::decode(&state.encode()), Some(state));
        }

        #[test]
        fn damaged_bytes_are_no_state_and_no_panic(cut in 0_usize..2000, at in 0_usize..2000, byte in any::<u8>()) {
            let mut bytes = state(5, vec![3; 700], vec![(1, 2)], true).encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Some(state) = State::decode(&bytes) {
                state.values();
            }
            bytes.truncate(cut.min(bytes.len() - 1));
            prop_assert_eq!(State::decode(&bytes), None);
        }
    }

    #[test]
    fn no_two_values_have_one_name() {
        let numbers = msr::NAMES.iter().map(|(_, number)| (*number, 1)).collect();
        let values = state(1, vec![0; 1024], numbers, true).values();
        let mut names: Vec<_> = values.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), values.len());
    }
}
