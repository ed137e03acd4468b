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


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("mov rsi, [0x8100]", "mov rsi, [0x8100]"),
        ("mov [0x8000 + 0x100], esi", "mov [0x8100], esi"),
        ("inc qword ptr [0x6000]", "inc qword [0x6000]"),
        ("l: cmp byte [0x6000], 0", "cmp byte [0x6000], 0"),
        ("mov rsi, gs:[0x28]", "mov rsi, [gs:0x28]"),
        ("mov rsi, qword [gs:0x28]", "mov rsi, [gs:0x28]"),
        ("mov rsi, [-8]", "mov rsi, [0xfffffffffffffff8]"),
        ("mov rsi, [0xffffffff81000000]", "mov rsi, [0xffffffff81000000]"),
        ("mov rsi, [100h]", "mov rsi, [0x100]"),
        ("mov rax, [0x123456789000]", "mov rax, [qword 0x123456789000]"),
        ("mov [0x123456789000], al", "mov [qword 0x123456789000], al"),
        ("inc byte [rbx]", "inc byte [rbx]"),
        ("jmp [0x8100]", "jmp qword [0x8100]"),
        ("mov rsi, [rip + 9]", "mov rsi, [rel 0x9010]"),
    ],
)
def test_an_absolute_address_is_that_address_wherever_the_code_lies(text, decoded):
    assert [i.text for i in bj.disasm(bj.asm(text, at=0x9000), at=0x9000)] == [decoded]


@pytest.mark.parametrize("text", ["mov rsi, [0x123456789000]", "nop; inc byte ptr [0x80000000]"])
def test_an_address_that_an_instruction_has_no_room_for_is_refused_with_what_to_do(text):
    with pytest.raises(ValueError, match="put it into a register first"):
        bj.asm(text)


def test_a_label_may_be_called_as_an_instruction_is():
    text = "loop: inc rax; mov [0x5000], rax; cmp byte [0x6000], 0; je loop; hlt"
    assert bj.disasm(bj.asm(text), at=0x1000)[-1].text == "hlt"


@pytest.mark.parametrize(
    "text", ["nop; cmp tword [rax], 0; nop", "l: nop; foo rax; jmp l", "nop; mov al, rbx\n jmp later; later:"]
)
def test_the_error_names_the_instruction_that_is_not_understood(text):
    culprit = text.split(";")[1].strip().split("\n")[0]
    with pytest.raises(ValueError, match=f"in {culprit!r}$".replace("[", r"\[")):
        bj.asm(text)


def test_what_a_listing_says_can_be_assembled_again():
    code = bj.asm(
        "push rax; mov byte [rbx], 5; inc qword [0x8100]; mov rsi, [gs:0x28]; jmp qword [rax]; movups xmm0, [rbx]"
    )
    assert bj.asm("\n".join(i.text for i in bj.disasm(code))) == code


def test_labels_and_data_alone_are_no_error():
    assert bj.asm("l:") == b""
    assert bj.asm('.ascii "a;b"') == b"a;b"
