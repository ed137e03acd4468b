"""Exits as values: made by hand, compared, hashed, shown and matched.

None of this needs a KVM.
"""

import copy
import pickle

import pytest

import belljar as bj

# Each class with its positional arguments.
VALUES = [
    (bj.PortIn, (0x60, 1)),
    (bj.PortOut, (0x3F8, 1, 65)),
    (bj.MmioRead, (0xFEE0_0000, 4)),
    (bj.MmioWrite, (0xFEE0_0000, 8, 2**64 - 1)),
    (bj.MsrRead, (0x10, "filter")),
    (bj.MsrWrite, (0xC000_0082, 2**64 - 1, "unknown")),
    (bj.Hlt, ()),
    (bj.Shutdown, ()),
    (bj.Reset, ()),
    (bj.Debug, (1, 0x1000, 0xFFFF_0FF0, 0x400)),
    (bj.GuestException, (14, 6, 0x1000, 0x4000)),
    (bj.InternalError, (1, 0x1000, b"\xc5\xf8\x77")),
    (bj.FailEntry, (0x8000_0021, 1)),
    (bj.MemoryFault, (8, 0x1000, 0x1000)),
    (bj.SystemEvent, (2, [1, 2])),
    (bj.Timeout, ()),
    (bj.Interrupted, ("kick",)),
    (bj.UnknownExit, (77, [1, 2])),
    (bj.PortStringIn, (0x60, 2, 5)),
    (bj.PortStringOut, (0x60, 1, 3, b"a'\xff")),
    (bj.Hypercall, (12, [0x1000, 1, 0, 0, 0, 0], True)),
    (bj.InterruptWindow, ()),
    (bj.TprLowered, (3,)),
    (bj.TprAccess, (0x1000, True)),
    (bj.IoapicEoi, (0x31,)),
    (bj.DirtyRingFull, ()),
    (bj.ApResetHold, ()),
    (bj.BusLock, ()),
    (bj.Notify, (1,)),
    (bj.HyperV, (1, [2, 3])),
    (bj.Xen, (1, [2, 3])),
    (bj.BreakpointHit, (1, 0xFFFF_FFFF_8100_0000)),
    (bj.WatchpointHit, (2, 0x1000, None, 8, True, 1, 2, 0x7C00)),
    (bj.Stepped, (0x1002,)),
]
every = pytest.mark.parametrize(("kind", "args"), VALUES, ids=[kind.__name__ for kind, _ in VALUES])


def names(kind):
    return getattr(kind, "__match_args__", ())


def test_every_class_of_exit_is_listed_here():
    assert {kind for kind, _ in VALUES} == set(bj.Exit.__subclasses__())


@every
def test_an_exit_keeps_its_fields(kind, args):
    exit = kind(*args)
    assert tuple(getattr(exit, name) for name in names(kind)) == args
    assert exit.vcpu == 0
    assert kind(*args, vcpu=3).vcpu == 3
    assert isinstance(exit, bj.Exit)


@every
def test_equal_exits_are_equal_and_hash_alike(kind, args):
    assert kind(*args) == kind(*args)
    assert hash(kind(*args)) == hash(kind(*args))
    assert kind(*args) != kind(*args, vcpu=1)
    assert kind(*args) != args
    assert len({kind(*args), kind(*args), kind(*args, vcpu=1)}) == 2


def test_exits_of_different_classes_are_never_equal():
    made = [kind(*args) for kind, args in VALUES]
    assert len(set(made)) == len(made)


@every
def test_an_exit_is_frozen(kind, args):
    exit = kind(*args)
    for name in (*names(kind), "vcpu"):
        with pytest.raises(AttributeError):
            setattr(exit, name, getattr(exit, name))


@every
def test_an_exit_shows_its_class_and_vcpu(kind, args):
    assert repr(kind(*args, vcpu=2)).startswith(f"{kind.__name__}(")
    assert repr(kind(*args, vcpu=2)).endswith("vcpu=2)")


@pytest.mark.parametrize(
    ("exit", "shown"),
    [
        (bj.PortOut(0x3F8, 1, 65), "PortOut(port=0x3f8, size=1, data=0x41, vcpu=0)"),
        (bj.MmioRead(0xFEE0_0000, 4), "MmioRead(address=0xfee00000, size=4, vcpu=0)"),
        (
            bj.GuestException(3, None, 0x1001, 0),
            "GuestException(vector=3, error_code=None, rip=0x1001, cr2=0x0, vcpu=0)",
        ),
        (bj.Interrupted("kick"), "Interrupted(by='kick', vcpu=0)"),
        (bj.Hlt(vcpu=1), "Hlt(vcpu=1)"),
    ],
)
def test_an_exit_shows_addresses_in_hex_and_counts_in_decimal(exit, shown):
    assert repr(exit) == shown


def test_what_exits_are_made_for():
    def explain(exit):
        match exit:
            case bj.PortOut(0x3F8, 1, data):
                return chr(data)
            case bj.PortOut(port, size):
                return (port, size)
            case bj.MmioRead(address, size=4):
                return hex(address)
            case bj.InternalError(1, rip, instruction):
                return (rip, instruction)
            case bj.Hlt() | bj.Shutdown():
                return "over"
        return None

    assert explain(bj.PortOut(0x3F8, 1, 65)) == "A"
    assert explain(bj.PortOut(0x10, 2, 1)) == (0x10, 2)
    assert explain(bj.MmioRead(0x1000, 4)) == "0x1000"
    assert explain(bj.MmioRead(0x1000, 8)) is None
    assert explain(bj.InternalError(1, 0x1000, b"\xcc")) == (0x1000, b"\xcc")
    assert explain(bj.Hlt()) == "over"


def test_fields_that_do_not_fit_are_refused():
    with pytest.raises(OverflowError):
        bj.PortIn(0x1_0000, 1)
    with pytest.raises(TypeError):
        bj.PortOut(0x10)


def test_an_internal_error_disassembles_its_instruction():
    assert bj.InternalError(1, 0x1000, b"\xc5\xf8\x77").disassembly == "vzeroupper"
    assert bj.InternalError(1, 0x1000, b"\xb8\x01\x00", bits=16).disassembly == "mov ax, 1"
    assert bj.InternalError(3, 0x1000).disassembly == ""


@every
def test_an_exit_survives_pickle_and_copy(kind, args):
    exit = kind(*args, vcpu=3)
    assert pickle.loads(pickle.dumps(exit)) == exit
    assert copy.deepcopy(exit) == exit


def test_an_action_is_itself_after_pickling_and_no_number():
    assert pickle.loads(pickle.dumps((bj.STOP, bj.SKIP))) == (bj.STOP, bj.SKIP)
    assert bj.STOP not in (0, bj.SKIP)
