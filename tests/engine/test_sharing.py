"""Variants that differ only after the network share one training; whatever else differs does not."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from bench.engine import service
from bench.registry import registry

METHOD = '''
"""A trained threshold with variants: `learned` enters the training, `after` does not."""
from dataclasses import dataclass

from scipy import ndimage

from bench.api import Instances, Method, Schedule


class Shared(Method):
    """Counts its trainings in a file beside itself."""

    name = "shared"
    title = "Shared"
    scored = False
    variants = {"a": {}, "b": {"after": 5.0}, "c": {"learned": 2.0}}
    schedules = {"paper": Schedule(iterations=1), "smoke": Schedule(iterations=1, eval_images=2)}
    after_network = ("after",)

    @dataclass(frozen=True)
    class Params:
        """Settings."""

        learned: float = 1.0
        after: float = 0.0

    def fit(self, train, val, context):
        """The mean grey level."""
        folder = context.folder / "stage"
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / "final.txt"
        if not weights.is_file():
            with open(__file__ + ".log", "a") as log:
                log.write(f"{context.seed} {self.params.learned}\\n")
            (context.folder / "training.jsonl").write_text("{}\\n")
            weights.write_text(str(train[0].image.mean() * self.params.learned))
        return weights

    def load(self, weights):
        """Read it."""
        self.level = float(weights.read_text())

    def predict(self, image):
        """What is brighter."""
        return Instances.from_label_map(ndimage.label(image > self.level + self.params.after)[0])
'''


@pytest.fixture
def shared(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the method's trainings are counted."""
    folder = workplace / "my_methods"
    folder.mkdir()
    (folder / "shared.py").write_text(METHOD)
    monkeypatch.setenv("BENCH_METHODS", str(folder))
    registry.cache_clear()
    yield folder / "shared.py.log"
    registry.cache_clear()


def run(name: str, **named) -> service.FinishedRun:
    (found,) = service.run_all(name, "tiny", **{"schedule": "paper", **named})
    assert found.error is None
    return found


def trainings(log: Path) -> list[str]:
    return log.read_text().splitlines()


def stored_arguments() -> list[dict]:
    """What each run was asked for, as it lies in the database of the current folder."""
    with contextlib.closing(sqlite3.connect("bench.db")) as database:
        return [json.loads(row[0]) for row in database.execute("SELECT arguments FROM run ORDER BY id")]


def folder(found: service.FinishedRun) -> Path:
    return Path(found.stored.folder)


def test_a_variant_that_differs_after_the_network_takes_the_weights_of_its_sibling(shared: Path):
    first, second = run("shared-a"), run("shared-b")
    assert trainings(shared) == ["0 1.0"]
    assert first.stored.key != second.stored.key
    own = folder(second) / "training"
    record = json.loads((own / "trained.json").read_text())
    assert (own / record["weights"]).read_bytes() == (folder(first) / "training/stage/final.txt").read_bytes()
    assert (own / "training.jsonl").is_file()
    assert record["run"] == "/".join(folder(first).parts[-3:])
    assert record == json.loads((folder(first) / "training/trained.json").read_text())
    assert record["run"] in (folder(second) / "log.txt").read_text()
    assert second.stored.weights_sha256 == first.stored.weights_sha256 == record["sha256"]
    assert second.stored.train_seconds == record["seconds"]
    assert [arguments.get("weights_of") for arguments in stored_arguments()] == [None, record["run"]]


@pytest.mark.parametrize(
    "other",
    [
        {"names": "shared-c"},
        {"names": "shared-b", "seeds": [1]},
        {"names": "shared-b", "settings": {"learned": "3"}},
        {"names": "shared-b", "schedule": "smoke"},
        {"names": "shared-b", "force": True},
    ],
    ids=["a parameter of the training", "seed", "setting", "schedule", "force"],
)
def test_whatever_else_differs_trains_anew(shared: Path, other: dict):
    run("shared-a")
    run(other.pop("names"), **other)
    assert len(trainings(shared)) == 2


def test_a_trial_on_few_images_trains_for_the_whole(shared: Path):
    run("shared-a", limit=1)
    whole = run("shared-a")
    assert whole.stored.complete
    assert trainings(shared) == ["0 1.0"]


def test_a_setting_after_the_network_keeps_the_training(shared: Path):
    run("shared-a")
    run("shared-a", settings={"after": "9"})
    assert trainings(shared) == ["0 1.0"]


@pytest.mark.parametrize("harm", ["changed", "gone", "half a record", "no record"])
def test_weights_that_are_not_those_written_down_are_not_taken(shared: Path, harm: str):
    training = folder(run("shared-a")) / "training"
    if harm == "changed":
        (training / "stage/final.txt").write_text("0")
    elif harm == "gone":
        (training / "stage/final.txt").unlink()
    elif harm == "half a record":
        (training / "trained.json").write_text('{"key": ')
    else:
        (training / "trained.json").unlink()
    run("shared-b")
    assert len(trainings(shared)) == 2


def test_the_siblings_run_may_go(shared: Path):
    import shutil

    first, second = run("shared-a"), run("shared-b")
    shutil.rmtree(folder(first))
    third = run("shared-a", settings={"after": "7"})
    assert trainings(shared) == ["0 1.0"]
    assert third.stored.weights_sha256 == second.stored.weights_sha256


def test_a_new_training_of_the_sibling_leaves_the_weights_taken_alone(shared: Path):
    run("shared-a")
    second = run("shared-b")
    weights = folder(second) / "training/stage/final.txt"
    before = weights.read_bytes()
    run("shared-a", force=True)
    assert weights.read_bytes() == before
    assert len(trainings(shared)) == 2


def test_given_weights_are_used_and_nothing_is_shared(shared: Path, workplace: Path):
    run("shared-a")
    (workplace / "mine.txt").write_text("12")
    found = run("shared-b", weights=workplace / "mine.txt")
    assert "weights_of" not in stored_arguments()[-1]
    assert not (folder(found) / "training").exists()


def test_what_every_stage_of_a_training_wrote_goes_along(shared: Path):
    code = shared.with_name("shared.py")
    more = 'for name in ("training.jsonl", "dropped.json"):\n                (folder / name).write_text("{}\\n")\n'
    at = "            weights.write_text("
    code.write_text(code.read_text().replace(at, f"            {more}{at}"))
    first, second = run("shared-a"), run("shared-b")
    assert trainings(shared) == ["0 1.0"]
    for name in ("training.jsonl", "stage/training.jsonl", "stage/dropped.json"):
        there, here = folder(first) / "training" / name, folder(second) / "training" / name
        assert here.read_bytes() == there.read_bytes()
