//! The host memory behind a region: zero pages, huge pages or a file, mapped. It never knows guest addresses' neighbours,
//! and never touches the bytes.

#![allow(unsafe_code)] // system calls about a mapping that vm-memory does not wrap

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, GuestAddress, GuestRegionMmap, MmapRegion};

use crate::addr::{PAGE, page_ceil};
use crate::error::{Error, Result};

use super::region::RegionInfo;

/// The sizes of the host's pages that a region is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// What the host does by itself.
    #[default]
    Host,
    /// Pages of 2 MiB where the host finds some (madvise): touching much of it is faster, touching little slower.
    Transparent,
    /// Reserved pages of 2 MiB.
    Huge2M,
    /// Reserved pages of 1 GiB.
    Huge1G,
}

impl Pages {
    /// The binary logarithm of a reserved page's size, and the size in words.
    fn reserved(self) -> Option<(u32, &'static str)> {
        match self {
            Self::Host | Self::Transparent => None,
            Self::Huge2M => Some((21, "2M")),
            Self::Huge1G => Some((30, "1G")),
        }
    }

    /// What they are called, if they are not the host's business.
    pub fn name(self) -> Option<&'static str> {
        if self == Self::Transparent { Some("transparent") } else { self.reserved().map(|(_, name)| name) }
    }
}

/// Which part of a file a region shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMap {
    /// What the user calls it.
    pub name: String,
    /// Where the region begins in it.
    pub offset: u64,
    /// Writes reach the file. Otherwise they stay in the region.
    pub shared: bool,
}

/// What a region is made from.
#[derive(Debug, Default)]
pub struct Source {
    /// Kind of pages.
    pub pages: Pages,
    /// A file instead of zeroes.
    pub file: Option<(Arc<File>, FileMap)>,
}

impl Source {
    /// How many bytes the file has from its offset on, in whole pages; `None` where there is no file.
    pub fn len(&self) -> Result<Option<u64>> {
        self.file.as_ref().map(|(file, map)| bytes_from(file, map)).transpose()
    }

    /// Is there no file?
    pub fn is_empty(&self) -> bool {
        self.file.is_none()
    }
}

/// The host memory of a region before it joins the map.
#[derive(Debug)]
pub struct Backing {
    region: GuestRegionMmap<()>,
}

impl Backing {
    /// Maps what `info` is made from; the host gives the pages when they are touched.
    pub fn map(info: &RegionInfo, source: &Source) -> Result<Self> {
        let len =
            usize::try_from(info.len).map_err(|_| Error::Invalid("a region larger than the host's memory".into()))?;
        let mapping = match &source.file {
            Some((file, map)) => map_file(file, map, info.len, len)?,
            None => map_zeroes(info, source.pages, len)?,
        };
        let region = GuestRegionMmap::new(mapping, GuestAddress(info.at.0));
        let region = region.ok_or(Error::BeyondPhysical { at: info.at.0, len: info.len, bits: 64 })?;
        Ok(Self { region })
    }

    /// Where the host sees its first byte.
    pub fn host_address(&self) -> *mut u8 {
        self.region.as_ptr()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.region.size()
    }

    /// Never: a region has at least one page.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The region as vm-memory keeps it.
    pub fn into_region(self) -> Arc<GuestRegionMmap<()>> {
        Arc::new(self.region)
    }
}

fn build(len: usize, flags: i32, file: Option<FileOffset>) -> Result<MmapRegion, i32> {
    let builder = MmapRegionBuilder::new(len).with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE).with_mmap_flags(flags);
    let builder = file.into_iter().fold(builder, MmapRegionBuilder::with_file_offset);
    builder.build().map_err(|e| match e {
        MmapRegionError::Mmap(e) => e.raw_os_error().unwrap_or(0),
        _ => libc::EINVAL,
    })
}

fn mmap_failed(errno: i32) -> Error {
    Error::Host { what: "mmap of guest memory", errno }
}

fn map_zeroes(info: &RegionInfo, pages: Pages, len: usize) -> Result<MmapRegion> {
    let anonymous = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE;
    let Some((shift, size)) = pages.reserved() else {
        let mapping = build(len, anonymous | libc::MAP_NORESERVE, None).map_err(mmap_failed)?;
        if pages == Pages::Transparent {
            advise_huge(&mapping);
        }
        return Ok(mapping);
    };
    let page = 1_u64 << shift;
    if !info.at.0.is_multiple_of(page) || !info.len.is_multiple_of(page) {
        return Err(Error::Invalid(format!(
            "{:#x} + {:#x}: memory in pages of {size} begins and ends at multiples of {page:#x}",
            info.at, info.len
        )));
    }
    let flag = shift.cast_signed() << libc::MAP_HUGE_SHIFT; // without NORESERVE: fails now, not when it is touched
    build(len, anonymous | libc::MAP_HUGETLB | flag, None).map_err(|errno| {
        let (pages, kib) = (info.len >> shift, page >> 10);
        Error::HugePages { pages, size, kib, errno }
    })
}

/// Asks for pages of 2 MiB; a kernel without them says no, which changes nothing that can be seen.
fn advise_huge(mapping: &MmapRegion) {
    // SAFETY: the range is our own mapping, and the advice changes none of its bytes.
    let _ = unsafe { libc::madvise(mapping.as_ptr().cast(), mapping.size(), libc::MADV_HUGEPAGE) };
}

/// Bytes of `file` from its map's offset on, in whole pages: beyond them a touch would be SIGBUS.
fn bytes_from(file: &File, map: &FileMap) -> Result<u64> {
    let about = |e: std::io::Error| Error::Host { what: "fstat", errno: e.raw_os_error().unwrap_or(0) };
    let metadata = file.metadata().map_err(about)?;
    let kind = metadata.file_type();
    let bytes = if kind.is_block_device() {
        (&*file).seek(SeekFrom::End(0)).map_err(about)?
    } else if kind.is_file() {
        metadata.len()
    } else {
        return Err(Error::Invalid(format!("{} is neither a file nor a block device, and cannot be memory", map.name)));
    };
    if !map.offset.is_multiple_of(PAGE) {
        return Err(Error::Unaligned { at: map.offset, len: 0 });
    }
    let end = page_ceil(bytes).unwrap_or(0);
    end.checked_sub(map.offset).filter(|rest| *rest > 0).ok_or_else(|| {
        Error::Invalid(format!("{} has {bytes:#x} bytes: there is nothing from {:#x} on", map.name, map.offset))
    })
}

fn map_file(file: &Arc<File>, map: &FileMap, wanted: u64, len: usize) -> Result<MmapRegion> {
    let rest = bytes_from(file, map)?;
    if wanted > rest {
        return Err(Error::Invalid(format!(
            "{wanted:#x} bytes asked of {}, which has {rest:#x} from {:#x} on, in whole pages: make it longer first \
             (truncate)",
            map.name, map.offset
        )));
    }
    let flags = match (map.shared, reserves_pages(file)) {
        (true, _) => libc::MAP_SHARED,
        (false, true) => libc::MAP_PRIVATE,
        (false, false) => libc::MAP_PRIVATE | libc::MAP_NORESERVE,
    };
    build(len, flags, Some(FileOffset::from_arc(Arc::clone(file), map.offset))).map_err(|errno| match errno {
        libc::EACCES | libc::EPERM => Error::Invalid(format!(
            "{} cannot be mapped: it must be open for reading, and with shared=True for writing, too",
            map.name
        )),
        errno => mmap_failed(errno),
    })
}

/// Is it made of huge pages, which must be reserved lest a touch be SIGBUS?
fn reserves_pages(file: &File) -> bool {
    // SAFETY: all zeroes is a value of this structure of integers.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: fstatfs fills the structure, which is ours.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut about) };
    result == 0 && about.f_type == libc::HUGETLBFS_MAGIC
}
