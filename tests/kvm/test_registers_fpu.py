"""x87, SSE, AVX and AVX-512 registers from outside, and what the guest sees of them."""

import math

import numpy as np
import pytest

import belljar as bj

PATTERN = 0x0F0E0D0C_0B0A0908_07060504_03020100


def has(feature):
    with bj.VM("1M") as vm:
        vm.load("hlt", mode="user")
        return getattr(vm.cpu.xcr0, feature)


@pytest.fixture
def avx():
    if not has("avx"):
        pytest.skip("this processor has no AVX")


@pytest.fixture
def avx512():
    if not has("hi16_zmm"):
        pytest.skip("this processor has no AVX-512")


def run(vm, code):
    vm.load(f"{code}; out 0x10, al", mode="user")
    assert vm.run(timeout=60, max_exits=1) == bj.PortOut(0x10, 1, 0)


def test_python_sees_a_vector_that_the_guest_made(vm):
    vm.memory.write(0x8000, PATTERN.to_bytes(16, "little"))
    run(vm, "movdqu xmm0, [0x8000]; paddb xmm0, xmm0; movdqa xmm15, xmm0")
    assert vm.cpu.fpu.xmm[0] == vm.cpu.fpu.xmm[15] == 2 * PATTERN


def test_the_guest_sees_a_vector_that_python_made(vm):
    vm.cpu.fpu.xmm[1] = PATTERN
    run(vm, "movdqu [0x8000], xmm1")
    assert int.from_bytes(vm.memory[0x8000:0x8010], "little") == PATTERN


def test_a_handler_sees_and_sets_vectors(vm):
    vm.load("movdqu xmm2, [0x8000]; out 0x10, al; movdqu [0x8010], xmm2; out 0x11, al", mode="user")
    vm.memory.write_u64(0x8000, 7)

    @vm.on_port(0x10)
    def door(exit):
        assert vm.cpu.fpu.xmm[2] == 7
        vm.cpu.fpu.xmm[2] = PATTERN

    vm.run(timeout=60, max_exits=2)
    assert int.from_bytes(vm.memory[0x8010:0x8020], "little") == PATTERN


def test_setting_one_register_leaves_the_others(vm):
    vm.cpu.fpu.xmm[3] = 3
    vm.cpu.fpu.xmm[4] = 4
    vm.cpu.fpu.st[0] = 1.5
    assert (vm.cpu.fpu.xmm[3], vm.cpu.fpu.xmm[4], vm.cpu.fpu.st[0], vm.cpu.fpu.xmm[0]) == (3, 4, 1.5, 0)
    assert (vm.cpu.fpu.fcw, vm.cpu.fpu.mxcsr) == (0x37F, 0x1F80)


def test_vectors_as_an_array_have_a_row_for_each(vm):
    vm.cpu.fpu.xmm[2] = int.from_bytes(np.array([1, 2, 3.5, -4], "float32").tobytes(), "little")
    rows = vm.cpu.fpu.xmm.as_array("float32")
    assert rows.shape == (len(vm.cpu.fpu.xmm), 4)
    assert rows[2].tolist() == [1, 2, 3.5, -4]
    rows[2] = 0  # a copy
    assert vm.cpu.fpu.xmm[2] != 0
    assert vm.cpu.fpu.xmm.as_array().dtype == np.uint32


def test_vectors_are_a_sequence(vm):
    xmm = vm.cpu.fpu.xmm
    xmm[-1] = 9
    assert list(xmm)[-1] == xmm[len(xmm) - 1] == 9
    assert len(xmm) in (16, 32)
    assert f"xmm{len(xmm) - 1} 0000" in repr(xmm)
    with pytest.raises(IndexError, match=r"xmm registers; 32 is none"):
        xmm[32]
    for value in (-1, 1 << 128):
        with pytest.raises(OverflowError):
            xmm[0] = value
    with pytest.raises(TypeError, match="128 bits, not str"):
        xmm[0] = "many"


def test_avx_has_256_bits_of_which_xmm_are_the_lower(vm, avx):
    vm.memory.write(0x8000, bytes(range(32)))
    vm.cpu.fpu.ymm[5] = PATTERN << 128 | 1
    run(vm, "vmovdqu ymm3, [0x8000]; vpaddb ymm4, ymm3, ymm3; vmovdqu [0x8040], ymm5")
    assert vm.cpu.fpu.ymm[3] == int.from_bytes(range(32), "little")
    assert vm.cpu.fpu.ymm[4] == int.from_bytes(range(0, 64, 2), "little")
    assert vm.cpu.fpu.xmm[3] == int.from_bytes(range(16), "little")
    assert int.from_bytes(vm.memory[0x8040:0x8060], "little") == PATTERN << 128 | 1


def test_avx_512_has_its_masks_and_its_upper_registers(vm, avx512):
    vm.cpu.fpu.zmm[17] = 1 << 511 | 5
    vm.cpu.fpu.k[2] = 0xA5
    run(vm, "vmovdqu64 [0x8000], zmm17; kmovw eax, k2; mov [0x8040], eax; xor eax, eax")
    assert int.from_bytes(vm.memory[0x8000:0x8040], "little") == 1 << 511 | 5
    assert vm.memory.read_u32(0x8040) == 0xA5
    assert vm.cpu.fpu.xmm[17] == 5


def test_a_processor_without_a_kind_has_none_of_it(vm):
    if has("hi16_zmm"):
        pytest.skip("this processor has AVX-512")
    assert len(vm.cpu.fpu.zmm) == 0
    with pytest.raises(IndexError, match="0 zmm"):
        vm.cpu.fpu.zmm[0]


def test_the_x87_stack_is_floats_and_80_bits(vm):
    run(vm, "fninit; fldpi; fld1")
    fpu = vm.cpu.fpu
    assert (fpu.st[0], fpu.st[1]) == (1.0, math.pi)
    assert fpu.st_raw[1] == 0x4000_C90F_DAA2_2168_C235
    assert (fpu.fsw >> 11 & 7, fpu.ftw) == (6, 0b1100_0000)
    assert repr(fpu.st).startswith("[1.0, 3.14159")


def test_the_guest_computes_with_what_python_put_on_the_stack(vm):
    vm.cpu.fpu.st[0] = 2.25
    vm.cpu.fpu.st[1] = -4.0
    run(vm, "fmulp st(1), st(0); fstp qword ptr [0x8000]")
    assert np.frombuffer(vm.memory[0x8000:0x8008], "float64")[0] == -9.0


def test_the_control_words_reach_the_guest(vm):
    vm.cpu.fpu.fcw = 0x27F
    vm.cpu.fpu.mxcsr = 0x3F80
    run(vm, "fnstcw [0x8000]; stmxcsr [0x8008]")
    assert (vm.memory.read_u16(0x8000), vm.memory.read_u32(0x8008)) == (0x27F, 0x3F80)


def test_reserved_bits_of_mxcsr_are_refused(vm):
    with pytest.raises(bj.RegisterError, match="MXCSR has no bit 18 "):
        vm.cpu.fpu.mxcsr = 0xFFFC_1F80
    assert vm.cpu.fpu.mxcsr == 0x1F80


def test_the_raw_area_is_taken_back_whole(vm):
    vm.cpu.fpu.xmm[7] = 7
    raw = vm.cpu.fpu.raw
    vm.cpu.fpu.xmm[7] = 0
    vm.cpu.fpu.raw = raw
    assert vm.cpu.fpu.xmm[7] == 7
    assert len(raw) >= 4096
    with pytest.raises(ValueError, match="bytes, not 3"):
        vm.cpu.fpu.raw = b"abc"
    assert set(vm.cpu.fpu.components) <= set(vm.cpu.xcr0.FIELDS)
    assert all(offset + size <= len(raw) for offset, size in vm.cpu.fpu.components.values())


def test_repr_shows_what_is_in_use(vm):
    vm.cpu.fpu.xmm[3] = 0xABC
    assert "fcw=037f" in repr(vm.cpu.fpu)
    assert "xmm3 00000000000000000000000000000abc" in repr(vm.cpu.fpu)
    assert "xmm4" not in repr(vm.cpu.fpu)


def test_vectors_of_a_running_vcpu_are_refused(vm):
    vm.load(b"\xeb\xfe", mode="user")
    vm.start()
    try:
        with pytest.raises(bj.RunningError):
            vm.cpu.fpu.xmm[0]
    finally:
        vm.stop()
    assert vm.cpu.fpu.xmm[0] == 0
