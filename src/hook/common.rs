//! Records of accesses to ports and addresses, which are most: their fields are taken out of the exit once, and no expression is
//! walked for them. They say what the expressions would.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::exit::{Exit, ExitKind};

use super::expression::Expression;
use super::field::Field;
use super::trace::Column;

/// A column of which an access says by its kind alone whether it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Time,
    Kind,
    Sequence,
    Vcpu,
    Port,
    Address,
    Size,
    Data,
}

const COUNT: usize = 8;

impl Word {
    fn of(column: &Column) -> Option<Self> {
        Some(match column {
            Column::Time => Self::Time,
            Column::Kind => Self::Kind,
            Column::Sequence => Self::Sequence,
            Column::Value(Expression::Exit(field)) => match field {
                Field::Vcpu => Self::Vcpu,
                Field::Port => Self::Port,
                Field::Address => Self::Address,
                Field::Size => Self::Size,
                Field::Data => Self::Data,
                _ => return None,
            },
            Column::Value(_) => return None,
        })
    }

    #[allow(clippy::as_conversions)] // a fieldless enum's discriminant
    const fn index(self) -> usize {
        self as usize
    }

    const fn bit(self) -> u64 {
        1 << self.index()
    }
}

/// The columns of a trace, if all of them are such words.
#[derive(Debug)]
pub(super) struct Columns {
    words: Box<[Word]>,
    pub(super) has_time: bool,
}

impl Columns {
    pub(super) fn of(columns: &[Column]) -> Option<Self> {
        let words: Box<[Word]> = columns.iter().map(Word::of).collect::<Option<_>>()?;
        let has_time = words.contains(&Word::Time);
        Some(Self { words, has_time })
    }
}

/// What an access says, by [`Word`], and which of them it has not, by bit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Common {
    values: [u64; COUNT],
    absent: u64,
}

impl Common {
    /// Of one access to a port or an address, by vCPU `vcpu`; none of any other exit. `answer`: of a read.
    #[inline]
    pub(super) fn of(exit: &Exit, answer: Option<u64>, vcpu: u32) -> Option<Self> {
        let (kind, port, address, size, data) = match *exit {
            Exit::PortIn { port, size } => (ExitKind::PortIn, Some(port), 0, size, answer),
            Exit::PortOut { port, size, data } => {
                (ExitKind::PortOut, Some(port), 0, size, answer.or(Some(u64::from(data))))
            }
            Exit::MmioRead { at, size } => (ExitKind::MmioRead, None, at.0, size, answer),
            Exit::MmioWrite { at, size, data } => (ExitKind::MmioWrite, None, at.0, size, answer.or(Some(data))),
            _ => return None,
        };
        let place = if port.is_some() { Word::Address } else { Word::Port };
        let absent = place.bit() | if data.is_some() { 0 } else { Word::Data.bit() };
        let kind = u64::try_from(kind.index()).unwrap_or(0);
        let (port, size, data) = (port.map_or(0, u64::from), u64::from(size), data.unwrap_or(0));
        Some(Self { values: [0, kind, 0, u64::from(vcpu), port, address, size, data], absent })
    }

    /// Writes the record of that number, and into one more word, if there is one, which of its columns are there.
    #[inline]
    pub(super) fn write(mut self, columns: &Columns, to: &[AtomicU64], time: u64, sequence: u64) {
        (self.values[Word::Time.index()], self.values[Word::Sequence.index()]) = (time, sequence);
        let mut present = 0_u64;
        for (n, (word, to)) in columns.words.iter().zip(to).enumerate() {
            to.store(self.values[word.index()], Ordering::Relaxed);
            present |= (!self.absent >> word.index() & 1) << n;
        }
        if let Some(last) = to.get(columns.words.len()) {
            last.store(present, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::GuestPhys;
    use crate::error::{Error, Result};
    use crate::hook::{NoRegisters, Policy, Scope, Subject, Trace};
    use crate::source::ReadMemory;

    struct Nothing;

    impl ReadMemory for Nothing {
        fn read(&self, at: GuestPhys, _: &mut [u8]) -> Result<()> {
            Err(Error::Unbacked { at: at.0, len: 1, near: None })
        }
    }

    fn exits() -> impl Strategy<Value = Exit> {
        (0_u8..4, any::<u64>(), 1_u8..8, any::<u64>()).prop_map(|(which, at, size, data)| {
            let (port, word) = (u16::try_from(at & 0xffff).unwrap_or(0), u32::try_from(data >> 32).unwrap_or(0));
            match which {
                0 => Exit::PortIn { port, size },
                1 => Exit::PortOut { port, size, data: word },
                2 => Exit::MmioRead { at: GuestPhys(at), size },
                _ => Exit::MmioWrite { at: GuestPhys(at), size, data },
            }
        })
    }

    fn columns() -> Vec<Column> {
        let fields = [Field::Vcpu, Field::Port, Field::Address, Field::Size, Field::Data];
        let values = fields.map(|field| Column::Value(Expression::Exit(field)));
        [Column::Kind, Column::Sequence].into_iter().chain(values).collect()
    }

    proptest! {
        /// One more column, which has to be computed, sends a record the long way: it says the same.
        #[test]
        fn a_record_says_the_same_by_both_ways(exit in exits(), answer: Option<u64>, vcpu in 0_u32..2) {
            let longer = columns().into_iter().chain([Column::Value(Expression::Constant(1))]).collect();
            let record = |columns: Vec<Column>| {
                let width = columns.len();
                let trace = Trace::new(columns, &[Subject::Any], 2, 4, Policy::Drop).expect("small");
                let mut scope = Scope { exit: Some(&exit), answer, vcpu, registers: &mut NoRegisters, memory: &Nothing };
                trace.record(&exit, 0, &mut scope);
                let batch = trace.take(1).expect("one record");
                let words: Vec<_> = batch.words().iter().map(|word| word.load(Ordering::Relaxed)).collect();
                (width, words)
            };
            let ((width, short), (_, long)) = (record(columns()), record(longer));
            prop_assert_eq!(&short[..width], &long[..width]);
            prop_assert_eq!(short[width], long[width + 1] & !(1 << width));
        }
    }
}
