//! The mini-guests by which the quirks are found. They never touch a user's machine.
