//! May an access use a page: the rights of ring 0 and ring 3 (Intel SDM vol. 3, 4.6), and the error code of the #PF if not.
//! It never reads a table, and knows nothing of protection keys' registers.

use std::fmt;

use super::regs::Paging;
use super::space::Space;
use super::walk::{Page, PageFault};

/// An access, and who makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// It writes.
    pub write: bool,
    /// It fetches an instruction.
    pub execute: bool,
    /// Ring 3 makes it.
    pub user: bool,
    /// RFLAGS.AC is set: CR4.SMAP does not hold.
    pub ac: bool,
}

/// What forbids an access to a page that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The page is ring 0's.
    Supervisor,
    /// The page may not be written.
    ReadOnly,
    /// The page may not be executed.
    NoExecute,
    /// The page is ring 3's, and CR4.SMEP keeps ring 0 from executing it.
    Smep,
    /// The page is ring 3's, and CR4.SMAP keeps ring 0 from touching it.
    Smap,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Supervisor => "the page is ring 0's alone",
            Self::ReadOnly => "the page is read-only",
            Self::NoExecute => "the page is not executable",
            Self::Smep => "ring 0 executes no page of ring 3 (SMEP)",
            Self::Smap => "ring 0 touches no page of ring 3 (SMAP)",
        })
    }
}

/// Bits of the error code of a #PF (Intel SDM vol. 3, 4.7).
mod code {
    pub(super) const PRESENT: u32 = 1;
    pub(super) const WRITE: u32 = 1 << 1;
    pub(super) const USER: u32 = 1 << 2;
    pub(super) const RESERVED: u32 = 1 << 3;
    pub(super) const FETCH: u32 = 1 << 4;
}

impl Access {
    /// Whether `page` may be used so in `space`.
    pub fn check(self, space: &Space, page: &Page) -> Result<(), Denied> {
        match () {
            () if space.paging == Paging::Off => Ok(()),
            () if self.user && !page.user => Err(Denied::Supervisor),
            () if self.execute && !self.user && page.user && space.smep => Err(Denied::Smep),
            () if self.execute && !page.executable => Err(Denied::NoExecute),
            () if self.execute => Ok(()),
            () if !self.user && page.user && space.smap && !self.ac => Err(Denied::Smap),
            () if self.write && !page.writable && (self.user || space.wp) => Err(Denied::ReadOnly),
            () => Ok(()),
        }
    }

    /// The error code that a processor pushes with #PF, since `why`. An access to a table outside of memory gets that of a
    /// page that is not present, as from KVM; an address that is not canonical is a #GP, and has none.
    pub fn error_code(self, space: &Space, why: Result<PageFault, Denied>) -> Option<u32> {
        let bit = |yes: bool, bit: u32| if yes { bit } else { 0 };
        let cause = match why {
            Ok(PageFault::NotCanonical) => return None,
            Ok(PageFault::NotPresent { .. } | PageFault::Unbacked { .. }) => 0,
            Ok(PageFault::Reserved { .. }) => code::PRESENT | code::RESERVED,
            Err(_) => code::PRESENT,
        };
        let tells_fetches = space.smep || space.nxe && space.paging != Paging::Bits32;
        let fetch = bit(self.execute && tells_fetches, code::FETCH);
        Some(cause | bit(self.write, code::WRITE) | bit(self.user, code::USER) | fetch)
    }
}
