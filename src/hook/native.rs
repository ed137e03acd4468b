//! Handlers that are C functions: the exit as the structure of belljar.h shows it, and what such a function answers.
//! It never calls Python, and never hands out more of the guest than that structure.

#![allow(unsafe_code)] // a C function is called by its address, which only who registers it can vouch for

use std::any::Any;
use std::ffi::c_void;
use std::fmt;
use std::mem::offset_of;

use crate::addr::GuestPhys;
use crate::error::{Error, Result};
use crate::exit::{Exit, ExitKind, Reply};
use crate::x86::Regs;

/// `BELLJAR_EXIT_VERSION`.
const VERSION: u32 = 1;

/// What a native handler may touch of the guest whose exit it sees.
pub trait Guest {
    /// The general registers.
    fn registers(&mut self) -> Result<Regs>;
    /// Sets them, as they are to be after the instruction.
    fn set_registers(&mut self, registers: &Regs) -> Result<()>;
    /// Reads guest-physical memory.
    fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()>;
    /// Writes guest-physical memory.
    fn write(&self, at: GuestPhys, from: &[u8]) -> Result<()>;
}

/// `struct belljar_exit`. New fields go to the end, and `bytes` tells how many there are.
#[repr(C)]
struct NativeExit {
    version: u32,
    bytes: u32,
    kind: u32,
    vcpu: u32,
    address: u64,
    data: u64,
    size: u32,
    count: u32,
    string: *mut u8,
    string_bytes: u64,
    read: unsafe extern "C" fn(*const Self, u64, *mut u8, u64) -> i32,
    write: unsafe extern "C" fn(*const Self, u64, *const u8, u64) -> i32,
    guest: *mut c_void,
    has_registers: u32,
    reserved: u32,
    registers: Regs,
}

// The numbers that belljar.h promises; tests/kvm/test_native_handlers.py holds the header to the same ones.
const _: () = {
    assert!(offset_of!(NativeExit, kind) == 8 && offset_of!(NativeExit, vcpu) == 12);
    assert!(offset_of!(NativeExit, address) == 16 && offset_of!(NativeExit, data) == 24);
    assert!(offset_of!(NativeExit, size) == 32 && offset_of!(NativeExit, count) == 36);
    assert!(offset_of!(NativeExit, string) == 40 && offset_of!(NativeExit, string_bytes) == 48);
    assert!(offset_of!(NativeExit, read) == 56 && offset_of!(NativeExit, write) == 64);
    assert!(offset_of!(NativeExit, guest) == 72 && offset_of!(NativeExit, has_registers) == 80);
    assert!(offset_of!(NativeExit, registers) == 88 && size_of::<NativeExit>() == 232);
};

/// `int32_t handler(struct belljar_exit *exit, void *user_data)`.
type Function = unsafe extern "C" fn(*mut NativeExit, *mut c_void) -> i32;

/// A C function that answers exits.
pub struct Native {
    function: Function,
    user_data: usize,
    wants_registers: bool,
    /// Keeps the function and its data where they are.
    _owner: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native").field("user_data", &self.user_data).finish_non_exhaustive()
    }
}

/// What a native handler said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// What any handler may say.
    Reply(Reply),
    /// That the fallback is to be asked.
    Call,
}

impl Native {
    /// The function at `address`, which gets `user_data`; nothing for address 0. With `wants_registers`, it sees the
    /// general registers.
    ///
    /// # Safety
    ///
    /// While `owner` lives, a function of the signature in belljar.h is at `address`. It may be called on any thread, on
    /// several at once, with `user_data`; it returns, and does not unwind.
    pub unsafe fn new(
        address: usize,
        user_data: usize,
        wants_registers: bool,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Option<Self> {
        let address = std::ptr::with_exposed_provenance::<()>(address);
        // SAFETY: the caller vouches for a function of this type there; a null pointer becomes `None`.
        let function = unsafe { std::mem::transmute::<*const (), Option<Function>>(address) };
        Some(Self { function: function?, user_data, wants_registers, _owner: owner })
    }

    /// Asks the function about `exit`, which vCPU `vcpu` of `guest` made.
    pub fn call(&self, exit: &Exit, vcpu: u32, guest: &mut dyn Guest) -> Result<Said> {
        let before = if self.wants_registers { guest.registers()? } else { Regs::default() };
        let mut string = string_of(exit);
        let mut guest: &mut dyn Guest = guest;
        let mut seen = NativeExit {
            vcpu,
            has_registers: self.wants_registers.into(),
            registers: before,
            guest: (&raw mut guest).cast(),
            ..NativeExit::of(exit, &mut string)
        };
        let user_data = std::ptr::with_exposed_provenance_mut(self.user_data);
        // SAFETY: as promised to `new`; the structure, and what it points to, outlive the call.
        let code = unsafe { (self.function)(&raw mut seen, user_data) };
        if self.wants_registers && seen.registers != before {
            guest.set_registers(&seen.registers)?;
        }
        match code {
            0 => Ok(Said::Reply(Reply::Default)),
            2 => {
                log::info!("vCPU {vcpu}: {exit:x?}");
                Ok(Said::Reply(Reply::Default))
            }
            1 => Ok(Said::Reply(done(exit, seen.data, string))),
            3 => Ok(Said::Call),
            4 => Ok(Said::Reply(Reply::Stop)),
            _ => Err(Error::Invalid(format!("a native handler returned {code}; belljar.h has the codes 0 to 4"))),
        }
    }
}

/// The elements of a string, or room for them: at most a page, as KVM splits strings.
fn string_of(exit: &Exit) -> Vec<u8> {
    match exit {
        Exit::PortStringOut(string) => string.data.clone(),
        Exit::PortStringIn { size, count, .. } => {
            vec![0; usize::from(*size) * usize::try_from(*count).unwrap_or_default()]
        }
        _ => Vec::new(),
    }
}

/// What "it is done" means for `exit`.
fn done(exit: &Exit, data: u64, string: Vec<u8>) -> Reply {
    match exit.kind() {
        ExitKind::PortIn | ExitKind::MmioRead | ExitKind::MsrRead | ExitKind::Hypercall => Reply::Value(data),
        ExitKind::PortStringIn => Reply::Bytes(string),
        _ => Reply::Skip,
    }
}

impl NativeExit {
    fn of(exit: &Exit, string: &mut Vec<u8>) -> Self {
        let (address, data) = words(exit);
        let (size, count) = match *exit {
            Exit::PortIn { size, .. }
            | Exit::PortOut { size, .. }
            | Exit::MmioRead { size, .. }
            | Exit::MmioWrite { size, .. } => (size, 1),
            Exit::MsrRead { .. } | Exit::MsrWrite { .. } => (8, 1),
            Exit::Watchpoint(ref watched) => (watched.size, 1),
            Exit::PortStringIn { size, count, .. } => (size, count),
            Exit::PortStringOut(ref string) => (string.size, string.count()),
            _ => (0, 0),
        };
        Self {
            version: VERSION,
            bytes: u32::try_from(size_of::<Self>()).unwrap_or_default(),
            kind: u32::try_from(exit.kind().index()).unwrap_or(u32::MAX),
            vcpu: 0,
            address,
            data,
            size: size.into(),
            count,
            string: if string.is_empty() { std::ptr::null_mut() } else { string.as_mut_ptr() },
            string_bytes: u64::try_from(string.len()).unwrap_or_default(),
            read,
            write,
            guest: std::ptr::null_mut(),
            has_registers: 0,
            reserved: 0,
            registers: Regs::default(),
        }
    }
}

/// The address and the data of `exit`, as belljar.h says for each kind.
fn words(exit: &Exit) -> (u64, u64) {
    match *exit {
        Exit::PortIn { port, .. } | Exit::PortStringIn { port, .. } => (port.into(), 0),
        Exit::PortOut { port, data, .. } => (port.into(), data.into()),
        Exit::PortStringOut(ref string) => (string.port.into(), 0),
        Exit::MmioRead { at, .. } => (at.0, 0),
        Exit::MmioWrite { at, data, .. } => (at.0, data),
        Exit::MsrRead { index, .. } => (index.into(), 0),
        Exit::MsrWrite { index, data, .. } => (index.into(), data),
        Exit::Hypercall(ref call) => (call.number, 0),
        Exit::Exception(ref exception) => (exception.vector.into(), exception.cr2),
        Exit::MemoryFault { at, size, .. } => (at.0, size),
        Exit::Debug { pc, exception, .. } => (pc, exception.into()),
        Exit::InternalError(ref error) => (error.rip, error.suberror.into()),
        Exit::Breakpoint { id, at } => (at, id.into()),
        Exit::Watchpoint(ref watched) => (watched.at, watched.after),
        Exit::Step { at } => (at, 0),
        _ => (0, 0),
    }
}

/// `exit->read`: 0, or -1 where not all of it is memory.
unsafe extern "C" fn read(exit: *const NativeExit, at: u64, into: *mut u8, len: u64) -> i32 {
    // SAFETY: the handler passes on what it was given.
    let Some(guest) = (unsafe { guest_of(exit) }) else { return -1 };
    let Some(len) = length(into.is_null(), len) else { return -1 };
    if len == 0 {
        return 0;
    }
    // SAFETY: the handler names as many bytes of its own, which nobody else uses meanwhile.
    let into = unsafe { std::slice::from_raw_parts_mut(into, len) };
    if guest.read(GuestPhys(at), into).is_ok() { 0 } else { -1 }
}

/// `exit->write`: 0, or -1 where not all of it is memory.
unsafe extern "C" fn write(exit: *const NativeExit, at: u64, from: *const u8, len: u64) -> i32 {
    // SAFETY: the handler passes on what it was given.
    let Some(guest) = (unsafe { guest_of(exit) }) else { return -1 };
    let Some(len) = length(from.is_null(), len) else { return -1 };
    if len == 0 {
        return 0;
    }
    // SAFETY: the handler names as many bytes of its own, which nobody changes meanwhile.
    let from = unsafe { std::slice::from_raw_parts(from, len) };
    if guest.write(GuestPhys(at), from).is_ok() { 0 } else { -1 }
}

/// How many bytes are meant; nothing if there can be no such buffer.
fn length(is_null: bool, len: u64) -> Option<usize> {
    usize::try_from(len).ok().filter(|len| *len == 0 || !is_null && isize::try_from(*len).is_ok())
}

/// The guest whose exit this is.
///
/// # Safety
///
/// `exit` is null, or what `Native::call` hands to a function that has not returned yet.
unsafe fn guest_of<'a>(exit: *const NativeExit) -> Option<&'a dyn Guest> {
    // SAFETY: as the caller says; a null pointer becomes `None`.
    let exit = unsafe { exit.as_ref() }?;
    // SAFETY: `Native::call` put the address of a reference there that lives until the function returns.
    let guest = unsafe { exit.guest.cast::<&mut dyn Guest>().as_ref() }?;
    Some(&**guest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_kinds_and_codes_of_the_core() {
        let header = include_str!("../../python/belljar/include/belljar.h");
        let normal = |name: &str| name.replace('_', "").to_lowercase();
        let mut known = Vec::new();
        for line in header.lines().filter_map(|line| line.trim().strip_prefix("BELLJAR_")?.split_once(" = ")) {
            let number: usize =
                line.1.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number");
            known.push((normal(line.0), number));
        }
        // Of runs, not of guests: no handler sees them.
        let seen = ExitKind::ALL.iter().filter(|kind| !matches!(kind, ExitKind::Timeout | ExitKind::Interrupted));
        for kind in seen {
            assert!(known.contains(&(normal(&format!("{kind:?}")), kind.index())), "{kind:?} = {}", kind.index());
        }
        assert!(header.contains(&format!("BELLJAR_EXIT_VERSION {VERSION}\n")));
    }

    struct Cells([u8; 4], Regs);

    impl Guest for Cells {
        fn registers(&mut self) -> Result<Regs> {
            Ok(self.1)
        }
        fn set_registers(&mut self, registers: &Regs) -> Result<()> {
            self.1 = *registers;
            Ok(())
        }
        fn read(&self, at: GuestPhys, into: &mut [u8]) -> Result<()> {
            let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
            let from = usize::try_from(at.0).ok().and_then(|at| self.0.get(at..)?.get(..into.len()));
            into.copy_from_slice(from.ok_or(Error::Unbacked { at: at.0, len, near: None })?);
            Ok(())
        }
        fn write(&self, at: GuestPhys, _: &[u8]) -> Result<()> {
            Err(Error::Unbacked { at: at.0, len: 0, near: None })
        }
    }

    unsafe extern "C" fn reader(exit: *mut NativeExit, user_data: *mut c_void) -> i32 {
        // SAFETY: as belljar.h says.
        let exit = unsafe { &mut *exit };
        let mut cell = [0; 2];
        // SAFETY: as belljar.h says.
        let code = unsafe { (exit.read)(exit, exit.address, cell.as_mut_ptr(), 2) };
        exit.data = u64::from(cell[0]) + (u64::from(code.cast_unsigned()) << 8);
        exit.registers.words[0] += 1;
        i32::try_from(user_data.addr()).unwrap_or(-1)
    }

    fn ask(port: u16, code: usize, registers: bool) -> (Result<Said>, Cells) {
        let mut cells = Cells([5, 6, 7, 8], Regs::default());
        #[allow(clippy::as_conversions)] // the one way to the address of a function
        let address = (reader as Function as *const ()).expose_provenance();
        // SAFETY: `reader` is there for ever.
        let native = unsafe { Native::new(address, code, registers, Box::new(())) }.expect("not null");
        (native.call(&Exit::PortIn { port, size: 1 }, 0, &mut cells), cells)
    }

    #[test]
    fn a_function_reads_memory_and_answers() {
        assert_eq!(ask(1, 1, false).0.expect("known"), Said::Reply(Reply::Value(6)));
        assert_eq!(ask(3, 1, false).0.expect("known"), Said::Reply(Reply::Value(0x00ff_ffff_ff00)));
        assert_eq!(ask(0, 3, false).0.expect("known"), Said::Call);
        assert_eq!(ask(0, 4, false).0.expect("known"), Said::Reply(Reply::Stop));
        assert!(ask(0, 5, false).0.is_err());
    }

    #[test]
    fn registers_are_set_only_where_they_were_asked_for() {
        assert_eq!(ask(0, 0, true).1.1.words[0], 1);
        assert_eq!(ask(0, 0, false).1.1.words[0], 0);
    }
}
