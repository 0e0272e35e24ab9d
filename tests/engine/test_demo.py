"""The demonstration: invented methods, real scores, and every run says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.api import Instances, Sample, UsageError
from bench.engine import demo
from bench.metrics import score
from bench.store import open_store


def cells(seed: int) -> Sample:
    """Touching discs on a grid."""
    rng = np.random.default_rng(seed)
    down, right = np.mgrid[:160, :160]
    labels = np.zeros((160, 160), np.uint16)
    for label, (row, column) in enumerate(np.ndindex(8, 8), start=1):
        y, x = np.array([row, column]) * 20 + 10 + rng.uniform(-3, 3, 2)
        labels[((down - y) ** 2 + (right - x) ** 2 < rng.uniform(7, 10) ** 2) & (labels == 0)] = label
    return Sample(f"image {seed}", np.zeros((160, 160), np.uint8), Instances.from_label_map(labels))


def spoilt(method: demo.Invented) -> list[Instances]:
    return [demo.spoilt(cells(i), method, np.random.default_rng([7, i])) for i in range(6)]


def test_the_better_method_scores_better():
    truths = [cells(i).instances for i in range(6)]
    quality = [
        score(truths, spoilt(method), ["panoptic"], intervals=False).protocols["panoptic"]["PQ"]
        for method in (demo.METHODS[0], demo.METHODS[-1])
    ]
    assert 0.7 < quality[0] < 1
    assert 0.05 < quality[1] < quality[0] - 0.1


def test_the_same_seed_gives_the_same_predictions():
    first, second = spoilt(demo.METHODS[4]), spoilt(demo.METHODS[4])
    assert [p.rles for p in first] == [p.rles for p in second]
    assert all(np.array_equal(a.scores, b.scores) for a, b in zip(first, second, strict=True))


def test_an_image_without_cells_can_be_spoilt():
    sample = Sample("none", np.zeros((40, 50), np.uint8), Instances.empty(40, 50))
    assert demo.spoilt(sample, demo.METHODS[-1], np.random.default_rng(0)).shape == (40, 50)


def test_what_is_there_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.db").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        demo.make_demo(tmp_path / "mine.db", tmp_path / "runs")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="holds something"):
        demo.make_demo(tmp_path / "new.db", tmp_path / "runs")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.slow
def test_every_run_of_the_demonstration_says_what_it_is(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(demo, "DATASETS", ("dic_hela",))
    assert demo.make_demo(tmp_path / "demo.db", tmp_path / "runs", tmp_path / "data") == len(demo.METHODS)
    with open_store(tmp_path / "demo.db", read_only=True) as store:
        runs = store.runs()
        assert all(run.title.startswith("Demo ") and run.source == "synthetic" for run in runs)
        assert all(run.badge == "submitted" and "nvented" in run.note for run in runs)
        assert all(marks["demo"] for marks in store.marks([run.id for run in runs]).values())
        assert len(store.reported()) > 100
        frame = store.leaderboard("dic_hela")
        assert frame["title"].tolist()[0] == demo.METHODS[0].title
