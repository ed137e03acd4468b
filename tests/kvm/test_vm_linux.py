"""vm.linux on machines: where no Linux runs, and on the test guest, whose kernel carries no types of its own.

The guest is tests/guests/linux/build.sh's; where it is not built, its test is skipped aloud.
"""

from pathlib import Path

import pytest

import belljar as bj

ROOT = Path(__file__).resolve().parents[2]


def test_where_no_linux_runs_the_error_says_so(vm):
    vm.load(b"\xf4", mode="long")
    with pytest.raises(bj.KernelError, match="Linux kernel"):
        _ = vm.linux


def test_a_closed_vm_has_no_linux(new_vm):
    vm = new_vm("1M")
    vm.close()
    with pytest.raises(bj.ClosedError):
        _ = vm.linux


def test_looking_for_linux_keeps_no_vm_alive():
    import gc
    import weakref

    vm = bj.VM("1M")
    with pytest.raises(bj.KernelError):
        _ = vm.linux
    gone = weakref.ref(vm)
    vm.close()
    del vm
    gc.collect()
    assert gone() is None


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_kernel_without_types_still_has_version_and_symbols(linux):
    with bj.boot.linux(linux / "vmlinux", initrd=linux / "initrd.cpio") as vm:
        vm.start()
        vm.console.read_until("belljar# ", timeout=200)
        vm.pause()
        kernel = vm.linux
        assert kernel.version.banner.startswith("Linux version 6.")
        assert kernel.version.numbers >= (5, 0)
        assert kernel.symbols["init_task"] > kernel.base
        assert vm.linux.kernel is kernel.kernel
        assert bj.find_kernel(vm).base == kernel.base
        at = kernel.symbols["do_sys_openat2"]
        assert kernel.memory.disasm(at, 1)[0].symbol == vm.virtual().disasm(at, 1)[0].symbol == "do_sys_openat2"
        for ask in (kernel.tasks, kernel.modules, kernel.dmesg, kernel.mounts):
            with pytest.raises(bj.KernelError, match="carries no BTF"):
                ask()
