"""``bench time``: who is timed with what, in which order, and what the numbers say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.api import Instances, Method, MethodError, Schedule, UnknownNameError, UsageError
from bench.cli import cli
from bench.engine import service, time_methods, timing
from bench.registry import registry
from bench.store import open_store

FIXED = '''
"""Methods that take exactly the time that they are told to, on a clock that a test turns."""

from typing import ClassVar

import numpy as np

from bench.api import Instances, Method, Schedule

LOG = []


class Clock:
    now = 0.0


class Fast(Method):
    name = "fast"
    title = "Fast"
    trainable = False
    scored = False
    inits = ("none",)
    schedules: ClassVar = {"paper": Schedule()}
    milliseconds = 10.0

    def predict(self, image):
        LOG.append((self.name, int(image.sum())))
        Clock.now += self.milliseconds / 1e3
        return Instances.empty(*image.shape[:2])


class Slow(Fast):
    name = "slow"
    title = "Slow"
    milliseconds = 30.0

    def predict_batch(self, images):
        Clock.now += 0.02 * len(images)
        return [Instances.empty(*i.shape[:2]) for i in images]
'''


@pytest.fixture
def found_methods(workplace: Path, monkeypatch: pytest.MonkeyPatch):
    """The methods ``fast``, ``slow`` and ``threshold``, in a folder of the user's."""
    folder = workplace / "my_methods"
    folder.mkdir()
    (folder / "fixed.py").write_text(FIXED)
    (folder / "threshold.py").write_text(Path(__file__).with_name("methods_for_tests.py").read_text())
    monkeypatch.setenv("BENCH_METHODS", str(folder))
    registry.cache_clear()
    yield
    registry.cache_clear()


@pytest.fixture
def fixed(found_methods, monkeypatch: pytest.MonkeyPatch):
    """``fast`` takes 10 ms, ``slow`` 30 ms, or 20 ms an image in a batch."""
    module = sys.modules[registry().methods["fast"].method.__module__]
    module.LOG.clear()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: module.Clock.now)
    return module


def test_the_numbers_by_hand(fixed):
    session = time_methods.time_methods(["fast", "slow"], "tiny", rounds=3, images=4, batch=2)
    fast, slow = session.methods
    assert (session.images, session.rounds, session.split) == (4, 3, "test")
    assert fast.median_ms == pytest.approx(10)
    assert slow.median_ms == pytest.approx(30)
    assert slow.p95_ms == pytest.approx(30)
    assert (fast.ratio, slow.ratio) == (pytest.approx(1), pytest.approx(3))
    assert slow.images_per_second == pytest.approx(1000 / 30)
    assert slow.batch_images_per_second == pytest.approx(50)
    assert fast.batch_images_per_second is None
    assert slow.samples == 12
    assert fast.low_ms is None  # four images carry no interval
    assert fast.weights == "none"


def test_every_image_is_timed_by_every_method_in_every_round_in_an_order_of_the_seed(fixed):
    orders = []
    for seed in (0, 0, 1):
        fixed.LOG.clear()
        time_methods.time_methods(["fast", "slow"], "tiny", rounds=3, images=4, seed=seed)
        orders.append(fixed.LOG[8:])  # after every image once for each, untimed
    assert orders[0] == orders[1] != orders[2]
    timed = orders[0]
    assert len(timed) == 3 * 4 * 2
    for begin in range(0, len(timed), 8):
        assert len(set(timed[begin : begin + 8])) == 8
    for begin in range(0, len(timed), 2):  # the two methods on one image, one after the other
        assert timed[begin][1] == timed[begin + 1][1]
    assert {timed[begin][0] for begin in range(0, len(timed), 2)} == {"fast", "slow"}  # either may be first


def test_a_change_of_the_machine_cancels_in_the_ratio(fixed, monkeypatch):
    """Everything takes twice as long from the second round on: the medians move, the ratio does not."""
    base = fixed.Fast.predict
    calls = []

    def slower(self, image):
        calls.append(1)
        before = fixed.Clock.now
        found = base(self, image)
        if len(calls) > 16:
            fixed.Clock.now += fixed.Clock.now - before
        return found

    monkeypatch.setattr(fixed.Fast, "predict", slower)
    session = time_methods.time_methods(["fast", "slow"], "tiny", rounds=3, images=4)
    assert session.methods[0].median_ms == pytest.approx(20)
    assert session.methods[1].ratio == pytest.approx(3)


def test_weights_come_from_the_stored_run_with_its_settings(found_methods):
    (run,) = service.run_all("threshold", "tiny", schedule="smoke", settings={"offset": "12"})
    session = time_methods.time_methods(["threshold"], "tiny", rounds=1, images=2)
    assert session.methods[0].run == run.stored.id
    assert session.methods[0].weights == f"run {run.stored.id} (smoke)"
    (longer,) = service.run_all("threshold", "tiny", schedule="paper")
    assert time_methods.time_methods(["threshold"], "tiny", rounds=1, images=2).methods[0].run == longer.stored.id


def test_the_samples_join_the_rounds_of_the_run_they_are_of(found_methods):
    (run,) = service.run_all("threshold", "tiny", schedule="paper")
    for _ in range(2):
        session = time_methods.time_methods(["threshold", "fast"], "tiny", rounds=2, images=3)
    assert session.notes[-1] == f"The samples are stored as further rounds of run {run.stored.id}."
    with open_store(read_only=True) as store:
        timings = store.timings(run.stored.id)
        after = store.run(run.stored.id)
    totals = timings[timings["phase"] == "total"]
    assert totals.groupby("round").size().to_dict() == {0: 4, 1: 3, 2: 3, 3: 3, 4: 3}
    assert set(timings["phase"]) == {"total", "network", "postprocess"}
    assert after.latency_median_ms == run.stored.latency_median_ms  # the run's own


def test_what_cannot_be_stored_is_shown_and_the_reason_said(found_methods, monkeypatch):
    """The session has taken minutes by then."""
    from bench.api import StoreError
    from bench.store import Store

    (run,) = service.run_all("threshold", "tiny", schedule="paper")

    def full(*arguments):
        raise StoreError("the disk of bench.db is full", "free some space")

    monkeypatch.setattr(Store, "add_timings", full)
    session = time_methods.time_methods(["threshold"], "tiny", rounds=2, images=3)
    assert session.methods[0].samples == 6
    assert session.notes[-1] == (
        f"The samples of run {run.stored.id} are not stored: the disk of bench.db is full (free some space)."
    )


def test_samples_of_given_or_random_weights_are_of_no_run(found_methods, workplace):
    (run,) = service.run_all("threshold", "tiny", schedule="paper")
    weights = {"threshold": Path(run.stored.folder) / "training" / "weights.pth"}
    session = time_methods.time_methods(["threshold"], "tiny", rounds=1, images=2, weights=weights)
    assert not any("stored" in note for note in session.notes)
    with open_store(read_only=True) as store:
        assert set(store.timings(run.stored.id)["round"]) == {0}


def test_samples_of_another_machine_are_not_kept(found_methods, monkeypatch):
    import dataclasses

    from bench.engine import provenance

    (run,) = service.run_all("threshold", "tiny", schedule="paper")
    other = dataclasses.replace(provenance.machine("cpu"), hash="elsewhere")
    monkeypatch.setattr(provenance, "machine", lambda device="cpu": other)
    time_methods.time_methods(["threshold"], "tiny", rounds=1, images=2)
    with open_store(read_only=True) as store:
        assert set(store.timings(run.stored.id)["round"]) == {0}


def test_weights_may_be_given(found_methods, workplace):
    path = workplace / "level.txt"
    path.write_text("50")
    session = time_methods.time_methods(["threshold"], "tiny", rounds=1, images=2, weights={"threshold": path})
    assert session.methods[0].weights == str(path)


def test_without_weights_a_method_without_a_network_cannot_be_timed(found_methods):
    with pytest.raises(UsageError, match="threshold has no weights to be timed with"):
        time_methods.time_methods(["threshold"], "tiny", rounds=1, images=2)


def test_a_network_is_timed_with_random_weights_and_that_is_said(workplace):
    session = time_methods.time_methods(["unet-bce"], "tiny", rounds=1, images=1, device="cpu")
    assert session.methods[0].weights == "random, seed 0"
    assert session.methods[0].n_parameters == pytest.approx(31e6, rel=0.02)
    assert any("Random weights" in note for note in session.notes)
    assert session.threads


@pytest.mark.parametrize(
    ("names", "weights", "error"),
    [
        (["truth"], {}, UsageError),
        (["fast"], {"slow": Path("x")}, UsageError),
        (["fst"], {}, UnknownNameError),
    ],
)
def test_what_cannot_be_timed_is_one_line(found_methods, names, weights, error):
    with pytest.raises(error):
        time_methods.time_methods(names, "tiny", weights=weights)


def test_the_command_prints_the_machine_in_the_title(fixed):
    result = CliRunner().invoke(cli, ["time", "fast", "slow", "-d", "tiny", "--rounds", "2", "--images", "2"])
    assert result.exit_code == 0, result.output
    title = result.stdout.splitlines()[0]
    assert title.startswith("tiny (real, test), 2 images x 2 rounds on ")
    assert "median at batch 1" in result.output
    assert "time / fast" in result.output
    assert "3.000" in result.output


def test_the_command_writes_json(fixed):
    result = CliRunner().invoke(cli, ["time", "fast,slow", "-d", "tiny", "--rounds", "1", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [m["method"] for m in found["methods"]] == ["fast", "slow"]
    assert found["machine_hash"]


def test_a_batch_of_a_method_without_one_is_its_images_one_by_one():
    class Counts(Method):
        """Counts."""

        name = "counts"
        schedules = {"paper": Schedule()}  # noqa: RUF012

        def predict(self, image):
            """Nothing."""
            return Instances.empty(*image.shape)

    from bench.api import Task

    method = Counts(Task())
    assert not time_methods.predicts_batches(method)
    assert [f.shape for f in method.predict_batch([np.zeros((2, 3)), np.zeros((4, 5))])] == [(2, 3), (4, 5)]


def test_weights_of_another_network_are_one_line(workplace):
    (workplace / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(MethodError, match="not a checkpoint"):
        time_methods.time_methods(
            ["unet-bce"], "tiny", rounds=1, images=1, weights={"unet-bce": workplace / "bad.pth"}, device="cpu"
        )
