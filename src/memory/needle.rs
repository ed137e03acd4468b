//! What is looked for in memory: one pattern, of which digits may be open, or several; and where it is in some bytes.
//! It never reads memory, and never knows addresses.

use std::ops::ControlFlow;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use memchr::arch::all::packedpair;
use memchr::memmem::Finder;

use crate::error::{Error, Result};
use crate::source::Pattern;

/// Patterns of more bytes than this, all together, make a table that is small rather than fast.
const MANY: usize = 1 << 14;

/// All patterns together have at most this many bytes.
const MOST_PATTERN: usize = 16 << 20;

/// What to look for.
#[derive(Debug)]
pub enum Needle {
    /// One pattern, of which some bits may be left open.
    Masked(Masked),
    /// Any of several patterns.
    Many(Many),
}

/// A pattern with open bits: `byte & mask == value` for each of its bytes.
#[derive(Debug)]
pub struct Masked {
    pattern: Pattern,
    /// The longest run of whole bytes in it, and where that begins.
    anchor: Box<Finder<'static>>,
    anchor_at: usize,
}

/// Several patterns.
#[derive(Debug)]
pub struct Many {
    automaton: AhoCorasick,
    longest: usize,
}

impl Needle {
    /// Exactly these bytes.
    pub fn exact(bytes: &[u8]) -> Result<Self> {
        Self::masked(bytes.iter().map(|byte| (*byte, 0xff)).collect())
    }

    /// Bytes in hexadecimal, where `?` stands for any digit: `48 8b ?? c3`.
    pub fn parse(text: &str) -> Result<Self> {
        let digit = |c: char| match c {
            '?' => Some((0, 0)),
            _ => c.to_digit(16).and_then(|d| u8::try_from(d).ok()).map(|d| (d, 0xf)),
        };
        let wrong = || {
            Error::Invalid(format!(
                "a pattern in text is bytes in hexadecimal with ?? for any byte, such as \"48 8b ?? c3\", not {text:?}; to \
                 look for text itself, give bytes: b\"...\""
            ))
        };
        let mut cells = Vec::new();
        for word in text.split_whitespace() {
            let digits: Vec<_> = word.chars().map(digit).collect::<Option<_>>().ok_or_else(wrong)?;
            let digits = if word == "?" { vec![(0, 0); 2] } else { digits };
            if digits.len() % 2 != 0 {
                return Err(wrong());
            }
            cells.extend(digits.chunks_exact(2).map(|d| (d[0].0 << 4 | d[1].0, d[0].1 << 4 | d[1].1)));
        }
        Self::masked(cells)
    }

    fn masked(cells: Vec<(u8, u8)>) -> Result<Self> {
        check_length(cells.len())?;
        let (anchor_at, anchor) = longest_whole_run(&cells);
        if anchor.is_empty() {
            return Err(Error::Invalid("a pattern has at least one byte of which both digits are given".into()));
        }
        let pattern = Pattern { cells, rare: rare(&anchor).map(|at| anchor_at + at) };
        Ok(Self::Masked(Masked { pattern, anchor: Box::new(Finder::new(&anchor).into_owned()), anchor_at }))
    }

    /// Any of these.
    pub fn many(patterns: &[Vec<u8>]) -> Result<Self> {
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(0);
        let all = patterns.iter().fold(0_usize, |sum, p| sum.saturating_add(p.len()));
        check_length(if patterns.iter().any(Vec::is_empty) { 0 } else { all })?;
        let kind = (all > MANY).then_some(AhoCorasickKind::ContiguousNFA);
        let automaton = AhoCorasick::builder().kind(kind).build(patterns).map_err(|e| Error::Invalid(e.to_string()))?;
        Ok(Self::Many(Many { automaton, longest }))
    }

    /// The length of its longest pattern.
    pub(super) fn longest(&self) -> usize {
        match self {
            Self::Masked(one) => one.pattern.cells.len(),
            Self::Many(many) => many.longest,
        }
    }

    /// The one pattern, if it is one.
    pub(super) fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::Masked(one) => Some(&one.pattern),
            Self::Many(_) => None,
        }
    }

    /// Tells `found` start, end and number of every match in `bytes`, overlapping ones too.
    pub(super) fn each(
        &self,
        bytes: &[u8],
        mut found: impl FnMut(usize, usize, usize) -> ControlFlow<Result<()>>,
    ) -> ControlFlow<Result<()>> {
        match self {
            Self::Masked(one) => one.each(bytes, |start| found(start, start + one.pattern.cells.len(), 0)),
            Self::Many(many) => many
                .automaton
                .find_overlapping_iter(bytes)
                .try_for_each(|m| found(m.start(), m.end(), m.pattern().as_usize())),
        }
    }
}

impl Masked {
    fn each(&self, bytes: &[u8], mut found: impl FnMut(usize) -> ControlFlow<Result<()>>) -> ControlFlow<Result<()>> {
        let mut from = 0;
        while let Some(at) = bytes.get(from..).and_then(|rest| self.anchor.find(rest)) {
            let anchor = from + at;
            from = anchor + 1;
            let start = anchor.checked_sub(self.anchor_at).filter(|start| self.matches(&bytes[*start..]));
            start.map_or(ControlFlow::Continue(()), &mut found)?;
        }
        ControlFlow::Continue(())
    }

    fn matches(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.pattern.cells.len()
            && self.pattern.cells.iter().zip(bytes).all(|((value, mask), byte)| byte & mask == *value)
    }
}

fn check_length(bytes: usize) -> Result<()> {
    match bytes {
        0 => Err(Error::Invalid("a pattern to look for has at least one byte".into())),
        1..=MOST_PATTERN => Ok(()),
        _ => Err(Error::Invalid(format!("patterns have at most {MOST_PATTERN:#x} bytes together"))),
    }
}

/// The longest run of bytes that are given whole, and where it begins.
fn longest_whole_run(cells: &[(u8, u8)]) -> (usize, Vec<u8>) {
    let (mut begin, mut best) = (0, 0..0);
    for (i, (_, mask)) in cells.iter().enumerate() {
        if *mask != 0xff {
            begin = i + 1;
        } else if i + 1 - begin > best.len() {
            best = begin..i + 1;
        }
    }
    (best.start, cells[best].iter().map(|(value, _)| *value).collect())
}

/// Where two bytes are in `anchor` that are rare, as bytes of programs go.
fn rare(anchor: &[u8]) -> [usize; 2] {
    packedpair::Pair::new(anchor).map_or([0, 0], |pair| [pair.index1().into(), pair.index2().into()])
}
