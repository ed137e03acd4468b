//! gdb's `monitor` commands: what the remote protocol has no words for. They never change the guest.

use std::fmt::Write as _;
use std::sync::Arc;

use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd};

use crate::addr::GuestPhys;
use crate::error::{Error, Result};
use crate::inspect::linux::{self, Kernel};
use crate::machine::Phase;
use crate::source::{ReadMemory, ReadRegs};
use crate::x86::{Gpr, Regs, Sregs};

use super::target::Guest;

/// The most bytes that one command shows.
const MOST: usize = 0x1000;

const HELP: &str = "\
help                     this
info                     the machine, and each vCPU in a line
info registers [VCPU]    general registers, segments, control registers
translate ADDR [VCPU]    the guest-physical address of a linear one
phys read ADDR [LENGTH]  guest-physical memory (in hexadecimal; 64 bytes)
kaslr                    the Linux kernel in the guest, where it lies, and how to load its symbols
symbol NAME | ADDR       what that kernel's own symbols say of a name or an address
quirks                   what this KVM was found to do, and what follows
Numbers are hexadecimal with 0x, else decimal; a vCPU is 0 unless one is given.
";

impl MonitorCmd for Guest {
    fn handle_monitor_cmd(&mut self, command: &[u8], mut out: ConsoleOutput<'_>) -> Result<()> {
        let command = String::from_utf8_lossy(command);
        let words: Vec<&str> = command.split_whitespace().collect();
        let answer = self.answer(&words).unwrap_or_else(|error| format!("{error}\n"));
        out.write_raw(answer.as_bytes());
        Ok(())
    }
}

fn number(word: &str) -> Result<u64> {
    let parsed = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| Error::Invalid(format!("{word} is no number: 0x1000, or 4096")))
}

fn vcpu(words: &[&str]) -> Result<u32> {
    words.first().map_or(Ok(0), |word| number(word).map(|id| u32::try_from(id).unwrap_or(u32::MAX)))
}

impl Guest {
    fn answer(&mut self, words: &[&str]) -> Result<String> {
        match words {
            [] | ["help", ..] => Ok(HELP.into()),
            ["info", "registers", rest @ ..] => self.registers(vcpu(rest)?),
            ["info", ..] => self.info(),
            ["translate", at, rest @ ..] => self.translated(number(at)?, vcpu(rest)?),
            ["phys", "read", at] => self.physical_bytes(number(at)?, 64),
            ["phys", "read", at, len] => self.physical_bytes(number(at)?, number(len)?),
            ["translate"] => Ok("translate what? monitor translate ADDR [VCPU]\n".into()),
            ["phys", ..] => Ok("read where? monitor phys read ADDR [LENGTH]\n".into()),
            ["kaslr" | "symbols", ..] => Ok(kaslr(self.kernel()?.as_ref())),
            ["symbol", what] => symbol(self.kernel()?.as_ref(), what),
            ["quirks"] => Ok(self.quirks()),
            _ => Ok(format!("there is no command \"{}\": monitor help\n", words.join(" "))),
        }
    }

    fn info(&self) -> Result<String> {
        let state = match self.machine.phase() {
            Phase::Foreground => "in a run of the program's, held by gdb",
            Phase::Background => "in a run in the background, held by gdb",
            Phase::Stopped | Phase::Paused => "in no run",
            Phase::Closing | Phase::Closed => "closed",
        };
        let count = self.machine.cpus.len();
        let mut text = format!("{count} vCPU{}, {state}\n", if count == 1 { "" } else { "s" });
        for slot in &self.machine.cpus {
            let (regs, sregs) = (self.machine.regs(slot.id)?, self.machine.sregs(slot.id)?);
            let (bits, ring) = (sregs.code_bits(), sregs.cpl());
            let _ = writeln!(
                text,
                "vCPU {}: {bits}-bit code in ring {ring} at {:#x}, cr3 {:#x}, paging {}",
                slot.id,
                regs[Gpr::Rip],
                sregs.cr3,
                sregs.paging().name()
            );
        }
        Ok(text)
    }

    fn registers(&self, id: u32) -> Result<String> {
        let (regs, sregs) = (self.machine.regs(id)?, self.machine.sregs(id)?);
        let mut text = String::new();
        for (line, names) in Regs::NAMES.chunks(3).enumerate() {
            let cells = names.iter().zip(&regs.words[3 * line..]);
            let cells: Vec<_> = cells.map(|(name, value)| format!("{name:>6} {value:#018x}")).collect();
            let _ = writeln!(text, "{}", cells.join(" "));
        }
        text.push_str(&system(&sregs));
        Ok(text)
    }

    fn translated(&self, at: u64, id: u32) -> Result<String> {
        let sregs = self.machine.sregs(id)?;
        Ok(match self.physical(&sregs, at) {
            Some(gpa) => format!("{at:#x} is guest-physical {:#x}\n", gpa.0),
            None => format!("{at:#x} is not mapped for vCPU {id}\n"),
        })
    }

    fn physical_bytes(&self, at: u64, len: u64) -> Result<String> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(MOST).min(MOST)];
        self.machine.memory.read(GuestPhys(at), &mut bytes)?;
        let mut text = String::new();
        for (line, chunk) in (0_u64..).zip(bytes.chunks(16)) {
            let cells: Vec<_> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
            let _ = writeln!(text, "{:#012x}  {}", at.wrapping_add(16 * line), cells.join(" "));
        }
        Ok(text)
    }

    /// The Linux kernel in the guest: the one that was found before, if it is still there.
    fn kernel(&mut self) -> Result<Arc<Kernel>> {
        let memory = self.machine.memory.as_ref();
        if let Some(known) = self.kernel.as_ref().filter(|kernel| is_there(kernel, memory)) {
            return Ok(Arc::clone(known));
        }
        let sregs = self.machine.cpus.iter().filter_map(|slot| self.machine.sregs(slot.id).ok());
        let cr3s: Vec<_> = sregs.map(|sregs| sregs.cr3).collect();
        let stretches = memory.stretches(GuestPhys(0), GuestPhys(u64::MAX));
        let found = Arc::new(linux::find(memory, &stretches, &cr3s, &|| Ok(()))?);
        self.kernel = Some(Arc::clone(&found));
        Ok(found)
    }

    fn quirks(&self) -> String {
        let mut text = String::new();
        for answer in self.machine.quirks.answers() {
            let (yes, documented) = (answer.value, answer.documented);
            let note = if yes == documented { "as documented" } else { answer.consequence };
            let _ = writeln!(text, "{:<32} {:<5} {note}", answer.name, if yes { "yes" } else { "no" });
        }
        text
    }
}

/// Does `memory` still have the kernel's banner where it was? Not after another one has booted.
fn is_there(kernel: &Kernel, memory: &impl ReadMemory) -> bool {
    let Some(banner) = kernel.symbols.get("linux_banner") else { return false };
    let mut found = vec![0; kernel.banner.len()];
    let read = memory.read(GuestPhys(kernel.place.physical(banner.address)), &mut found);
    read.is_ok() && !found.is_empty() && found == kernel.banner.as_bytes()
}

/// Where the kernel lies, and what to type.
fn kaslr(kernel: &Kernel) -> String {
    let (release, text, slide) = (kernel.release(), kernel.place.text, kernel.slide());
    format!(
        "Linux {release} at {text:#x}, moved by {slide:#x}\n\
         with a vmlinux of it, type:  symbol-file vmlinux -o {slide:#x}\n\
         with none, in Python first:  vm.linux.symbol_file(\"kernel.elf\")\n\
         and then here:               symbol-file kernel.elf\n"
    )
}

fn symbol(kernel: &Kernel, what: &str) -> Result<String> {
    if let Some(found) = kernel.symbols.get(what) {
        return Ok(format!("{} is at {:#x}\n", found.name, found.address));
    }
    let at = number(what).map_err(|_| Error::Invalid(format!("the kernel has no symbol {what}")))?;
    Ok(match kernel.symbols.at(at) {
        Some(found) => format!("{at:#x} is {}+{:#x}\n", found.name, at - found.address),
        None => format!("{at:#x} is no part of the kernel\n"),
    })
}

fn system(sregs: &Sregs) -> String {
    let mut text = String::new();
    for (name, segment) in sregs.segments() {
        let _ = writeln!(
            text,
            "{name:>6} {:#06x} base {:#018x} limit {:#010x} ring {}",
            segment.selector, segment.base, segment.limit, segment.dpl
        );
    }
    let control = [
        ("cr0", sregs.cr0),
        ("cr2", sregs.cr2),
        ("cr3", sregs.cr3),
        ("cr4", sregs.cr4),
        ("cr8", sregs.cr8),
        ("efer", sregs.efer),
        ("gdt", sregs.gdt.base),
        ("idt", sregs.idt.base),
    ];
    for (name, value) in control {
        let _ = writeln!(text, "{name:>6} {value:#018x}");
    }
    text
}
