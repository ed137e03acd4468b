"""Pending events as a value, without a vCPU."""

import dataclasses
import pickle

import pytest

import belljar as bj


def test_nothing_pending_is_false_and_shows_nothing():
    assert not bj.Events()
    assert repr(bj.Events()) == "Events()"


def test_repr_shows_what_is_not_as_usual():
    assert repr(bj.Events(exception=14, error_code=2)) == "Events(exception=14, error_code=2)"


@pytest.mark.parametrize(
    "events",
    [
        bj.Events(),
        bj.Events(exception=14, error_code=0, payload=0x1234),
        bj.Events(exception=1, exception_pending=True, payload=1),
        bj.Events(interrupt=0x20, interrupt_soft=True, interrupt_shadow=2),
        bj.Events(nmi_injected=True, nmi_pending=2, nmi_masked=True, sipi_vector=9),
        bj.Events(smm=True, smi_pending=True, smm_inside_nmi=True, latched_init=True, triple_fault=True),
    ],
)
def test_events_come_back_from_the_cores_words_and_from_a_journey(events):
    assert bj.Events._of(events._words()) == events
    assert pickle.loads(pickle.dumps(events)) == events


def test_replace_changes_some_fields_and_refuses_what_is_none():
    events = bj.Events(exception=13, error_code=0)
    assert events.replace(nmi_masked=True) == bj.Events(exception=13, error_code=0, nmi_masked=True)
    with pytest.raises(TypeError, match="nmi_mask"):
        events.replace(nmi_mask=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        events.exception = 3


@pytest.mark.parametrize("name", ["exception", "interrupt"])
def test_a_vector_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is a vector"):
        bj.Events(**{name: 256})._words()
