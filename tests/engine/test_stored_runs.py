"""Runs that are stored already, taken up again: only by the files that their numbers were made from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from bench.cli import main
from bench.engine import service
from bench.store import open_store

METHOD = '''
"""A threshold with confidences that can be told to break, or to answer otherwise, from outside."""
import os

from scipy import ndimage
from bench.api import Instances, Method, Schedule


class Moody(Method):
    name = "moody"
    title = "Moody"
    trainable = False
    inits = ("none",)
    schedules = {"paper": Schedule()}

    def predict(self, image):
        mood = os.environ.get("MOOD", "")
        self.seen = getattr(self, "seen", 0) + 1
        if mood == "breaks" and self.seen > 2:
            raise RuntimeError("the network fell over")
        labels, count = ndimage.label(image > (90 if mood != "other" else 140))
        return Instances.from_label_map(labels, scores={label: 0.3 + 0.01 * label for label in range(1, count + 1)})
'''
COMMANDS = {
    "rescore": ("rescore", "1"),
    "compare": ("compare", "1", "2"),
    "picture": ("show", "1", "--picture", "sheet.png"),
    "export": ("data", "export", "--run", "1", "--format", "coco", "--to", "out"),
}
every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
with_runs = pytest.mark.usefixtures("runs")


@pytest.fixture
def runs(workplace: Path, cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run 1 is of the method ``moody``, run 2 of a control."""
    (workplace / "mine").mkdir()
    (workplace / "mine" / "moody.py").write_text(METHOD)
    monkeypatch.setenv("BENCH_METHODS", str(workplace / "mine"))
    assert cli("run", "-m", "moody,jitter", "-d", "tiny", "--schedule", "paper")[0] == 0


def numbers(run: int) -> dict[str, float | None]:
    with open_store(read_only=True) as store:
        return {f"{r.protocol} {r.metric}": r.value for r in store.bundle(run).results}


def folder_of(run: int) -> Path:
    with open_store(read_only=True) as store:
        return Path(store.run(run).folder)


@every_command
@with_runs
def test_a_run_whose_files_are_whole_is_taken_up(cli, command: tuple[str, ...]):
    before = numbers(1)
    code, _, err = cli(*command)
    assert code == 0, err
    assert numbers(1) == before


@every_command
@with_runs
def test_what_a_broken_second_attempt_left_is_not_taken_for_the_runs_own(cli, command, monkeypatch):
    before = numbers(1)
    monkeypatch.setenv("MOOD", "breaks")
    assert cli("run", "-m", "moody", "-d", "tiny", "--schedule", "paper", "--force")[0] == 5
    code, _, err = cli(*command)
    assert code == 3
    assert "are not those of run 1 any more (run it again with --force)" in err
    assert numbers(1) == before


@every_command
@with_runs
def test_a_run_that_was_superseded_does_not_borrow_its_successors_predictions(cli, command, monkeypatch):
    before = numbers(1)
    monkeypatch.setenv("MOOD", "other")
    assert cli("run", "-m", "moody", "-d", "tiny", "--schedule", "paper", "--force")[0] == 0
    assert numbers(3) != before
    code, _, err = cli(*command)
    assert code == 3
    assert "are not those of run 1 any more (a later run took its place)" in err
    assert numbers(1) == before


@every_command
@with_runs
def test_a_lost_operating_point_is_not_taken_for_none(cli, command: tuple[str, ...]):
    (folder_of(1) / "operating_point.json").unlink()
    code, _, err = cli(*command)
    assert code == 3
    assert "the details of the operating point of run 1 are gone" in err


@every_command
@with_runs
def test_a_run_folder_is_read_and_never_written(cli, command: tuple[str, ...]):
    """Another process may be at work in it: a line that is half written is that one's to finish."""
    predictions = folder_of(1) / "predictions.jsonl"
    whole = predictions.read_bytes()
    with predictions.open("ab") as file:
        file.write(b'{"id":"half a li')
    kept = {path: path.read_bytes() for path in folder_of(1).rglob("*") if path.is_file()}
    cli(*command)
    assert {path: path.read_bytes() for path in folder_of(1).rglob("*") if path.is_file()} == kept
    assert kept[predictions] != whole


@with_runs
def test_the_folder_of_a_lost_run_is_not_made_again(cli):
    folder = folder_of(1)
    folder.rename(folder.with_name("elsewhere"))
    assert cli("rescore", "1")[0] == 3
    assert not folder.exists()


@with_runs
def test_a_failed_run_has_no_picture(cli, monkeypatch):
    monkeypatch.setenv("MOOD", "breaks")
    assert cli("run", "-m", "moody", "-d", "tiny", "--schedule", "paper", "--limit", "4")[0] == 5
    code, _, err = cli("show", "3", "--picture", "sheet.png")
    assert code == 2
    assert "run 3 failed: it has no predictions to draw (see why: bench show 3)" in err


@pytest.mark.parametrize("protocol", ["semantic", "kaggle"])
def test_the_worst_images_come_first_whichever_way_the_ranking_metric_goes(workplace: Path, protocol: str, capsys):
    """``semantic`` ranks by an error, ``kaggle`` by a score."""
    card = workplace / "cards" / "tiny.toml"
    card.write_text(card.read_text().replace('name = "voc"', f'name = "{protocol}"', 1))
    if protocol == "kaggle":
        card.write_text(card.read_text().rpartition("[[protocols]]")[0])
    (run,) = service.run_all("jitter", "tiny")
    with open_store(read_only=True) as store:
        metric, higher = store.image_metrics(run.stored.id)[0][1:]
        values = store.image_results(run.stored.id, protocol=protocol, metric=metric).set_index("image")["value"]
    assert higher == (protocol == "kaggle")
    assert values.nunique() > 1
    with pytest.raises(SystemExit):
        main(["show", "1", "--picture", "sheet.png", "--images", "4", "--json"])
    shown = values.dropna().reindex(json.loads(capsys.readouterr().out)["images"]).dropna().to_numpy()
    assert np.array_equal(shown, np.sort(shown) if higher else np.sort(shown)[::-1])
    assert os.path.getsize("sheet.png") > 0  # noqa: PTH202 - the current folder is the test's own
