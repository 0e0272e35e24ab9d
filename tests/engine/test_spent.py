"""What a run has taken, over every time that it was begun."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.engine import service, spent
from bench.engine.spent import Spent
from bench.registry import registry


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time by this module's clock, to be set."""
    now = [100.0]
    monkeypatch.setattr(spent.time, "monotonic", lambda: now[0])
    return now


def test_times_of_a_phase_add_up_over_processes(tmp_path: Path, clock: list[float]):
    for seconds in (7.0, 3.0):
        took = Spent(tmp_path)
        with took.counting("training"):
            clock[0] += seconds
        clock[0] += 50  # nobody is at work
    with took.counting("prediction"):
        clock[0] += 2
    again = Spent(tmp_path)
    assert (again.seconds("training"), again.seconds("prediction")) == (10.0, 2.0)


def test_a_kill_loses_what_was_not_noted_yet_and_no_more(tmp_path: Path, clock: list[float]):
    took = Spent(tmp_path)
    with took.counting("training"):
        for _ in range(4):
            clock[0] += spent.NOTED_SECONDS - 1
            took.go_on()
        assert Spent(tmp_path).seconds("training") == 4 * (spent.NOTED_SECONDS - 1)  # as a reader after the kill has it


def test_the_time_before_an_error_counts(tmp_path: Path, clock: list[float]):
    def training() -> None:
        with Spent(tmp_path).counting("training"):
            clock[0] += 4
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training()
    assert Spent(tmp_path).seconds("training") == 4.0


def test_the_highest_peak_of_memory_stays(tmp_path: Path):
    assert Spent(tmp_path).peak_memory_bytes is None
    for peak in (5, 9, None, 7):
        Spent(tmp_path).used_memory(peak)
    assert Spent(tmp_path).peak_memory_bytes == 9


@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"training": "long"}', b"\xff"])
def test_a_damaged_note_is_none(tmp_path: Path, damage: bytes):
    (tmp_path / spent.NAME).write_bytes(damage)
    assert Spent(tmp_path).seconds("training") is None


# -- in a run ---------------------------------------------------------------------------------------------


@pytest.fixture
def threshold(workplace: Path, monkeypatch: pytest.MonkeyPatch):
    folder = workplace / "my_methods"
    folder.mkdir()
    (folder / "threshold.py").write_text(Path(__file__).with_name("methods_for_tests.py").read_text())
    monkeypatch.setenv("BENCH_METHODS", str(folder))
    registry.cache_clear()
    yield registry().methods["threshold"].method
    registry.cache_clear()


@pytest.mark.parametrize("phase", ["fit", "predict"])
def test_a_run_that_goes_on_has_taken_both_times_together(threshold, monkeypatch: pytest.MonkeyPatch, phase: str):
    real, calls = getattr(threshold, phase), []

    def slow(self, *arguments):
        calls.append(1)
        time.sleep(0.3)
        if len(calls) == 1 + (phase == "predict"):  # the first prediction warms up
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(threshold, phase, slow)
    with pytest.raises(KeyboardInterrupt):
        service.run_all("threshold", "tiny", schedule="paper")
    monkeypatch.setattr(threshold, phase, real)
    (run,) = service.run_all("threshold", "tiny", schedule="paper")
    assert run.error is None
    seconds = run.stored.train_seconds if phase == "fit" else run.stored.predict_seconds
    assert 0.3 < seconds < 5


def test_the_memory_of_a_prediction_that_is_over_is_not_measured_anew(threshold, monkeypatch: pytest.MonkeyPatch):
    from bench.engine import execution, memory

    monkeypatch.setattr(memory, "peak", lambda device: 1000)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(execution.scoring, "score_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            service.run_all("threshold", "tiny", schedule="paper")
    monkeypatch.setattr(memory, "peak", lambda device: 10**9)  # what scoring and loading take is no part of it
    (run,) = service.run_all("threshold", "tiny", schedule="paper")
    assert run.stored.peak_memory_bytes == 1000
