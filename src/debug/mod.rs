//! What is planted in a guest and why: breakpoints and watchpoints, where they lie, and by what mechanism they are noticed.
//! It never touches guest memory or a vCPU.

mod plan;
mod point;

pub use plan::{Plan, Points, Role, Site, Slot};
pub use point::{Mechanism, Place, Point, Watch, Wish};
