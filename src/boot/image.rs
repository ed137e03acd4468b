//! Which format an image has, and the one function that loads any of them.
//! It never reads more of a file than the format takes to tell.

use memchr::memmem;

use crate::addr::GuestPhys;
use crate::boot::elf::Elf;
use crate::boot::start::Start;
use crate::boot::{bzimage, linux, multiboot, plain, pvh};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::x86::Sregs;

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A packed Linux kernel.
    BzImage,
    /// A kernel with a Multiboot 1 header.
    Multiboot,
    /// A 64-bit ELF file.
    Elf64 {
        /// A Linux kernel: vmlinux.
        linux: bool,
        /// It has a PVH note.
        pvh: bool,
    },
    /// A 32-bit ELF file.
    Elf32 {
        /// It has a PVH note.
        pvh: bool,
    },
    /// Something else.
    Unknown,
}

/// What a kernel is handed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The command line.
    pub cmdline: String,
    /// The initial RAM disk (Linux), or the only module (PVH, Multiboot).
    pub initrd: Option<Vec<u8>>,
    /// How many vCPUs the tables describe.
    pub cpus: u32,
    /// Write an MP table and ACPI tables, for kernels that speak a boot protocol?
    pub tables: bool,
}

/// An image in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The registers of the first vCPU.
    pub start: Start,
    /// The format that the image turned out to have.
    pub format: &'static str,
    /// The first instruction.
    pub entry: GuestPhys,
    /// One past the last byte of the image in memory.
    pub end: GuestPhys,
}

/// Looks at the first bytes of `image`, and for "Linux version " in all of an ELF64 file.
///
/// A Multiboot header counts for more than ELF32, and for more than an ELF64 file that is neither Linux nor PVH.
pub fn detect(image: &[u8]) -> Kind {
    let multiboot = || multiboot::find(image).is_some();
    let pvh = || Elf::parse(image).is_ok_and(|elf| elf.pvh.is_some());
    if image.get(bzimage::MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"HdrS")) {
        return Kind::BzImage;
    }
    match (image.starts_with(b"\x7fELF"), image.get(4)) {
        (true, Some(2)) => match (memmem::find(image, b"Linux version ").is_some(), pvh()) {
            (false, false) if multiboot() => Kind::Multiboot,
            (linux, pvh) => Kind::Elf64 { linux, pvh },
        },
        _ if multiboot() => Kind::Multiboot,
        (true, _) => Kind::Elf32 { pvh: pvh() },
        (false, _) => Kind::Unknown,
    }
}

/// Puts `image` into `memory` with what `options` hands it; `reset` gives the registers that no protocol sets.
pub fn load(memory: &Memory, image: &[u8], options: &Options, reset: &Sregs) -> Result<Loaded> {
    match detect(image) {
        Kind::BzImage => bzimage::load(memory, image, options, reset),
        Kind::Multiboot => multiboot::load(memory, image, options, reset),
        Kind::Elf64 { linux: true, .. } => linux::load(memory, &Elf::parse(image)?, options, reset),
        Kind::Elf64 { .. } | Kind::Elf32 { .. } => {
            let elf = Elf::parse(image)?;
            match elf.pvh {
                Some(entry) => pvh::load(memory, &elf, entry, options, reset),
                None => plain::load(memory, &elf, options, reset),
            }
        }
        Kind::Unknown => {
            let reason = "neither bzImage nor ELF nor Multiboot (no HdrS, no ELF magic, no Multiboot header)".into();
            Err(Error::Image { format: "image", reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::boot::samples::{self, memory};
    use crate::boot::{layout, mptable};

    fn boot(image: &[u8], options: &Options) -> Result<Loaded> {
        load(&memory(0x80_0000), image, options, &Sregs::default())
    }

    #[test]
    fn every_format_is_told_by_its_bytes() {
        let kinds = samples::all().map(|image| detect(&image));
        let expected = [
            Kind::BzImage,
            Kind::Elf64 { linux: true, pvh: false },
            Kind::Elf64 { linux: false, pvh: true },
            Kind::Elf64 { linux: false, pvh: false },
            Kind::Elf32 { pvh: false },
            Kind::Multiboot,
            Kind::Multiboot,
        ];
        assert_eq!(kinds, expected);
        assert_eq!([&b""[..], b"\x7fEL", b"MZ\x90\x00", &[0; 0x4000]].map(detect), [Kind::Unknown; 4]);
    }

    #[test]
    fn every_format_loads_and_says_which_it_was() {
        let formats = samples::all().map(|image| boot(&image, &Options::default()).unwrap().format);
        assert_eq!(formats, ["bzImage", "vmlinux", "PVH", "ELF64", "ELF32", "Multiboot", "Multiboot"]);
        let error = boot(b"#!/bin/sh", &Options::default()).unwrap_err().to_string();
        assert!(error.starts_with("image: neither bzImage nor ELF nor Multiboot"), "{error}");
    }

    #[test]
    fn an_mp_table_is_written_for_kernels_with_a_boot_protocol_only() {
        let options = Options { cpus: 2, tables: true, ..Options::default() };
        for (n, image) in samples::all().iter().enumerate() {
            let memory = memory(0x80_0000);
            load(&memory, image, &options, &Sregs::default()).unwrap();
            let found = memory.read_vec(layout::MP_POINTER, 16).unwrap() == mptable::pointer();
            assert_eq!(found, ![3, 4].contains(&n), "image {n}");
        }
    }

    #[test]
    fn no_length_of_any_image_panics() {
        for image in samples::all() {
            let memory = memory(0x80_0000);
            for len in 0..image.len() {
                let _ = load(&memory, &image[..len], &Options::default(), &Sregs::default());
            }
        }
    }

    #[test]
    fn an_image_larger_than_memory_is_refused() {
        for image in samples::all() {
            for len in [0x1000, 0x1_0000, 0x10_0000] {
                let result = load(&memory(len), &image, &Options::default(), &Sregs::default());
                assert!(matches!(result, Err(Error::Image { .. })), "{len:#x} {result:?}");
            }
            let empty = load(&Memory::default(), &image, &Options::default(), &Sregs::default());
            assert!(empty.is_err());
        }
    }

    /// Bytes that are likely to upset sums and comparisons.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let words = prop::sample::select(vec![0, 1, 0x1000, 0x7fff_ffff, u64::MAX, u64::MAX - 0xfff, 1 << 63, 1 << 52]);
        prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            words.clone().prop_map(|word| word.to_le_bytes().to_vec()),
            words.prop_map(|word| word.to_le_bytes()[..4].to_vec()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn no_mutation_of_any_image_panics(
            which in 0usize..7,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), bytes()), 1..6),
            cut: prop::sample::Index,
            keep in 0u8..4,
        ) {
            let mut image = samples::all()[which].clone();
            for (at, in_headers, bytes) in changes {
                // Half of the changes go where the headers are.
                let (from, len) = samples::headers(which);
                let at = if in_headers { from + at.index(len) } else { at.index(image.len()) };
                image.iter_mut().skip(at).zip(bytes).for_each(|(to, byte)| *to = byte);
            }
            if keep == 0 {
                image.truncate(cut.index(image.len()));
            }
            let options = Options { cmdline: "quiet".into(), initrd: Some(vec![7; 0x1800]), cpus: 1, tables: true };
            let _ = boot(&image, &options);
            let _ = boot(&image, &Options::default());
        }
    }
}
