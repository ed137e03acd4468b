//! Kernels without symbols: what their VMCOREINFO, or the page tables of a vCPU, still say of where they lie.
//! It never takes the one or the other on trust: the kernel's page tables or its banner must agree.

use std::ops::ControlFlow;

use crate::error::Result;
use crate::source::ReadMemory;

use super::image::Image;
use super::place::{KERNEL_MAP, Place, levels, text_under};
use super::{LONGEST_BANNER, vmcoreinfo};

/// What a banner begins with.
pub const BANNER: &[u8] = b"Linux version ";
/// So many texts that begin like a VMCOREINFO are looked at.
const MOST_TEXTS: usize = 4096;

/// Where a kernel lies, and its banner and VMCOREINFO, as far as they could be found.
pub type Found = (Place, String, String);

/// Looks for a kernel without its symbols.
pub fn find<M: ReadMemory>(image: &Image<'_, M>, cr3s: &[u64]) -> Result<Option<Found>> {
    let mut left = MOST_TEXTS;
    let told = image.search(b"OSRELEASE=", (0, u64::MAX), |at| {
        left -= 1;
        let text = image.text(at, vmcoreinfo::LONGEST).unwrap_or_default();
        match place_told(image, &text) {
            Some(place) => ControlFlow::Break((place, text)),
            None if left == 0 => ControlFlow::Break((Place::default(), String::new())),
            None => ControlFlow::Continue(()),
        }
    })?;
    let told = told.filter(|(place, _)| place.text != 0);
    let seen = || text_under(image, cr3s).map(|place| (place, String::new()));
    let Some((place, text)) = told.or_else(seen) else { return Ok(None) };
    let banner = banner(image, &place)?;
    // Page tables alone could be anybody's.
    Ok((!text.is_empty() || !banner.is_empty()).then_some((place, banner, text)))
}

/// The place that a VMCOREINFO tells, if the page tables that it names say so, too.
fn place_told<M: ReadMemory>(image: &Image<'_, M>, info: &str) -> Option<Place> {
    let value = |wanted: &str| vmcoreinfo::entries(info).find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let symbol = |name| u64::from_str_radix(value(name)?, 16).ok();
    let text = symbol("SYMBOL(_stext)")?;
    let base = value("NUMBER(phys_base)")?.parse::<i64>().ok()?;
    let physical = |address: u64| address.wrapping_sub(KERNEL_MAP).wrapping_add_signed(base);
    let (at, cr3) = (physical(text), physical(symbol("SYMBOL(swapper_pg_dir)")?));
    let levels = levels(image, cr3, text, at)?;
    Some(Place { text, at, cr3, levels })
}

/// The first banner in the image of the kernel at `place`.
fn banner<M: ReadMemory>(image: &Image<'_, M>, place: &Place) -> Result<String> {
    let whole = (place.at, place.at.saturating_add(place.mapped(image)));
    let found = image.search(BANNER, whole, |at| {
        let text = image.text(at, LONGEST_BANNER).filter(|text| text.ends_with('\n'));
        text.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    })?;
    Ok(found.unwrap_or_default().trim_end().to_owned())
}
