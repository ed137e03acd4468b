//! The Rust tests that need /dev/kvm, as one program. Where there is none, each says so and passes.

mod repair;
