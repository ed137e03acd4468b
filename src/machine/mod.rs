//! Owns a machine and runs it.
