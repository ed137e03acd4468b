"""Debian's stock kernel found in its memory: KASLR on and off, 4 and 5 levels of page tables, isolated ones too.

The kernel itself is the truth: what its own /proc/kallsyms says. Elsewhere than in the lane there is no such kernel.
"""

from __future__ import annotations

import os
import re
import time

import pytest
from tests.amdv.test_debian_kernel import KERNEL, initrd

import belljar as bj

USUAL = 0xFFFFFFFF81000000
BUSY = "/bin/busybox sh -c 'while :; do :; done' &\n"


@pytest.mark.skipif(not KERNEL.exists(), reason="the lane brings Debian's kernel along; here is none")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("options", ["pti=on", "pti=on no5lvl", "nokaslr"])
def test_debians_own_kernel_is_found_wherever_its_processors_are(options: str) -> None:
    with bj.boot.linux(KERNEL, initrd=initrd(), memory="192M", cmdline=f"quiet {options}", vcpus=2) as vm:
        vm.start()
        vm.console.read_until("# ", timeout=400)
        vm.console.send("/bin/busybox awk 'NR%700==0' /proc/kallsyms; echo al''l-said\n")
        said = re.findall(
            r"([0-9a-f]{16}) (\w) (\S+)\r?$", vm.console.read_until("all-said", timeout=400), re.MULTILINE
        )
        assert len(said) > 50
        vm.console.send(BUSY + BUSY)
        while True:
            vm.pause()
            if any(cpu.regs.rip < 1 << 47 for cpu in vm.cpus):
                break
            vm.resume()
            time.sleep(0.1)  # long enough for its threads to get there
        cr3 = [int(cpu.cr3) for cpu in vm.cpus]
        kernels = [bj.find_kernel(vm.memory, known) for known in ([], cr3, cr3[:1], cr3[1:])]
        kernel = kernels[0]
        assert {(k.base, k.gpa, k.cr3, k.levels) for k in kernels} == {
            (kernel.base, kernel.gpa, kernel.cr3, kernel.levels)
        }
        assert kernel.release == os.uname().release == kernel.vmcoreinfo["OSRELEASE"]
        assert kernel.slide == int(kernel.vmcoreinfo["KERNELOFFSET"], 16) == kernel.base - USUAL
        assert kernel.phys_base == int(kernel.vmcoreinfo["NUMBER(phys_base)"]) % 2**64
        assert kernel.levels == 4 + ("no5lvl" not in options and vm.cpus[0].cr4.la57)
        assert kernel.slide == 0 if options == "nokaslr" else kernel.slide % (2 << 20) == 0
        for address, kind, name in said:
            assert (name, int(address, 16)) in kernel.symbols.find(name), (address, kind, name)
