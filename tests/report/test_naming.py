"""How runs are named side by side: what tells them apart is said, and no two names are alike."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from bench.report.naming import described, run_names
from bench.store import StoredRun

HASH = "0123456789abcdef" * 4
RUN = StoredRun(
    id=3, key=HASH, method="unet-bce", family="unet", variant="bce", title="U-Net, BCE loss", origin="reimplementation",
    code_hash="c" * 64, params_hash="p" * 64, dataset="tiny", content_hash=HASH, source="real", split="test", seed=0,
    schedule="paper", init="random", device="cpu", machine="m", status="ok", superseded=False, badge="measured",
    started=datetime(2026, 1, 1, tzinfo=UTC), finished=datetime(2026, 1, 1, tzinfo=UTC), attempt=1, folder="",
    command="", n_images=4, complete=True, failure_kind=None, failure=None, commit=None, dirty=None,
    weights_sha256=None, train_seconds=None, predict_seconds=None, peak_memory_bytes=None, n_parameters=None,
    submitted_by=None, note=None, latency_median_ms=None, latency_p95_ms=None,
)  # fmt: skip


def run(**changed: object) -> StoredRun:
    return dataclasses.replace(RUN, **changed)


def test_a_plain_run_is_its_title_and_seed():
    assert described(RUN, {}) == "U-Net, BCE loss, seed 0"
    assert run_names([RUN], {3: {"changed": {}}}) == {3: "run 3 (U-Net, BCE loss, seed 0)"}


def test_whatever_was_changed_is_said():
    changed = {"width": 8, "steps": [1, 2], "init": "imagenet", "compute": ["bfloat16", "compile"]}
    assert described(run(schedule="smoke", seed=2), changed) == (
        "U-Net, BCE loss, seed 2, smoke, init imagenet, bfloat16, compile, width=8, steps=1,2"
    )
    assert described(RUN, {"weights": HASH}) == "U-Net, BCE loss, seed 0, weights 01234567"
    assert described(RUN, {"init": HASH}) == "U-Net, BCE loss, seed 0, init 01234567"


def test_a_run_of_an_older_store_says_what_it_can():
    assert described(run(init="imagenet")) == "U-Net, BCE loss, seed 0, init imagenet"
    assert described(run(init="none")) == "U-Net, BCE loss, seed 0"


def test_of_a_submission_nobody_knows_the_seed():
    assert described(run(schedule="submitted", title="Mine", submitted_by="Ada")) == "Mine, by Ada"
    assert described(run(schedule="submitted", title="Mine")) == "Mine"


def test_two_runs_of_one_method_are_told_apart_by_what_differs():
    runs = [RUN, run(id=4, seed=1), run(id=5), run(id=6)]
    marks = {3: {"changed": {}}, 4: {"changed": {}}, 5: {"changed": {"width": 8}}, 6: {"changed": {}, "demo": True}}
    assert run_names(runs, marks) == {
        3: "run 3 (U-Net, BCE loss, seed 0)",
        4: "run 4 (U-Net, BCE loss, seed 1)",
        5: "run 5 (U-Net, BCE loss, seed 0, width=8)",
        6: "run 6 (U-Net, BCE loss, seed 0)",
    }
    marks[6] = {"changed": {}}
    names = run_names([RUN, run(id=6, code_hash="d" * 64)], marks)
    assert names == {
        3: "run 3 (U-Net, BCE loss, seed 0, code cccccccc)",
        6: "run 6 (U-Net, BCE loss, seed 0, code dddddddd)",
    }
