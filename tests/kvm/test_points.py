"""What breakpoints and watchpoints have in common: how they are listed, named and told apart.

How they stop a guest is test_breakpoints.py's and test_watch.py's.
"""

import gc
import pickle
import weakref

import pytest

import belljar as bj

CODE = "again: nop; inc qword [0x8000]; out 0x10, al; jmp again"
NOP, INC = 0x1000, 0x1001


@pytest.fixture
def looping(vm):
    vm.load(CODE)
    vm.on_port(0x10, bj.STOP)
    return vm


def test_a_breakpoint_whose_handle_nobody_kept_is_found_by_its_hit_and_can_be_removed(looping):
    looping.breakpoint(INC)
    hit = looping.run(timeout=60)
    found = looping.breakpoints[hit.id]
    assert (found.id, found.address, found.hits, found.enabled) == (hit.id, INC, 1, True)
    found.remove()
    assert looping.breakpoints == {}
    assert isinstance(looping.run(timeout=60), bj.PortOut)


def test_a_watchpoint_whose_handle_nobody_kept_is_found_by_its_hit_and_can_be_removed(looping):
    looping.watch(0x8000, access="w")
    hit = looping.run(timeout=60)
    found = looping.watchpoints[hit.id]
    assert (found.id, found.address, found.size, found.hits) == (hit.id, 0x8000, 8, 1)
    found.remove()
    assert looping.watchpoints == {}
    assert isinstance(looping.run(timeout=60), bj.PortOut)


def test_both_have_the_handlers_that_they_were_given_and_their_time(looping):
    seen = []
    points = [looping.breakpoint(NOP, seen.append), looping.watch(0x8000, 8, seen.append)]
    looping.run(timeout=60)
    for point in [*points, *looping.breakpoints.values(), *looping.watchpoints.values()]:
        assert (point.function, point.hits) == (points[0].function, 1)
        assert point.seconds > 0
    assert len(seen) == 2


def test_what_was_asked_for_can_be_read_back(looping):
    filtered = looping.breakpoint(NOP, once=True, cr3=0x5000, vcpu=0, when=bj.reg.rax == 7)
    assert (filtered.once, filtered.cr3, filtered.vcpu, str(filtered.when)) == (True, 0x5000, 0, "reg.rax == 0x7")
    plain = looping.breakpoint(NOP, physical=True)
    assert (plain.once, plain.cr3, plain.vcpu, plain.physical, plain.function) == (False, None, None, True, None)
    watch = looping.watch(0x8000, 8, virtual=True, cr3=looping.cpu.cr3, once=True)
    assert (watch.once, watch.cr3, watch.symbol) == (True, looping.cpu.cr3, None)


def test_handlers_say_what_they_are_for_and_so_does_the_profile(looping):
    looping.breakpoint(INC, print)
    looping.watch(0x8000, 8, print)
    port, broken, watched = looping.handlers
    assert (port.subject, broken.subject, watched.subject) == ("port", "breakpoint", "watchpoint")
    assert (broken.range, watched.range) == (range(INC, INC + 1), range(0x8000, 0x8008))
    names = [one.subject for one in looping.profile().handlers]
    assert names == ["port 0x10", f"breakpoint {INC:#x}", "watchpoint 0x8000..0x8008"]


def test_both_show_their_number_place_and_state_in_one_style(looping):
    broken, watched = looping.breakpoint(INC), looping.watch(0x8000)
    assert repr(broken) == f"<Breakpoint {broken.id} at 0x1001: {broken.mechanism}, 0 hits>"
    assert repr(watched) == f"<Watchpoint {watched.id} at 0x8000..0x8008 w: {watched.mechanism}, 0 hits>"
    for point, what in ((broken, "disabled"), (watched, "disabled")):
        point.enabled = False
        assert what in repr(point)
        assert "pending" not in repr(point)
    for point in (broken, watched):
        point.remove()
        assert "removed" in repr(point)


def test_an_action_in_the_place_of_a_handler_is_what_every_hit_comes_to(looping):
    looping.breakpoint(INC, bj.STOP)
    assert isinstance(looping.run(timeout=60), bj.BreakpointHit)
    looping.breakpoints[1].remove()
    looping.watch(0x8000, 8, bj.STOP)
    assert isinstance(looping.run(timeout=60), bj.WatchpointHit)


def test_a_symbol_is_watched_at_its_linear_address(specimen):
    watched = specimen.watch("context_switches+0", 8)
    assert (watched.virtual, watched.symbol, watched.address) == (
        True,
        "context_switches+0",
        specimen.symbols["context_switches"],
    )
    assert isinstance(specimen.run(timeout=30), bj.WatchpointHit)
    with pytest.raises(KeyError, match="there is: context_switches"):
        specimen.watch("context_switche")


@pytest.fixture
def specimen():
    with bj.specimen() as vm:
        vm.run(timeout=1)
        yield vm


def test_a_hit_has_its_breakpoint_and_says_where_it_is(looping):
    made = looping.breakpoint(INC)
    hit = looping.run(timeout=5)
    assert (hit.rip, hit.address, hit.vcpu, hit.id) == (INC, INC, 0, made.id)
    assert hit.breakpoint == made and hash(hit.breakpoint) == hash(made)
    assert hit.breakpoint != looping.breakpoint(INC) and hit.breakpoint != hit
    hit.breakpoint.remove()
    assert not made.enabled and hit.breakpoint == made
    assert isinstance(looping.run(timeout=5), bj.PortOut)


def test_a_hit_has_its_watchpoint(looping):
    made = looping.watch(0x8000, access="w")
    hit = looping.run(timeout=5)
    assert hit.watchpoint == made and hit.watchpoint == looping.watchpoints[hit.id]
    hit.watchpoint.remove()
    assert isinstance(looping.run(timeout=5), bj.PortOut)


def test_handlers_and_conditions_find_the_breakpoint_in_the_hit_too(looping):
    seen = []

    @looping.on_breakpoint(INC, once=True)
    def handler(hit):
        seen.append(hit.breakpoint)

    looping.on_exit(bj.BreakpointHit)(lambda hit: seen.append(hit.breakpoint))
    looping.run(timeout=5, until=lambda exit: seen.append(getattr(exit, "breakpoint", None)))
    assert seen[:2] == [handler, handler] and handler.hits == 1


def test_a_step_says_where_it_is_as_a_hit_does(looping):
    assert looping.cpu.step(timeout=5).rip == looping.cpu.regs.rip


def test_a_hit_that_was_pickled_or_whose_machine_is_gone_has_no_breakpoint(new_vm):
    vm = bj.VM("1M")
    vm.load(CODE)
    vm.breakpoint(INC)
    hit = vm.run(timeout=5)
    copied = pickle.loads(pickle.dumps(hit))
    assert copied == hit and copied.breakpoint is None
    assert bj.BreakpointHit(1, INC).breakpoint is None
    vm.close()
    assert hit.breakpoint is not None
    del vm
    gc.collect()
    assert hit.breakpoint is None


def test_a_hit_keeps_no_machine():
    vm = bj.VM("1M")
    vm.load(CODE)
    vm.breakpoint(INC)
    hit = vm.run(timeout=5)
    gone = weakref.ref(vm)
    del vm
    gc.collect()
    assert gone() is None and hit.address == INC
