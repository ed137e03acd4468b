"""Imports run downwards only: the layers of `src/`, read off its `crate::` paths.

`ALLOWED` is the drawing in CONTRIBUTING.md as data. Comments and string literals do not count; test modules do.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

PLAIN = {"addr", "error"}
VALUES = PLAIN | {"x86", "exit", "source"}
BELOW_MACHINE = VALUES | {"memory", "bus", "hook", "devices", "kvm", "boot", "inspect", "debug"}

ALLOWED = {
    "error": set(),
    "glob": set(),
    "addr": {"error"},
    "x86": PLAIN,
    "exit": PLAIN | {"x86"},
    "source": PLAIN | {"x86"},
    "memory": PLAIN | {"source"},
    "bus": VALUES,
    "hook": VALUES,
    "devices": PLAIN | {"bus", "memory"},
    "kvm": VALUES | {"memory"},
    "boot": PLAIN | {"x86", "source", "memory", "glob"},
    "inspect": VALUES - {"exit"} | {"glob"},
    "debug": VALUES | {"hook", "inspect"},
    "machine": BELOW_MACHINE,
    "gdb": BELOW_MACHINE | {"machine"},
    "python": BELOW_MACHINE | {"machine", "gdb", "glob"},
}

# Each foreign crate with one owner: the crate, and the only layer that may name it.
OWNED = {"kvm_ioctls": "kvm", "kvm_bindings": "kvm", "pyo3": "python", "pyo3_log": "python", "numpy": "python"}

NOISE = re.compile(
    r"""//[^\n]*                          # line comment, doc comments included
      | /\*.*?\*/                         # block comment
      | b?r(\#*)".*?"\1                   # raw string
      | b?"(?:\\.|[^"\\])*"               # string
      | b?'(?:\\.[^']*|[^'\\])'           # character (not a lifetime)
    """,
    re.VERBOSE | re.DOTALL,
)
TOKEN = re.compile(r"\w+|::|[^\s\w]")


def imports(text: str, module: tuple[str, ...]) -> Iterator[str]:
    """Yield the name after every `crate::` in `text`, the source of `module`, also in groups and by way of `super`."""
    tokens = TOKEN.findall(NOISE.sub(" ", text)) + [""] * 4
    inline: list[bool] = []  # the open braces, and which of them belong to a `mod`
    for i, token in enumerate(tokens):
        if token == "{":
            inline.append(tokens[i - 2] == "mod")
        elif token == "}" and inline:
            inline.pop()
        elif token == "crate" and tokens[i + 1] == "::":
            yield from names(tokens[i + 2 :])
        elif token == "crate" and tokens[i + 1] == "as":
            yield "the crate under another name"
        elif token == "super" and tokens[i - 2 : i] != ["super", "::"]:
            up, rest = climb(tokens[i:])
            here = len(module) + sum(inline)
            if up >= here:
                yield from names(rest)


def climb(tokens: list[str]) -> tuple[int, list[str]]:
    """Count the `super::` at the front, and return what follows them."""
    up = 0
    while tokens[2 * up] == "super":
        up += 1
    return up, tokens[2 * up :]


def names(tokens: list[str]) -> Iterator[str]:
    """Yield what a path goes on with: one name, or the first name of each member of a `{...}` group."""
    if tokens[0] != "{":
        yield tokens[0]
        return
    depth, at_start = 0, False
    for token in tokens:
        if at_start and token not in "{}":
            yield token
        depth += (token == "{") - (token == "}")
        if depth == 0:
            return
        at_start = token in "{," and depth == 1


def faults(text: str, module: tuple[str, ...]) -> list[str]:
    """Say what in `text`, the source of `module`, a layer may not do."""
    layer = module[0]
    if layer not in ALLOWED:
        return [f"src/{layer} has no row in ALLOWED: give the new layer its place"]
    found = [f"{layer} imports {name}" for name in imports(text, module) if name not in ALLOWED[layer] | {layer}]
    tokens = set(TOKEN.findall(NOISE.sub(" ", text)))
    return found + [f"{layer} names {name}" for name in OWNED if name in tokens and OWNED[name] != layer]


def module_of(path: Path) -> tuple[str, ...]:
    """`src/kvm/vcpu.rs` is the module `kvm::vcpu`; `src/kvm/mod.rs` is `kvm`."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return parts[:-1] if parts[-1] == "mod" else parts


FILES = sorted(path for path in SRC.rglob("*.rs") if path != SRC / "lib.rs")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_a_file_imports_downwards_only(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8"), module_of(path)) == []


def test_lib_rs_holds_no_logic() -> None:
    text = NOISE.sub(" ", (SRC / "lib.rs").read_text(encoding="utf-8"))
    assert not re.search(r"\b(fn|impl|struct|enum|trait|macro_rules)\b", text)
    assert set(re.findall(r"\bmod (\w+);", text)) == set(ALLOWED)


def test_the_table_itself_has_no_cycle() -> None:
    placed: set[str] = set()
    while ready := {layer for layer, below in ALLOWED.items() if below <= placed} - placed:
        placed |= ready
    assert placed == set(ALLOWED)


def test_the_drawing_in_contributing_says_the_same() -> None:
    drawn = {}
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        if row := re.fullmatch(r"([a-z0-9 ]+?) +-> ([a-z0-9 ,]+)", line):
            below = set(ALLOWED) if row[2] == "anything" else set(row[2].split()) - {"nothing"}
            drawn |= {layer: below - {layer} for layer in row[1].split()}
    assert drawn == ALLOWED


# What the checker is worth: each of these must be caught, or must be let through.


@pytest.mark.parametrize(
    "source",
    [
        "use crate::machine::Machine;",
        "pub(crate) use crate::machine::{Machine, Stop};",
        "use crate::{addr::GuestPhys, machine::Machine};",
        "use crate::{\n    addr::{GuestPhys, Port},\n    machine,\n};",
        "fn f(machine: &crate::machine::Machine) {}",
        "use super::super::machine::Machine;",
        "mod tests { use super::super::super::machine::Machine; }",
        "#[cfg(test)] mod tests { use crate::machine::Machine; }",
        "macro_rules! m { () => { $crate::machine::Machine } }",
        "use crate::*;",
        "use crate as everything;",
        "use crate::{self as root};",
        "use self::super::super::machine::Machine;",
        "let quote = '\"'; use crate::machine::Machine; let other = '\"';",
        "fn f<'a>(a: &'a u8) { crate::machine::go('a') }",
        "// one line\nuse crate::machine::Machine; /* and */",
        "use kvm_ioctls::Kvm;",
        "pub fn f(x: kvm_bindings::kvm_regs) {}",
        "#[pyo3::pyclass] struct S;",
    ],
)
def test_an_upward_import_is_caught(source: str) -> None:
    assert faults(source, ("bus", "range")) != []


@pytest.mark.parametrize(
    "source",
    [
        "use crate::exit::Exit;",
        "use crate::{addr::{self, GuestPhys}, error::{Error, Result}};",
        "use crate::bus::other;",
        "use super::machine;",
        "mod tests { use super::super::machine; }",
        "mod a { } use super::machine;",
        "if x { use super::machine; }",
        "/// As [`crate::machine::Machine`] does.\nstruct S;",
        "/* crate::machine */ // crate::machine",
        'let s = "crate::machine"; let r = r#"crate::"machine"#;',
        '#[cfg(feature = "python")] fn f() {}',
        "let c = '\\''; let kvm_ioctls_like = 0;",
    ],
)
def test_what_is_no_upward_import_passes(source: str) -> None:
    assert faults(source, ("bus", "range")) == []


def test_a_layer_without_a_row_is_caught() -> None:
    assert faults("", ("gadgets",)) != []


def test_a_foreign_crate_is_free_to_its_owner() -> None:
    assert faults("use kvm_ioctls::Kvm; use kvm_bindings::kvm_regs;", ("kvm", "vcpu")) == []
