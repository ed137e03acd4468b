"""Traces: what is recorded, filtered and read, while the guest runs and afterwards, and what a full ring does."""

import gc
import threading
import time

import numpy as np
import pytest

import belljar as bj

COUNTING = "mov ecx, {}; xor eax, eax; l: out 0x10, al; inc eax; loop l; hlt"


@pytest.fixture
def counting(vm):
    """Make a guest that writes 0, 1, 2, ... to port 0x10, a thousand bytes."""
    vm.load(COUNTING.format(1000))
    return vm


def test_writes_are_recorded_in_order_with_their_fields(counting):
    before = time.monotonic_ns()
    trace = counting.trace(port=0x10)
    assert counting.run(timeout=10) == bj.Hlt()
    assert (len(trace), trace.hits, trace.dropped) == (1000, 1000, 0)
    records = trace.read()
    assert records.dtype == trace.dtype
    assert records.dtype.names == ("time", "vcpu", "kind", "port", "size", "data")
    assert (records["data"] == np.arange(1000) & 0xFF).all()
    assert set(records["port"]) == {0x10} and set(records["size"]) == {1} and set(records["vcpu"]) == {0}
    assert {trace.KINDS[kind] for kind in records["kind"]} == {"PortOut"}
    assert before < records["time"][0] and records["time"][-1] < time.monotonic_ns()
    assert (np.diff(records["time"].astype(np.int64)) >= 0).all()
    assert len(trace) == 0 and len(trace.read()) == 0


def test_reads_are_recorded_with_what_the_guest_got(vm):
    vm.load("in al, 0x10; in al, 0x11; in ax, 0x12; hlt")
    vm.on_port(0x10, lambda exit: 0x1234)
    vm.on_port(0x12, lambda exit: bj.SKIP)
    trace = vm.trace(port=range(0x10, 0x14), access="r")
    vm.run(timeout=10)
    assert [hex(data) for data in trace.read()["data"]] == ["0x34", "0xff", "0xffff"]


def test_a_filter_sees_the_answer_of_a_read(vm):
    vm.load("mov ecx, 10; l: in al, 0x10; loop l; hlt")
    answers = iter(range(10))
    vm.on_port(0x10, lambda exit: next(answers))
    trace = vm.trace(port=0x10, when=bj.exit.data.isin([3, 7]))
    vm.run(timeout=10)
    assert list(trace.read()["data"]) == [3, 7]


def test_a_trace_sees_what_handlers_keep_and_changes_nothing(counting):
    older = counting.trace(port=0x10)
    taken = []
    counting.on_port(0x10, lambda exit: taken.append(exit.data) or bj.SKIP)
    newer = counting.trace(exits=bj.PortOut)
    assert counting.run(timeout=10) == bj.Hlt()
    assert list(older.read()["data"]) == taken
    assert newer.hits == 1000


def test_memory_mapped_accesses_are_recorded(vm):
    vm.load("mov dword ptr [0x200000], 0x11223344; mov eax, [0x200008]; hlt", mode="protected")
    vm.on_mmio(0x200008, lambda exit: 0x55, size=4)
    trace = vm.trace(mmio=range(0x200000, 0x201000))
    vm.run(timeout=10)
    seen = [tuple(int(record[name]) for name in ("address", "size", "data")) for record in trace.read()]
    assert seen == [(0x200000, 4, 0x11223344), (0x200008, 4, 0x55)]


def test_msrs_are_recorded_by_name_and_still_written(vm):
    vm.load("mov ecx, 0xc0000082; mov eax, 0x1234; xor edx, edx; wrmsr; rdmsr; hlt")
    trace = vm.trace(msr="LSTAR")
    vm.run(timeout=10)
    assert [(hex(r["index"]), hex(r["data"])) for r in trace.read()] == [("0xc0000082", "0x1234")] * 2
    assert vm.cpu.msr["LSTAR"] == 0x1234
    trace.remove()
    assert vm.cpu.msr["LSTAR"] == 0x1234


def test_whole_classes_of_exits_are_recorded(vm):
    vm.load("out 0x10, al; in al, 0x11; hlt")
    trace = vm.trace(exits=bj.Exit)
    some = vm.trace(exits=(bj.Hlt, bj.PortIn, bj.Hlt), fields=["kind"])
    vm.run(timeout=10)
    assert [trace.KINDS[kind] for kind in trace.read()["kind"]] == ["PortOut", "PortIn", "Hlt"]
    assert [some.KINDS[kind] for kind in some.read()["kind"]] == ["PortIn", "Hlt"]


def test_strings_are_recorded_element_by_element_also_where_a_handler_takes_them_whole(vm):
    vm.memory.write(0x3000, bytes(range(8)))
    vm.load("mov esi, 0x3000; mov edi, 0x4000; mov ecx, 8; mov dx, 0x10; cld; rep outsb; mov ecx, 8; rep insb; hlt")
    trace = vm.trace(port=0x10, fields=["kind", "data"])
    vm.on_port(0x10, lambda exit: bytes(range(exit.count)) if isinstance(exit, bj.PortStringIn) else None, strings=True)
    assert vm.run(timeout=10) == bj.Hlt()
    records = trace.read()
    is_read = records["kind"] == trace.KINDS.index("PortIn")
    assert list(records["data"][~is_read]) == list(range(8))
    assert bytes(records["data"][is_read].astype(np.uint8)) == vm.memory.read(0x4000, 8)


def test_fields_are_names_registers_and_expressions(vm):
    vm.memory.write_u64(0x8000, 0xABCD)
    vm.load("mov rbx, 5; mov rsp, 0x8000; mov eax, 7; out 0x10, eax; hlt")
    fields = ["data", "sequence", "rbx", "al", bj.reg.rax, ("top", bj.mem.u64(bj.reg.rsp)), bj.exit.data + 1]
    trace = vm.trace(port=0x10, fields=fields)
    vm.run(timeout=10)
    (record,) = trace.read()
    assert trace.dtype.names == ("data", "sequence", "rbx", "al", "rax", "top", "exit.data + 0x1")
    assert record.tolist() == (7, 0, 5, 7, 7, 0xABCD, 8)


def test_what_an_exit_has_not_is_zero(vm):
    vm.load("hlt")
    trace = vm.trace(exits=bj.Hlt, fields=["port", ("nowhere", bj.mem.u64(1 << 40))])
    vm.run(timeout=10)
    assert trace.read().tolist() == [(0, 0)]


@pytest.mark.parametrize(
    "when",
    [
        bj.exit.data == 5,
        (bj.exit.data >= 5) & (bj.exit.data < 6),
        (bj.exit.data + 1).isin([6]),
        ~(bj.exit.data != 5) & (bj.exit.port == 0x10),
        (bj.exit.data == 5) | (bj.exit.index == 1),
        (bj.reg.al - 5 == 0) & (bj.mem.u8(0x3000) == 0x77),
        (bj.exit.data ^ 5 == 0) & (bj.exit.data << 1 == 10) & (bj.exit.data >> 1 == 2),
    ],
    ids=repr,
)
def test_only_what_the_filter_lets_through_is_recorded(vm, when):
    vm.memory.write(0x3000, b"\x77")
    vm.load(COUNTING.format(20))
    trace = vm.trace(port=0x10, when=when)
    vm.run(timeout=10)
    assert trace.read()["data"].tolist() == [5] and trace.hits == 1


def test_the_run_ends_where_the_ring_is_full_and_nothing_is_lost(counting):
    trace = counting.trace(port=0x10, fields=["sequence", "data"], capacity=64)
    parts, ends = [], []
    while True:
        ends.append(counting.run(timeout=10))
        parts.append(trace.read())
        if ends[-1] == bj.Hlt():
            break
        assert ends[-1] == bj.Interrupted("trace") and len(parts[-1]) == 64
    records = np.concatenate(parts)
    assert (records["sequence"] == np.arange(1000)).all() and (records["data"] == np.arange(1000) & 0xFF).all()
    assert len(ends) == 1000 // 64 + 1 and trace.dropped == 0


def test_a_full_ring_holds_a_guest_where_it_is(counting):
    trace = counting.trace(port=0x10, capacity=1)
    counting.run(timeout=10)
    assert [counting.run(timeout=10) for _ in range(3)] == [bj.Interrupted("trace")] * 3
    assert trace.hits == 1
    trace.enabled = False
    assert counting.run(timeout=10) == bj.Hlt()
    assert trace.hits == 1 and len(trace) == 1


def test_a_string_that_overflows_the_ring_is_kept_whole(vm):
    vm.load("mov esi, 0x3000; mov edi, 0x4000; mov ecx, 3000; mov dx, 0x10; cld; rep insb; hlt")
    trace = vm.trace(port=0x10, fields=["sequence"], capacity=1)
    count = 0
    while vm.run(timeout=10) != bj.Hlt():
        count += len(trace.read())
    assert count + len(trace.read()) == 3000 and trace.dropped == 0


def test_drop_counts_what_is_lost_and_keeps_the_oldest(counting):
    trace = counting.trace(port=0x10, fields=["sequence"], capacity=100, policy="drop")
    assert counting.run(timeout=10) == bj.Hlt()
    kept = trace.read()["sequence"]
    assert (kept == np.arange(len(kept))).all()
    assert 100 <= len(kept) < 1000 and trace.dropped == 1000 - len(kept) and trace.hits == 1000
    counting.load("out 0x10, al; hlt")
    counting.run(timeout=10)
    assert trace.read()["sequence"].tolist() == [1000]  # the gap is what was lost


def test_spill_puts_the_rest_into_a_file(counting, tmp_path):
    path = tmp_path / "records"
    trace = counting.trace(port=0x10, fields=["sequence", "data"], capacity=100, policy="spill", spill=path)
    assert counting.run(timeout=10) == bj.Hlt()
    trace.flush()
    records = np.concatenate([trace.read(), np.fromfile(path, trace.dtype)])
    assert (records["sequence"] == np.arange(1000)).all() and (records["data"] == np.arange(1000) & 0xFF).all()
    assert trace.spilled > 0 and trace.dropped == 0


def test_a_guest_in_the_background_waits_for_the_loop_that_reads(vm):
    vm.load(COUNTING.format(20_000))
    trace = vm.trace(port=0x10, fields=["sequence"], capacity=50)
    assert not trace.wait(1, timeout=0)  # this thread is the reader
    vm.start()
    seen = 0
    for batch in trace.batches(20, timeout=0.05):
        assert (batch["sequence"] == np.arange(seen, seen + len(batch))).all()
        seen += len(batch)
    assert seen == 20_000 and trace.dropped == 0
    assert vm.join(timeout=60) == bj.Hlt()


def test_a_guest_in_the_background_that_nobody_reads_is_held(counting):
    trace = counting.trace(port=0x10, capacity=10)
    counting.start()
    assert counting.join(timeout=10) == bj.Interrupted("trace")
    assert len(trace.read()) >= 10
    counting.resume()
    assert counting.join(timeout=10) == bj.Interrupted("trace")


def test_a_loop_on_another_thread_keeps_a_run_going(counting):
    trace = counting.trace(port=0x10, fields=["data"], capacity=16)
    parts, ready = [], threading.Event()

    def read():
        trace.wait(1, timeout=0)
        ready.set()
        parts.extend(batch["data"].copy() for batch in trace.batches(8, follow=True))

    reader = threading.Thread(target=read)
    reader.start()
    assert ready.wait(60)
    assert counting.run(timeout=20) == bj.Hlt()
    trace.remove()
    reader.join(60)
    assert not reader.is_alive()
    assert (np.concatenate(parts) == np.arange(1000) & 0xFF).all()


def test_pause_and_timeout_end_a_wait_for_room(vm):
    vm.load("l: out 0x10, al; jmp l")
    trace = vm.trace(port=0x10, capacity=4)
    batches = trace.batches(follow=True)
    vm.start()
    held = next(batches)  # and no more: the loop stays, and the guest waits for it
    time.sleep(0.1)
    vm.pause()
    assert len(held) > 0
    ends = []
    runner = threading.Thread(target=lambda: ends.append(vm.run(timeout=0.3)))
    runner.start()
    runner.join(60)
    assert ends == [bj.Timeout()]


def test_several_vcpus_have_rings_of_their_own_and_are_read_in_the_order_of_time(new_vm):
    vm = new_vm("1M", vcpus=2)
    for n, cpu in enumerate((0, 1)):
        vm.load(f"mov ecx, 500; l: out {0x10 + n}, al; loop l; x: pause; jmp x", at=0x1000 + 0x1000 * n, vcpu=cpu)
    trace = vm.trace(port=range(0x10, 0x12), fields=["time", "vcpu", "port", "sequence"])
    vm.start()
    assert trace.wait(1000, timeout=20)
    vm.stop()
    records = np.concatenate([trace.read(300), trace.read()])
    assert len(records) == 1000
    assert (np.diff(records["time"].astype(np.int64)) >= 0).all()
    for n in range(2):
        own = records[records["vcpu"] == n]
        assert set(own["port"]) == {0x10 + n} and (own["sequence"] == np.arange(500)).all()


def test_arrays_are_read_only_and_outlive_trace_and_vm(new_vm):
    vm = new_vm("1M")
    vm.load(COUNTING.format(100))
    trace = vm.trace(port=0x10, fields=["data"])
    vm.run(timeout=10)
    first, rest = trace.take(10), trace.take()
    assert not first.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        first["data"][0] = 1
    trace.remove()
    vm.close()
    del trace, vm
    gc.collect()
    assert np.concatenate([first, rest])["data"].tolist() == list(range(100))


def test_a_batch_keeps_its_room_until_it_is_forgotten(counting):
    trace = counting.trace(port=0x10, fields=["data"], capacity=10)
    counting.run(timeout=10)
    held = trace.take()
    view = held["data"][2:]  # shares the memory
    del held
    assert counting.run(timeout=10) == bj.Interrupted("trace") and len(trace) == 0
    assert view[0] == 2
    del view
    counting.run(timeout=10)
    assert len(trace) == 10


def test_what_was_recorded_can_be_read_after_removal_and_close(new_vm):
    vm = new_vm("1M")
    vm.load(COUNTING.format(100))
    with vm.trace(port=0x10) as trace:
        vm.run(timeout=10)
    assert not trace.enabled
    with pytest.raises(ValueError, match="removed"):
        trace.enabled = True
    vm.load(COUNTING.format(100))
    vm.run(timeout=10)
    assert trace.hits == 100
    assert len(trace.read(60)) == 60
    vm.close()
    assert len(trace.read()) == 40 and list(trace.batches()) == [] and not trace.wait(1)
    assert "removed" in repr(trace)


def test_a_trace_that_is_forgotten_records_no_more(counting):
    counting.trace(port=0x10, capacity=1)
    gc.collect()
    assert counting.run(timeout=10) == bj.Hlt()


def test_a_trace_of_a_closed_vm_is_refused(new_vm):
    vm = new_vm("1M")
    vm.close()
    with pytest.raises(bj.ClosedError):
        vm.trace(port=0x10)


def test_adding_and_removing_while_the_guest_runs(vm):
    vm.load("l: out 0x10, al; jmp l")
    vm.start()
    for _ in range(5):
        with vm.trace(port=0x10, capacity=1 << 20) as trace:
            assert trace.wait(10, timeout=10)
        rest = trace.hits
        assert trace.hits - rest <= 1
    vm.stop()


def test_a_million_events_a_second_pass_through_numpy_without_loss(vm):
    trace = vm.trace(port=0x10, fields=["time", "sequence", "port", "size", "data"], capacity=8192)
    count, seen, total = 1_000_000, 0, 0
    producer = threading.Thread(target=lambda: (trace._recorder.synthesize(count, 0), trace.remove()))
    producer.start()
    for batch in trace.batches(follow=True):
        assert (batch["sequence"] == np.arange(seen, seen + len(batch), dtype=np.uint64)).all()
        seen, total = seen + len(batch), total + int(batch["data"].sum())
    producer.join(60)
    assert (seen, trace.dropped, total) == (count, 0, count * (count - 1) // 2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "nothing to trace"),
        ({"port": 1, "exits": bj.Hlt}, "whole classes"),
        ({"port": 1, "fields": []}, "0 fields"),
        ({"port": 1, "fields": ["prot"]}, "no field is named"),
        ({"port": 1, "fields": ["rax", bj.reg.rax]}, "two fields are named rax"),
        ({"port": 1, "capacity": 0}, "at least 1"),
        ({"port": 1, "capacity": 1 << 40}, "1 GiB"),
        ({"port": 1, "policy": "lose"}, "policy is"),
        ({"port": 1, "policy": "spill"}, "needs a file"),
        ({"port": 1, "spill": "x"}, "is for policy"),
        ({"port": 1, "access": "x"}, "access is"),
        ({"mmio": 0x1000}, "overlaps RAM"),
    ],
)
def test_what_means_nothing_is_refused_in_words(vm, arguments, text):
    with pytest.raises((ValueError, bj.RangeError), match=text):
        vm.trace(**arguments)


def test_functions_are_no_filters(vm):
    with pytest.raises(TypeError, match="expression"):
        vm.trace(port=1, when=lambda exit: True)
    with pytest.raises(TypeError, match="a field is"):
        vm.trace(port=1, fields=[5])
