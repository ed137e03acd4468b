//! The other tables of kallsyms, found around the token table: names, markers, addresses, in the layouts that kernels
//! have had since 4.6. It never decodes a name.

use crate::source::ReadMemory;

use super::image::{Image, u32_at, u64_at};
use super::tokens::Tokens;

/// Tables that lie before the token table lie at most this many bytes before it.
const WINDOW: u64 = 24 << 20;
/// A kernel with more symbols is not read; a distribution's has some 200,000.
const MOST_SYMBOLS: u32 = 1 << 21;
/// Each marker stands for so many names.
pub const CHUNK: usize = 256;
/// The names of a chunk take between these many bytes.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = 512..=0x2_0000;
/// What has fewer markers is not taken for a table.
const FEWEST_MARKERS: usize = 4;
/// So many runs of numbers that look like markers are looked at, for each token table.
const MOST_RUNS: usize = 64;
/// So many numbers that could be that of the names are looked at, for each such run.
const MOST_COUNTS: usize = 16;
/// Kernels are mapped from here on (Linux, Documentation/arch/x86/x86_64/mm.rst), in at most 1 GiB.
pub const KERNEL: std::ops::Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;

/// A kernel's image has fewer bytes.
pub const LARGEST: u64 = 512 << 20;

/// Where everything is.
#[derive(Debug, PartialEq, Eq)]
pub struct Tables {
    /// How many symbols there are.
    pub count: u32,
    /// Where `names` comes from.
    pub names_at: u64,
    /// All names, compressed: for each its length and its tokens.
    pub names: Vec<u8>,
    /// Where in `names` each chunk begins.
    pub markers: Vec<u64>,
    /// The symbols' addresses.
    pub addresses: Addresses,
}

/// The addresses of all symbols, in ascending order.
#[derive(Debug, PartialEq, Eq)]
pub enum Addresses {
    /// As the guest sees them.
    Virtual(Vec<u64>),
    /// Guest-physical: the table tells how far each symbol is from the table (Linux 7.0 and later).
    Physical(Vec<u64>),
}

impl Tables {
    /// The tables that belong to `tokens`.
    pub fn around<M: ReadMemory>(image: &Image<'_, M>, tokens: &Tokens) -> Option<Self> {
        let (first, _) = image.stretch(tokens.at)?;
        let start = first.max(tokens.at.saturating_sub(WINDOW)).next_multiple_of(8);
        let window = image.bytes(start, tokens.at)?;
        let (markers_in, markers, names_in, count) = names(&window)?;
        let names_at = start + u64::try_from(names_in).ok()?;
        let addresses = addresses(image, tokens.end, names_at - 8, count)?;
        Some(Self { count, names_at, names: window[names_in..markers_in].to_vec(), markers, addresses })
    }
}

impl Tables {
    /// The names of a chunk, of which there are `count`, if they end where the next chunk begins.
    pub fn chunk(&self, chunk: usize, count: usize) -> Option<&[u8]> {
        let start = usize::try_from(*self.markers.get(chunk)?).ok()?;
        let end = self.markers.get(chunk + 1).map_or(Some(self.names.len()), |m| usize::try_from(*m).ok())?;
        let names = self.names.get(start..end)?;
        let used = skip(names, 0, count)?;
        // The last chunk is filled up to where the markers begin.
        (used == names.len() || chunk + 1 == self.markers.len()).then_some(names)
    }
}

/// Where the markers lie in `window`, what they are, where the names lie and how many.
fn names(window: &[u8]) -> Option<(usize, Vec<u64>, usize, u32)> {
    let begins = |at: &usize| u32_at(window, *at) == Some(0) && u64_at(window, at + 4).is_some_and(|next| next != 0);
    let places = (0..window.len() / 8).rev().map(|i| 8 * i).filter(begins);
    let runs = places.flat_map(|at| [4, 8].map(|size| (at, run(window, at, size))));
    let mut plausible = runs.filter(|(_, run)| run.len() >= FEWEST_MARKERS).take(MOST_RUNS);
    plausible.find_map(|(at, mut markers)| {
        let (names, count) = names_before(window, at, &markers)?;
        markers.truncate(chunks(count));
        Some((at, markers, names, count))
    })
}

/// The numbers from `at` on, of `size` bytes each, for as long as they grow as markers do.
fn run(window: &[u8], at: usize, size: usize) -> Vec<u64> {
    let number =
        |i: usize| if size == 8 { u64_at(window, at + 8 * i) } else { u32_at(window, at + 4 * i).map(u64::from) };
    let mut before = None;
    let grows = |next: &u64| {
        let fits = before.map_or(*next == 0, |b| next.checked_sub(b).is_some_and(|n| CHUNK_BYTES.contains(&n)));
        before = Some(*next);
        fits
    };
    (0_usize..).map_while(number).take_while(grows).collect()
}

/// Where the names that `markers` (at `at`) are about begin, and how many they are.
fn names_before(window: &[u8], at: usize, markers: &[u64]) -> Option<(usize, u32)> {
    // What follows the markers may look as if it belonged to them.
    let lengths = (markers.len().saturating_sub(2)..=markers.len()).rev().filter(|n| *n >= FEWEST_MARKERS);
    lengths.map(|n| &markers[..n]).find_map(|markers| {
        let mut places = counted(window, at, markers).take(MOST_COUNTS);
        places.find(|(names, count)| fits(window, *names, at, markers, *count))
    })
}

/// Where the names could begin: they end where the markers begin, and before them is their number.
fn counted(window: &[u8], at: usize, markers: &[u64]) -> impl Iterator<Item = (usize, u32)> {
    let last = markers.last().and_then(|m| usize::try_from(*m).ok()).and_then(|m| at.checked_sub(m)).unwrap_or(0);
    let most = usize::try_from(*CHUNK_BYTES.end()).unwrap_or(0);
    let places = (last.saturating_sub(most) / 8..=last / 8).rev().map(|i| 8 * i).filter(|names| *names >= 8);
    let counted = places.filter_map(|names| Some((names, u32_at(window, names - 8)?)));
    counted.filter(|(_, count)| *count <= MOST_SYMBOLS && chunks(*count) == markers.len())
}

/// Do the names at `names` go from marker to marker, in the first chunk and in the last?
fn fits(window: &[u8], names: usize, markers_at: usize, markers: &[u64], count: u32) -> bool {
    let place = |i: usize| usize::try_from(markers[i]).ok().map(|m| names + m);
    let Some((second, last)) = place(1).zip(place(markers.len() - 1)) else { return false };
    let rest = usize::try_from(count).map_or(0, |count| count - CHUNK * (markers.len() - 1));
    skip(window, names, CHUNK) == Some(second)
        && skip(window, last, rest).map(|end| end.next_multiple_of(8)) == Some(markers_at)
}

/// Where the `n` names at `at` end.
fn skip(bytes: &[u8], at: usize, n: usize) -> Option<usize> {
    (0..n).try_fold(at, |at, _| name(bytes, at).map(|(_, end)| end))
}

/// Where the tokens of the name at `at` begin and end. A length from 128 on takes two bytes (Linux 6.1 and later).
pub fn name(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let (first, second) = (usize::from(*bytes.get(at)?), usize::from(*bytes.get(at + 1)?));
    let (start, len) = if first < 0x80 { (at + 1, first) } else { (at + 2, (first & 0x7f) | second << 7) };
    (len > 0 && start + len <= bytes.len()).then_some((start, start + len))
}

fn chunks(count: u32) -> usize {
    usize::try_from(count).map_or(0, |count| count.div_ceil(CHUNK))
}

/// The addresses of `count` symbols: the table follows the token index (Linux 6.4 and later), or ends where the
/// number of names is.
fn addresses<M: ReadMemory>(image: &Image<'_, M>, after: u64, before: u64, count: u32) -> Option<Addresses> {
    let size = (4 * u64::from(count)).next_multiple_of(8);
    let later = based(image, after, after + size, count);
    let earlier = || based(image, before.checked_sub(8 + size)?, before - 8, count);
    let whole = |at: Option<u64>| absolute(image, at?, count);
    later
        .or_else(earlier)
        .or_else(|| whole(Some(after)))
        .or_else(|| whole(before.checked_sub(8 * u64::from(count))))
        .map(Addresses::Virtual)
        .or_else(|| placed(image, after, count).map(Addresses::Physical))
}

/// 32-bit distances from a base, which follows them.
fn based<M: ReadMemory>(image: &Image<'_, M>, at: u64, base_at: u64, count: u32) -> Option<Vec<u64>> {
    let base = image.word(base_at).filter(|base| KERNEL.contains(base) && base.is_multiple_of(0x1000))?;
    let bytes = image.exactly(at, 4 * u64::from(count))?;
    let offsets = || bytes.as_chunks().0.iter().map(|chunk| i32::from_le_bytes(*chunk));
    // Where per-CPU symbols are absolute, all others are counted backwards, from -1 on.
    let backwards = offsets().any(|offset| offset < 0);
    let address = |offset: i32| match backwards {
        true if offset < 0 => base.wrapping_add_signed(-1 - i64::from(offset)),
        true => u64::from(offset.unsigned_abs()),
        false => base.wrapping_add(u64::from(offset.unsigned_abs())),
    };
    sorted(offsets().map(address).collect()).filter(|all| all.last().is_some_and(|last| *last > base))
}

/// The addresses themselves.
fn absolute<M: ReadMemory>(image: &Image<'_, M>, at: u64, count: u32) -> Option<Vec<u64>> {
    let bytes = image.exactly(at, 8 * u64::from(count))?;
    sorted(bytes.as_chunks().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect())
        .filter(|all| all.iter().filter(|a| KERNEL.contains(a)).count() > all.len() / 2)
}

/// 32-bit distances, each from where it lies, to somewhere in the same image.
fn placed<M: ReadMemory>(image: &Image<'_, M>, at: u64, count: u32) -> Option<Vec<u64>> {
    let bytes = image.exactly(at, 4 * u64::from(count))?;
    let places = (at..).step_by(4).zip(bytes.as_chunks().0);
    let all = places.map(|(place, chunk)| place.checked_add_signed(i64::from(i32::from_le_bytes(*chunk))));
    sorted(all.collect::<Option<_>>()?).filter(|all| all.iter().all(|symbol| symbol.abs_diff(at) < LARGEST))
}

/// These addresses, if they ascend and are not all the same.
fn sorted(all: Vec<u64>) -> Option<Vec<u64>> {
    (all.is_sorted() && all.first() < all.last()).then_some(all)
}
