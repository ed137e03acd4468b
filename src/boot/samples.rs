//! Small images of every format, and memory to load them into. For tests only.

use crate::addr::GuestPhys;
use crate::memory::Memory;
use crate::source::ReadMemory;

/// One loadable segment.
#[derive(Clone, Debug)]
pub struct Load {
    pub virt: u64,
    pub phys: u64,
    pub bytes: Vec<u8>,
    pub memsz: u64,
}

/// RAM from 0 on.
pub fn memory(len: u64) -> Memory {
    let memory = Memory::default();
    memory.add(GuestPhys(0), len, false, |_, _| Ok(())).expect("whole pages");
    memory
}

pub fn read_u32(memory: &Memory, at: GuestPhys) -> u32 {
    let mut word = [0; 4];
    memory.read(at, &mut word).expect("RAM");
    u32::from_le_bytes(word)
}

/// One image of each format: bzImage, vmlinux, PVH, ELF64, ELF32, Multiboot in ELF, Multiboot by addresses.
pub fn all() -> [Vec<u8>; 7] {
    let load = Load { virt: 0x10_0000, phys: 0x10_0000, bytes: vec![0xf4; 16], memsz: 0x1000 };
    let loads = [load];
    let (long, flat) = (elf64(0x10_0000, &loads, None), elf32(0x10_0000, &loads, None));
    [bzimage(), vmlinux(), pvh(), long, flat, multiboot(), multiboot_addressed()]
}

/// What the fuzzer begins with: these images, as files.
#[test]
fn the_seeds_of_the_fuzz_targets_are_these_images() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds/images");
    for (name, image) in
        ["bzimage", "vmlinux", "pvh", "elf64", "elf32", "multiboot", "multiboot-addressed"].iter().zip(all())
    {
        assert_eq!(std::fs::read(seeds.join(name)).expect("a seed"), image, "{name}");
    }
}

/// Where the headers of image `which` are: offset and length.
pub fn headers(which: usize) -> (usize, usize) {
    [(0x1f1, 0x7b), (0, 120), (0, 200), (0, 120), (0, 84), (0, 100), (0, 40)][which]
}

pub fn vmlinux() -> Vec<u8> {
    let load = Load {
        virt: 0xffff_ffff_8020_0000,
        phys: 0x20_0000,
        bytes: b"\xf4Linux version 6.1.0".to_vec(),
        memsz: 0x2000,
    };
    elf64(0x20_0000, &[load], None)
}

pub fn pvh() -> Vec<u8> {
    let load = Load { virt: 0x10_0000, phys: 0x10_0000, bytes: vec![0xf4; 32], memsz: 0x1000 };
    elf64(0x10_0000, &[load], Some(0x10_0010))
}

pub fn multiboot() -> Vec<u8> {
    multiboot_flags(0b11)
}

/// A Multiboot kernel in an ELF32 file.
pub fn multiboot_flags(flags: u32) -> Vec<u8> {
    let mut bytes = multiboot_header(flags);
    bytes.extend([0xf4; 4]);
    elf32(0x10_000c, &[Load { virt: 0x10_0000, phys: 0x10_0000, bytes, memsz: 0x1000 }], None)
}

/// A Multiboot kernel that is no ELF file: 8 bytes of something, then what is loaded at 1 MiB.
pub fn multiboot_addressed() -> Vec<u8> {
    let addresses = [0x10_0000u32, 0x10_0000, 0x10_0024, 0x10_2000, 0x10_0020];
    [&[0xee; 8], &multiboot_header(0x1_0003)[..], &words(&addresses), &[0xf4; 4]].concat()
}

fn multiboot_header(flags: u32) -> Vec<u8> {
    words(&[0x1bad_b002, flags, 0u32.wrapping_sub(0x1bad_b002).wrapping_sub(flags)])
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A bzImage of protocol 2.15: one setup sector, 1 KiB of kernel that unpacks at 2 MiB and takes 1 MiB there.
pub fn bzimage() -> Vec<u8> {
    let mut image = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // setup_sects
    put(0x1f4, &64u32.to_le_bytes()); // syssize
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]); // boot_flag, jump
    put(0x202, b"HdrS");
    put(0x206, &[0x0f, 2]); // version
    put(0x211, &[1]); // loadflags: LOADED_HIGH
    put(0x214, &0x10_0000u32.to_le_bytes()); // code32_start
    put(0x22c, &0x5f_ffffu32.to_le_bytes()); // initrd_addr_max
    put(0x230, &0x20_0000u32.to_le_bytes()); // kernel_alignment
    put(0x234, &[1, 21, 3, 0]); // relocatable, min_alignment, xloadflags
    put(0x238, &2047u32.to_le_bytes()); // cmdline_size
    put(0x258, &0x20_0000u64.to_le_bytes()); // pref_address
    put(0x260, &0x10_0000u32.to_le_bytes()); // init_size
    image.extend([0x90; 1024]);
    image
}

pub fn elf64(entry: u64, loads: &[Load], pvh: Option<u32>) -> Vec<u8> {
    elf(true, entry, loads, pvh)
}

pub fn elf32(entry: u64, loads: &[Load], pvh: Option<u32>) -> Vec<u8> {
    elf(false, entry, loads, pvh)
}

/// A word of the file's class.
fn put_word(to: &mut Vec<u8>, long: bool, value: u64) {
    to.extend(&value.to_le_bytes()[..if long { 8 } else { 4 }]);
}

fn half(value: usize) -> [u8; 2] {
    u16::try_from(value).expect("small").to_le_bytes()
}

/// An executable: header, program headers, note, contents of the segments.
fn elf(long: bool, entry: u64, loads: &[Load], pvh: Option<u32>) -> Vec<u8> {
    let (header, entry_len) = if long { (64, 56) } else { (52, 32) };
    let note = pvh.map(|at| [words(&[4, 4, 18]), b"Xen\0".to_vec(), at.to_le_bytes().to_vec()].concat());
    let count = loads.len() + usize::from(note.is_some());
    let mut image = b"\x7fELF".to_vec();
    image.extend([if long { 2 } else { 1 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    image.extend([2, 0, if long { 62 } else { 3 }, 0, 1, 0, 0, 0]); // type, machine, version
    for value in [entry, header, 0] {
        put_word(&mut image, long, value);
    }
    image.extend([0; 4]); // flags
    for value in [usize::try_from(header).expect("small"), entry_len, count, 0, 0, 0] {
        image.extend(half(value));
    }
    let mut contents: Vec<u8> = note.clone().unwrap_or_default();
    let first = image.len() + count * entry_len;
    let at = |contents: &Vec<u8>| u64::try_from(first + contents.len()).expect("small");
    if let Some(note) = &note {
        let len = u64::try_from(note.len()).expect("small");
        program_header(&mut image, long, 4, [at(&Vec::new()), 0, 0, len, len, 4]);
    }
    for load in loads {
        let len = u64::try_from(load.bytes.len()).expect("small");
        program_header(&mut image, long, 1, [at(&contents), load.virt, load.phys, len, load.memsz, 1]);
        contents.extend(&load.bytes);
    }
    [image, contents].concat()
}

/// `words`: offset, virtual and physical address, size in the file and in memory, alignment.
fn program_header(image: &mut Vec<u8>, long: bool, kind: u32, words: [u64; 6]) {
    image.extend(kind.to_le_bytes());
    if long {
        image.extend(7u32.to_le_bytes());
    }
    for value in &words[..5] {
        put_word(image, long, *value);
    }
    if !long {
        image.extend(7u32.to_le_bytes());
    }
    put_word(image, long, words[5]);
}
