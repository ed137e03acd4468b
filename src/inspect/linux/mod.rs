//! What a Linux kernel says of itself in its own memory: its types.
//! It never knows an offset or a constant of one version, and never trusts what it reads.

pub mod btf;
