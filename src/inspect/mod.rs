//! Understanding a guest that is only read: address spaces, symbols, types, given any `source`.
//! It never writes to one, and never asks whether it is live.

pub mod saved;
