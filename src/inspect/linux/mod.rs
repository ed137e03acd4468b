//! Linux in guest memory, found without any profile: where the kernel lies and what its own tables say of it.
//! It only reads, believes nothing that it has not checked, and does bounded work whatever a guest has forged.

pub mod btf;
mod image;
mod place;
#[cfg(any(test, fuzzing))]
pub mod sample;
mod stripped;
mod symbols;
mod tables;
mod tokens;
#[cfg(test)]
mod tests;
mod vmcoreinfo;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::source::ReadMemory;

use image::Image;
use tables::{Addresses, Tables};
use tokens::{DIGITS, Tokens};

pub use image::Poll;
pub use place::Place;
pub use symbols::{KernelSymbol, KernelSymbols};
pub use vmcoreinfo::entries;

/// Where a kernel begins that is neither moved at boot nor built to lie elsewhere.
const USUAL_TEXT: u64 = 0xffff_ffff_8100_0000;
/// So many rows of digits that could be in a token table are looked at.
const MOST_DIGITS: usize = 4096;
/// So many token tables are looked at.
const MOST_TABLES: usize = 32;
/// A banner has fewer bytes (Linux: they are printed into a line of the log).
const LONGEST_BANNER: u64 = 1024;

/// A kernel that was found.
#[derive(Debug)]
pub struct Kernel {
    /// Where it lies.
    pub place: Place,
    /// Its symbols.
    pub symbols: Arc<KernelSymbols>,
    /// What it says of itself at boot: "Linux version ...". Empty if its symbols do not say where that is.
    pub banner: String,
    /// What it tells tools that read its dumps, line by line. Empty if it was built without.
    pub vmcoreinfo: String,
}

impl Kernel {
    /// How far it was moved when it was booted, by KASLR.
    pub fn slide(&self) -> u64 {
        let told = entries(&self.vmcoreinfo).find(|(name, _)| *name == "KERNELOFFSET");
        let told = told.and_then(|(_, value)| u64::from_str_radix(value, 16).ok());
        told.unwrap_or_else(|| self.place.text.saturating_sub(USUAL_TEXT))
    }

    /// Its release, such as "6.1.0-50-cloud-amd64".
    pub fn release(&self) -> &str {
        self.banner.split(' ').nth(2).unwrap_or("")
    }
}

/// Finds the running kernel in `stretches` of `memory`. `cr3s` are those of vCPUs, where they are known: it is looked for
/// first where they map it.
pub fn find<M: ReadMemory>(memory: &M, stretches: &[(u64, u64)], cr3s: &[u64], poll: Poll<'_>) -> Result<Kernel> {
    let image = Image::new(memory, stretches, poll);
    let mut seen = Seen::default();
    if let Some(range) = place::mapped(&image, cr3s)
        && let Some(kernel) = find_in(&image, range, cr3s, &mut seen)?
    {
        return Ok(kernel);
    }
    if let Some(kernel) = find_in(&image, (0, u64::MAX), cr3s, &mut seen)? {
        return Ok(kernel);
    }
    let without = |(place, banner, vmcoreinfo)| Kernel { place, symbols: Arc::default(), banner, vmcoreinfo };
    stripped::find(&image, cr3s)?.map(without).ok_or_else(|| seen.error())
}

/// How far the best candidate has got.
#[derive(Debug, Default)]
struct Seen {
    digits: usize,
    candidates: usize,
    tokens: Option<u64>,
    tables: Option<u64>,
}

impl Seen {
    fn error(&self) -> Error {
        let (at, reason) = match (self.tokens, self.tables) {
            (_, Some(at)) => {
                (at, "a Linux kernel's symbols, but no page tables of its own that map it: it does not run, or not yet")
            }
            (Some(at), _) => (at, "the tokens of a kernel's symbol names, but no sound table of symbols around them"),
            _ => (
                0,
                "no Linux kernel in memory: neither symbols (CONFIG_KALLSYMS) nor VMCOREINFO. Both are there once it has \
                 unpacked itself: if it boots, look again later. A kernel that has neither is found while a vCPU runs it",
            ),
        };
        Error::Kernel { at, reason: reason.into() }
    }
}

fn find_in<M: ReadMemory>(
    image: &Image<'_, M>,
    range: (u64, u64),
    cr3s: &[u64],
    seen: &mut Seen,
) -> Result<Option<Kernel>> {
    let found = image.search(DIGITS, range, |digits| {
        seen.digits += 1;
        match image.poll().map(|()| kernel_around(image, digits, cr3s, seen)) {
            Ok(None) if seen.digits < MOST_DIGITS && seen.candidates < MOST_TABLES => ControlFlow::Continue(()),
            end => ControlFlow::Break(end),
        }
    })?;
    found.transpose().map(Option::flatten)
}

/// The kernel to whose tables the digits at `digits` belong.
fn kernel_around<M: ReadMemory>(image: &Image<'_, M>, digits: u64, cr3s: &[u64], seen: &mut Seen) -> Option<Kernel> {
    let tokens = Tokens::around(image, digits)?;
    seen.candidates += 1;
    seen.tokens.get_or_insert(tokens.at);
    let tables = Tables::around(image, &tokens)?;
    seen.tables.get_or_insert(tables.names_at);
    let (place, symbols) = match &tables.addresses {
        Addresses::Virtual(addresses) => {
            let symbols = KernelSymbols::decode(&tables, &tokens, addresses);
            (Place::of_virtual(image, &symbols, tables.names_at, cr3s)?, symbols)
        }
        Addresses::Physical(addresses) => {
            let mut symbols = KernelSymbols::decode(&tables, &tokens, addresses);
            let place = Place::of_physical(image, &symbols)?;
            symbols.shift(place.text.wrapping_sub(place.at));
            (place, symbols)
        }
    };
    let banner = symbols.get("linux_banner").and_then(|s| image.text(place.physical(s.address), LONGEST_BANNER));
    let banner = banner.unwrap_or_default().trim_end().to_owned();
    let vmcoreinfo = vmcoreinfo::read(image, &place, &symbols).unwrap_or_default();
    Some(Kernel { place, symbols: Arc::new(symbols), banner, vmcoreinfo })
}
