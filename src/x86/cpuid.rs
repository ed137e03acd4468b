//! CPUID leaves as data. It never executes the instruction.

/// One leaf: what CPUID answers for EAX (and ECX).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuidLeaf {
    /// The number in EAX.
    pub leaf: u32,
    /// The number in ECX, where the answer depends on it.
    pub subleaf: Option<u32>,
    /// EAX, EBX, ECX, EDX.
    pub words: [u32; 4],
}
