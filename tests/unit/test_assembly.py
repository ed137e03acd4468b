"""Text to machine code and back.

Assembly is keystone's, disassembly iced-x86's; what they know is theirs, how they are asked is tested here.
"""

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

import belljar as bj


@pytest.mark.parametrize(
    ("bits", "text", "code"),
    [
        (16, "mov al, 42; out 0x10, al; hlt", "b02ae610f4"),
        (32, "push eax; mov eax, [ebx]", "508b03"),
        (64, "push rax; mov rax, [rbx]", "50488b03"),
        (64, "l: jmp l", "ebfe"),
        (64, "nop # a comment; ud2\nhlt", "90f4"),
        (64, "", ""),
    ],
)
def test_text_becomes_code(bits, text, code):
    assert bj.asm(text, bits).hex() == code


def test_addresses_are_counted_from_where_the_code_lies():
    assert bj.asm("call 0x2000", at=0x1000) == b"\xe8" + (0x2000 - 0x1005).to_bytes(4, "little")


@pytest.mark.parametrize("text", ["frobnicate", "mov eax", "jmp nowhere:", "mov al, rbx"])
def test_text_that_means_nothing_is_a_value_error(text):
    with pytest.raises(ValueError, match="cannot assemble for 64 bits"):
        bj.asm(text)


@pytest.mark.parametrize("bits", [0, 8, 128, "64"])
def test_code_is_16_32_or_64_bits_wide(bits):
    with pytest.raises(ValueError, match="16, 32 or 64"):
        bj.asm("nop", bits)


def test_without_keystone_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "keystone":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'belljar\[asm\]'"):
        bj.asm("nop")


def test_code_becomes_text():
    listing = bj.disasm(b"\xb0\x2a\xe6\x10\xf4", at=0x7C00, bits=16)
    assert [(i.address, i.text, len(i)) for i in listing] == [
        (0x7C00, "mov al, 0x2a", 2),
        (0x7C02, "out 0x10, al", 2),
        (0x7C04, "hlt", 1),
    ]
    assert b"".join(i.bytes for i in listing) == b"\xb0\x2a\xe6\x10\xf4"
    assert repr(listing[2]) == "<0x7c04: f4  hlt>"


def test_only_so_many_instructions_are_decoded():
    assert len(bj.disasm(b"\x90" * 100, count=3)) == 3
    assert bj.disasm(b"\x90", count=0) == bj.disasm(b"") == []


def test_bytes_that_are_no_instruction_are_shown_as_bad():
    assert [i.text for i in bj.disasm(b"\x06\x90")] == ["(bad)", "nop"]


@pytest.mark.parametrize("bits", [0, 8, 63])
def test_a_width_that_is_none_is_refused(bits):
    with pytest.raises(ValueError, match="16, 32 or 64"):
        bj.disasm(b"\x90", bits=bits)


@pytest.mark.parametrize("code", [bytearray(b"\xf4"), memoryview(b"\xf4")])
def test_any_bytes_like_object_is_code(code):
    assert [i.text for i in bj.disasm(code)] == ["hlt"]
    with pytest.raises(TypeError):
        bj.disasm("hlt")


@given(st.binary(max_size=64), st.sampled_from([16, 32, 64]), st.integers(0, 2**64 - 1))
def test_disassembly_of_anything_accounts_for_every_byte(code, bits, at):
    listing = bj.disasm(code, at=at, bits=bits)
    assert b"".join(i.bytes for i in listing) == code
    assert all(len(i) >= 1 for i in listing)
