"""The command ``belljar``: run a guest, look at the host, show what it is all about."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from belljar import __version__, demo, doctor, runner
from belljar.errors import BelljarError


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(prog="belljar", description="A whole KVM machine in Python's hands.")
    top.add_argument("--version", action="version", version=f"belljar {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a kernel image with its serial console on this terminal")
    run.add_argument("file", metavar="FILE", help="bzImage, vmlinux, ELF or Multiboot 1; anything with --mode")
    run.add_argument("--initrd", metavar="FILE", help="initial RAM disk, or the one module of a Multiboot kernel")
    run.add_argument("--append", metavar="TEXT", default="", help="added to the command line")
    run.add_argument("--memory", metavar="SIZE", default="64M", help="RAM: bytes, or with K, M or G (default: 64M)")
    run.add_argument("--cpus", metavar="N", type=int, default=1, help="number of vCPUs (default: 1)")
    run.add_argument("--timeout", metavar="SECONDS", type=float, help="stop the guest after that time")
    run.add_argument("--mode", choices=("real", "protected", "long", "user"), help="run FILE as flat code in this mode")
    run.add_argument("--at", metavar="ADDRESS", type=lambda text: int(text, 0), help="where flat code goes (0x1000)")

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
        match options.command:
            case "run":
                return runner.run(options)
            case "doctor":
                return doctor.main(as_json=options.json)
            case "lab":
                return _lab(options)
            case _:
                return demo.main(options.linux)
    except (BelljarError, OSError, ValueError) as error:
        print(f"belljar: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("belljar: interrupted", file=sys.stderr)
        return 130


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
