//! LiME files: ranges of memory one after the other, each behind a header of 32 bytes (LiME, doc/README: version 1).
//! It never reads what is in them.

use super::{ReadAt, Saved, Segment, number};
use crate::error::{Error, Result};

const FORMAT: &str = "LiME";
const HEADER: u64 = 32;
const MAGIC: u64 = 0x4c69_4d45;
/// More ranges than this are refused: machines have fewer than a hundred.
const MOST: usize = 4096;

fn wrong(offset: u64, what: &str) -> Error {
    Error::Image { format: FORMAT, reason: format!("{what} (the header at {offset:#x} of the file)") }
}

/// Reads all headers.
pub fn read(file: &(impl ReadAt + ?Sized)) -> Result<Saved> {
    let (mut segments, mut offset) = (Vec::new(), 0);
    while offset < file.len() {
        let mut header = [0; 32];
        if !file.read_at(offset, &mut header)? {
            return Err(wrong(offset, "the file ends within a header"));
        }
        let (magic, first, last) = (number(&header, 0, 4), number(&header, 8, 8), number(&header, 16, 8));
        if magic != MAGIC || number(&header, 4, 4) != 1 {
            return Err(wrong(offset, "no header of version 1"));
        }
        let len = last.checked_sub(first).and_then(|len| len.checked_add(1));
        let len = len.ok_or_else(|| wrong(offset, &format!("a range from {first:#x} to {last:#x}")))?;
        let left = file.len() - offset - HEADER;
        if len > left {
            return Err(wrong(offset, &format!("{len:#x} bytes are said to follow, and {left:#x} do")));
        }
        if segments.len() == MOST {
            return Err(wrong(offset, &format!("more than {MOST} ranges")));
        }
        segments.push(Segment { at: first, len, offset: offset + HEADER, filled: len, ..Segment::default() });
        offset += HEADER + len;
    }
    Ok(Saved { format: FORMAT, segments, notes: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64, bytes: usize) -> Vec<u8> {
        let mut file = MAGIC.to_le_bytes()[..4].to_vec();
        file.extend(1_u32.to_le_bytes());
        file.extend([first, last, 0].iter().flat_map(|w| w.to_le_bytes()));
        file.resize(32 + bytes, 7);
        file
    }

    #[test]
    fn ranges_follow_each_other() {
        let file = [range(0x1000, 0x1fff, 0x1000), range(0x5000, 0x5003, 4)].concat();
        let found = read(file.as_slice()).unwrap().segments;
        let places: Vec<_> = found.iter().map(|s| (s.at, s.len, s.offset)).collect();
        assert_eq!(places, [(0x1000, 0x1000, 32), (0x5000, 4, 32 + 0x1000 + 32)]);
    }

    #[test]
    fn a_range_that_is_longer_than_the_file_is_refused_with_its_place() {
        let file = [range(0, 3, 4), range(0, u64::MAX - 1, 9)].concat();
        let error = read(file.as_slice()).unwrap_err().to_string();
        assert!(error.contains("at 0x24 of the file"), "{error}");
        assert!(read(range(0, u64::MAX, 0).as_slice()).is_err());
        assert!(read(range(9, 3, 9).as_slice()).is_err());
    }
}
