"""Timing samples that a run gets after it was stored."""

from __future__ import annotations

import dataclasses

import pytest

from bench.errors import StoreError, UnknownNameError
from bench.records import TimingRecord
from bench.store import Store


def later(round_: int, milliseconds: float = 5.0, image: str = "a", phase: str = "total") -> TimingRecord:
    return TimingRecord(image, phase, round_, milliseconds)


def rounds(store: Store, run_id: int) -> list[tuple[str, int, float]]:
    return sorted((t.image_key, t.round, t.milliseconds) for t in store.bundle(run_id).timings if t.phase == "total")


def test_they_become_the_rounds_after_those_that_are_there(store: Store, make) -> None:
    run_id = store.add(dataclasses.replace(make(), timings=(later(0, 9.0), later(1, 8.0))))
    before = store.run(run_id)
    store.add_timings(run_id, [later(0, 3.0), later(1, 4.0), later(1, 6.0, "b")])
    store.add_timings(run_id, [later(0, 2.0)])
    assert rounds(store, run_id) == [
        ("a", 0, 9.0),
        ("a", 1, 8.0),
        ("a", 2, 3.0),
        ("a", 3, 4.0),
        ("a", 4, 2.0),
        ("b", 3, 6.0),
    ]
    assert store.run(run_id) == before  # medians and all else stay those of the run's own predictions


def test_a_run_that_was_never_timed_gets_its_first(store: Store, make) -> None:
    run_id = store.add(dataclasses.replace(make(), timings=()))
    store.add_timings(run_id, [later(3, 7.0)])
    assert rounds(store, run_id) == [("a", 3, 7.0)]
    store.add_timings(run_id, [])
    assert len(rounds(store, run_id)) == 1


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([later(0, phase="warm-up")], "unknown timing phase 'warm-up'"),
        ([later(0, -1.0)], "-1.0 ms"),
        ([later(0, image="zebra")], "'zebra' is not in"),
        ([later(0), later(0)], "the timing of 'a'"),
    ],
)
def test_what_contradicts_itself_is_refused_whole(store: Store, make, samples, message) -> None:
    run_id = store.add(dataclasses.replace(make(), timings=()))
    with pytest.raises(StoreError, match=message):
        store.add_timings(run_id, samples)
    assert rounds(store, run_id) == []


def test_of_no_run_there_are_none(store: Store) -> None:
    with pytest.raises(UnknownNameError):
        store.add_timings(99, [later(0)])
