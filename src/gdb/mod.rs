//! GDB's remote serial protocol, spoken for a machine: threads are vCPUs, memory is what a vCPU sees.
//! It never touches KVM: it asks the machine.
//!
//! ```text
//! socket -> link -> gdbstub -> target -> machine        on the server's thread, all vCPUs being held
//!                                 |
//!              grip <- points <- a vCPU's thread        a hit: all are held, and the server's thread is told
//! ```

mod arch;
mod grip;
mod link;
mod monitor;
mod points;
mod registers;
mod resume;
mod server;
mod target;

pub use link::{Address, Listener};
pub use server::Server;
