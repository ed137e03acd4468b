//! What a vCPU keeps of its machine's points, which is the same size however many there are. It never changes; a change of the
//! points makes a new one.

use std::sync::Arc;

use super::point::Point;

/// What one debug register holds.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The linear address.
    pub linear: u64,
    /// Its three bits in DR7: R/W and LEN.
    pub control: u64,
    /// Whose it is.
    pub point: Arc<Point>,
}

/// The points of a machine at one moment, as far as each entry of the guest asks for them.
#[derive(Clone, Debug)]
pub struct Outline {
    /// There is nothing at all.
    pub is_empty: bool,
    /// Some points are nowhere yet.
    pub has_waiting: bool,
    /// The guest's #BP handler is to be trapped, unless that is belljar's own.
    pub wants_gate: bool,
    /// KVM is to report int3.
    pub wants_int3: bool,
    /// Port reads are planted.
    pub has_port_reads: bool,
    /// DR0 to DR3.
    pub slots: [Option<Slot>; 4],
    /// How many trap flags of ours are on their way through the guest.
    pub strays: u32,
}

impl Default for Outline {
    fn default() -> Self {
        super::Plan::default().outline()
    }
}

impl Outline {
    /// Is a debug register taken?
    pub fn has_slots(&self) -> bool {
        self.slots.iter().any(Option::is_some)
    }

    /// DR0 to DR7 as KVM takes them for the slots, and whether there are any.
    pub fn registers(&self, vcpu: u32) -> Option<[u64; 8]> {
        self.registers_of(vcpu, |_| true)
    }

    /// The same, of those alone that watch data.
    pub fn data_registers(&self, vcpu: u32) -> Option<[u64; 8]> {
        self.registers_of(vcpu, |slot| slot.point.wish.watch.is_some())
    }

    /// The same for a step from linear address `at`: of those that watch data, or stop there.
    pub fn step_registers(&self, vcpu: u32, at: u64) -> Option<[u64; 8]> {
        self.registers_of(vcpu, |slot| slot.point.wish.watch.is_some() || slot.linear == at)
    }

    fn registers_of(&self, vcpu: u32, is_wanted: impl Fn(&Slot) -> bool) -> Option<[u64; 8]> {
        const FIXED: u64 = 1 << 10;
        let mut registers = [0; 8];
        registers[7] = FIXED;
        let mut any = false;
        for (n, slot) in self.slots.iter().enumerate() {
            let is_here = |slot: &&Slot| slot.point.wish.vcpu.is_none_or(|only| only == vcpu) && is_wanted(slot);
            let Some(slot) = slot.as_ref().filter(is_here) else { continue };
            registers[n] = slot.linear;
            registers[7] |= 2 << (2 * n) | slot.control << (16 + 4 * n);
            any = true;
        }
        any.then_some(registers)
    }
}
