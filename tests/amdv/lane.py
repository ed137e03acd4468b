"""The AMD-V lane: the project's KVM tests, unchanged, on stock KVM semantics inside an emulated PC.

It owns the order of the run and what comes back. It never decides which test can run there: the probed quirks do.

    python tests/amdv/lane.py [--cpus N] [--shell] [pytest arguments]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from belljar.lab import Lab, LabError
from belljar.lab.packages import Packages

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "amdv"
TIMEOUT = 30 * 60.0

RUN = """
failed=0
for test in rust/*; do
    echo "lane: $test"
    "$test" --test-threads 1 || failed=1
done
echo "lane: pytest"
python -m pytest -p no:cacheprovider --junitxml=/lab/results/junit.xml "$@" || failed=$?
exit $failed
"""


def rust_tests() -> list[Path]:
    """Build the Rust tests that need KVM; return their programs."""
    command = [
        "cargo",
        "test",
        "--locked",
        "--no-default-features",
        "--test",
        "native",
        "--no-run",
        "--message-format=json",
    ]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return [Path(m["executable"]) for m in messages if m.get("executable") and m["profile"]["test"]]


def native_handlers() -> Path:
    """Compile the native handlers that tests/kvm/test_native_handlers.py calls."""
    library = BUILD / "handlers.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    include = f"-I{ROOT / 'python/belljar/include'}"
    subprocess.run(["gcc", "-shared", "-fPIC", include, ROOT / "tests/guests/handlers.c", "-o", library], check=True)
    return library


def files(lab: Lab) -> dict[str, Path]:
    """What the lane takes into the lab, by its name there."""
    parts = Packages(lab.cache).parts()
    taken = {"tests": ROOT / "tests", "pyproject.toml": ROOT / "pyproject.toml", "README.md": ROOT / "README.md"}
    taken |= {name: ROOT / name for name in ("docs", "notebooks", "scripts")}
    taken |= {"native/handlers.so": native_handlers()}
    taken |= {"debian/vmlinuz": parts.kernel, "debian/busybox": parts.busybox}
    taken |= {f"debian/modules/{module.name}": module for module in parts.modules}
    return taken | {f"rust/{program.name.rsplit('-', 1)[0]}": program for program in rust_tests()}


def main() -> int:
    """Run the lane; return pytest's exit status, or 1 if the lab itself failed."""
    parser = argparse.ArgumentParser(description="run the KVM tests inside an emulated PC with AMD-V")
    parser.add_argument("--cpus", type=int, default=int(os.environ.get("CPUS") or 1))
    parser.add_argument("--shell", action="store_true", help="a shell in there instead")
    options, arguments = parser.parse_known_args()
    lab = Lab(cpus=options.cpus)
    begun = time.monotonic()
    try:
        if options.shell:
            return lab.run(["bash", "-i"], files=files(lab), interactive=True)
        command = ["sh", "-c", RUN, "lane", *(arguments or ["tests/kvm", "tests/amdv"])]
        status = lab.run(command, files=files(lab), results=BUILD, timeout=TIMEOUT)
    except LabError as error:
        print(f"lane: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lane: interrupted", file=sys.stderr)
        return 130
    print(f"lane: {time.monotonic() - begun:.0f} s; results in {BUILD.relative_to(ROOT)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
