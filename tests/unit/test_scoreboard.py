"""The parts of the scoreboard that need no KVM: ratios, targets, alternation, the table, the picture, stored counts."""

import importlib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

BENCHES = Path(__file__).parents[2] / "benches"


@pytest.fixture
def bench(monkeypatch):
    """Import a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module


@pytest.fixture
def clock(bench, monkeypatch):
    """Make works that take so many ns each, by a clock of their own; it notes who ran."""
    measure, now, ran = bench("measure"), [0], []
    monkeypatch.setattr(measure.time, "perf_counter_ns", lambda: now[0])

    def work(name, each):
        def run(count):
            now[0] += each * count
            ran.append(name)

        return run

    work.ran = ran
    return work


def test_a_ratio_is_of_ours_to_the_counterpart(bench, clock):
    case = bench("case").Case("1", "a thing", 1.01, clock("ours", 3000), clock("other", 2000))
    result = bench("measure").measure(case, 5)
    assert (result.q1, result.median, result.q3, result.met) == (1.5, 1.5, 1.5, False)
    assert (result.ours_ns, result.counterpart_ns, result.too_long) == (3000, 2000, 0)
    assert result.per_block * 3000 <= bench("measure").BLOCK_NS


def test_what_a_thing_costs_beside_is_taken_off_before_it_is_compared(bench, clock):
    case = bench("case").Case("3", "", 1.5, clock("ours", 150), clock("call", 50), without=clock("native", 90))
    result = bench("measure").measure(case, 3)
    assert (result.median, result.met, result.counterpart_ns) == (1.2, True, 50)


def test_each_round_begins_with_another_side(bench, clock):
    case = bench("case").Case("1", "", 1.0, clock("a", 10**7), clock("b", 10**7))
    bench("measure").measure(case, 4)
    assert clock.ran[-8:] == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_what_other_threads_do_is_timed_by_the_wall_clock(bench, clock):
    case = bench("case").Case("16", "", 1.0, clock("a", 10**7), clock("b", 10**7), on_threads=True)
    assert bench("measure").measure(case, 3, clock=lambda: 0).median == 1.0  # this thread's own time stands still


def test_a_rate_is_met_from_its_target_upwards(bench, clock):
    ratio = lambda times: times[1] / times[0]  # noqa: E731
    case = bench("case").Case("7", "", 0.97, clock("a", 100), clock("b", 98), ratio=ratio, bigger_is_better=True)
    assert bench("measure").measure(case, 3).met is True
    assert case.is_met(0.96) is False


def test_a_comparison_is_not_judged(bench, clock):
    case = bench("case").Case("unicorn", "", None, clock("a", 100), clock("b", 1))
    result = bench("measure").measure(case, 3)
    assert result.met is None and "MISSED" not in bench("report").line(result)


def result(bench, median, target=1.0, **others):
    about = {"row": "1", "what": "ours / theirs", "bigger_is_better": False, "met": None, "ours_ns": 1.0}
    numbers = {"counterpart_ns": 1.0, "pairs": 3, "per_block": 1, "too_long": 0}
    quartiles = {"q1": median * 0.9, "median": median, "q3": median * 1.1}
    return bench("measure").Result(**(about | numbers | quartiles | {"target": target} | others))


def test_a_line_of_the_table_says_ratio_target_and_verdict(bench):
    line = bench("report").line(result(bench, 2.0, met=False, too_long=1))
    assert all(word in line for word in ("2.000", "[1.800 .. 2.200]", "<= 1.00", "MISSED", "longer than 50 ms"))


def test_in_the_picture_what_is_better_is_on_the_left_whatever_the_row_counts(bench):
    relative = bench("plot").relative
    assert relative(result(bench, 2.0, 4.0))[1] == 0.5
    low, median, high = relative(result(bench, 2.0, 1.0, bigger_is_better=True))
    assert low < median == 0.5 < high


def test_the_picture_is_drawn_without_a_background(bench, tmp_path):
    bench("plot").draw(tmp_path / "board.svg", [result(bench, 0.5), result(bench, 1e9), result(bench, 3.0, None)])
    root = ET.parse(tmp_path / "board.svg").getroot()
    assert root.tag.endswith("svg") and "fill: #ffffff" not in (tmp_path / "board.svg").read_text()


def test_instructions_are_those_that_a_longer_run_takes_more(bench, tmp_path):
    for number, (made, total) in enumerate([(10, 1500), (20, 2600), (20, 2500)]):
        text = f"desc: Trigger: Client Request: a thing: {made}\ntotals: {total}\n"
        (tmp_path / f"out.{number}").write_text(text)
    (tmp_path / "out").write_text("desc: Trigger: Program termination\ntotals: 9\n")
    module = bench("instructions")
    (name, counts), *others = module.totals(tmp_path).items()
    assert (name, module.per_exit(counts), others) == ("a thing", 100.0, [])


@pytest.mark.parametrize(
    ("now", "bad"), [({"a": 104.9}, 0), ({"a": 105.1}, 1), ({"a": 50}, 0), ({}, 1), ({"a": 100, "b": 1}, 1)]
)
def test_instructions_fail_if_they_grow_by_more_than_5_percent_or_are_not_those_that_are_stored(bench, now, bad):
    assert bench("instructions").compare(now, {"a": 100.0}) == bad
