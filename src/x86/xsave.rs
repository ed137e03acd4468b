//! The XSAVE area in its standard form: where each x87, SSE, AVX and AVX-512 register lies, by CPUID leaf 0xD.
//! It never asks a processor: the layout comes with the area.

/// The area's header: which components are not in their initial state (Intel SDM vol. 1, 13.4.2).
const XSTATE_BV: usize = 512;
/// The end of the header.
const HEADER_END: usize = 576;
/// State components (Intel SDM vol. 1, 13.1).
pub mod component {
    /// x87.
    pub const X87: u32 = 0;
    /// XMM registers and MXCSR.
    pub const SSE: u32 = 1;
    /// The upper halves of YMM0 to YMM15.
    pub const AVX: u32 = 2;
    /// AVX-512 masks.
    pub const OPMASK: u32 = 5;
    /// The upper halves of ZMM0 to ZMM15.
    pub const ZMM_HIGH: u32 = 6;
    /// ZMM16 to ZMM31.
    pub const HIGH_ZMM: u32 = 7;
    /// Protection keys.
    pub const PKRU: u32 = 9;
}
use component::{AVX, HIGH_ZMM, OPMASK, PKRU, SSE, X87, ZMM_HIGH};

/// Where one component lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Its bit in XCR0.
    pub number: u32,
    /// Its first byte.
    pub offset: u32,
    /// Its length in bytes.
    pub size: u32,
}

impl Component {
    /// Its name, as that of its bit in XCR0; of one that has none, the number.
    pub fn name(&self) -> String {
        let name = match self.number {
            AVX => "avx",
            3 => "bndregs",
            4 => "bndcsr",
            OPMASK => "opmask",
            ZMM_HIGH => "zmm_hi256",
            HIGH_ZMM => "hi16_zmm",
            PKRU => "pkru",
            11 => "cet_u",
            12 => "cet_s",
            17 => "tilecfg",
            18 => "tiledata",
            19 => "apx",
            other => return format!("bit{other}"),
        };
        name.to_string()
    }
}

/// Where the components beyond x87 and SSE lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// In the order of their numbers.
    pub components: Vec<Component>,
}

/// A register in the area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // their names are the manual's
pub enum Register {
    Fcw,
    Fsw,
    Ftw,
    Fop,
    Fip,
    Fdp,
    Mxcsr,
    St(usize),
    Xmm(usize),
    Ymm(usize),
    Zmm(usize),
    Mask(usize),
    Pkru,
}
use Register::{Fcw, Fdp, Fip, Fop, Fsw, Ftw, Mask, Mxcsr, Pkru, St, Xmm, Ymm, Zmm};

/// Some bytes of a register: component, offset, length.
type Piece = (u32, usize, usize);

impl Layout {
    /// From the subleaves of CPUID leaf 0xD, as (number, EAX, EBX, ECX): those that the user state has.
    pub fn new(subleaves: impl IntoIterator<Item = (u32, u32, u32, u32)>) -> Self {
        let is_user =
            |&(number, size, _, ecx): &(u32, u32, u32, u32)| (2..63).contains(&number) && size != 0 && ecx & 1 == 0;
        let of = |(number, size, offset, _)| Component { number, offset, size };
        let mut components: Vec<_> = subleaves.into_iter().filter(is_user).map(of).collect();
        components.sort_by_key(|c| c.number);
        Self { components }
    }

    /// Offset and length of component `number`.
    fn component(&self, number: u32) -> Option<(usize, usize)> {
        match number {
            X87 => Some((0, 160)),
            SSE => Some((160, 256)),
            _ => {
                let found = self.components.iter().find(|c| c.number == number)?;
                Some((usize::try_from(found.offset).ok()?, usize::try_from(found.size).ok()?))
            }
        }
    }

    /// A piece of component `number`, `at` bytes into it.
    fn piece(&self, number: u32, at: usize, len: usize) -> Option<Piece> {
        let (offset, size) = self.component(number)?;
        (at + len <= size).then_some((number, offset.checked_add(at)?, len))
    }

    /// Where a register lies, low bytes first; nothing if this area has it not.
    fn pieces(&self, register: Register) -> Option<Vec<Piece>> {
        let one = |number, at, len| self.piece(number, at, len).map(|piece| vec![piece]);
        let join = |mut low: Vec<Piece>, high: Piece| {
            low.push(high);
            low
        };
        match register {
            Fcw => one(X87, 0, 2),
            Fsw => one(X87, 2, 2),
            Ftw => one(X87, 4, 1),
            Fop => one(X87, 6, 2),
            Fip => one(X87, 8, 8),
            Fdp => one(X87, 16, 8),
            Mxcsr => Some(vec![(SSE, 24, 4)]),
            St(n @ 0..8) => one(X87, 32 + 16 * n, 10),
            Xmm(n @ 0..16) => one(SSE, 16 * n, 16),
            Ymm(n @ 0..16) => Some(join(self.pieces(Xmm(n))?, self.piece(AVX, 16 * n, 16)?)),
            Zmm(n @ 0..16) => Some(join(self.pieces(Ymm(n))?, self.piece(ZMM_HIGH, 32 * n, 32)?)),
            Xmm(n @ 16..32) => one(HIGH_ZMM, 64 * (n - 16), 16),
            Ymm(n @ 16..32) => one(HIGH_ZMM, 64 * (n - 16), 32),
            Zmm(n @ 16..32) => one(HIGH_ZMM, 64 * (n - 16), 64),
            Mask(n @ 0..8) => one(OPMASK, 8 * n, 8),
            Pkru => one(PKRU, 0, 4),
            _ => None,
        }
    }

    /// How many registers there are of a kind (given as its constructor).
    pub fn count(&self, kind: fn(usize) -> Register) -> usize {
        (0..32).take_while(|n| self.pieces(kind(*n)).is_some()).count()
    }

    /// How many bytes a register has; nothing if this area has it not.
    pub fn width(&self, register: Register) -> Option<usize> {
        Some(self.pieces(register)?.iter().map(|(_, _, len)| len).sum())
    }

    /// The bytes of a register, lowest first; nothing if this area has it not.
    pub fn get(&self, area: &[u8], register: Register) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for (number, at, len) in self.pieces(register)? {
            let stored = area.get(at..at.checked_add(len)?)?;
            let in_use = in_use(area) & components_of(register, number) != 0;
            bytes.extend(if in_use { stored.to_vec() } else { initial(register, len) });
        }
        Some(bytes)
    }

    /// Sets a register, and says in the header that its components are in use; false if this area has it not.
    pub fn set(&self, area: &mut [u8], register: Register, value: &[u8]) -> bool {
        let Some(pieces) = self.pieces(register) else { return false };
        if self.width(register) != Some(value.len()) || area.len() < HEADER_END {
            return false;
        }
        let mut left = value;
        for (number, at, len) in pieces {
            let (now, later) = left.split_at(len);
            self.bring_into_use(area, number);
            let Some(place) = area.get_mut(at..at + len) else { return false };
            place.copy_from_slice(now);
            left = later;
        }
        true
    }

    /// Writes a component's initial state where the header alone says that it has it.
    fn bring_into_use(&self, area: &mut [u8], number: u32) {
        let used = in_use(area);
        if used & 1 << number != 0 {
            return;
        }
        if let Some(place) = self.component(number).and_then(|(at, len)| area.get_mut(at..at.checked_add(len)?)) {
            let mxcsr: [u8; 8] = place.get(24..32).and_then(|b| b.try_into().ok()).unwrap_or_default();
            place.fill(0);
            if number == X87 {
                place[..2].copy_from_slice(&initial(Fcw, 2));
                place[24..32].copy_from_slice(&mxcsr);
            }
        }
        if number == SSE && used & 1 << AVX == 0 {
            area[24..28].copy_from_slice(&initial(Mxcsr, 4));
        }
        area[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&(used | 1 << number).to_le_bytes());
    }

    /// All registers by name, as bytes: vectors in parts, so that one change is one value that differs.
    pub fn values(&self, area: &[u8]) -> Vec<(String, Vec<u8>)> {
        let fixed =
            [("fcw", Fcw), ("fsw", Fsw), ("ftw", Ftw), ("fop", Fop), ("fip", Fip), ("fdp", Fdp), ("mxcsr", Mxcsr)];
        let mut all: Vec<_> = fixed.map(|(name, register)| (name.to_string(), self.get(area, register))).into();
        all.extend((0..8).map(|n| (format!("st{n}"), self.get(area, St(n)))));
        all.extend((0..16).map(|n| (format!("xmm{n}"), self.get(area, Xmm(n)))));
        all.extend((0..16).map(|n| (format!("ymm{n}.high"), self.get(area, Ymm(n)).map(|b| b[16..].to_vec()))));
        all.extend((0..16).map(|n| (format!("zmm{n}.high"), self.get(area, Zmm(n)).map(|b| b[32..].to_vec()))));
        all.extend((16..32).map(|n| (format!("zmm{n}"), self.get(area, Zmm(n)))));
        all.extend((0..8).map(|n| (format!("k{n}"), self.get(area, Mask(n)))));
        all.push(("pkru".into(), self.get(area, Pkru)));
        let unnamed = self.components.iter().filter(|c| ![AVX, OPMASK, ZMM_HIGH, HIGH_ZMM, PKRU].contains(&c.number));
        all.extend(unnamed.map(|c| (format!("xsave.{}", c.number), self.whole(area, c.number))));
        all.into_iter().filter_map(|(name, bytes)| Some((name, bytes?))).collect()
    }

    fn whole(&self, area: &[u8], number: u32) -> Option<Vec<u8>> {
        let (at, len) = self.component(number)?;
        let stored = area.get(at..at.checked_add(len)?)?;
        Some(if in_use(area) & 1 << number != 0 { stored.to_vec() } else { vec![0; len] })
    }
}

/// The components that the header says are in use.
fn in_use(area: &[u8]) -> u64 {
    let word = area.get(XSTATE_BV..XSTATE_BV + 8).and_then(|b| b.try_into().ok());
    word.map_or(0, u64::from_le_bytes)
}

/// The components whose use makes the stored bytes count. MXCSR belongs to SSE and to AVX (Intel SDM vol. 1, 13.5.2).
fn components_of(register: Register, number: u32) -> u64 {
    if register == Mxcsr { 1 << SSE | 1 << AVX } else { 1 << number }
}

/// What a register holds at first (Intel SDM vol. 1, 13.6).
fn initial(register: Register, len: usize) -> Vec<u8> {
    match register {
        Fcw => 0x037f_u16.to_le_bytes().to_vec(),
        Mxcsr => 0x1f80_u32.to_le_bytes().to_vec(),
        _ => vec![0; len],
    }
}

#[cfg(test)]
#[path = "xsave_tests.rs"]
mod tests;
