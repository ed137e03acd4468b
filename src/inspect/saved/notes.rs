//! What notes say of the vCPUs: our own whole states, QEMU's registers, Linux' NT_PRSTATUS, and a kernel's VMCOREINFO.
//! It never asks where a note came from, and leaves out one that is too short.

use super::{Note, number};
use crate::x86::user_regs::{self, COUNT};
use crate::x86::{Regs, Segment, Sregs, State, cr0, cr4, efer};

/// The name of our own notes; their kinds are none of those that tools take for notes on a process.
pub const OURS: &str = "BELLJAR";
/// A vCPU's whole state, as [`State::encode`] has it; one note for each vCPU.
pub const STATE: u32 = 0x101;
/// What wrote the file and where, as text.
pub const ABOUT: u32 = 0x102;
/// The symbols that were known, as text.
pub const SYMBOLS: u32 = 0x103;

const NT_PRSTATUS: u32 = 1;
/// Where `pr_reg` is in `struct elf_prstatus` (linux/elfcore.h), 64 bits.
const REGISTERS: usize = 112;
/// Length of `struct elf_prstatus`.
const PRSTATUS: usize = 336;
/// Where `pr_pid` is in it.
const PID: usize = 32;
/// Length of QEMU's `QEMUCPUState` (target/i386/arch_dump.c): a head, 18 registers, 10 segments, CR0 to CR4, KERNEL_GS_BASE.
const QEMU: usize = 8 + 18 * 8 + 10 * 24 + 5 * 8 + 8;
const QEMU_SEGMENTS: usize = 8 + 18 * 8;
const QEMU_CONTROL: usize = QEMU_SEGMENTS + 10 * 24;
/// Where Linux' kernel image is mapped: `__START_KERNEL_map` (Documentation/x86/x86_64/mm.rst).
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// The states of all vCPUs that the notes tell of, as fully as they do.
pub fn states(notes: &[Note]) -> Vec<State> {
    let of = |name, kind| notes.iter().filter(move |n| n.name == name && n.kind == kind).map(|n| n.data.as_slice());
    let ours: Vec<_> = of(OURS, STATE).filter_map(State::decode).collect();
    if !ours.is_empty() {
        return ours;
    }
    let theirs: Vec<_> = of("QEMU", 0).filter_map(qemu).collect();
    let text = of("VMCOREINFO", 0).next().map(String::from_utf8_lossy);
    let kernel = text.and_then(|text| kernel_tables(&text));
    let plain = of("CORE", NT_PRSTATUS).filter_map(prstatus);
    let plain = plain.map(|(regs, sregs)| whole(regs, &kernel.as_ref().map_or(sregs, |k| under(k, sregs)))).collect();
    if theirs.is_empty() { plain } else { theirs }
}

fn whole(regs: Regs, sregs: &Sregs) -> State {
    State { regs, sregs: *sregs, ..State::default() }
}

/// `sregs` with the control registers of `kernel`.
fn under(kernel: &Sregs, mut sregs: Sregs) -> Sregs {
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (kernel.cr0, kernel.cr3, kernel.cr4, kernel.efer);
    sregs
}

fn prstatus(data: &[u8]) -> Option<(Regs, Sregs)> {
    let from = data.get(REGISTERS..REGISTERS + 8 * COUNT)?;
    let mut words = [0; COUNT];
    words.iter_mut().enumerate().for_each(|(at, word)| *word = number(from, 8 * at, 8));
    let (mut regs, mut sregs) = (Regs::default(), Sregs::default());
    user_regs::take(&words, &mut regs, &mut sregs);
    sregs.cs.l = 1;
    sregs.ss.dpl = u8::try_from(sregs.cs.selector & 3).unwrap_or(0);
    Some((regs, sregs))
}

fn qemu(data: &[u8]) -> Option<State> {
    let data = data.get(..QEMU)?;
    let (mut regs, mut s) = (Regs::default(), Sregs::default());
    // They are in the order that KVM has them in.
    regs.words.iter_mut().enumerate().for_each(|(index, word)| *word = number(data, 8 + 8 * index, 8));
    let at = |index: usize| QEMU_SEGMENTS + 24 * index;
    let segment = |index| segment(&data[at(index)..at(index) + 24]);
    (s.cs, s.ds, s.es, s.fs, s.gs, s.ss) = (segment(0), segment(1), segment(2), segment(3), segment(4), segment(5));
    (s.ldt, s.tr) = (segment(6), segment(7));
    for (table, index) in [(&mut s.gdt, 8), (&mut s.idt, 9)] {
        table.base = number(data, at(index) + 16, 8);
        table.limit = u16::try_from(number(data, at(index) + 4, 2)).unwrap_or(0);
    }
    let control = |n: usize| number(data, QEMU_CONTROL + 8 * n, 8);
    (s.cr0, s.cr2, s.cr3, s.cr4) = (control(0), control(2), control(3), control(4));
    let long = s.cr0 & cr0::PG != 0 && s.cr4 & cr4::PAE != 0; // it does not say EFER: who has PAE without it is long gone
    s.efer = if long { efer::LME | efer::LMA | efer::NXE } else { 0 };
    Some(whole(regs, &s))
}

/// QEMU keeps a segment's attributes as they are in the upper half of its descriptor.
fn segment(data: &[u8]) -> Segment {
    let flags = number(data, 8, 4);
    let bits = |from: u32, mask: u64| u8::try_from(flags >> from & mask).unwrap_or(0);
    Segment {
        base: number(data, 16, 8),
        limit: u32::try_from(number(data, 4, 4)).unwrap_or(0),
        selector: u16::try_from(number(data, 0, 2)).unwrap_or(0),
        kind: bits(8, 15),
        s: bits(12, 1),
        dpl: bits(13, 3),
        present: bits(15, 1),
        avl: bits(20, 1),
        l: bits(21, 1),
        db: bits(22, 1),
        g: bits(23, 1),
        unusable: 1 - bits(15, 1),
        padding: 0,
    }
}

/// The upper half of a segment's descriptor.
fn attributes(s: &Segment) -> u32 {
    let bits =
        [(s.kind & 15, 8), (s.s, 12), (s.dpl & 3, 13), (s.present, 15), (s.avl, 20), (s.l, 21), (s.db, 22), (s.g, 23)];
    bits.iter().fold(0, |word, (value, shift)| word | u32::from(*value) << shift)
}

/// The control registers under which a Linux kernel's own page tables translate, going by its VMCOREINFO.
pub fn kernel_tables(text: &str) -> Option<Sregs> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let top = ["SYMBOL(init_top_pgt)", "SYMBOL(swapper_pg_dir)"].into_iter().find_map(value)?;
    let top = u64::from_str_radix(top, 16).ok()?.checked_sub(KERNEL_MAP)?;
    let base = value("NUMBER(phys_base)").map_or(Some(0), |base| base.parse::<i64>().ok())?;
    let five = value("NUMBER(pgtable_l5_enabled)") == Some("1");
    Some(Sregs {
        cr0: cr0::PE | cr0::PG | cr0::WP,
        cr3: top.wrapping_add_signed(base) & crate::x86::pte::ADDRESS,
        cr4: cr4::PAE | if five { cr4::LA57 } else { 0 },
        efer: efer::LME | efer::LMA | efer::NXE,
        ..Sregs::default()
    })
}

/// The three notes on vCPU `id`: for crash and gdb, for those who know QEMU's files, and for us.
pub fn of_state(id: u32, state: &State) -> [Note; 3] {
    let note = |name: &str, kind, data| Note { name: name.into(), kind, data };
    [
        note("CORE", NT_PRSTATUS, prstatus_of(id, state)),
        note("QEMU", 0, qemu_of(state)),
        note(OURS, STATE, state.encode()),
    ]
}

fn prstatus_of(id: u32, state: &State) -> Vec<u8> {
    let mut data = vec![0; PRSTATUS];
    data[PID..PID + 4].copy_from_slice(&(id + 1).to_le_bytes()); // as QEMU numbers them: 0 would be no thread
    for (at, word) in user_regs::words(&state.regs, &state.sregs).into_iter().enumerate() {
        data[REGISTERS + 8 * at..][..8].copy_from_slice(&word.to_le_bytes());
    }
    data
}

fn qemu_of(state: &State) -> Vec<u8> {
    let (s, mut data) = (&state.sregs, Vec::with_capacity(QEMU));
    let length = u32::try_from(QEMU).unwrap_or(0);
    data.extend(1_u32.to_le_bytes());
    data.extend(length.to_le_bytes());
    data.extend(state.regs.words.iter().flat_map(|word| word.to_le_bytes()));
    for segment in [s.cs, s.ds, s.es, s.fs, s.gs, s.ss, s.ldt, s.tr] {
        let words = [u32::from(segment.selector), segment.limit, attributes(&segment), 0];
        data.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        data.extend(segment.base.to_le_bytes());
    }
    for table in [s.gdt, s.idt] {
        data.extend([0, u32::from(table.limit), 0, 0].iter().flat_map(|word: &u32| word.to_le_bytes()));
        data.extend(table.base.to_le_bytes());
    }
    data.extend([s.cr0, 0, s.cr2, s.cr3, s.cr4].iter().flat_map(|word| word.to_le_bytes()));
    let kernel_gs = state.msrs.iter().find(|(number, _)| *number == 0xc000_0102); // AMD APM vol. 2, 4.5.3: KernelGSBase
    data.extend(kernel_gs.map_or(0, |(_, value)| *value).to_le_bytes());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_read_of_our_notes_are_the_registers() {
        let mut state = State::default();
        state.regs.words = std::array::from_fn(|at| u64::try_from(at).unwrap() + 0x100);
        state.sregs.cs = Segment::long_code(0x10, 0);
        (state.sregs.cr0, state.sregs.cr3, state.sregs.cr4) = (cr0::PE | cr0::PG, 0x7000, cr4::PAE);
        state.sregs.idt.base = 0xffff_fe00_0000_0000;
        let notes = of_state(0, &state);
        assert_eq!(states(&notes), vec![state.clone()]);
        let qemu = &states(&notes[..2])[0];
        assert_eq!((qemu.regs, qemu.sregs.cs, qemu.sregs.cr3), (state.regs, state.sregs.cs, 0x7000));
        assert_eq!((qemu.sregs.idt.base, qemu.sregs.code_bits()), (state.sregs.idt.base, 64));
        assert_eq!(states(&notes[..1])[0].regs, state.regs);
    }

    #[test]
    fn vmcoreinfo_tells_the_kernels_page_tables() {
        let text =
            "SYMBOL(swapper_pg_dir)=ffffffffa5e10000\nNUMBER(phys_base)=-515899392\nNUMBER(pgtable_l5_enabled)=1\n";
        let sregs = kernel_tables(text).unwrap();
        assert_eq!((sregs.cr3, sregs.cr4 & cr4::LA57), (0x0721_0000, cr4::LA57));
        assert_eq!(kernel_tables("SYMBOL(swapper_pg_dir)=12\n"), None);
    }

    #[test]
    fn notes_that_are_too_short_tell_nothing() {
        let note = |name: &str, kind, len| Note { name: name.into(), kind, data: vec![1; len] };
        assert!(states(&[note("CORE", 1, 300), note("QEMU", 0, 439), note(OURS, STATE, 64)]).is_empty());
    }
}
