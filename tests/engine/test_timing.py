"""The clock: phases exclude the phases inside them, and add up to no more than the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.engine import timing
from bench.engine.timing import PhaseClock, summary


class Watch:
    """A clock that a test turns by hand, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def pass_(self, milliseconds: float) -> None:
        self.now += milliseconds / 1e3


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def test_a_phase_inside_a_phase_stops_the_outer_watch(watch: Watch):
    clock = PhaseClock()
    with clock.whole() as times:
        with clock("preprocess"):
            watch.pass_(5)
        watch.pass_(1)  # between phases: only in the total
        with clock("network"):
            watch.pass_(20)
            with clock("postprocess"):
                watch.pass_(7)
            watch.pass_(3)
        with clock("postprocess"):
            watch.pass_(4)
    assert times == pytest.approx({"total": 40, "preprocess": 5, "network": 23, "postprocess": 11})


def test_a_prediction_starts_from_zero(watch: Watch):
    clock = PhaseClock()
    for _ in range(2):
        with clock.whole() as times, clock("network"):
            watch.pass_(10)
        assert times == pytest.approx({"total": 10, "network": 10})


def test_an_error_closes_its_phase(watch: Watch):
    clock = PhaseClock()
    with pytest.raises(KeyError), clock("network"):
        raise KeyError
    with clock.whole() as times, clock("preprocess"):
        watch.pass_(2)
    assert times == pytest.approx({"total": 2, "preprocess": 2})


def test_the_device_is_waited_for_at_every_boundary():
    waited = []
    clock = PhaseClock(lambda: waited.append(1))
    with clock.whole(), clock("network"):
        pass
    assert len(waited) == 4


def test_median_p95_and_interval_by_hand():
    results = {r.metric: r for r in summary([float(v) for v in range(1, 101)], 7)}
    assert results["latency_median"].value == 50.5
    assert results["latency_p95"].value == pytest.approx(np.percentile(range(1, 101), 95))
    assert results["latency_iqr"].value == pytest.approx(49.5)
    assert results["images_per_second"].value == pytest.approx(1000 / 50.5)
    assert results["peak_memory"].value == 7
    # Order statistics 40 and 61 of 100: the exact binomial interval of the median, 95 % or just above.
    assert (results["latency_median"].low, results["latency_median"].high) == (40, 61)


def test_too_few_times_have_no_interval_and_none_have_a_reason():
    assert summary([3.0] * 5, None)[0].low is None
    (only,) = summary([], None)
    assert only.value is None
    assert only.reason


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 1e4), min_size=6, max_size=60))
def test_the_interval_holds_the_median(times: list[float]):
    median = summary(times, None)[0]
    assert median.low <= median.value <= median.high
