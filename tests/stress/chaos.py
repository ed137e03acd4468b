"""Sixty-four machines and the threads that do things to them at random. It never judges what comes of it."""

from __future__ import annotations

import codecs
import collections
import contextlib
import gc
import itertools
import os
import random
import signal
import socket
import threading
import time
import weakref

from book import EXPECTED, Book, OurError, OurInterrupt

import belljar as bj

codecs.lookup("idna")  # sockets want it: a Ctrl-C in the middle of its import would be taken for an unknown encoding

SIZE = 0x9D000  # of RAM, in bytes: 157 pages, a number that no other mapping is a multiple of
MMIO = 0x4000_0000
KERNEL_GS_BASE = 0xC000_0102

# Code and mode of the guests. What they do is in their names.
GUESTS = {
    "ports": ("l: out 0x10, al; in al, 0x11; jmp l", "protected"),
    "mmio": (f"l: mov [{MMIO:#x}], eax; mov eax, [{MMIO + 4:#x}]; inc ebx; jmp l", "protected"),
    "strings": (
        "cld; l: mov edx, 0x10; mov esi, 0x8000; mov ecx, 40; rep outsb;"
        " mov edx, 0x11; mov edi, 0x8000; mov ecx, 40; rep insb; jmp l",
        "protected",
    ),
    "msrs": (f"l: mov ecx, {KERNEL_GS_BASE:#x}; inc eax; wrmsr; rdmsr; out 0x10, al; jmp l", "long"),
    "computes": ("l: inc rbx; imul rbx, rbx, 7; jmp l", "user"),
    "spins": ("l: inc ebx; jmp l", "real"),
    "halts": ("l: out 0x10, al; hlt; jmp l", "protected"),
    "faults": ("out 0x10, al; mov rax, [0x123456789000]", "user"),
    "shuts down": ("out 0x10, al; lidt [0x8000]; ud2", "protected"),
}
CODE = {
    name: (bj.asm(text, {"real": 16, "protected": 32}.get(mode, 64)), mode) for name, (text, mode) in GUESTS.items()
}

# The functions that a Ctrl-C leaves alone: those that raise exceptions or put machines in their places.
NOT_NOW = {"replace", "point", "plant", "handler", "handle", "exception", "on_sigint", "unraisable"}


class Place:
    """One of the machines that are alive at once; it is replaced now and then."""

    def __init__(self, chaos, number):
        self.chaos, self.number = chaos, number
        self.turn = threading.Lock()
        self.handles = collections.deque(maxlen=8)
        self.points = collections.deque(maxlen=8)
        self.vm = self.make()

    def make(self):
        rng = random.Random(f"{self.chaos.seed} {self.number} {next(self.chaos.made)}")
        vcpus = rng.choice([1, 1, 2])
        irqchip = rng.choice([None, None, "split"])
        vm = bj.VM(SIZE, vcpus, irqchip=irqchip, serial=rng.random() < 0.2)
        self.chaos.refs.append(weakref.ref(vm))
        code, mode = CODE[rng.choice(list(CODE))]
        for vcpu in range(vcpus):
            vm.load(code, mode, vcpu=vcpu)
        self.chaos.fill(vm)
        self.handle(vm, rng)
        return vm

    def handle(self, vm, rng):
        """Add a handler of some kind."""
        handler = self.chaos.handler(vm, rng.random())
        add = rng.choice([
            lambda: vm.on_port(0x10, handler),
            lambda: vm.on_port(range(0x10, 0x12), handler),
            lambda: vm.on_mmio(MMIO, handler, size=8),
            lambda: vm.on_msr(KERNEL_GS_BASE, handler),
            lambda: vm.on_exit(rng.choice([bj.Hlt, bj.PortIn, bj.PortOut, bj.MmioWrite, bj.Shutdown]), handler),
            lambda: vm.on_exit(bj.Exit, handler),
        ])  # fmt: skip
        handle = add()
        self.chaos.refs.append(weakref.ref(handle))
        self.handles.append(handle)

    def point(self, vm, rng):
        """Plant a breakpoint or a watchpoint of some kind near the code or the data."""
        handler = rng.choice([None, self.chaos.handler(vm, rng.random())])
        at = vm.cpu.regs.rip + rng.randrange(-4, 12)
        plant = rng.choice([
            lambda: vm.breakpoint(max(at, 0), handler, once=rng.random() < 0.3),
            lambda: vm.breakpoint(0x7000 + rng.randrange(0x1000), handler, physical=True),
            lambda: vm.breakpoint(rng.randrange(1 << 64), handler),
            lambda: vm.watch(rng.choice([0x8000, 0x8010, 0x20000]), rng.choice([1, 8, 0x3000]), handler, access="w"),
            lambda: vm.watch(rng.choice([0x1000, 0x7000, 0x8000]), 8, handler, access=rng.choice(["r", "x", "rwx"])),
        ])  # fmt: skip
        self.points.append(plant())

    def close(self):
        """Close the machine, whatever comes in between."""
        while self.vm.state != "closed" or self.is_closing():
            try:
                self.vm.close()
            except EXPECTED:
                time.sleep(0.001)
            except BaseException as error:  # noqa: BLE001 - booked
                self.chaos.book.take(error)

    def is_closing(self):
        """Is somebody else about to close it? Its state is "closed" already; memory is there until it is."""
        try:
            return self.vm.memory.regions != []
        except bj.ClosedError:
            return False

    def replace(self):
        """Put a new machine here."""
        if self.turn.acquire(blocking=False):
            try:
                self.close()
                self.points.clear()
                self.vm = self.make()
            finally:
                self.turn.release()


class Chaos:
    """The machines, the threads and what they do."""

    def __init__(self, machines, threads, seconds, seed):
        self.book, self.refs, self.made = Book(), collections.deque(), itertools.count()
        self.seed, self.threads = seed, threads
        self.filler = bytes(range(256)) * 2000
        self.ring = threading.Event()
        self.places = [Place(self, number) for number in range(machines)]
        self.end = time.monotonic() + seconds

    def fill(self, vm):
        """Touch most of the RAM, so that a leak of it shows."""
        vm.memory.write(0x10000, self.filler)

    def handler(self, vm, seed):
        """Make a handler that mostly does nothing, and now and then one of its tricks."""
        rng = random.Random(seed)
        tricks = self.tricks(vm, rng)

        def handler(exit):
            return rng.choice(tricks)(exit) if rng.random() < 0.2 else None

        self.refs.append(weakref.ref(handler))
        return handler

    def tricks(self, vm, rng):
        """What a handler may do, the frequent things several times."""

        def fail(exit):
            raise self.book.exception(OurError)

        def set_and_fail(exit):
            vm.cpus[exit.vcpu].regs.rbx += 1
            raise self.book.exception(OurError)

        def answer(exit):
            return rng.randrange(1 << 8) if isinstance(exit, bj.PortIn | bj.MmioRead | bj.MsrRead) else bj.SKIP

        def close(exit):
            with contextlib.suppress(bj.RunningError):
                vm.close()

        def handlers(exit):
            with vm.on_port(0x11, fail), vm.on_exit(bj.Hlt, fail):
                pass

        def kick_another(exit):
            rng.choice(self.places).vm.kick()

        def run_another(exit):
            if rng.random() < 0.2:
                self.inner()

        def collect(exit):
            gc.collect(0)

        def set_register(exit):
            vm.cpus[exit.vcpu].regs.rbx += 1

        def points(exit):
            with vm.breakpoint(0x20000 + rng.randrange(64)), vm.watch(0x30000 + rng.randrange(64)):
                pass

        def step(exit):
            with contextlib.suppress(bj.RunningError):
                vm.cpu.step()

        return [fail] * 6 + [
            points, step, set_and_fail, answer, close, handlers, kick_another, run_another, set_register,
            lambda exit: bj.STOP, lambda exit: bj.SKIP, lambda exit: time.sleep(0.001), collect,
            lambda exit: vm.kick(), lambda exit: vm.stop() and None, lambda exit: vm.pause(),
        ]  # fmt: skip

    def inner(self):
        """Run another machine inside a handler; what its handler raises comes out of this one."""
        with bj.VM(SIZE) as vm:
            self.refs.append(weakref.ref(vm))
            vm.load(*CODE["ports"])
            vm.on_port(0x10, self.raising())
            vm.run(timeout=0.05)

    def raising(self):
        def handler(exit):
            raise self.book.exception(OurError)

        return handler

    def actions(self, place, rng):
        """What a thread may do to a machine, the frequent ones several times."""
        vm = place.vm

        def run():
            vm.run(timeout=0.02)

        def run_some():
            vm.run(timeout=0.05, max_exits=rng.randrange(1, 30))

        def run_one():
            vm.cpus[-1].run(timeout=0.02, max_exits=10)

        def join():
            vm.join(timeout=0.02)

        def look():
            return repr(vm), vm.cpu.regs.rip, vm.memory.read(0x1000, 8), vm.cpu.disasm()

        def write():
            vm.memory.write_u32(0x8000, rng.randrange(1 << 32))
            vm.cpu.regs.rbx = rng.randrange(1 << 16)
            vm.cpu.msr["KERNEL_GS_BASE"] = 0x5000

        def view():
            with vm.memory.view(0x8000, 16, writable=True) as seen:
                seen[0] = 1
                time.sleep(0.001)

        def load():
            code, mode = CODE[rng.choice(list(CODE))]
            vm.load(code, mode, vcpu=rng.randrange(len(vm.cpus)))

        def add():
            place.handle(vm, rng)

        def remove():
            with contextlib.suppress(IndexError):
                place.handles.popleft().remove()

        def switch():
            with contextlib.suppress(IndexError):
                handle = place.handles[0]
                handle.enabled = not handle.enabled

        def drop():
            gone = bj.VM(SIZE)
            self.refs.append(weakref.ref(gone))
            gone.load(*CODE["halts"])
            gone.on_port(0x10, lambda exit, gone=gone: None)
            gone.breakpoint(gone.cpu.regs.rip, lambda exit, gone=gone: None)
            gone.watch(0x8000, 8, lambda exit, gone=gone: None)
            gone.start()

        calm = [run, run_some, run_one, vm.stop, vm.pause, join, look, write, view, load, add, remove, switch]
        debug = self.debugging(place, rng)
        often = [vm.start, vm.start, vm.resume, vm.stop, vm.kick, vm.close, *[place.replace] * 3, drop]
        return [*calm, *calm, *debug, *debug, *often]

    def debugging(self, place, rng):
        """What a thread may do to a machine as a debugger."""
        vm = place.vm

        def plant():
            place.point(vm, rng)

        def uproot():
            with contextlib.suppress(IndexError):
                place.points.popleft().remove()

        def toggle():
            with contextlib.suppress(IndexError):
                point = place.points[0]
                point.enabled = not point.enabled

        def step():
            vm.cpu.step(rng.randrange(1, 20), timeout=0.02)

        def step_over():
            vm.cpu.step_over(timeout=0.02)

        def run_until():
            vm.cpu.run_until(vm.cpu.regs.rip + rng.randrange(8), timeout=0.02)

        def hold():
            """Be a debugger for a moment: who connects holds all vCPUs, who hangs up lets them go."""
            with vm.gdbserver() as server, socket.create_connection(("127.0.0.1", server.port)) as line:
                server.wait(0.05)
                line.sendall(b"$?#3f$m1000,40#5f$c#63")
                time.sleep(0.005)
                line.sendall(
                    rng.choice([b"\x03$g#67$D#44", b"$D#44", b"\x03$vCont;s:1#23", b"", b"\x03$k#6b", b"$X#zz\x03"])
                )

        return [plant, plant, uproot, toggle, step, step_over, run_until, hold]

    def act(self, seed):
        """Do things at random until the end."""
        rng = random.Random(seed)
        while time.monotonic() < self.end:
            action = rng.choice(self.actions(rng.choice(self.places), rng))
            try:
                self.attempt(action)
            except BaseException as error:  # noqa: BLE001 - booked
                self.book.take(error)
            self.book.done[action.__name__] += 1

    def attempt(self, action):
        """Where a Ctrl-C may strike: what is raised here is booked by the caller."""
        action()

    def on_sigint(self, _number, frame):
        """Interrupt the call that the main thread is in; not the book-keeping, and no handler on its way."""
        while frame is not None and frame.f_code.co_name not in NOT_NOW:
            if frame.f_code is Chaos.attempt.__code__:
                raise self.book.exception(OurInterrupt)
            frame = frame.f_back

    def interrupt(self):
        """Send Ctrl-C at random moments."""
        rng = random.Random(self.seed)
        while not self.ring.wait(rng.expovariate(20)):
            os.kill(os.getpid(), signal.SIGINT)

    def run(self):
        before = signal.signal(signal.SIGINT, self.on_sigint)
        threads = [threading.Thread(target=self.act, args=(f"{self.seed} {n}",)) for n in range(self.threads)]
        bell = threading.Thread(target=self.interrupt)
        for thread in [*threads, bell]:
            thread.start()
        self.act(f"{self.seed} main")
        self.ring.set()
        for thread in [bell, *threads]:
            thread.join()
        signal.signal(signal.SIGINT, before)
        for place in self.places:
            place.close()
