"""Traces of steps, branches, breakpoints and watchpoints, recorded natively; and coverage of them."""

import gc

import polars as pl
import pytest

import belljar as bj

LOOP = "mov ecx, 3; l: nop; sub ecx, 1; jnz l; {}"
START, BODY, DEC, JUMP, END = 0x1000, 0x1005, 0x1006, 0x1009, 0x100B
STEPS = [START, *[BODY, DEC, JUMP] * 3]
MODES = {"long": ("hlt", bj.Hlt), "protected": ("hlt", bj.Hlt), "user": ("ud2", bj.GuestException)}


@pytest.fixture(params=MODES)
def looping(vm, request):
    """Return a guest that goes round three times, and the class of its end."""
    end, exit = MODES[request.param]
    quirks = bj.host.quirks
    if not (quirks.single_step_in_ring0 or request.param == "user"):
        pytest.skip("this KVM does not step in ring 0")
    vm.load(LOOP.format(end), mode=request.param)
    return vm, exit


@pytest.fixture
def ring0(vm):
    """Return the same in ring 0."""
    vm.load(LOOP.format("hlt"))
    return vm


def test_every_instruction_is_recorded_with_its_registers(looping):
    vm, end = looping
    trace = vm.trace(step=True, fields=["source", "size", "address", bj.reg.rip, "ecx"])
    assert isinstance(vm.run(timeout=20), end)
    records = trace.read()[: len(STEPS)]
    assert records["source"].tolist() == STEPS
    assert records["size"].tolist() == [5, *[1, 3, 2] * 3]
    assert records["address"].tolist() == [*STEPS[1:], END] == records["rip"].tolist()
    assert records["ecx"].tolist() == [3, 3, 2, 2, 2, 1, 1, 1, 0, 0]


def test_branches_are_what_does_not_go_on_behind(looping):
    vm, end = looping
    trace = vm.trace(branch=True)
    assert isinstance(vm.run(timeout=20), end)
    table = trace.to_polars()
    assert table.select("source", "size", "address").rows() == [(JUMP, 2, BODY)] * 2
    assert table["kind"].to_list() == ["Stepped"] * 2


def test_a_halt_is_a_step_and_ends_the_run_as_ever(ring0):
    trace = ring0.trace(step=True, fields=["source"])
    assert ring0.run(timeout=10) == bj.Hlt()
    assert trace.read()["source"].tolist() == [*STEPS, END]
    trace.remove()
    ring0.load(LOOP.format("hlt"))
    hit = ring0.breakpoint(BODY)
    assert isinstance(ring0.run(timeout=10), bj.BreakpointHit) and hit.hits == 1
    assert ring0.cpu.regs.rip == BODY


def test_rounds_of_a_string_instruction_are_no_branches(vm):
    vm.load("mov esi, 0x3000; mov edi, 0x4000; mov ecx, 4; rep movsb; jmp l; nop; l: hlt")
    vm.memory.write(0x3000, b"four")
    trace = vm.trace(branch=True, fields=["source"])
    assert vm.run(timeout=10) == bj.Hlt()
    assert trace.hits == 1 and vm.memory.read(0x4000, 4) == b"four"


def test_accesses_in_between_are_steps_too(vm):
    vm.load("mov al, 7; out 0x10, al; in al, 0x11; mov [0x2000], al; hlt")
    vm.on_port(0x11, lambda exit: 0x55, access="r")
    with vm.trace(step=True, port=range(0x10, 0x12), fields=["kind", "source", "size", "port"]) as trace:
        assert vm.run(timeout=10) == bj.Hlt()
    table = trace.to_polars()
    steps = table.filter(pl.col("kind").cast(pl.String) == "Stepped")
    assert steps["source"].to_list() == [0x1000, 0x1002, 0x1004, 0x1006, 0x100F]
    assert table["port"].drop_nulls().to_list() == [0x10, 0x11] and steps["port"].null_count() == len(steps)
    assert vm.memory.read_u8(0x2000) == 0x55


def test_a_filter_chooses_among_steps_and_branches(ring0):
    few = ring0.trace(step=True, when=bj.exit.source == DEC, fields=["ecx"])
    late = ring0.trace(branch=True, when=bj.reg.ecx == 1, fields=["address"])
    ring0.run(timeout=10)
    assert few.read()["ecx"].tolist() == [2, 1, 0]
    assert late.read()["address"].tolist() == [BODY]


def test_a_full_trace_of_steps_loses_nothing(ring0):
    trace, seen = ring0.trace(step=True, fields=["source"], capacity=4), []
    while ring0.run(timeout=10) == bj.Interrupted("trace"):
        seen += trace.read()["source"].tolist()
    assert seen + trace.read()["source"].tolist() == [*STEPS, END]


def test_without_the_trace_nothing_is_stepped(ring0):
    ring0.trace(step=True).remove()
    assert ring0.run(timeout=10) == bj.Hlt()
    assert ring0.stats.exits == {"Hlt": 1}


def test_hits_of_a_breakpoint_are_recorded_and_stop_nobody(looping):
    vm, end = looping
    with vm.trace(breakpoint=BODY, fields=["address", "ecx", bj.reg.rip]) as trace:
        assert isinstance(vm.run(timeout=20), end)
    assert trace.read().tolist() == [(BODY, n, BODY) for n in (3, 2, 1)]
    assert vm.memory.read(BODY, 1) == b"\x90"


def test_several_breakpoints_make_one_trace(ring0):
    with ring0.trace(breakpoint=[BODY, DEC], when=bj.reg.ecx == 2, fields=["address"]) as trace:
        assert ring0.run(timeout=10) == bj.Hlt()
    assert trace.read()["address"].tolist() == [BODY, DEC]


def test_a_breakpoint_that_is_there_can_be_traced(ring0):
    seen = []
    point = ring0.breakpoint(BODY, lambda hit: seen.append(hit.address))
    with ring0.trace(breakpoint=point) as trace:
        assert ring0.run(timeout=10) == bj.Hlt()
    assert trace.hits == len(seen) == point.hits == 3 and point.enabled
    assert trace.to_polars()["id"].to_list() == [point.id] * 3


def test_a_breakpoint_of_a_trace_goes_with_it(ring0):
    ring0.trace(breakpoint=BODY)
    gc.collect()
    assert ring0.run(timeout=10) == bj.Hlt()
    assert ring0.stats.exits == {"Hlt": 1}


def test_a_symbol_that_there_is_not_is_refused(ring0):
    with pytest.raises(KeyError, match="no_such"):
        ring0.trace(breakpoint="no_such")
    assert ring0.run(timeout=10) == bj.Hlt()


def test_what_is_watched_is_recorded_with_before_and_after(vm):
    vm.load("mov ecx, 3; l: mov [0x8000], ecx; dec ecx; jnz l; hlt")
    with vm.trace(watch=0x8000, fields=["address", "before", "after"]) as trace:
        assert vm.run(timeout=10) == bj.Hlt()
    assert [(before, after) for _, before, after in trace.read().tolist()] == [(0, 3), (3, 2), (2, 1)]


def test_coverage_of_steps_and_of_branches_agree(looping):
    vm, end = looping
    steps, branches = vm.trace(step=True), vm.trace(branch=True)
    assert isinstance(vm.run(timeout=20), end)
    everything, jumps = steps.coverage(), branches.coverage()
    assert everything.ranges[0][0] == START and JUMP + 1 in everything and END + 2 not in everything
    assert everything.addresses.tolist()[:4] == [START, BODY, DEC, JUMP]
    assert jumps.blocks.tolist() == everything.blocks.tolist()
    assert (START, END - START, 1) in jumps.blocks.tolist()


def test_coverage_is_put_together_over_reads(ring0):
    trace, coverage = ring0.trace(step=True, capacity=2), bj.Coverage()
    while ring0.run(timeout=10) == bj.Interrupted("trace"):
        trace.coverage(into=coverage)
    trace.coverage(into=coverage)
    assert coverage.blocks.tolist() == [(START, END - START, 1), (BODY, END - BODY, 1), (BODY, END + 1 - BODY, 1)]


def test_code_before_the_first_branch_and_behind_the_last_is_covered(ring0):
    with ring0.trace(branch=True) as branches:
        ring0.cpu.step()
        coverage = branches.coverage()
        assert coverage.ranges == [(START, BODY)] and branches.hits == 0
        ring0.cpu.step(4)
        branches.coverage(into=coverage)
        assert coverage.blocks.tolist() == [(START, END - START, 1), (BODY, 1, 1)]
        assert ring0.run(timeout=10) == bj.Hlt()
        branches.coverage(into=coverage)
    assert coverage.blocks.tolist() == [(START, END - START, 1), (BODY, END - BODY, 1), (BODY, END + 1 - BODY, 1)]


def test_a_branch_trace_that_misses_some_claims_no_more_than_it_knows(ring0):
    some = ring0.trace(branch=True, when=bj.reg.ecx == 1)
    read = ring0.trace(branch=True)
    assert ring0.run(timeout=10) == bj.Hlt()
    read.read(1)
    assert some.coverage().ranges == read.coverage().ranges == [(JUMP, END)]


def test_coverage_needs_steps_and_their_fields(ring0):
    with pytest.raises(ValueError, match="branch=True"):
        ring0.trace(port=0x10).coverage()
    with pytest.raises(ValueError, match="has no size"):
        ring0.trace(step=True, fields=["source"]).coverage()
