//! The names of model-specific registers. It never says which of them exist on a processor.

/// Names and numbers, as Linux's msr-index.h and the manuals spell them (without their prefixes).
pub const NAMES: &[(&str, u32)] = &[
    ("TSC", 0x10),
    ("APIC_BASE", 0x1b),
    ("FEATURE_CONTROL", 0x3a),
    ("TSC_ADJUST", 0x3b),
    ("SPEC_CTRL", 0x48),
    ("BIOS_SIGN_ID", 0x8b),
    ("MTRRCAP", 0xfe),
    ("ARCH_CAPABILITIES", 0x10a),
    ("SYSENTER_CS", 0x174),
    ("SYSENTER_ESP", 0x175),
    ("SYSENTER_EIP", 0x176),
    ("MCG_CAP", 0x179),
    ("MCG_STATUS", 0x17a),
    ("MISC_ENABLE", 0x1a0),
    ("DEBUGCTL", 0x1d9),
    ("PAT", 0x277),
    ("MTRR_DEF_TYPE", 0x2ff),
    ("TSC_DEADLINE", 0x6e0),
    ("XSS", 0xda0),
    ("EFER", 0xc000_0080),
    ("STAR", 0xc000_0081),
    ("LSTAR", 0xc000_0082),
    ("CSTAR", 0xc000_0083),
    ("SYSCALL_MASK", 0xc000_0084),
    ("FS_BASE", 0xc000_0100),
    ("GS_BASE", 0xc000_0101),
    ("KERNEL_GS_BASE", 0xc000_0102),
    ("TSC_AUX", 0xc000_0103),
    ("HWCR", 0xc001_0015),
    ("KVM_WALL_CLOCK", 0x4b56_4d00),
    ("KVM_SYSTEM_TIME", 0x4b56_4d01),
    ("KVM_ASYNC_PF_EN", 0x4b56_4d02),
    ("KVM_STEAL_TIME", 0x4b56_4d03),
    ("KVM_PV_EOI_EN", 0x4b56_4d04),
    ("KVM_POLL_CONTROL", 0x4b56_4d05),
];

/// `STAR`: the selectors of SYSCALL and SYSRET.
pub const STAR: u32 = 0xc000_0081;
/// `LSTAR`: where SYSCALL goes.
pub const LSTAR: u32 = 0xc000_0082;
/// `SYSCALL_MASK`: the flags that SYSCALL clears.
pub const SYSCALL_MASK: u32 = 0xc000_0084;

/// The number of a name; `MSR_`, `IA32_` and case do not matter.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("MSR_").unwrap_or(&upper);
    let bare = bare.strip_prefix("IA32_").unwrap_or(bare);
    NAMES.iter().find(|(n, _)| *n == bare).map(|(_, number)| *number)
}

/// The name of a number, where it has one here.
pub fn name(number: u32) -> Option<&'static str> {
    NAMES.iter().find(|(_, n)| *n == number).map(|(name, _)| *name)
}
