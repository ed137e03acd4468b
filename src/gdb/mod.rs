//! GDB's remote serial protocol, spoken for a machine: threads are vCPUs, memory is what a vCPU sees.
//! It never touches KVM: it asks the machine.
