//! System calls on a KVM whose SYSCALL jumps to LSTAR without leaving ring 3: the fetch there raises #PF, and a stub in
//! front of the guest's #PF handler turns it back. It never changes a gate other than #PF's, nor code that can run.
//!
//! ```text
//! ring 3: SYSCALL  -> RCX, R11, RFLAGS & ~SYSCALL_MASK, RIP = LSTAR, still in ring 3
//!      #PF at LSTAR -> IDT[14] -> stub: RIP of the frame is LSTAR, from ring 3?
//!                                   yes: RFLAGS and RSP from the frame, jump to LSTAR
//!                                   no:  jump to the handler that the gate led to
//! ```
//!
//! The stub lies in padding between two functions behind the handler: the one place that is there in every kernel, is
//! executable and stays mapped. All that is known of it is read back from the guest, so a snapshot may be restored
//! underneath.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};

use crate::addr::{GuestPhys, PAGE};
use crate::memory::Memory;
use crate::source::ReadMemory;
use crate::x86::Sregs;

use super::ring0::Walk;

/// The vector of #PF.
const PAGE_FAULT: u64 = 14;
/// How much code behind the handler is searched for padding.
const SEARCHED: u64 = 0x1_0000;
/// Functions that padding lies between begin at multiples of this.
const ALIGNMENT: u64 = 16;

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// The gate leads to the stub already.
    Before,
    /// The stub is new, here.
    Now(u64),
    /// There is no #PF gate of 64-bit code yet, or its handler is not mapped.
    NotYet,
    /// There is no room behind this handler.
    NoRoom(u64),
}

/// Does the #PF gate of `sregs` lead to a stub for `lstar`?
pub(super) fn is_placed(memory: &Memory, sregs: &Sregs, lstar: u64) -> bool {
    let guest = Guest { memory, sregs };
    guest.gate().and_then(|(_, handler)| guest.stub(handler)).is_some_and(|stub| stub.lstar == lstar)
}

/// Has the #PF gate of `sregs` lead to a stub for `lstar`. `hopeless` is a handler behind which there is no room.
pub(super) fn place(memory: &Memory, sregs: &Sregs, lstar: u64, hopeless: Option<u64>) -> Placed {
    let guest = Guest { memory, sregs };
    let Some((gate, handler)) = guest.gate() else { return Placed::NotYet };
    if hopeless == Some(handler) {
        return Placed::NoRoom(handler);
    }
    let (at, original) = match guest.stub(handler) {
        Some(stub) if stub.lstar == lstar => return Placed::Before,
        Some(stub) => (Some(handler), stub.original),
        None => (guest.padding(handler), handler),
    };
    if !guest.is_code(handler) {
        return Placed::NotYet;
    }
    let stub = at.and_then(|at| Stub { at, lstar, original }.encode());
    match (at, stub) {
        (Some(at), Some(code)) if guest.patch(at, &code) && guest.redirect(gate, at) => Placed::Now(at),
        _ => Placed::NoRoom(handler),
    }
}

/// A stub, by the three addresses that it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stub {
    at: u64,
    lstar: u64,
    original: u64,
}

/// The stub with its three distances left zero.
const CODE: [u8; 42] = [
    0x50, // push rax
    0x48, 0x8d, 0x05, 0, 0, 0, 0, // lea rax, [rip + LSTAR]
    0x48, 0x39, 0x44, 0x24, 0x10, // cmp [rsp + 16], rax: RIP of the frame, above RAX and the error code
    0x58, // pop rax
    0x75, 0x15, // jne original
    0xf6, 0x04, 0x24, 0x04, // test byte [rsp], 4: the fault came from ring 3
    0x74, 0x0f, // jz original
    0xff, 0x74, 0x24, 0x18, // push qword [rsp + 24]: RFLAGS, which SYSCALL_MASK has been applied to
    0x9d, // popfq
    0x48, 0x8b, 0x64, 0x24, 0x20, // mov rsp, [rsp + 32]: the stack of ring 3
    0xe9, 0, 0, 0, 0, // jmp LSTAR
    0xe9, 0, 0, 0, 0, // original: jmp original
];

/// Where the distances are: to LSTAR, to LSTAR, to the original handler. Each counts from the byte behind it.
const TO_LSTAR: [usize; 2] = [4, 33];
const TO_ORIGINAL: usize = 38;

impl Stub {
    fn encode(self) -> Option<[u8; CODE.len()]> {
        let mut code = CODE;
        let targets = TO_LSTAR.map(|field| (field, self.lstar)).into_iter().chain([(TO_ORIGINAL, self.original)]);
        for (field, target) in targets {
            let from = self.at.wrapping_add(offset(field + 4));
            let distance = i32::try_from(target.wrapping_sub(from).cast_signed()).ok()?;
            code[field..field + 4].copy_from_slice(&distance.to_le_bytes());
        }
        Some(code)
    }

    /// The stub that `code` at `at` is, if it is one.
    fn decode(at: u64, code: &[u8; CODE.len()]) -> Option<Self> {
        let target = |field: usize| {
            let distance = i32::from_le_bytes(code[field..field + 4].try_into().ok()?);
            Some(at.wrapping_add(offset(field + 4)).wrapping_add_signed(distance.into()))
        };
        let stub = Self { at, lstar: target(TO_LSTAR[0])?, original: target(TO_ORIGINAL)? };
        (stub.encode().as_ref() == Some(code)).then_some(stub)
    }
}

fn offset(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// The guest's own code and gate, reached through its page tables whatever they forbid the guest.
struct Guest<'a> {
    memory: &'a Memory,
    sregs: &'a Sregs,
}

impl Guest<'_> {
    /// The #PF gate, where it lies and where it leads, if it is a present interrupt or trap gate of 64-bit code.
    fn gate(&self) -> Option<(GuestPhys, u64)> {
        let offset = PAGE_FAULT * 16;
        if self.sregs.code_bits() != 64 || u64::from(self.sregs.idt.limit) < offset + 15 {
            return None;
        }
        let at = self.physical(self.sregs.idt.base.wrapping_add(offset))?;
        let (low, high) = (self.memory.read_u64(at).ok()?, self.memory.read_u64(at.plus(8).ok()?).ok()?);
        let is_gate = low >> 47 & 1 != 0 && matches!(low >> 40 & 0x1f, 0b0_1110 | 0b0_1111);
        is_gate.then_some((at, low & 0xffff | low >> 32 & 0xffff_0000 | high << 32))
    }

    /// Has the gate lead to `handler`: one word of it if that is enough, since other vCPUs may be using it.
    fn redirect(&self, gate: GuestPhys, handler: u64) -> bool {
        let change = || {
            let (low, high) = (self.memory.read_u64(gate)?, self.memory.read_u64(gate.plus(8)?)?);
            let new_low = low & 0x0000_ffff_ffff_0000 | handler & 0xffff | (handler & 0xffff_0000) << 32;
            let new_high = high & !0xffff_ffff | handler >> 32;
            if new_high != high {
                self.memory.write(gate.plus(8)?, &new_high.to_le_bytes())?;
            }
            self.memory.write(gate, &new_low.to_le_bytes())
        };
        change().is_ok()
    }

    fn physical(&self, at: u64) -> Option<GuestPhys> {
        Walk::new(self.sregs).to(self.memory, at).ok()
    }

    /// Is there a page of ring 0's that may be executed?
    fn is_code(&self, at: u64) -> bool {
        let mut walk = Walk::new(self.sregs);
        walk.to(self.memory, at).is_ok() && walk.is_executable() && !walk.is_user()
    }

    /// The `len` bytes from `at` on, or as many as lie in pages of code.
    fn code(&self, at: u64, len: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while offset(bytes.len()) < len {
            let next = at.wrapping_add(offset(bytes.len()));
            let part = (PAGE - next % PAGE).min(len - offset(bytes.len()));
            let page = self.physical(next).filter(|_| self.is_code(next));
            let part = page.and_then(|page| self.memory.read_vec(page, usize::try_from(part).ok()?).ok());
            match part {
                Some(part) => bytes.extend(part),
                None => break,
            }
        }
        bytes
    }

    /// The stub at `at`, if one is there.
    fn stub(&self, at: u64) -> Option<Stub> {
        let code = self.code(at, offset(CODE.len()));
        Stub::decode(at, code.as_slice().try_into().ok()?)
    }

    /// The first padding behind the code at `handler` that has room for the stub.
    fn padding(&self, handler: u64) -> Option<u64> {
        padding(&self.code(handler, SEARCHED), handler)
    }

    /// Writes `code` at `at`, across pages.
    fn patch(&self, at: u64, code: &[u8]) -> bool {
        let split = usize::try_from(PAGE - at % PAGE).map_or(code.len(), |left| left.min(code.len()));
        let (head, tail) = code.split_at(split);
        let parts = [(at, head), (at.wrapping_add(offset(split)), tail)];
        let write = |(at, part): (u64, &[u8])| {
            part.is_empty() || self.physical(at).is_some_and(|place| self.memory.write(place, part).is_ok())
        };
        parts.into_iter().all(write)
    }
}

/// The first address in `code` (at `start`) from which padding reaches far enough: long NOPs or INT3 behind an
/// instruction that never goes on to the next. Its last bytes may be NOPs at the beginning of an aligned function,
/// which are not counted.
fn padding(code: &[u8], start: u64) -> Option<u64> {
    let mut decoder = Decoder::try_with_ip(64, code, start, DecoderOptions::NONE).ok()?;
    let mut run: Option<u64> = None;
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let end = instruction.next_ip() / ALIGNMENT * ALIGNMENT;
        match run {
            Some(from) if is_padding(&instruction) && end.saturating_sub(from) >= offset(CODE.len()) => {
                return Some(from);
            }
            Some(_) if is_padding(&instruction) => {}
            _ => run = ends_flow(&instruction).then_some(instruction.next_ip()),
        }
    }
    None
}

/// A lone NOP byte is none: such are the beginnings of functions that the kernel may patch.
fn is_padding(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Nop => instruction.len() > 1,
        mnemonic => mnemonic == Mnemonic::Int3,
    }
}

fn ends_flow(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch | FlowControl::Return
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::boot::paging::PageTables;
    use crate::boot::start::{Start, selector};
    use crate::x86::pte;
    use crate::x86::segment::interrupt_gate;

    const IDT: u64 = 0x8000;
    const HANDLER: u64 = 0x2_0ff0;
    const LSTAR: u64 = 0x2_0040;
    /// `nop [cs:rax + rax]` with prefixes: the longest that an assembler pads with.
    const LONG_NOP: [u8; 10] = [0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];

    /// Code at `HANDLER` in pages of ring 0, and a #PF gate that leads there.
    fn guest(code: &[u8]) -> (Memory, Sregs) {
        let memory = Memory::default();
        memory.add(GuestPhys(0), 2 << 20, false, |_, _| Ok(())).expect("RAM");
        let mut tables = PageTables::new(&memory, GuestPhys(0x10_0000), GuestPhys(0x14_0000)).expect("room");
        tables.identity(2 << 20, pte::USER).expect("room");
        tables.protect(GuestPhys(HANDLER & !0xfff), GuestPhys(0x2_3000), 0).expect("mapped");
        let mut sregs = Start::long(&Sregs::default(), GuestPhys(0), GuestPhys(0), tables.root(), GuestPhys(0)).sregs;
        (sregs.idt.base, sregs.idt.limit) = (IDT, 0xfff);
        memory.write(GuestPhys(HANDLER), code).expect("RAM");
        set_gate(&memory, HANDLER);
        (memory, sregs)
    }

    fn set_gate(memory: &Memory, handler: u64) {
        let gate: Vec<u8> = interrupt_gate(handler, selector::CODE, 0).iter().flat_map(|w| w.to_le_bytes()).collect();
        memory.write(GuestPhys(IDT + PAGE_FAULT * 16), &gate).expect("RAM");
    }

    fn gate(memory: &Memory, sregs: &Sregs) -> Option<u64> {
        Guest { memory, sregs }.gate().map(|(_, handler)| handler)
    }

    /// `jmp $`, then `padding`, then an aligned function.
    fn handler(padding: &[u8], function: &[u8]) -> Vec<u8> {
        [&[0xeb, 0xfe], padding, function].concat()
    }

    /// As a kernel has it: 60 bytes of long NOPs between two functions, here across a page.
    fn kernel() -> Vec<u8> {
        handler(&[&LONG_NOP.repeat(6)[..], &[0x66, 0x90]].concat(), &[0x90, 0x90, 0x90, 0xfc])
    }

    #[test]
    fn the_stub_lies_in_the_padding_and_the_gate_leads_there() {
        let (memory, sregs) = guest(&kernel());
        let at = HANDLER + 2;
        assert_eq!(place(&memory, &sregs, LSTAR, None), Placed::Now(at));
        assert_eq!(gate(&memory, &sregs), Some(at));
        let stub = Guest { memory: &memory, sregs: &sregs }.stub(at);
        assert_eq!(stub, Some(Stub { at, lstar: LSTAR, original: HANDLER }));
        assert_eq!(place(&memory, &sregs, LSTAR, None), Placed::Before);
        assert!(is_placed(&memory, &sregs, LSTAR) && !is_placed(&memory, &sregs, LSTAR + 1));
        let behind = memory.read_vec(GuestPhys(HANDLER + 2 + 62), 4).expect("RAM");
        assert_eq!(behind, [0x90, 0x90, 0x90, 0xfc]);
    }

    #[test]
    fn a_new_lstar_changes_the_stub_and_a_new_gate_is_led_to_it() {
        let (memory, sregs) = guest(&kernel());
        let at = HANDLER + 2;
        assert_eq!(place(&memory, &sregs, LSTAR, None), Placed::Now(at));
        assert_eq!(place(&memory, &sregs, LSTAR + 16, None), Placed::Now(at));
        let stub = Guest { memory: &memory, sregs: &sregs }.stub(at);
        assert_eq!(stub, Some(Stub { at, lstar: LSTAR + 16, original: HANDLER }));
        memory.write(GuestPhys(0x2_2000), &handler(&[0xcc; 64], &[])).expect("RAM");
        set_gate(&memory, 0x2_2000);
        assert_eq!(place(&memory, &sregs, LSTAR, None), Placed::Now(0x2_2002));
    }

    #[test]
    fn what_is_no_gate_to_code_of_ring_0_is_left_for_later() {
        let (memory, sregs) = guest(&kernel());
        for handler in [0x50_0000, 0x4000] {
            set_gate(&memory, handler); // not mapped; a page of ring 3
            assert_eq!(place(&memory, &sregs, LSTAR, None), Placed::NotYet);
        }
        memory.zero(GuestPhys(IDT), PAGE).expect("RAM");
        assert_eq!(place(&memory, &sregs, LSTAR, None), Placed::NotYet);
        let mut short = sregs;
        short.idt.limit = 14 * 16;
        assert_eq!(place(&memory, &short, LSTAR, None), Placed::NotYet);
    }

    #[test]
    fn without_room_or_out_of_reach_nothing_is_changed() {
        let (memory, sregs) = guest(&handler(&[0xcc; 41], &[0x90; 64]));
        assert_eq!(place(&memory, &sregs, LSTAR, None), Placed::NoRoom(HANDLER));
        assert_eq!(gate(&memory, &sregs), Some(HANDLER));
        let (memory, sregs) = guest(&kernel());
        assert_eq!(place(&memory, &sregs, 0xffff_8000_0000_0000, None), Placed::NoRoom(HANDLER));
        assert_eq!(memory.read_vec(GuestPhys(HANDLER), kernel().len()).expect("RAM"), kernel());
        assert_eq!(place(&memory, &sregs, LSTAR, Some(HANDLER)), Placed::NoRoom(HANDLER));
    }

    #[test]
    fn nops_of_the_next_function_do_not_count_as_padding() {
        // 40 bytes of padding and 8 NOP bytes of the function at the next multiple of 16.
        let start = 0x1000 - 42;
        let code = handler(&[0xcc; 40], &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0xc3]);
        assert_eq!(padding(&code, start), None);
        let code = handler(&[0xcc; 56], &[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0xc3]);
        assert_eq!(padding(&code, 0x1000 - 58), Some(0x1000 - 56));
        // Code that is run into is no padding, however many NOPs it has.
        assert_eq!(padding(&[0x90, 0x66, 0x90].repeat(64), 0x1000), None);
        assert_eq!(padding(&[&[0x75, 0x00], &[0x66, 0x90].repeat(64)[..]].concat(), 0x1000), None);
    }

    proptest! {
        #[test]
        fn a_stub_reads_back_as_it_was_written(at: u64, to_lstar in -0x7fff_0000_i64..0x7fff_0000, to_original: i32) {
            let original = at.wrapping_add(42).wrapping_add_signed(to_original.into());
            let stub = Stub { at, lstar: at.wrapping_add_signed(to_lstar), original };
            let code = stub.encode().expect("near");
            prop_assert_eq!(Stub::decode(at, &code), Some(stub));
            prop_assert_eq!(Stub::decode(at, &[0xcc; CODE.len()]), None);
        }

        #[test]
        fn no_code_behind_the_handler_makes_it_panic(code: [u8; 256], lstar: u64) {
            let (memory, sregs) = guest(&code);
            let placed = place(&memory, &sregs, lstar, None);
            prop_assert!(matches!(placed, Placed::Now(_) | Placed::NoRoom(_)));
        }
    }
}
