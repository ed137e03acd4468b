//! From what a file says to regions of whole pages: which are mapped from it, and which have to be copied.
//! It never reads the file.

use super::Segment;
use crate::addr::{PAGE, page_ceil, page_floor};
use crate::error::{Error, Result};

/// More regions than this are refused: each is a mapping, of which Linux gives a process 65530.
const MOST: usize = 30_000;

/// A part of a region's bytes in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Guest-physical address.
    pub at: u64,
    /// Place in the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// A region of whole pages, which overlaps no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First address.
    pub at: u64,
    /// Length.
    pub len: u64,
    /// The file from here on is the region, byte by byte; otherwise it is zero but for its chunks.
    pub mapped: Option<u64>,
    /// What is copied.
    pub chunks: Vec<Chunk>,
    /// The guest could not write it.
    pub rom: bool,
}

/// Regions, in the order of their addresses. Memory that several segments show is taken from the one that begins first,
/// as page tables may map it twice; a file of `file` bytes that is used twice without being the same memory is refused.
pub fn pieces(mut segments: Vec<Segment>, format: &'static str, file: u64) -> Result<Vec<Piece>> {
    segments.retain(|s| s.len > 0);
    segments.sort_by_key(|s| (s.at, std::cmp::Reverse(s.filled), std::cmp::Reverse(s.len)));
    let (mut found, mut end, mut claimed) = (Vec::new(), 0, 0_u64);
    for segment in segments {
        let Some(s) = behind(segment, end) else { continue };
        end = s.at + s.len;
        claimed = claimed.saturating_add(s.filled);
        if claimed > file {
            let reason = format!("up to {end:#x}, its segments claim {claimed:#x} bytes of a file that has {file:#x}");
            return Err(Error::Image { format, reason });
        }
        cut(&s, &mut found);
        if found.len() > MOST {
            return Err(Error::Image { format, reason: format!("more than {MOST} separate pieces of memory") });
        }
    }
    Ok(found)
}

/// What of `s` lies at `end` or behind.
fn behind(mut s: Segment, end: u64) -> Option<Segment> {
    let cut = end.saturating_sub(s.at);
    s.len = s.len.checked_sub(cut).filter(|len| *len > 0)?;
    s.at += cut;
    s.offset = s.offset.saturating_add(cut);
    s.filled = s.filled.saturating_sub(cut);
    Some(s)
}

/// Appends the regions of `s`: whole pages that lie in the file as they do in memory are mapped.
fn cut(s: &Segment, found: &mut Vec<Piece>) {
    let end = s.at + s.len;
    let first = page_ceil(s.at).unwrap_or(end).min(end);
    let last = page_floor(s.at + s.filled).max(first);
    if last == first || s.offset % PAGE != s.at % PAGE {
        return copy(s, s.at, end, found);
    }
    copy(s, s.at, first, found);
    let offset = s.offset + (first - s.at);
    match found.last_mut() {
        // The next part of the same file.
        Some(before)
            if before.at + before.len == first
                && before.rom == s.rom
                && before.mapped.is_some_and(|from| from + before.len == offset) =>
        {
            before.len += last - first;
        }
        _ => found.push(Piece { at: first, len: last - first, mapped: Some(offset), chunks: Vec::new(), rom: s.rom }),
    }
    copy(s, last, end, found);
}

/// Appends `from..to` of `s` as pages to be copied.
fn copy(s: &Segment, from: u64, to: u64, found: &mut Vec<Piece>) {
    if from >= to {
        return;
    }
    let (start, end) = (page_floor(from), page_ceil(to).unwrap_or(to));
    let filled = (s.at + s.filled).min(to).saturating_sub(from);
    let chunk = (filled > 0).then(|| Chunk { at: from, offset: s.offset + (from - s.at), len: filled });
    match found.last_mut() {
        Some(before) if before.mapped.is_none() && before.at + before.len >= start && before.rom == s.rom => {
            before.len = before.len.max(end - before.at);
            before.chunks.extend(chunk);
        }
        // The page that the last one ends in is taken: what is left of this begins behind it.
        Some(before) if before.at + before.len > start => {
            before.chunks.extend(chunk.map(|c| Chunk { len: c.len.min(before.at + before.len - c.at), ..c }));
            let next = before.at + before.len;
            if next < to {
                copy(s, next, to, found);
            }
        }
        _ => found.push(Piece {
            at: start,
            len: end - start,
            mapped: None,
            chunks: chunk.into_iter().collect(),
            rom: s.rom,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn segment(at: u64, len: u64, offset: u64, filled: u64) -> Segment {
        Segment { at, len, offset, filled, ..Segment::default() }
    }

    #[test]
    fn whole_pages_are_mapped_and_edges_copied() {
        let found = pieces(vec![segment(0x1800, 0x3000, 0x800, 0x2c00)], "test", 1 << 20).unwrap();
        let shape: Vec<_> = found.iter().map(|p| (p.at, p.len, p.mapped, p.chunks.len())).collect();
        assert_eq!(shape, [(0x1000, 0x1000, None, 1), (0x2000, 0x2000, Some(0x1000), 0), (0x4000, 0x1000, None, 1)]);
        assert_eq!(found[2].chunks[0], Chunk { at: 0x4000, offset: 0x3000, len: 0x400 });
    }

    #[test]
    fn memory_that_is_listed_twice_is_there_once() {
        let listed = vec![segment(0, 0x8000, 0x1000, 0x8000), segment(0x2000, 0x1000, 0x3000, 0x1000)];
        assert_eq!(pieces(listed, "test", 0x9000).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_is_used_again_and_again_is_refused() {
        let listed = (0..100).map(|n| segment(n * 0x3000, 0x2000, 1, 0x2000)).collect();
        let error = pieces(listed, "test", 0x4000).unwrap_err().to_string();
        assert!(error.contains("claim"), "{error}");
    }

    proptest! {
        #[test]
        fn each_byte_comes_from_the_first_segment_that_has_it(
            parts in proptest::collection::vec((0_u64..0x6000, 1_u64..0x4000, 0_u64..0x2000, 0_u64..0x4000, any::<bool>()), 0..6)
        ) {
            let parts: Vec<_> = parts.into_iter().map(|(at, len, offset, filled, rom)| {
                let offset = if rom { offset / PAGE * PAGE + at % PAGE } else { offset };
                Segment { rom, ..segment(at, len, offset, filled.min(len)) }
            }).collect();
            let found = pieces(parts.clone(), "test", u64::MAX).unwrap();
            let mut bytes = HashMap::new();
            let mut end = 0;
            for p in &found {
                prop_assert!(p.at >= end && p.at % PAGE == 0 && p.len % PAGE == 0 && p.len > 0, "{:?}", found);
                end = p.at + p.len;
                if let Some(offset) = p.mapped {
                    (0..p.len).for_each(|n| { bytes.insert(p.at + n, offset + n); });
                }
                for c in &p.chunks {
                    prop_assert!(c.at >= p.at && c.at + c.len <= end);
                    (0..c.len).for_each(|n| { bytes.insert(c.at + n, c.offset + n); });
                }
            }
            let mut sorted = parts;
            sorted.sort_by_key(|s| (s.at, std::cmp::Reverse(s.filled), std::cmp::Reverse(s.len)));
            let mut reached = 0;
            for s in sorted {
                for at in (s.at + s.filled.min(reached.max(s.at) - s.at)..s.at + s.filled).step_by(97) {
                    prop_assert_eq!(bytes.get(&at), Some(&(s.offset + (at - s.at))), "{:#x} {:?}", at, found);
                }
                reached = reached.max(s.at + s.len);
            }
        }
    }
}
