//! A memory barrier on all threads of the process, for whoever needs it seldom: the others need none of their own at each exit.
//! It never waits for a vCPU.

#![allow(unsafe_code)] // membarrier(2) has no safe interface

use std::sync::atomic::{AtomicU32, Ordering};

/// `MEMBARRIER_CMD_PRIVATE_EXPEDITED` and its registration (Linux 4.14, include/uapi/linux/membarrier.h).
const EVERYWHERE: libc::c_long = 1 << 3;
const REGISTER: libc::c_long = 1 << 4;

fn membarrier(command: libc::c_long) -> bool {
    let (flags, cpu): (libc::c_long, libc::c_long) = (0, 0);
    // SAFETY: the call takes three numbers, and changes nothing but the order of memory accesses.
    unsafe { libc::syscall(libc::SYS_membarrier, command, flags, cpu) == 0 }
}

/// Does the kernel offer it? The first time in a process that has several threads already, the answer takes some 10 ms: the
/// kernel waits until each processor has heard of it.
pub fn is_offered() -> bool {
    static REGISTERED: AtomicU32 = AtomicU32::new(0); // the process: a forked child asks again
    let process = std::process::id();
    let is_offered = REGISTERED.load(Ordering::Relaxed) == process || membarrier(REGISTER);
    if is_offered {
        REGISTERED.store(process, Ordering::Relaxed);
    }
    is_offered
}

/// Every thread of this process that runs makes a full barrier between two of its instructions, during this call. False if the
/// kernel refuses, after all.
pub fn everywhere() -> bool {
    membarrier(EVERYWHERE)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, compiler_fence};

    use super::*;

    /// What it is for: of two threads, each of which says something and then looks what the other has said, one sees it.
    #[test]
    fn one_of_two_sees_the_other_though_only_one_makes_a_barrier() {
        if !is_offered() {
            return;
        }
        let (mine, yours, round) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU32::new(0));
        let turn = |of: u32| {
            while round.load(Ordering::Acquire) != of {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let look = |n: u32| {
                    turn(2 * n + 1);
                    yours.store(true, Ordering::Relaxed);
                    compiler_fence(Ordering::SeqCst);
                    let seen = mine.load(Ordering::Relaxed);
                    round.store(2 * n + 2, Ordering::Release);
                    seen
                };
                (0..300).map(look).collect::<Vec<_>>()
            });
            let look = |n: u32| {
                mine.store(false, Ordering::Relaxed);
                yours.store(false, Ordering::Relaxed);
                round.store(2 * n + 1, Ordering::Release);
                mine.store(true, Ordering::Relaxed);
                assert!(everywhere());
                let seen = yours.load(Ordering::Relaxed);
                turn(2 * n + 2);
                seen
            };
            let seen: Vec<_> = (0..300).map(look).collect();
            let both = other.join().expect("no panic");
            assert!(seen.iter().zip(both).all(|(mine, other)| *mine || other));
        });
    }
}
