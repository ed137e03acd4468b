//! Bytes as text: address, hexadecimal columns, characters. It never knows where the bytes come from.

use std::fmt::Write;

use crate::error::{Error, Result};

/// More than anybody reads: text of about 70 MB.
const MOST: u64 = 16 << 20;

/// How a dump looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Address of the first byte.
    pub at: u64,
    /// How many bytes.
    pub size: u64,
    /// Bytes per line, 1 to 256.
    pub width: usize,
    /// Lines that repeat the one before become one `*`; the last line is always there.
    pub squeeze: bool,
}

/// The text of what `read` gives for each address; `None` is a place without memory, shown as `??`.
pub fn hexdump(dump: Dump, mut read: impl FnMut(u64, &mut [Option<u8>])) -> Result<String> {
    check(dump)?;
    let digits = if dump.at.saturating_add(dump.size) > 1 << 32 { 16 } else { 8 };
    let (mut text, mut before, mut starred) = (String::new(), Vec::new(), false);
    let mut done = 0;
    while done < dump.size {
        let n = usize::try_from(dump.size - done).map_or(dump.width, |left| left.min(dump.width));
        let at = dump.at.saturating_add(done);
        let mut cells = vec![None; n];
        read(at, &mut cells);
        done += u64::try_from(n).unwrap_or(u64::MAX);
        let repeats = dump.squeeze && cells == before && done < dump.size;
        if repeats && !starred {
            text.push_str("*\n");
        } else if !repeats {
            line(&mut text, at, digits, &cells, dump.width);
        }
        (before, starred) = (cells, repeats);
    }
    text.pop(); // the last line's end
    Ok(text)
}

fn check(dump: Dump) -> Result<()> {
    if !(1..=256).contains(&dump.width) {
        return Err(Error::Invalid(format!("width is 1 to 256 bytes per line, not {}", dump.width)));
    }
    if dump.size > MOST {
        return Err(Error::Invalid(format!("a dump shows {MOST:#x} bytes at most; {:#x} asked", dump.size)));
    }
    match dump.at.checked_add(dump.size.saturating_sub(1)) {
        Some(_) => Ok(()),
        None => Err(Error::BeyondPhysical { at: dump.at, len: dump.size, bits: 64 }),
    }
}

fn line(text: &mut String, at: u64, digits: usize, cells: &[Option<u8>], width: usize) {
    let begin = text.len();
    let _ = write!(text, "{at:0digits$x}: "); // writing to a string does not fail
    for (column, cell) in cells.iter().enumerate() {
        let gap = if column > 0 && column % 8 == 0 { " " } else { "" };
        let _ = match cell {
            Some(byte) => write!(text, "{gap} {byte:02x}"),
            None => write!(text, "{gap} ??"),
        };
    }
    let columns = digits + 2 + 3 * width + (width - 1) / 8;
    let missing = columns.saturating_sub(text.len() - begin);
    let _ = write!(text, "{:missing$}  |", "");
    text.extend(cells.iter().map(|cell| cell.map_or(' ', shown)));
    text.push_str("|\n");
}

fn shown(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dump(bytes: &[Option<u8>], at: u64, width: usize, squeeze: bool) -> String {
        let dump = Dump { at, size: u64::try_from(bytes.len()).unwrap(), width, squeeze };
        let text = hexdump(dump, |here, cells| {
            let from = usize::try_from(here - at).unwrap();
            cells.copy_from_slice(&bytes[from..from + cells.len()]);
        });
        text.expect("small")
    }

    #[test]
    fn a_line_is_an_address_its_bytes_and_their_characters() {
        let bytes: Vec<_> = b"belljar\0\xff ~".iter().copied().map(Some).chain([None]).collect();
        let line = "00001000:  62 65 6c 6c 6a 61 72 00  ff 20 7e ??              |belljar.. ~ |";
        assert_eq!(dump(&bytes, 0x1000, 16, true), line);
    }

    #[test]
    fn repeated_lines_are_one_star_but_the_last_line_is_there() {
        let lines = |text: String| text.lines().map(|l| l[..9.min(l.len())].to_owned()).collect::<Vec<_>>();
        let zeroes = vec![Some(0); 70];
        assert_eq!(lines(dump(&zeroes, 0, 16, true)), ["00000000:", "*", "00000040:"]);
        assert_eq!(lines(dump(&zeroes[..32], 0, 16, true)), ["00000000:", "00000010:"]);
        assert_eq!(dump(&zeroes, 0, 16, false).lines().count(), 5);
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let nothing = |_: u64, _: &mut [Option<u8>]| {};
        for (at, size, width) in [(0, 1, 0), (0, 1, 257), (0, MOST + 1, 16), (u64::MAX, 2, 16)] {
            assert!(hexdump(Dump { at, size, width, squeeze: true }, nothing).is_err(), "{at:#x} {size:#x} {width}");
        }
        assert_eq!(hexdump(Dump { at: 5, size: 0, width: 16, squeeze: true }, nothing).unwrap(), "");
        assert!(hexdump(Dump { at: u64::MAX, size: 1, width: 16, squeeze: true }, nothing).is_ok());
    }

    proptest! {
        #[test]
        fn a_dump_can_be_read_back(
            bytes in prop::collection::vec(prop::option::weighted(0.9, 0u8..3), 0..200),
            at in prop_oneof![0u64..0x1_0000, u64::MAX - 0x1000..u64::MAX - 0x200],
            width in 1usize..40,
        ) {
            let mut back = Vec::new();
            let whole = dump(&bytes, at, width, false);
            for line in whole.lines() {
                let (address, rest) = line.split_once(": ").unwrap();
                prop_assert_eq!(u64::from_str_radix(address, 16).unwrap(), at + u64::try_from(back.len()).unwrap());
                let (columns, _) = rest.split_once("  |").unwrap();
                back.extend(columns.split_whitespace().map(|c| u8::from_str_radix(c, 16).ok()));
            }
            prop_assert_eq!(back, bytes.clone());
            // Squeezed, it has the same lines without the repeated ones.
            let squeezed = dump(&bytes, at, width, true);
            let all: Vec<_> = whole.lines().collect();
            prop_assert!(squeezed.lines().all(|line| line == "*" || all.contains(&line)));
            prop_assert_eq!(squeezed.lines().last(), whole.lines().last());
        }
    }
}
