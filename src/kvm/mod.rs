//! Handles on the kernel's KVM: the host, a VM, its vCPUs, the kick, and what was probed of this KVM.
//! The only place that speaks kvm_ioctls and kvm_bindings; it never decides what an exit means.

pub mod barrier;
mod cpuid;
mod enter;
mod entered;
mod fast;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod host;
mod inject;
mod kick;
mod msr_filter;
mod msrs;
mod queue;
mod quirks;
mod run_page;
mod state;
mod vcpu;
mod vm;

pub use enter::Left;
pub use entered::{Access, Direction, Entered, Events, Sync};
pub use fast::{Ring, Target};
pub use host::{Capability, Host};
pub use kick::{Kick, RunGuard, TICK, thread_time};
pub use queue::{Queue, Write};
#[cfg(feature = "python")]
pub(crate) use quirks::quirk_list;
pub use quirks::{Answer, Quirks};
pub use state::XsaveForm;
pub use vcpu::Vcpu;
pub use vm::{Irqchip, MsiMessage, Vm};
