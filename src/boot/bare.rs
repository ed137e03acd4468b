//! Bare code in one line: the host builds segments, tables and a stack, so that a few bytes run in the mode asked for.
//! It never puts more into memory than that mode needs.
