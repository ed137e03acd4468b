"""System calls as values: parameters, results, and how they are shown."""

from types import SimpleNamespace

import pytest

from belljar.linux.calls import Parameter, Prototype, Prototypes, Syscall, Syscalls, error_name, text_of

OPENAT = Prototype(
    257,
    "openat",
    tuple(
        Parameter(name, kind)
        for name, kind in [("dfd", "int"), ("filename", "const char *"), ("flags", "int"), ("mode", "umode_t")]
    ),
    0xFFFF_FFFF_8100_0000,
)
WRITE = Prototype(
    1,
    "write",
    (Parameter("fd", "unsigned int"), Parameter("buf", "const char *"), Parameter("count", "size_t")),
    0xFFFF_FFFF_8100_1000,
)


def made(prototype: Prototype, words: tuple[int, ...], texts: dict[int, bytes], result: int | None) -> Syscall:
    return Syscall(1000, 2500, 0, 7, 7, "sh", prototype, words, texts, result)


def test_a_call_is_shown_as_strace_shows_it():
    call = made(OPENAT, ((1 << 64) - 100, 0x7FFE_0000, 0x8000, 0, 0, 0), {1: b"/etc/pass\nwd"}, -2)
    assert call.call == 'openat(AT_FDCWD, "/etc/pass\\nwd", 32768, 0o0)'
    assert (call.outcome, call.error, call.microseconds) == ("-1 ENOENT", "ENOENT", 2.5)
    assert repr(call) == '<sh[7] openat(AT_FDCWD, "/etc/pass\\nwd", 32768, 0o0) = -1 ENOENT>'
    assert call.args == {"dfd": -100, "filename": b"/etc/pass\nwd", "flags": 0x8000, "mode": 0}


def test_a_call_that_has_not_returned_has_no_result():
    call = made(WRITE, (1, 0x5000, 3, 0, 0, 0), {}, None)
    assert (call.outcome, call.error) == ("?", None)
    assert call.call == "write(1, 0x5000, 3)"


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        ("int", 0xFFFF_FFFF, -1),
        ("int", 0x1_0000_0005, 5),
        ("unsigned int", 0xFFFF_FFFF, 0xFFFF_FFFF),
        ("long", (1 << 64) - 1, -1),
        ("unsigned long", (1 << 64) - 1, (1 << 64) - 1),
        ("umode_t", 0x1_01A4, 0o644),
        ("struct stat *", 0xFFFF_FFFF_0000_0000, 0xFFFF_FFFF_0000_0000),
    ],
)
def test_a_register_holds_what_its_type_says(kind: str, word: int, value: int):
    assert Parameter("x", kind).value(word) == value


def test_a_buffer_is_as_long_as_the_count_that_follows_it_and_a_string_ends_with_a_zero():
    assert text_of(WRITE.takes, 1, (1, 0x5000, 4), b"a\0bcdef") == b"a\0bc"
    assert text_of(OPENAT.takes, 1, (0, 0x5000, 0), b"/dev\0null") == b"/dev"


def test_a_result_is_an_error_in_the_last_page_only():
    assert (error_name(-13), error_name(-4095)) == ("EACCES", "error 4095")
    assert error_name(-4096) is None
    assert error_name(3) is None


def test_a_system_call_is_found_by_its_name_and_a_wrong_name_says_what_is_like_it():
    table = Prototypes([OPENAT, WRITE])
    assert table.named("write") is WRITE
    with pytest.raises(KeyError, match="did you mean openat"):
        table.named("open")
    assert repr(WRITE) == "<1 write(unsigned int fd, const char *buf, size_t count) at 0xffffffff81001000>"


def test_a_call_of_unknown_parameters_shows_all_six_registers():
    unknown = Prototype(999, "syscall_999", None, 0)
    assert made(unknown, (1, 2, 3, 4, 5, 0x10_0000), {}, 0).call == "syscall_999(1, 2, 3, 4, 5, 0x100000)"


def test_calls_go_into_dataframes():
    polars = pytest.importorskip("polars")
    frame = Syscalls([made(WRITE, (1, 0x5000, 3), {1: b"abc"}, 3)]).to_polars()
    assert isinstance(frame, polars.DataFrame)
    assert frame["call"].to_list() == ['write(1, "abc", 3)']
    assert frame["result"].to_list() == [3]


class Memory:
    """Words and strings by address, as a Reading asks for them."""

    def __init__(self, words: dict[int, int], strings: dict[int, str]) -> None:
        self.words, self.strings = words, strings
        self.problems = ()
        self.symbols = self
        self.btf = SimpleNamespace(has=lambda *_: False)

    def symbol(self, name: str) -> int:
        return 0x1000

    def size(self, name: str) -> int:
        return 1 << 40  # forged: the readers' own bound is what ends it

    def pointers(self, address: int, count: int) -> list[int]:
        self.asked = count
        return [0x2000, 0x3000, 0x4000]

    def get(self, name: str) -> None:
        return None

    def lookup(self, address: int) -> tuple[str, int] | None:
        return {0x2000: ("__x64_sys_read", 0), 0x3000: ("__x64_sys_ni_syscall", 0), 0x4000: ("sys_old", 0)}[address]


def test_a_table_without_metadata_still_has_names_and_a_forged_size_is_bounded():
    from belljar.linux.calls import prototypes

    memory = Memory({}, {})
    table = prototypes(memory)  # type: ignore[arg-type]
    assert [(one.number, one.name, one.parameters) for one in table] == [(0, "read", None), (2, "old", None)]
    assert memory.asked == 1024
