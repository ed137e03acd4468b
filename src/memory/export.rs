//! Windows on guest memory: parts that somebody sees directly, and how many there are. They keep a region mapped, and
//! never say what is done through them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::addr::GuestPhys;
use crate::error::{Error, Result};

use super::{Changes, Held, Memory};

/// A part of a region that somebody sees directly. The region stays mapped for as long as this lives.
#[derive(Debug)]
pub struct Export {
    host: *mut u8,
    views: Arc<AtomicUsize>,
    /// Of the memory, where it may be written through this.
    writes: Option<Arc<Changes>>,
}

impl Export {
    /// Where the host sees its first byte.
    pub fn host_address(&self) -> *mut u8 {
        self.host
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.views.fetch_sub(1, Ordering::SeqCst);
        if let Some(changes) = &self.writes {
            changes.happened();
            changes.writers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Memory {
    /// `len` bytes that lie in one region, to be seen directly, and to be written if `writable`.
    pub fn export(&self, at: GuestPhys, len: u64, writable: bool) -> Result<Export> {
        let state = self.checked(at, usize::try_from(len).unwrap_or(usize::MAX))?;
        let fits = |held: &&Held| held.info.contains(at) && (len == 0 || held.info.end().0 - at.0 >= len);
        let region = state.regions.iter().find(fits);
        let host = state.map.get_host_address(GuestAddress(at.0)).ok().zip(region);
        let (host, region) =
            host.ok_or_else(|| Error::Invalid(format!("a view lies in one region; {at:#x} + {len:#x} does not")))?;
        region.views.fetch_add(1, Ordering::SeqCst);
        let writes = writable.then(|| Arc::clone(&self.changes));
        if let Some(changes) = &writes {
            changes.writers.fetch_add(1, Ordering::SeqCst);
            changes.happened();
        }
        Ok(Export { host, views: Arc::clone(&region.views), writes })
    }

    /// How many windows are exported now.
    pub fn exports(&self) -> usize {
        self.state().views()
    }
}
