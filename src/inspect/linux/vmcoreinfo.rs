//! VMCOREINFO: what a kernel tells tools that read its dumps, as lines of names and values.
//! It never interprets them.

use crate::source::ReadMemory;

use super::image::Image;
use super::place::Place;
use super::symbols::KernelSymbols;

/// The kernel keeps it in one page.
pub const LONGEST: u64 = 0x1000;

/// The text, read from where the kernel keeps it.
pub fn read<M: ReadMemory>(image: &Image<'_, M>, place: &Place, symbols: &KernelSymbols) -> Option<String> {
    let word = |name| image.word(place.physical(symbols.get(name)?.address));
    let at = place.translate(image, word("vmcoreinfo_data")?)?;
    let len = word("vmcoreinfo_size").filter(|len| (1..=LONGEST).contains(len)).unwrap_or(LONGEST);
    image.text(at, len).filter(|text| text.starts_with("OSRELEASE="))
}

/// Names and values in `text`, in its order: "OSRELEASE", "SYMBOL(init_uts_ns)", "KERNELOFFSET", ...
pub fn entries(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once('='))
}
