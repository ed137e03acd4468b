"""Watchpoints by name: whatever a breakpoint finds by a symbol, a watchpoint finds, too."""

import pytest

import belljar as bj


def test_a_name_is_looked_up_as_a_breakpoints_is(seen):
    with bj.specimen() as vm:
        vm.run(timeout=0.2)
        at = vm.symbols["board"]
        assert vm.watch("board+0x10", virtual=True).address == at + 0x10
        with pytest.raises(KeyError, match="no symbol"):
            vm.watch("nothing_of_that_name", virtual=True)
        named = vm.watch("board")  # a symbol is a linear address, which need not be said
        assert (named.address, named.virtual) == (at, True)
        assert f"board {at:#x}" in seen(named)
