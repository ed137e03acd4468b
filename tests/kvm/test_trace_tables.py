"""Traces as tables of pyarrow, polars, pandas and duckdb: the real ones, by the Arrow PyCapsule interface."""

import gc
import threading

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import belljar as bj

COUNTING = "mov ecx, {}; xor eax, eax; l: out 0x10, al; inc eax; loop l; hlt"


@pytest.fixture
def counting(vm):
    """Make a guest that writes 0, 1, 2, ... to port 0x10, a thousand bytes."""
    vm.load(COUNTING.format(1000))
    return vm


@pytest.fixture
def recorded(counting):
    """Return the trace of those writes."""
    trace = counting.trace(port=0x10)
    counting.run(timeout=10)
    return trace


@pytest.fixture
def mixed(vm):
    """Return a trace of exits of which not all have a port."""
    vm.load("mov eax, 7; out 0x10, al; in al, 0x11; hlt")
    trace = vm.trace(exits=bj.Exit, fields=["kind", "port", ("nowhere", bj.mem.u64(1 << 40)), "rbx"])
    vm.run(timeout=10)
    return trace


def test_the_schema_has_numbers_and_the_kind_as_a_word(recorded):
    schema = pa.schema(recorded)
    assert schema.names == list(recorded.dtype.names)
    assert [schema.field(name).type for name in ("time", "vcpu", "port", "data")] == [pa.uint64()] * 4
    assert schema.field("kind").type == pa.dictionary(pa.uint8(), pa.string())
    assert schema.field("time").metadata == {b"unit": b"ns", b"clock": b"CLOCK_MONOTONIC"}
    assert not any(field.nullable for field in schema)
    assert len(recorded) == 1000  # a look at the schema takes nothing


@pytest.mark.parametrize("make", [pa.table, pl.DataFrame, pd.DataFrame.from_arrow])
def test_every_table_takes_a_trace_as_it_is(recorded, make):
    table = make(recorded)
    assert table.shape == (1000, 6) and len(recorded) == 0
    assert np.array_equal(np.asarray(table["data"]), np.arange(1000) & 0xFF)
    assert set(pa.table(table)["kind"].to_pylist()) == {"PortOut"}


def test_a_query_in_sql_takes_a_trace_as_it_is(recorded):
    rows = duckdb.sql("select kind::varchar, count(*), sum(data) from recorded group by kind").fetchall()
    assert rows == [("PortOut", 1000, int((np.arange(1000) & 0xFF).sum()))]


def test_a_stream_that_nobody_reads_takes_nothing(recorded):
    stream = recorded.__arrow_c_stream__()
    del stream
    gc.collect()
    assert len(recorded) == 1000


def test_a_stream_ends_with_what_waited_when_it_was_made(counting):
    trace = counting.trace(port=0x10, fields=["data"])
    counting.run(timeout=10)
    reader = pa.RecordBatchReader.from_stream(trace)
    counting.load(COUNTING.format(10))
    counting.run(timeout=10)
    assert reader.read_all().num_rows == 1000 and len(trace) == 10


def test_a_stream_outlives_trace_and_vm(new_vm):
    vm = new_vm("1M")
    vm.load(COUNTING.format(100))
    trace = vm.trace(port=0x10, fields=["data"])
    vm.run(timeout=10)
    reader = pa.RecordBatchReader.from_stream(trace)
    vm.close()
    del trace, vm
    gc.collect()
    assert reader.read_all()["data"].to_pylist() == list(range(100))


def test_long_streams_come_in_batches(vm):
    trace = vm.trace(port=0x10, fields=["data"], capacity=1 << 18)
    trace._recorder.synthesize(200_000, 0)
    batches = list(pa.RecordBatchReader.from_stream(trace))
    assert [batch.num_rows for batch in batches] == [65536, 65536, 65536, 3392]
    assert pa.Table.from_batches(batches)["data"].to_pylist() == list(range(200_000))


def test_several_vcpus_make_one_table_in_the_order_of_time(new_vm):
    vm = new_vm("1M", vcpus=2)
    for n in (0, 1):
        code = f"mov ecx, 500; l: out {0x10 + n}, al; loop l; x: pause; jmp x"
        vm.load(code, at=0x1000 + 0x1000 * n, vcpu=n)
    trace = vm.trace(port=range(0x10, 0x12), fields=["time", "vcpu"])
    vm.start()
    assert trace.wait(1000, timeout=20)
    vm.stop()
    table = pl.DataFrame(trace)
    assert table["time"].is_sorted() and table["vcpu"].value_counts()["count"].to_list() == [500, 500]


def test_what_an_exit_has_not_is_null(mixed):
    assert pa.schema(mixed).field("port").nullable and not pa.schema(mixed).field("rbx").nullable
    table = pl.DataFrame(mixed)
    assert table["kind"].to_list() == ["PortOut", "PortIn", "Hlt"]
    assert table["port"].to_list() == [0x10, 0x11, None]
    assert table["nowhere"].to_list() == [None] * 3 and table["rbx"].null_count() == 0


def test_what_an_exit_has_not_is_zero_in_an_array_whose_field_names_stay(mixed):
    taken = mixed.take(1)
    assert taken.dtype.names == mixed.dtype.names and taken.tolist()[0][1:] == (0x10, 0, 0)
    rest = mixed.read()
    assert rest.dtype == mixed.dtype and rest["port"].tolist() == [0x11, 0]


def test_what_is_spilled_has_a_word_per_field(vm, tmp_path):
    vm.load("l: out 0x10, al; in al, 0x11; jmp l")
    fields = ["sequence", "port", "reason"]
    trace = vm.trace(exits=bj.Exit, fields=fields, capacity=4, policy="spill", spill=tmp_path / "rest")
    vm.run(max_exits=12)
    trace.flush()
    spilled = np.fromfile(tmp_path / "rest", trace.dtype)
    assert spilled["sequence"].tolist() == list(range(4, trace.hits)) and set(spilled["port"]) == {0x10, 0x11}


def test_frames_of_pandas_know_missing_values(mixed):
    frame = mixed.to_pandas()
    assert frame["kind"].tolist() == ["PortOut", "PortIn", "Hlt"] and isinstance(
        frame["kind"].dtype, pd.CategoricalDtype
    )
    assert frame["port"].dtype == "UInt64" and frame["port"].isna().tolist() == [False, False, True]
    assert frame["rbx"].dtype == np.uint64
    assert mixed.to_pandas().shape == (0, 4)


@pytest.mark.parametrize("how", ["to_arrow", "to_polars", "to_pandas"])
def test_a_frame_takes_as_many_records_as_asked_for(recorded, how):
    assert getattr(recorded, how)(300).shape == (300, 6)
    assert getattr(recorded, how)().shape == (700, 6)
    assert getattr(recorded, how)().shape == (0, 6)
    with pytest.raises(ValueError, match="at most 0"):
        getattr(recorded, how)(0)


def test_batches_come_as_columns_while_the_guest_runs(vm):
    vm.load(COUNTING.format(20_000))
    trace = vm.trace(port=0x10, fields=["sequence", "kind"], capacity=500)
    assert not trace.wait(1, timeout=0)  # this thread is the reader
    vm.start()
    seen = []
    for batch in trace.arrow_batches(200, timeout=0.05):
        assert 0 < len(batch) <= 200 and f"{len(batch)} records" in repr(batch)
        assert pl.DataFrame(batch).shape == pa.table(batch).shape == (len(batch), 2)
        assert pl.from_arrow(batch).struct.fields == [
            "sequence",
            "kind",
        ]  # to polars, a series
        seen += pa.record_batch(batch)["sequence"].to_pylist()
    assert seen == list(range(20_000)) and trace.dropped == 0


def test_batches_that_are_kept_do_not_hold_the_guest(counting):
    trace = counting.trace(port=0x10, fields=["data"], capacity=16)
    kept, ready = [], threading.Event()

    def read():
        trace.wait(1, timeout=0)
        ready.set()
        kept.extend(trace.arrow_batches(8, follow=True))

    reader = threading.Thread(target=read)
    reader.start()
    assert ready.wait(60)
    assert counting.run(timeout=20) == bj.Hlt()
    trace.remove()
    reader.join(60)
    assert not reader.is_alive()
    values = np.concatenate([np.asarray(pa.record_batch(batch)["data"]) for batch in kept])
    assert (values == np.arange(1000) & 0xFF).all()
