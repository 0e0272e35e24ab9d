"""Nothing of a run folder is read that is not a known file of this very run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench.errors import DataError
from bench.instances import Instances
from bench.store.files import RunFiles, to_record

KEY = "k" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with two predictions."""
    made = tmp_path / "run"
    (made / "training").mkdir(parents=True)
    (made / "plan.json").write_text(json.dumps({"key": KEY}))
    lines = [json.dumps(to_record(name, instances(n)), separators=(",", ":")) for name, n in (("a", 1), ('b"\\', 2))]
    (made / "predictions.jsonl").write_text("".join(line + "\n" for line in lines))
    (made / "log.txt").write_text("something\nhappened\n")
    (made / "training" / "training.jsonl").write_text('{"step": 1, "loss": 0.5, "note": "x", "done": true}\n')
    return made


def instances(count: int) -> Instances:
    labels = np.zeros((4, 6), np.uint8)
    labels[0, :count] = np.arange(1, count + 1)
    return Instances.from_label_map(labels)


def files(folder: Path | str, key: str = KEY) -> RunFiles:
    return RunFiles(SimpleNamespace(id=7, key=key, folder=str(folder)))


def test_what_is_there(folder: Path) -> None:
    run = files(folder)
    assert {name: len(found) for name, found in run.predictions().items()} == {"a": 1, 'b"\\': 2}
    assert run.prediction("a") == instances(1)
    assert run.prediction('b"\\') == instances(2)
    assert run.log() == {"log.txt": "something\nhappened\n"}
    assert run.curves() == {"": [{"step": 1.0, "loss": 0.5}]}
    (folder / "training" / "first").mkdir()
    (folder / "training" / "first" / "training.jsonl").write_text('{"step": 2}\n')
    assert run.curves() == {"": [{"step": 1.0, "loss": 0.5}], "first": [{"step": 2.0}]}


def test_no_prediction_for_an_image(folder: Path) -> None:
    with pytest.raises(DataError, match="no prediction for the image c"):
        files(folder).prediction("c")


def test_a_folder_of_another_run_is_not_believed(folder: Path) -> None:
    other = files(folder, "x" * 64)
    assert other.log() == {}
    assert other.curves() == {}
    with pytest.raises(DataError, match="the predictions of run 7 are gone"):
        other.predictions()


@pytest.mark.parametrize("plan", ["", "[]", '"key"', "{", "\xff"])
def test_a_plan_that_is_none(folder: Path, plan: str) -> None:
    (folder / "plan.json").write_bytes(plan.encode("latin-1"))
    assert files(folder).log() == {}


@pytest.mark.parametrize("name", ["/", "/etc", "../../..", "", "a\0b", "~", "x" * 5000])
def test_folders_that_are_none(name: str) -> None:
    assert files(name).log() == {}


def test_no_link_leads_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (folder / "log.txt").unlink()
    (folder / "log.txt").symlink_to(secret)
    (folder / "training" / "out").symlink_to(tmp_path)
    (tmp_path / "training.jsonl").write_text('{"step": 666}\n')
    assert files(folder).log() == {}
    assert files(folder).curves() == {"": [{"step": 1.0, "loss": 0.5}]}


def test_only_known_files(folder: Path) -> None:
    with pytest.raises(ValueError, match="no file of a run"):
        files(folder).path("../secret.txt")


def test_a_line_half_written_is_not_there_yet_and_nothing_is_changed(folder: Path) -> None:
    path = folder / "predictions.jsonl"
    with path.open("a") as file:
        file.write('{"id":"c","size":[4,')
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert set(files(folder).predictions()) == {"a", 'b"\\'}
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.parametrize("line", ["not json", "[1]", '{"id":"a","size":[4,6]}', '{"id":"a","size":3,"counts":[]}'])
def test_damage_is_named(folder: Path, line: str) -> None:
    with (folder / "predictions.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"predictions\.jsonl"):
        files(folder).predictions()


def test_a_long_log_is_cut_at_its_beginning(folder: Path) -> None:
    (folder / "log.txt").write_text("a" * 100_000 + "end")
    (text,) = files(folder).log().values()
    assert len(text) == 64 * 1024
    assert text.endswith("end")


def test_the_logs_of_a_training(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.log"
    secret.write_text("secret")
    for name in ("20260101_000000", "20260102_000000", "detector/20260103_000000"):
        log = folder / "training" / name / f"{name.rpartition('/')[2]}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"loss of {name}")
    (folder / "training/20260101_000000/other.log").write_text("other")
    (folder / "training/20260104_000000").mkdir()
    (folder / "training/20260104_000000/20260104_000000.log").symlink_to(secret)
    found = files(folder).log()
    assert list(found) == [
        "log.txt",
        "training/20260101_000000/20260101_000000.log",
        "training/20260102_000000/20260102_000000.log",
        "training/detector/20260103_000000/20260103_000000.log",
    ]
    assert found["training/detector/20260103_000000/20260103_000000.log"] == "loss of detector/20260103_000000"


def test_of_many_logs_the_last(folder: Path) -> None:
    for day in range(1, 8):
        made = folder / f"training/2026010{day}_000000"
        made.mkdir(parents=True)
        (made / f"{made.name}.log").write_text(str(day))
    assert list(files(folder).log().values())[1:] == ["4", "5", "6", "7"]
