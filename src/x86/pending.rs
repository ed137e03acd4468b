//! What is on its way into a vCPU: exceptions, interrupts, NMI, SMI. It never decides what is delivered first.

/// The pending events of a vCPU, in the order of [`Pending::NAMES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// The values: yes is 1.
    pub words: [u64; Self::COUNT],
}

impl Pending {
    /// How many values there are.
    pub const COUNT: usize = 20;
    /// Their names.
    pub const NAMES: [&'static str; Self::COUNT] = [
        "exception_injected",
        "exception_pending",
        "exception_vector",
        "has_error_code",
        "error_code",
        "has_payload",
        "payload",
        "interrupt_injected",
        "interrupt_vector",
        "interrupt_soft",
        "interrupt_shadow",
        "nmi_injected",
        "nmi_pending",
        "nmi_masked",
        "sipi_vector",
        "smm",
        "smi_pending",
        "smm_inside_nmi",
        "latched_init",
        "triple_fault",
    ];
}
