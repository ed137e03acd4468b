//! What each exit reason is decoded to, from pages that no kernel writes. They never enter a guest.

use super::*;

/// A page that no kernel writes.
fn decoded(fill: impl FnOnce(&mut kb::kvm_run)) -> Entered {
    let mut page: Box<[kb::kvm_run; 2]> = Box::default();
    fill(&mut page[0]);
    let run = NonNull::from(&mut *page).cast();
    RunPage::new(run, size_of::<[kb::kvm_run; 2]>()).exit()
}

/// The bytes of `words`, as the union holds them.
fn words(words: &[u64]) -> [libc::c_char; 256] {
    let mut padding = [0; 256];
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    padding.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte.cast_signed());
    padding
}

fn exit(reason: u32, fill: impl FnOnce(&mut kb::kvm_run)) -> Exit {
    match decoded(|run| {
        run.exit_reason = reason;
        fill(run);
    }) {
        Entered::Exit(exit) => exit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rare_exits_keep_what_kvm_says() {
    let nothing = |_: &mut kb::kvm_run| ();
    assert_eq!(exit(kb::KVM_EXIT_IRQ_WINDOW_OPEN, nothing), Exit::InterruptWindow);
    assert_eq!(exit(kb::KVM_EXIT_DIRTY_RING_FULL, nothing), Exit::DirtyRingFull);
    assert_eq!(exit(kb::KVM_EXIT_AP_RESET_HOLD, nothing), Exit::ApResetHold);
    assert_eq!(exit(kb::KVM_EXIT_X86_BUS_LOCK, nothing), Exit::BusLock);
    assert_eq!(exit(kb::KVM_EXIT_SET_TPR, |run| run.cr8 = 5), Exit::TprLowered { tpr: 5 });
    assert_eq!(
        exit(kb::KVM_EXIT_IOAPIC_EOI, |run| run.__bindgen_anon_1.eoi.vector = 0x31),
        Exit::IoapicEoi { vector: 0x31 }
    );
    assert_eq!(exit(kb::KVM_EXIT_NOTIFY, |run| run.__bindgen_anon_1.notify.flags = 1), Exit::Notify { flags: 1 });
    let access = kb::kvm_run__bindgen_ty_1__bindgen_ty_9 { rip: 0x1000, is_write: 1, ..Default::default() };
    assert_eq!(
        exit(kb::KVM_EXIT_TPR_ACCESS, |run| run.__bindgen_anon_1.tpr_access = access),
        Exit::TprAccess { rip: 0x1000, is_write: true }
    );
}

#[test]
fn a_hypercall_keeps_its_number_and_arguments() {
    let found = exit(kb::KVM_EXIT_HYPERCALL, |run| {
        run.__bindgen_anon_1.padding = words(&[12, 0x1000, 2, 3, 4, 5, 6, 0, 1]);
    });
    let expected = Hypercall { number: 12, args: [0x1000, 2, 3, 4, 5, 6], long_mode: true };
    assert_eq!(found, Exit::Hypercall(Box::new(expected)));
}

#[test]
fn an_unknown_reason_keeps_its_number_and_words() {
    let Exit::Unknown(unknown) = exit(0x1234, |run| run.__bindgen_anon_1.padding = words(&[0, 0x700])) else {
        panic!()
    };
    assert_eq!((unknown.reason, &unknown.data[..3]), (0x1234, &[0, 0x700, 0][..]));
    let Exit::Xen(xen) = exit(kb::KVM_EXIT_XEN, |run| run.__bindgen_anon_1.padding = words(&[1, 2])) else { panic!() };
    assert_eq!((xen.kind, xen.data[0]), (1, 2));
}

#[test]
fn a_port_access_outside_the_page_is_an_unknown_exit() {
    let io =
        kb::kvm_run__bindgen_ty_1__bindgen_ty_4 { size: 1, count: u32::MAX, data_offset: 4096, ..Default::default() };
    let found = exit(kb::KVM_EXIT_IO, |run| run.__bindgen_anon_1.io = io);
    assert!(matches!(found, Exit::Unknown(unknown) if unknown.reason == kb::KVM_EXIT_IO));
}
