"""Native handlers: C functions that answer exits without Python."""

import ctypes
import enum
import gc
import re
import shutil
import subprocess
import weakref

import numpy as np
import pytest
from tests.waiting import until

import belljar as bj

SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(bj.NativeExit), ctypes.c_void_p)
LOOP = "mov ecx, 100; l: out 0x10, al; dec ecx; jnz l; hlt"


@pytest.fixture(scope="module")
def handlers(request, tmp_path_factory):
    """The functions of handlers.c, compiled as a user of the shipped header would."""
    brought = request.config.rootpath / "native/handlers.so"  # by the lane, into a PC without a compiler
    if brought.exists():
        return ctypes.CDLL(brought)
    source = request.config.rootpath / "tests/guests/handlers.c"
    library = tmp_path_factory.mktemp("native") / "handlers.so"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, f"-I{bj.include()}", source, "-o", library], check=True)
    return ctypes.CDLL(library)


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")
def test_the_header_is_also_one_of_cplusplus(tmp_path):
    source = tmp_path / "user.cc"
    source.write_text(
        '#include <belljar.h>\nextern "C" int32_t f(belljar_exit *e, void *) { return e->kind == BELLJAR_HLT; }\n'
    )
    subprocess.run(
        ["g++", "-Wall", "-Werror", f"-I{bj.include()}", "-c", source, "-o", tmp_path / "user.o"], check=True
    )


def test_the_structure_is_the_same_in_python_and_in_the_header(handlers):
    assert ctypes.sizeof(bj.NativeExit) == 232
    assert bj.NativeExit.registers.offset == 88 and bj.NativeExit.has_registers.offset == 80
    assert np.dtype(bj.NativeExit).itemsize == 232 and np.dtype(bj.NativeExit).fields["data"][1] == 24


def test_the_codes_in_python_are_those_of_the_header():
    header = (bj.include() / "belljar.h").read_text()
    assert {v.name: v.value for v in bj.Verdict} == {
        name: int(value) for name, value in re.findall(r"BELLJAR_(CONTINUE|DONE|LOG|CALL|STOP|DENY) = (\d+)", header)
    }


def test_a_handler_sees_the_exit(vm, handlers):
    vm.load(
        "mov eax, 0x1234; mov dx, 0x10; out dx, ax; mov edi, 0x10000000; mov [rdi + 8], eax; mov al, [rdi + 16]; hlt"
    )
    seen = bj.NativeExit()
    handle = vm.on_exit(bj.Exit, bj.native(handlers.keep, seen))
    fields = []

    @vm.on_exit(bj.Exit)  # asked first: it sees what the native one has seen of the exit before
    def look(exit):
        fields.append((seen.kind, seen.address, seen.size, seen.data))

    assert vm.run(timeout=60) == bj.Hlt()
    assert fields[1:] == [(1, 0x10, 2, 0x1234), (5, 0x10000008, 4, 0x1234), (4, 0x10000010, 1, 0)]
    assert (seen.version, seen.bytes, seen.kind, seen.vcpu, seen.has_registers) == (1, 232, 8, 0, 0)
    assert handle.hits == 4


def test_done_answers_reads_and_drops_writes(vm, handlers):
    vm.load("in al, 0x10; mov bl, al; out 0x80, al; mov edi, 0x10000000; mov ecx, [rdi]; hlt; inc rsi; hlt")
    vm.on_port(0x10, handlers.answer)
    vm.on_port(0x80, lambda exit: bj.STOP)
    vm.on_port(0x80, bj.native(handlers.answer))
    vm.on_mmio(0x10000000, handlers.answer, size=8)
    vm.on_exit(bj.Hlt, handlers.answer, when=bj.reg.rsi == 0)
    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.cpu.regs.bl, vm.cpu.regs.ecx, vm.cpu.regs.rsi) == (0x11, 0x10000001, 1)


def test_whole_strings_are_answered_and_seen(vm, handlers):
    vm.memory[0x3000:0x3005] = b"hello"
    vm.load(
        "cld; mov edi, 0x4000; mov ecx, 4; mov dx, 0x10; rep insb;"
        "mov esi, 0x3000; mov ecx, 5; mov dx, 0x11; rep outsb; hlt"
    )
    seen = []

    @SIGNATURE
    def look(exit, _):
        one = bytes([exit[0].data & 0xFF])  # where KVM does not hand over strings whole
        seen.append(ctypes.string_at(exit[0].string, exit[0].string_bytes) if exit[0].string else one)
        return bj.Verdict.DONE

    vm.on_port(0x10, handlers.answer, strings=True)
    vm.on_port(0x11, look, strings=True)
    vm.run(timeout=60)
    assert vm.memory[0x4000:0x4004] == b"xxxx"
    assert b"".join(seen) == b"hello"


def test_the_codes_do_what_they_say(vm, handlers):
    vm.load("l: out 0x10, al; jmp l")
    words = np.zeros(2, np.int32)
    called = []
    vm.on_port(0x10, bj.native(handlers.say, words, fallback=lambda exit: called.append(exit) or bj.STOP))
    vm.on_port(0x20, print)
    words[0] = bj.Verdict.STOP
    assert vm.run(timeout=60) == bj.PortOut(0x10, 1, 0)
    assert words[1] == 1 and not called
    words[0] = bj.Verdict.CALL
    assert vm.run(timeout=60) == bj.PortOut(0x10, 1, 0)
    assert called == [bj.PortOut(0x10, 1, 0)]
    for passing in (bj.Verdict.CONTINUE, bj.Verdict.LOG):
        words[:] = (passing, 0)
        vm.run(timeout=60, max_exits=5)
        assert words[1] == 5


def test_a_logged_exit_is_handed_to_pythons_logging(vm, handlers, caplog):
    vm.load("mov al, 42; out 0x10, al; hlt")
    vm.on_port(0x10, bj.native(handlers.say, np.array([bj.Verdict.LOG, 0], np.int32)))
    with caplog.at_level("INFO", logger="belljar"):
        assert vm.run(timeout=60) == bj.Hlt()
    assert [record.getMessage() for record in caplog.records] == ["vCPU 0: PortOut { port: 10, size: 1, data: 2a }"]


def test_a_code_that_there_is_not_ends_the_run_with_an_error(vm, handlers):
    vm.load("out 0x10, al; hlt")
    vm.on_port(0x10, bj.native(handlers.say, np.array([17, 0], np.int32)))
    with pytest.raises(ValueError, match="a native handler returned 17"):
        vm.run(timeout=60)
    assert vm.run(timeout=60) == bj.Hlt()


def test_call_without_a_fallback_has_no_opinion(vm, handlers):
    vm.load("in al, 0x10; hlt")
    vm.on_port(0x10, lambda exit: 5)
    vm.on_port(0x10, bj.native(handlers.say, np.array([bj.Verdict.CALL, 0], np.int32)))
    vm.run(timeout=60)
    assert vm.cpu.regs.al == 5


def test_what_the_fallback_raises_comes_out_of_the_run(vm, handlers):
    def fail(exit):
        raise KeyError("mine")

    vm.load("out 0x10, al; hlt")
    vm.on_port(0x10, bj.native(handlers.say, np.array([3, 0], np.int32), fallback=fail))
    with pytest.raises(KeyError, match="mine"):
        vm.run(timeout=60)


def test_a_handler_works_on_registers_and_memory(vm, handlers):
    vm.load("mov ebx, 0x3000; out 0x10, al; out 0x10, al; mov rsi, rbx; hlt")
    vm.memory.write_u64(0x3000, 21)
    vm.memory.write_u64(0x3010, 4)
    vm.on_port(0x10, bj.native(handlers.work, registers=True))
    assert vm.run(timeout=60) == bj.Hlt()
    assert (vm.memory.read_u64(0x3000), vm.memory.read_u64(0x3010)) == (42, 8)
    assert vm.cpu.regs.rsi == 0x3020
    assert vm.cpu.regs.rcx == 2**64 - 4


def test_a_handler_that_did_not_ask_for_registers_sees_none_and_they_cost_nothing(vm, handlers):
    vm.load(LOOP)
    seen = bj.NativeExit()
    vm.on_port(0x10, bj.native(handlers.keep, seen))
    before = vm.cpu.register_ioctls
    vm.run(timeout=60)
    assert vm.cpu.register_ioctls == before
    assert list(seen.registers) == [0] * 18
    assert vm.stats.handlers == 0


def test_a_filter_is_asked_before_the_native_handler(vm, handlers):
    vm.load("mov al, 10; l: out 0x10, al; dec al; jnz l; hlt")
    words = np.zeros(2, np.int32)
    handle = vm.on_port(0x10, bj.native(handlers.say, words), when=bj.exit.data < 4)
    vm.run(timeout=60)
    assert (words[1], handle.hits) == (3, 3)


def test_a_device_in_front_of_a_native_handler_asks_it(vm, handlers):
    class Front(bj.Device):
        ports = range(0x10, 0x11)

        def read(self, offset, size):
            return self.below.read(offset, size) + 0x20

    vm.load("in al, 0x10; hlt")
    vm.on_port(0x10, bj.native(handlers.answer, registers=True))
    vm.attach(Front())
    vm.run(timeout=60)
    assert vm.cpu.regs.al == 0x31


@pytest.mark.parametrize("kind", ["ctypes", "cffi", "int", "numba"])
def test_functions_of_every_origin_are_handlers(vm, handlers, kind):
    address = ctypes.cast(handlers.answer, ctypes.c_void_p).value
    if kind == "ctypes":
        function = handlers.answer
    elif kind == "cffi":
        ffi = pytest.importorskip("cffi").FFI()
        function = ffi.cast("int32_t (*)(void *, void *)", address)
    elif kind == "int":
        function = bj.native(address)
    else:
        function = with_numba()
    vm.load("in al, 0x10; hlt")
    handle = vm.on_port(0x10, function)
    vm.run(timeout=60)
    assert vm.cpu.regs.al == 0x11
    assert handle.hits == 1 and isinstance(handle.function, bj.NativeHandler)
    assert "NativeHandler at 0x" in repr(handle)


def with_numba():
    numba = pytest.importorskip("numba")
    record = numba.from_dtype(np.dtype(bj.NativeExit))
    done = int(bj.Verdict.DONE)

    @numba.cfunc(numba.types.int32(numba.types.CPointer(record), numba.types.CPointer(numba.types.uint64)))
    def answer(exits, _):
        exit = numba.carray(exits, 1)[0]
        exit.data = exit.address + 1
        return done

    return answer


def test_numba_counts_in_an_array_and_changes_registers(vm):
    numba = pytest.importorskip("numba")
    record = numba.from_dtype(np.dtype(bj.NativeExit))

    @numba.cfunc(numba.types.int32(numba.types.CPointer(record), numba.types.CPointer(numba.types.uint64)))
    def count(exits, counts):
        exit = numba.carray(exits, 1)[0]
        numba.carray(counts, (256,))[exit.data & 0xFF] += 1
        exit.registers[6 - 5] += 1  # RBX
        return 0

    counts = np.zeros(256, np.uint64)
    vm.load("xor ebx, ebx; mov ecx, 100; l: mov al, cl; out 0x10, al; dec ecx; jnz l; hlt")
    vm.on_port(0x10, bj.native(count, counts, registers=True))
    vm.run(timeout=10)
    assert counts[1:101].tolist() == [1] * 100
    assert vm.cpu.regs.rbx == 100


def test_a_native_handler_runs_beside_python_in_the_background(vm, handlers):
    vm.load("l: out 0x10, al; jmp l")
    words = np.zeros(2, np.int32)
    vm.on_port(0x10, bj.native(handlers.say, words))
    vm.start()
    seen = 0
    while seen < 50:
        seen = int(words[1])
    vm.stop()
    assert words[1] >= 50


def test_what_a_handler_needs_lives_as_long_as_it_is_registered(vm):
    class Data(np.ndarray):
        pass

    data = np.zeros(2, np.int32).view(Data)
    seen = []
    function = SIGNATURE(lambda exit, user: seen.append(user) or 0)
    alive = [weakref.ref(function), weakref.ref(data)]
    address = data.ctypes.data
    handle = vm.on_port(0x10, bj.native(function, data))
    del function, data
    gc.collect()
    assert all(ref() is not None for ref in alive)
    vm.load("out 0x10, al; hlt")
    vm.run(timeout=60)
    assert seen == [address]
    handle.remove()
    del handle
    vm.run(timeout=0.01)
    gc.collect()
    assert all(ref() is None for ref in alive)


def circle(called, *, running):
    """A machine that only its own native handler refers to."""
    vm = bj.VM("2M")
    vm.load("l: out 0x10, al; jmp l")
    vm.on_port(0x10, SIGNATURE(lambda exit, user: 0 * len(called.append(1) or repr(vm))))
    if running:
        vm.start()
    return weakref.ref(vm)


def test_a_machine_and_its_native_handler_that_refer_to_each_other_are_collected():
    vm = circle([], running=False)
    gc.collect()
    assert vm() is None


def test_a_machine_that_runs_in_the_background_keeps_its_native_handler():
    called = []
    vm = circle(called, running=True)
    gc.collect()
    before = len(called)
    until(lambda: gc.collect() >= 0 and len(called) >= before + 10)
    vm().close()
    del called[:]
    gc.collect()
    assert vm() is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bj.native(0), "not NULL"),
        (lambda: bj.native(SIGNATURE()), "not NULL"),
        (lambda: bj.native(print), "numba.cfunc, a function pointer"),
        (lambda: bj.native(1, b"read-only"), "writable buffer"),
        (lambda: bj.native(1, object()), "writable buffer"),
        (lambda: bj.native(1, fallback=5), "fallback is a function"),
        (lambda: bj.native(ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0)), "takes an exit and its user data"),
        (lambda: bj.native(-1), "negative"),
    ],
)
def test_what_is_no_c_function_is_refused(make, message):
    with pytest.raises((TypeError, ValueError, OverflowError), match=message):
        make()


def test_a_number_is_no_handler_unless_native_says_so(vm):
    with pytest.raises(TypeError, match="a handler is a function of one exit"):
        vm.on_port(0x10, 0x1234)


def test_verdicts_are_integers_for_c():
    assert issubclass(bj.Verdict, enum.IntEnum) and bj.Verdict.STOP == 4
