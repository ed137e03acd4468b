"""The command ``belljar``: run a guest, look at the host, show what it is all about."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from belljar import __version__, demo, doctor, runner
from belljar.errors import BelljarError

RUN_EPILOG = """\
On a terminal the guest has every key, Ctrl-C included; Ctrl-] ends it. Piped input is typed into the guest, which
goes on when the input is over: end it by a command (exit), by --timeout, or by Ctrl-C.

Exit status: 0 the guest halted, reset, or was ended by Ctrl-]; 1 it could not be started; 2 it failed (or the
arguments are wrong); 124 its time was over; 130 Ctrl-C. The console is standard output, all else standard error.
"""


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:  # not a number is not, either
        raise argparse.ArgumentTypeError(f"a number of seconds above 0, not {text!r}")
    return value


def _address(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"an address such as 0x7c00, not {text!r}")
    return value


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(prog="belljar", description="A whole KVM machine in Python's hands.")
    top.add_argument("--version", action="version", version=f"belljar {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="run a kernel image with its serial console on this terminal",
        epilog=RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("file", metavar="FILE", help="bzImage, vmlinux, ELF or Multiboot 1; anything with --mode")
    run.add_argument("--initrd", metavar="FILE", help="initial RAM disk, or the one module of a Multiboot kernel")
    run.add_argument("--append", metavar="TEXT", default="", help="added to the command line")
    run.add_argument("--memory", metavar="SIZE", default="64M", help="RAM: bytes, or with K, M or G (default: 64M)")
    run.add_argument("--cpus", metavar="N", type=int, default=1, help="number of vCPUs (default: 1)")
    run.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="stop the guest after that time")
    run.add_argument("--mode", choices=("real", "protected", "long", "user"), help="run FILE as flat code in this mode")
    run.add_argument("--at", metavar="ADDRESS", type=_address, help="where flat code goes (default: 0x1000)")

    look = commands.add_parser("doctor", help="say whether VMs run here, what this KVM does otherwise, and what to do")
    look.add_argument("--json", action="store_true", help="as JSON, for programs")

    show = commands.add_parser("demo", help="show what it does, on this host")
    show.add_argument("--linux", metavar="DIR", help="folder with vmlinux and initrd.cpio (make linux-guest prints it)")

    lab = commands.add_parser("lab", help="an emulated PC with a KVM in it, for hosts that have none (slow)")
    lab.add_argument("--cpus", metavar="N", type=int, default=1, help="number of its processors (default: 1)")
    lab.add_argument("--memory", metavar="MIB", type=int, default=3072, help="its RAM in MiB (default: 3072)")
    lab.add_argument("script", metavar="SCRIPT", nargs="?", help="a Python script to run in it; without one, a shell")
    lab.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="the script's arguments")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = parser().parse_args(arguments)
    try:
        return _dispatch(options)
    except BrokenPipeError:  # `belljar doctor | head`: whoever read has gone, and needs no message
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        about = f"{error.filename}: {error.strerror}" if error.filename else error
        print(f"belljar: {about}", file=sys.stderr)
        return 1
    except (BelljarError, ValueError) as error:
        print(f"belljar: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("belljar: interrupted", file=sys.stderr)
        return 130


def _dispatch(options: argparse.Namespace) -> int:
    match options.command:
        case "run":
            status = runner.run(options)
        case "doctor":
            status = doctor.main(as_json=options.json)
        case "lab":
            status = _lab(options)
        case _:
            status = demo.main(options.linux)
    if sys.stdout is not None:
        sys.stdout.flush()  # a reader who has gone is noticed here, not while the interpreter ends
    return status


def _lab(options: argparse.Namespace) -> int:
    from belljar.lab import Lab  # what it needs is not everybody's

    lab = Lab(cpus=options.cpus, memory=options.memory)
    if options.script is None:
        return lab.run(["bash", "-i"], interactive=True)
    script = Path(options.script)
    if not script.is_file():
        raise ValueError(f"{script} is not a file")
    return lab.run(["python", f"/lab/{script.name}", *options.arguments], files={script.name: script})


if __name__ == "__main__":
    sys.exit(main())
