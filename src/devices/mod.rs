//! Native devices, one per file, each generic over what it is connected to. They never know KVM or the machine.
