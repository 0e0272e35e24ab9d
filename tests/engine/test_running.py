"""``bench run`` from names to rows, with methods that cost nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import bench
from bench.api import DataError, MethodError, UnknownNameError, UsageError
from bench.engine import service
from bench.engine.folder import Journal, from_record
from bench.registry import registry
from bench.store import open_store


@pytest.fixture
def threshold(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The method ``threshold``, found in a folder of the user's."""
    folder = workplace / "my_methods"
    folder.mkdir()
    source = Path(__file__).with_name("methods_for_tests.py")
    (folder / "threshold.py").write_text(source.read_text())
    monkeypatch.setenv("BENCH_METHODS", str(folder))
    registry.cache_clear()
    yield workplace
    registry.cache_clear()


def numbers(run: service.FinishedRun) -> dict[str, float | None]:
    return {f"{r.protocol} {r.metric}": r.value for r in run.results}


# -- what comes out ---------------------------------------------------------------------------------


def test_truth_scores_one_and_empty_nothing(workplace: Path):
    truth, empty = service.run_all(["truth", "empty"], "tiny")
    assert {numbers(truth)[m] for m in ("voc AP@0.5", "voc AP@0.7", "voc IoU@0.5", "kaggle mAP@.5:.95")} == {1.0}
    assert {numbers(empty)[m] for m in ("voc AP@0.5", "voc AP@0.7", "kaggle mAP@.5:.95")} == {0.0}
    undefined = next(r for r in empty.results if r.metric == "IoU@0.5")
    assert undefined.value is None
    assert undefined.reason


def test_a_run_is_trained_predicted_timed_scored_and_stored(threshold: Path):
    (run,) = service.run_all("threshold", "tiny", schedule="paper")
    assert run.error is None
    assert run.stored.status == "ok"
    assert run.stored.complete
    assert run.stored.n_images == 4
    assert numbers(run)["voc AP@0.5"] > 0.5
    with open_store(read_only=True) as store:
        bundle = store.bundle(run.stored.id)
        timings = store.timings(run.stored.id)
    assert len(bundle.images) == 11
    assert set(timings["phase"]) == {"total", "network", "postprocess"}
    assert len(timings[timings["phase"] == "total"]) == 4
    assert (timings["milliseconds"] >= 0).all()
    assert bundle.environment.packages["numpy"] == np.__version__
    assert bundle.machine.cores == os.cpu_count()
    assert {a.path for a in bundle.artifacts} >= {"plan.json", "predictions.jsonl", "training/weights.pth"}
    per_image = {r.image_key for r in bundle.image_results}
    assert len(per_image) == 4


def test_the_same_again_runs_nothing_and_force_supersedes(threshold: Path):
    (first,) = service.run_all("threshold", "tiny", schedule="paper")
    (again,) = service.run_all("threshold", "tiny", schedule="paper")
    assert (again.stored.id, again.new) == (first.stored.id, False)
    (forced,) = service.run_all("threshold", "tiny", schedule="paper", force=True)
    assert forced.new
    assert forced.stored.id != first.stored.id
    with open_store(read_only=True) as store:
        assert store.run(first.stored.id).superseded
        assert [run.id for run in store.runs()] == [forced.stored.id]


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": [1]},
        {"split": "val"},
        {"schedule": "smoke"},
        {"limit": 2},
        {"settings": {"offset": "20"}},
    ],
)
def test_whatever_changes_the_predictions_changes_the_key(threshold: Path, change: dict):
    base = service.plan("threshold", "tiny", schedule="paper")[0]
    other = service.plan("threshold", "tiny", **{"schedule": "paper", **change})[0]
    assert base["key"] != other["key"]
    assert base["key"] == service.plan("threshold", "tiny", schedule="paper")[0]["key"]


def test_a_changed_image_or_method_changes_the_key_and_a_comment_does_not(threshold: Path):
    key = service.plan("threshold", "tiny")[0]["key"]
    code = threshold / "my_methods" / "threshold.py"
    code.write_text(code.read_text() + "\n# a comment\n")
    registry.cache_clear()
    assert service.plan("threshold", "tiny")[0]["key"] == key
    code.write_text(code.read_text().replace("self.level + self", "self.level - self"))
    registry.cache_clear()
    changed = service.plan("threshold", "tiny")[0]["key"]
    assert changed != key
    image = next((threshold / "data" / "tiny" / "train" / "images").iterdir())
    image.write_bytes((threshold / "data" / "tiny" / "test" / "images" / "test0.png").read_bytes())
    assert service.plan("threshold", "tiny")[0]["key"] != changed


def test_the_grid_is_every_method_on_every_seed(threshold: Path):
    runs = service.run_all(["truth", "threshold"], ["tiny"], seeds=[0, 1], schedule="paper")
    assert [(r.stored.method, r.stored.seed) for r in runs] == [
        ("truth", 0),
        ("truth", 1),
        ("threshold", 0),
        ("threshold", 1),
    ]


def test_without_a_schedule_a_cpu_takes_smoke_says_so_and_never_ranks(
    threshold: Path, capsys: pytest.CaptureFixture[str]
):
    (run,) = service.run_all("threshold", "tiny")
    assert run.stored.schedule == "smoke"
    assert not run.stored.complete
    assert run.stored.n_images == 2
    assert "smoke schedule" in capsys.readouterr().err
    assert bench.leaderboard("tiny")["rank"].isna().all()


def test_dry_run_writes_nothing(threshold: Path):
    (plan,) = service.plan("threshold", "tiny")
    assert plan["action"] == "run"
    assert not (threshold / "bench.db").exists()
    assert not (threshold / "runs").exists()


def test_frames_for_notebooks(threshold: Path):
    frame = bench.run(["truth", "threshold"], "tiny", schedule="paper")
    assert set(frame["method"]) == {"truth", "threshold"}
    assert {"protocol", "metric", "value", "low", "high"} <= set(frame.columns)
    board = bench.leaderboard(dataset="tiny")
    assert board.loc[board["method"] == "threshold", "rank"].tolist() == [1]
    assert board.loc[board["method"] == "truth", "rank"].isna().all()
    assert len(bench.results(dataset="tiny")) == len(frame)


def test_a_misspelt_option_in_a_notebook_is_named(workplace: Path):
    with pytest.raises(UsageError, match=r"unknown option of a run 'schedul' \(did you mean schedule"):
        bench.run("truth", "tiny", schedul="smoke")


def test_an_image_that_is_trained_on_and_evaluated_is_named(threshold: Path, capsys):
    bench.run("threshold", "tiny", schedule="paper")
    assert "trained on what is evaluated" not in capsys.readouterr().err
    folder = threshold / "data" / "tiny"
    (folder / "test" / "images" / "test2.png").write_bytes((folder / "train" / "images" / "train0.png").read_bytes())
    bench.run(["threshold", "truth"], "tiny", schedule="paper")
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "trained on what is evaluated" in line]
    assert told == "note: tiny: trained on what is evaluated: test2 of test; see `bench data check tiny`"


def test_trained_weights_by_path_skip_the_training(threshold: Path):
    (trained,) = service.run_all("threshold", "tiny", schedule="paper")
    weights = Path(trained.stored.folder) / "training" / "weights.pth"
    (given,) = service.run_all("threshold", "tiny", schedule="paper", weights=weights)
    assert given.stored.id != trained.stored.id
    assert given.stored.init == "weights"
    assert given.stored.train_seconds is None
    assert numbers(given)["voc AP@0.5"] == numbers(trained)["voc AP@0.5"]


def test_three_hundred_cells_stay_three_hundred(workplace: Path):
    from PIL import Image

    labels = np.kron(np.arange(1, 301, dtype=np.uint16).reshape(15, 20), np.ones((6, 6), np.uint16))
    labels[::6] = labels[:, ::6] = 0
    for path in (workplace / "data" / "tiny" / "test").rglob("test*.png"):
        Image.fromarray(labels if "labels" in path.parts else (labels > 0).astype(np.uint8) * 200).save(path)
    (run,) = service.run_all("truth", "tiny")
    for record in Journal(Path(run.stored.folder) / "predictions.jsonl").read():
        assert len(from_record(record)[1]) == 300
    assert numbers(run)["kaggle mAP@.5:.95"] == 1.0


def test_one_failure_does_not_stop_the_others(threshold: Path, monkeypatch: pytest.MonkeyPatch):
    entry = registry().methods["threshold"].method
    monkeypatch.setattr(entry, "load", lambda self, weights: 1 / 0)
    failed, fine = service.run_all(["threshold", "truth"], "tiny", schedule="paper")
    assert failed.error is not None
    assert "ZeroDivisionError" in failed.error.message
    assert fine.error is None


# -- what goes wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ("crash", "error", "RuntimeError: the network fell over"),
        ("memory", "out_of_memory", "out of memory on cpu"),
        ("type", "error", "returned ndarray instead of Instances"),
        ("size", "error", "the prediction is 3 x 4 pixels, the image 64 x 64"),
        ("scores", "error", "there are no scores"),
        ("masks", "error", "threshold, image test0: mask 0: an RLE covers 5 pixels"),
        ("class", "error", "class 3 where there are 1 classes"),
    ],
)
def test_a_failure_is_a_stored_outcome_and_is_tried_again(threshold: Path, wrong: str, kind: str, message: str):
    (failed,) = service.run_all("threshold", "tiny", schedule="paper", settings={"wrong": wrong})
    (fine,) = service.run_all("truth", "tiny")
    assert isinstance(failed.error, MethodError)
    assert message in failed.error.message
    assert "\n" not in str(failed.error)
    assert (failed.stored.status, failed.stored.failure_kind) == ("failed", kind)
    assert "Traceback" in (Path(failed.stored.folder) / "log.txt").read_text()
    assert fine.stored.status == "ok"
    (again,) = service.run_all("threshold", "tiny", schedule="paper", settings={"wrong": wrong})
    assert again.stored.id != failed.stored.id
    assert again.stored.attempt == 2


def test_a_broken_image_is_named_and_nothing_is_lost(threshold: Path):
    image = threshold / "data" / "tiny" / "test" / "images" / "test2.png"
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(DataError, match=r"test2\.png"):
        service.run_all("threshold", "tiny", schedule="paper")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"methods": "treshold"}, UnknownNameError, "did you mean threshold"),
        ({"datasets": "tinny"}, UnknownNameError, "did you mean tiny"),
        ({"split": "tset"}, UnknownNameError, "test"),
        ({"schedule": "short"}, UsageError, "has no schedule 'short'"),
        ({"init": "coco"}, UsageError, "neither random nor a file"),
        ({"device": "gpu"}, UsageError, "unknown device 'gpu'"),
        ({"settings": {"ofset": "1"}}, UsageError, "has no setting 'ofset'"),
        ({"settings": {"offset": "big"}}, UsageError, "'big' does not fit setting 'offset'"),
        ({"weights": Path("nowhere.pth")}, UsageError, "no weights at nowhere.pth"),
    ],
)
def test_what_can_be_known_before_is_refused_before(threshold: Path, arguments: dict, error: type, message: str):
    call = {"methods": "threshold", "datasets": "tiny", "schedule": "paper", **arguments}
    with pytest.raises(error, match=message):
        service.run_all(call.pop("methods"), call.pop("datasets"), **call)
    assert not (threshold / "runs").exists()


def test_two_processes_do_not_share_a_run(threshold: Path):
    (plan,) = service.plan("threshold", "tiny", schedule="paper")
    from bench.engine.folder import RunFolder, RunHeldError

    with RunFolder(Path(plan["folder"])).locked(), pytest.raises(RunHeldError, match="another process is at work"):
        service.run_all("threshold", "tiny", schedule="paper")


# -- kill and resume --------------------------------------------------------------------------------


def start(workplace: Path, slow: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "bench", "run", "-m", "threshold", "-d", "tiny", "--schedule", "paper", "--json"]
    return subprocess.Popen(
        command, cwd=workplace, env={**os.environ, "SLOW": slow}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("phase", ["training", "prediction"])
def test_killed_and_resumed_equals_undisturbed(threshold: Path, phase: str):
    undisturbed = start(threshold, "0").communicate()[0]
    expected = json.loads(undisturbed)[0]
    folder = Path(expected["folder"])
    kept = (folder / "predictions.jsonl").read_bytes(), (folder / "training" / "weights.pth").read_bytes()
    for path in (threshold / "bench.db", *sorted(folder.rglob("*"), reverse=True)):
        path.unlink() if path.is_file() else path.rmdir()

    process = start(threshold, "0.3")
    progress = folder / ("training/sums.txt" if phase == "training" else "predictions.jsonl")
    wait_for(lambda: progress.is_file() and progress.stat().st_size > 0, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # What a kill in the middle of a write leaves behind.
    if phase == "prediction":
        with progress.open("ab") as file:
            file.write(b'{"id":"test0","size":[64,')
    (resumed,) = json.loads(start(threshold, "0").communicate()[0])
    assert (folder / "predictions.jsonl").read_bytes() == kept[0]
    assert (folder / "training" / "weights.pth").read_bytes() == kept[1]
    for protocol in ("voc", "kaggle"):
        assert resumed["protocols"][protocol] == expected["protocols"][protocol]
    assert resumed["key"] == expected["key"]
