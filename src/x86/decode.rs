//! Machine code to text, through iced-x86. It never executes anything.

use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter, OpKind};

use crate::error::{Error, Result};

/// One decoded instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Where it is.
    pub address: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its text, in Intel syntax.
    pub text: String,
    /// The address that it names: where a near branch goes, or the memory that it reaches relative to RIP.
    pub target: Option<u64>,
}

/// Decodes `code` as instructions of `bits` (16, 32 or 64) that lie at `address`, at most `most` of them.
/// Bytes that are no instruction become `(bad)`, one byte each.
pub fn disassemble(code: &[u8], address: u64, bits: u32, most: usize) -> Result<Vec<Instruction>> {
    let mut decoder = Decoder::try_with_ip(bits, code, address, DecoderOptions::NONE)
        .map_err(|_| Error::Invalid(format!("code is 16, 32 or 64 bits wide, not {bits}")))?;
    let mut formatter = NasmFormatter::new();
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_uppercase_hex(false);
    let mut found = Vec::new();
    while decoder.can_decode() && found.len() < most {
        let start = decoder.position();
        let instruction = decoder.decode();
        let mut text = String::new();
        if instruction.is_invalid() {
            text.push_str("(bad)");
            let _ = decoder.set_position(start + 1);
            decoder.set_ip(address.wrapping_add(u64::try_from(start).unwrap_or(0) + 1));
        } else {
            formatter.format(&instruction, &mut text);
        }
        let bytes = code[start..decoder.position()].to_vec();
        found.push(Instruction { address: instruction.ip(), bytes, text, target: target(&instruction) });
    }
    Ok(found)
}

fn target(instruction: &iced_x86::Instruction) -> Option<u64> {
    match instruction.op0_kind() {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => Some(instruction.near_branch_target()),
        _ => instruction.is_ip_rel_memory_operand().then(|| instruction.ip_rel_memory_address()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_bytes_of_real_mode_read_as_they_were_written() {
        let code = [0xb0, 42, 0xe6, 0x10, 0xf4];
        let text: Vec<_> = disassemble(&code, 0x1000, 16, 10).expect("16 bits").into_iter().map(|i| i.text).collect();
        assert_eq!(text, ["mov al, 0x2a", "out 0x10, al", "hlt"]);
    }

    #[test]
    fn branches_and_what_is_relative_to_rip_have_a_target() {
        let code = [0xe8, 0xfb, 0, 0, 0, 0x48, 0x8b, 0x05, 4, 0, 0, 0, 0x74, 0xf2, 0xff, 0xd0];
        let found = disassemble(&code, 0x1000, 64, 10).expect("64 bits");
        let targets: Vec<_> = found.iter().map(|i| i.target).collect();
        assert_eq!(targets, [Some(0x1100), Some(0x1010), Some(0x1000), None]);
    }

    #[test]
    fn bytes_that_are_no_instruction_are_shown_and_passed_over() {
        let found = disassemble(&[0x06, 0x90], 0, 64, 10).expect("64 bits");
        assert_eq!(found.iter().map(|i| i.text.as_str()).collect::<Vec<_>>(), ["(bad)", "nop"]);
        assert_eq!(found[1].address, 1);
    }
}
