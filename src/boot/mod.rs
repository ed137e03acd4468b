//! Puts a guest into memory and says in which state its vCPU begins: bare code, ELF, Multiboot, Linux.
//! It never touches a vCPU and never runs anything.

pub mod layout;
pub mod start;
pub mod bare;
pub mod paging;
