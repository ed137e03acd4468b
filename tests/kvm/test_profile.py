"""Where a machine's time went, handler by handler."""

import time

import belljar as bj


def slow(exit):
    time.sleep(0.02)


def quick(exit):
    return 7


def profiled(vm):
    vm.load("out 0x10, al; in al, 0x11; in al, 0x11; out 0x10, al; hlt")
    handles = vm.on_port(0x10, slow), vm.on_port(range(0x11, 0x13), quick)
    assert vm.run(timeout=60) == bj.Hlt()
    return handles


def test_each_handler_has_its_calls_and_its_time(vm):
    one, two = profiled(vm)
    assert (one.hits, two.hits) == (2, 2)
    assert one.seconds >= 0.04 and one.seconds > two.seconds > 0
    profile = vm.profile()
    assert [(part.subject, part.name, part.hits) for part in profile.handlers] == [
        ("port 0x10", "slow", 2),
        ("port 0x11..0x13", "quick", 2),
    ]
    assert abs(profile.handlers[0].seconds - one.seconds) < 0.001
    assert abs(profile.stats.handlers - one.seconds - two.seconds) < 0.001
    one.remove()
    assert one.seconds >= 0.04


def test_two_profiles_have_a_difference(vm):
    profiled(vm)
    before = vm.profile()
    vm.cpu.regs.rip = 0x1000
    vm.run(timeout=60)
    after = vm.profile() - before
    assert [part.hits for part in after.handlers] == [2, 2]
    assert after.handlers[0].seconds >= 0.04
    assert after.stats.exits == {"PortIn": 2, "PortOut": 2, "Hlt": 1}


def test_a_profile_shows_the_most_expensive_handler_first(vm):
    profiled(vm)
    lines = str(vm.profile()).splitlines()
    assert lines.index(next(line for line in lines if "slow" in line)) < lines.index(
        next(line for line in lines if "quick" in line)
    )
    assert "slow" in vm.profile()._repr_html_() and "port 0x10" in vm.profile()._repr_html_()


def test_a_machine_that_has_done_nothing_has_a_profile(vm):
    assert vm.profile().handlers == ()
    assert vm.profile().stats.exits == {}
