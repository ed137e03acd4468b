//! What is planted in a guest so that it stops: breakpoints, watchpoints, steps; as data, with what each needs of a vCPU.
//! It never runs a vCPU: `machine` does what it says.
