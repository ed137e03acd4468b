//! What was probed of this KVM, as answers that code and tests can ask. It never names a vendor or a module.

/// One answer of the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name of the field in [`Quirks`].
    pub name: &'static str,
    /// What was found.
    pub value: bool,
    /// What KVM documents.
    pub documented: bool,
    /// What does not work because of it, and what to do instead; for an answer that is not the documented one.
    pub consequence: &'static str,
}

/// Hands the list of quirks to the macro `$with`: doc comment, name, documented answer, consequence.
macro_rules! quirk_list {
    ($with:ident) => {
        $with! {
            /// Ring 0 runs every instruction of the processor; else only those that KVM's emulator knows.
            ring0_is_native = true, "kernels meet instructions that KVM cannot emulate: belljar repairs the common ones; compute in ring 3";
            /// SYSCALL in ring 3 enters ring 0.
            syscall_enters_ring0 = true, "SYSCALL from ring 3 is repaired for Linux guests (a stub at the page-fault entry); elsewhere use int 4 through a DPL-3 gate";
            /// `int n` in ring 3 reaches the guest's handler for every n.
            int_n_in_ring3 = true, "int n from ring 3 raises #UD, but for int 3 and int 4: use these two";
            /// int3 in ring 0 exits as a debug exit when breakpoints are asked for.
            int3_exits_in_ring0 = true, "int3 in ring 0 is no breakpoint for the host: it goes to the guest, or ends the run as an internal error";
            /// int3 in ring 3 exits as a debug exit when breakpoints are asked for.
            int3_exits_in_ring3 = true, "int3 in ring 3 is no breakpoint for the host: it goes to the guest's own handler";
            /// Single stepping exits after each instruction in ring 0.
            single_step_in_ring0 = true, "no single step in ring 0";
            /// Single stepping exits after each instruction in ring 3.
            single_step_in_ring3 = true, "no single step in ring 3: the guest's own #DB handler sees it";
            /// Hardware execution breakpoints exit in ring 0.
            hardware_breakpoints_in_ring0 = true, "no hardware breakpoints in ring 0";
            /// Hardware execution breakpoints exit in ring 3.
            hardware_breakpoints_in_ring3 = true, "no hardware breakpoints in ring 3";
            /// Hardware data watchpoints exit.
            hardware_watchpoints = true, "no hardware watchpoints: vm.watch() traps the pages of what it watches instead";
            /// Ring 3 may use the ports that the I/O map of its task-state segment allows.
            port_map_in_ring3 = true, "ring 3 gets its ports by IOPL 3 instead, which also lets it execute cli and sti";
            /// A guest kernel may call the hypervisor by vmcall or vmmcall.
            hypercalls = true, "guests are not offered the features that need hypercalls (IPIs, yields and unhalts by KVM)";
            /// 32-bit paging (without PAE) works.
            paging_32bit = true, "32-bit guests with paging cannot run here";
            /// A CPUID feature that was masked out stays hidden from ring 3.
            cpuid_masks_hold = true, "the guest sees the host's CPUID: tell a kernel what not to use by its command line";
            /// RIP already points behind an OUT instruction while its exit is handled.
            out_advances_rip = false, "RIP in a handler of a port write is behind the instruction instead of at it";
        }
    };
}

macro_rules! quirks {
    ($($(#[doc = $doc:literal])+ $name:ident = $documented:literal, $consequence:literal;)+) => {
        /// How this KVM behaves, found out by running mini-guests.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Quirks {
            $($(#[doc = $doc])+ pub $name: bool,)+
            /// Every question was answered; else what was not counts as no, and nobody may rely on it.
            pub are_known: bool,
        }

        impl Quirks {
            /// What KVM documents, on hardware.
            pub const DOCUMENTED: Self = Self { $($name: $documented,)+ are_known: true };

            /// All answers, with what follows from them.
            pub fn answers(&self) -> Vec<Answer> {
                vec![$(Answer {
                    name: stringify!($name), value: self.$name, documented: $documented, consequence: $consequence,
                },)+]
            }
        }
    };
}

quirk_list!(quirks);

#[cfg(feature = "python")]
pub(crate) use quirk_list;
