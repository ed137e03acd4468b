//! What is planted in a guest and why: breakpoints and watchpoints, where they lie, and by what mechanism they are noticed.
//! It never touches guest memory or a vCPU.

mod outline;
mod plan;
mod point;
mod points;
mod sites;
#[cfg(test)]
mod tests;

pub use outline::{Outline, Slot};
pub use plan::{Plan, Turn};
pub use point::{Mechanism, Place, Point, Watch, Wish};
pub use points::Points;
pub use sites::{Role, Site};
