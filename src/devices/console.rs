//! The far end of a serial line: what the guest has printed, and what it is to read.
//! It never blocks the guest: output that nobody fetches is bounded, and the oldest is dropped.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes of output that wait to be fetched.
const MOST_OUTPUT: usize = 1 << 20;
/// Most bytes of input that wait for the guest.
const MOST_INPUT: usize = 1 << 16;

#[derive(Debug, Default)]
struct Buffers {
    output: VecDeque<u8>,
    input: VecDeque<u8>,
    dropped: u64,
    ended: bool,
}

/// Both directions of a serial line. Clones are handles on the same line.
#[derive(Clone, Debug, Default)]
pub struct Console {
    shared: Arc<(Mutex<Buffers>, Condvar)>,
}

impl Console {
    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All output that has not been fetched, waiting up to `patience` for the first byte. Empty at a timeout or the end.
    pub fn read(&self, patience: Duration) -> Vec<u8> {
        let deadline = Instant::now().checked_add(patience);
        let mut buffers = self.buffers();
        while buffers.output.is_empty() && !buffers.ended {
            let left = deadline.map_or(patience, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            let waited = self.shared.1.wait_timeout(buffers, left);
            buffers = waited.map_or_else(|e| e.into_inner().0, |(b, _)| b);
        }
        buffers.output.drain(..).collect()
    }

    /// Takes back output that was fetched but not used: it is the next to be fetched.
    pub fn unread(&self, bytes: &[u8]) {
        let mut buffers = self.buffers();
        for byte in bytes.iter().rev() {
            buffers.output.push_front(*byte);
        }
    }

    /// How many bytes of output wait to be fetched.
    pub fn waiting(&self) -> usize {
        self.buffers().output.len()
    }

    /// How many bytes of output were dropped because nobody fetched them.
    pub fn dropped(&self) -> u64 {
        self.buffers().dropped
    }

    /// Queues input; says how many bytes there was room for.
    pub fn push_input(&self, bytes: &[u8]) -> usize {
        let mut buffers = self.buffers();
        let room = MOST_INPUT - buffers.input.len().min(MOST_INPUT);
        let taken = &bytes[..bytes.len().min(room)];
        buffers.input.extend(taken);
        taken.len()
    }

    /// The next `most` bytes of input.
    pub fn take_input(&self, most: usize) -> Vec<u8> {
        let mut buffers = self.buffers();
        let n = most.min(buffers.input.len());
        buffers.input.drain(..n).collect()
    }

    /// No more output will come: readers need not wait.
    pub fn end(&self, yes: bool) {
        self.buffers().ended = yes;
        self.shared.1.notify_all();
    }
}

impl io::Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffers = self.buffers();
        buffers.output.extend(bytes);
        let excess = buffers.output.len().saturating_sub(MOST_OUTPUT);
        buffers.output.drain(..excess);
        buffers.dropped += u64::try_from(excess).unwrap_or(0);
        self.shared.1.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn output_that_nobody_fetches_is_bounded() {
        let mut console = Console::default();
        for _ in 0..3 {
            console.write_all(&vec![b'x'; MOST_OUTPUT / 2]).expect("never fails");
        }
        assert_eq!(console.read(Duration::ZERO).len(), MOST_OUTPUT);
        assert_eq!(console.dropped(), u64::try_from(MOST_OUTPUT / 2).expect("small"));
    }

    #[test]
    fn input_is_taken_in_order_and_bounded() {
        let console = Console::default();
        assert_eq!(console.push_input(b"abc"), 3);
        assert_eq!(console.take_input(2), b"ab");
        assert_eq!(console.push_input(&vec![0; MOST_INPUT]), MOST_INPUT - 1);
    }

    #[test]
    fn a_reader_does_not_wait_for_a_line_that_has_ended() {
        let console = Console::default();
        console.end(true);
        let start = Instant::now();
        assert!(console.read(Duration::from_secs(60)).is_empty());
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
