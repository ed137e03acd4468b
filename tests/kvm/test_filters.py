"""Compiled filters: handlers that are called where an expression holds, which is computed without Python."""

import operator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import belljar as bj

WORD = 2**64 - 1
RAM = 0x200000
COMPARISONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
SIGNS = {
    **COMPARISONS,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
    "&": operator.and_,
    "|": operator.or_,
}


# Random expressions as plain tuples, from which both sides are made: the compiled expression and the plain evaluation.
words = st.integers(0, WORD) | st.integers(0, 70) | st.sampled_from([0x1000, RAM - 4, RAM, WORD])
leaves = st.one_of(
    st.tuples(st.just("constant"), words),
    st.tuples(st.just("register"), st.sampled_from(["rax", "rbx", "rsp", "eax", "ax", "ah", "al", "r9d"])),
    st.tuples(st.just("field"), st.sampled_from(["port", "address", "data", "size", "vcpu", "index", "vector"])),
)


def branches(inner):
    return st.one_of(
        st.tuples(st.just("two"), st.sampled_from(sorted(SIGNS)), inner, inner),
        st.tuples(st.just("memory"), st.sampled_from([8, 16, 32, 64]), inner),
        st.tuples(st.just("not"), inner),
        st.tuples(st.just("isin"), inner, st.frozensets(words, max_size=4)),
    )


trees = st.recursive(leaves, branches, max_leaves=25)
exits = st.sampled_from(
    [
        bj.PortOut(0x10, 1, 0x41),
        bj.PortIn(0x20, 2),
        bj.MmioWrite(0xFEE00000, 4, 7),
        bj.MsrRead(0xC0000082, "filter"),
        bj.GuestException(14, 2, 0x1000, 0x2000),
        bj.Hlt(),
    ]
)


def compiled(tree):
    match tree:
        case ("constant", value):
            return value
        case ("register", name):
            return getattr(bj.reg, name)
        case ("field", name):
            return getattr(bj.exit, name)
        case ("memory", bits, at):
            return getattr(bj.mem, f"u{bits}")(compiled(at))
        case ("not", inner):
            return ~expression(compiled(inner))
        case ("isin", inner, values):
            return expression(compiled(inner)).isin(values)
        case ("two", sign, left, right):
            return SIGNS[sign](expression(compiled(left)), compiled(right))


def expression(value):
    """An integer as an expression that has its value and is no truth."""
    return value if isinstance(value, bj.Expression) else (bj.exit.vcpu ^ bj.exit.vcpu) + value


def is_truth(tree):
    match tree:
        case ("not" | "isin", *_):
            return True
        case ("two", "&" | "|", left, right):
            return is_truth(left) or is_truth(right)
        case ("two", sign, _, _):
            return sign in COMPARISONS
        case _:
            return False


def plain(tree, vm, exit):
    """The value as Python computes it: an integer, or None where it is absent."""
    match tree:
        case ("constant", value):
            return value
        case ("register", name):
            return getattr(vm.cpu.regs, name)
        case ("field", name):
            return getattr(exit, name, None)
        case ("memory", bits, at):
            address = plain(at, vm, exit)
            if address is None or address + bits // 8 > RAM:
                return None
            return int.from_bytes(vm.memory[address : address + bits // 8], "little")
        case ("not", inner):
            return int(not plain(inner, vm, exit))
        case ("isin", inner, values):
            value = plain(inner, vm, exit)
            return None if value is None else int(value in values)
        case ("two", "&" | "|" as sign, left, right) if is_truth(tree):
            truths = (bool(plain(left, vm, exit)), bool(plain(right, vm, exit)))
            return int(all(truths) if sign == "&" else any(truths))
        case ("two", sign, left, right):
            a, b = plain(left, vm, exit), plain(right, vm, exit)
            if a is None or b is None:
                return None
            return 0 if sign in {"<<", ">>"} and b > 63 else int(SIGNS[sign](a, b)) & WORD


@pytest.fixture(scope="module")
def still():
    with bj.VM(memory=RAM) as vm:
        vm.memory[0:0x1000] = bytes(range(256)) * 16
        vm.memory[RAM - 16 : RAM] = bytes(range(16))
        vm.cpu.regs.rax, vm.cpu.regs.rbx, vm.cpu.regs.r9 = 0x1122334455667788, 0x800, WORD
        vm.cpu.regs.rsp = RAM - 8
        yield vm


@settings(max_examples=500, deadline=None)
@given(tree=trees, exit=exits)
def test_what_is_compiled_computes_what_plain_python_does(still, tree, exit):
    assert expression(compiled(tree)).value(still, exit) == plain(tree, still, exit)


def test_a_handler_is_called_only_where_its_filter_holds(vm):
    vm.load("mov al, 1; l: out 0x10, al; inc al; cmp al, 9; jne l; hlt")
    seen = []
    handle = vm.on_port(0x10, lambda exit: seen.append(exit.data), when=bj.exit.data.isin([3, 5]) | (bj.reg.al == 8))
    assert vm.run(timeout=60) == bj.Hlt()
    assert seen == [3, 5, 8]
    assert handle.hits == 3
    assert repr(handle.when) == "exit.data.isin([0x3, 0x5]) | (reg.al == 0x8)"
    assert [h.when is None for h in vm.handlers] == [False]


def test_what_a_filter_keeps_back_goes_to_the_next_handler_and_to_the_device(vm):
    vm.load("mov rbx, 1; in al, 0x10; mov cl, al; mov rbx, 2; in al, 0x10; hlt")
    vm.on_port(0x10, lambda exit: 7)
    vm.on_port(0x10, lambda exit: 9, when=bj.reg.rbx == 2)
    vm.run(timeout=60)
    assert (vm.cpu.regs.cl, vm.cpu.regs.al) == (7, 9)


def test_a_filter_sees_what_a_handler_before_it_changed(vm):
    vm.load("in al, 0x10; hlt")
    vm.on_port(0x10, lambda exit: 9, when=(bj.reg.rbx == 5) & (bj.mem.u8(0x3000) == 6))

    @vm.on_port(0x10)
    def first(exit):
        vm.cpu.regs.rbx = 5
        vm.memory[0x3000] = 6

    vm.run(timeout=60)
    assert (vm.cpu.regs.rbx, vm.cpu.regs.al) == (5, 9)


def test_every_kind_of_handler_takes_a_filter(vm):
    vm.load("""
        mov edi, 0x10000000; mov [rdi], ebx; mov [rdi + 4], ebx
        mov ecx, 0xc0000103; mov eax, 1; xor edx, edx; wrmsr; mov eax, 2; wrmsr
        hlt; inc rsi; hlt
    """)
    seen = []
    vm.on_mmio(0x10000000, seen.append, size=8, when=bj.exit.address == 0x10000004)
    vm.on_msr("TSC_AUX", seen.append, when=bj.exit.data == 2)
    stay = vm.on_exit(bj.Hlt, lambda exit: bj.SKIP, when=bj.reg.rsi == 0)
    assert vm.run(timeout=60) == bj.Hlt()
    assert [type(exit) for exit in seen] == [bj.MmioWrite, bj.MsrWrite]
    assert seen[0].address == 0x10000004 and seen[1].data == 2
    assert (stay.hits, vm.cpu.regs.rsi) == (1, 1)


@pytest.mark.parametrize(
    "register", [lambda vm: vm.on_port(0x10, print, when=print), lambda vm: vm.on_exit(when=lambda exit: True)]
)
def test_a_python_function_is_no_filter_and_the_message_says_what_to_do(vm, register):
    with pytest.raises(TypeError, match="test inside the handler"):
        register(vm)


def test_what_is_no_expression_is_no_filter(vm):
    with pytest.raises(TypeError, match=r"when is an expression such as bj\.reg\.rax == 5, not 5"):
        vm.on_mmio(0x10000000, print, when=5)


def test_filters_cost_one_look_at_the_registers_and_no_more(vm):
    vm.load("mov ecx, 200; l: out 0x10, al; dec ecx; jnz l; hlt")
    handle = vm.on_port(0x10, print, when=bj.reg.rax == 0x123456)
    before = vm.cpu.register_ioctls
    vm.run(timeout=60)
    assert vm.cpu.register_ioctls - before <= 1
    assert handle.hits == 0


def test_a_run_goes_on_until_an_expression_holds_without_calling_python(vm):
    vm.load("l: inc rbx; out 0x10, al; jmp l")
    assert vm.run(timeout=60, until=(bj.exit.port == 0x10) & (bj.reg.rbx == 100)) == bj.PortOut(0x10, 1, 0)
    assert vm.cpu.regs.rbx == 100
    assert vm.stats.handlers == 0


def test_until_an_exit_alone_needs_no_look_at_the_guest(vm):
    vm.load("mov al, 1; l: out 0x10, al; inc al; jmp l")
    assert vm.run(timeout=60, until=bj.exit.data == 77) == bj.PortOut(0x10, 1, 77)
    assert vm.run(timeout=60, until=bj.exit.data == 78) == bj.PortOut(0x10, 1, 78)


def test_an_expression_is_computed_on_a_stopped_machine_and_says_when_it_runs(vm):
    vm.load("l: jmp l", mode="user")
    vm.cpu.regs.rbx = 5
    vm.memory[0x3000] = 9
    assert (bj.reg.rbx + bj.mem.u8(0x3000)).value(vm) == 14
    assert bj.mem.u8(0x7000_0000).value(vm) is None
    vm.start()
    with pytest.raises(bj.RunningError):
        bj.reg.rbx.value(vm)
    vm.stop()
