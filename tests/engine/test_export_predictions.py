"""``bench data export --run``: what a run predicted as files, which score as the run did."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bench.data import open_dataset
from bench.data.writers import Annotated, write_coco_results
from bench.engine import service
from bench.instances import Instances
from bench.store import open_store

Cli = Callable[..., tuple[int, str, str]]


def exported(cli: Cli, *arguments: object) -> str:
    """Export, and return what was noted."""
    code, _, err = cli("data", "export", *arguments)
    assert code == 0, err
    return err


def numbers(run: int) -> dict[str, float | None]:
    with open_store(read_only=True) as store:
        return {f"{r.protocol} {r.metric}": r.value for r in store.bundle(run).results if r.protocol != "timing"}


def submitted(cli: Cli, *arguments: object) -> dict[str, float | None]:
    code, out, err = cli("submit", "-d", "tiny", "--name", "The same", "--json", *arguments)
    assert code == 0, err
    return numbers(json.loads(out)["run"])


def scored(cli: Cli, truth: Path, prediction: Path, *more: str) -> dict[str, float | None]:
    code, out, err = cli("score", "--truth", truth, "--pred", prediction, "--json", "-", *more)
    assert code == 0, err
    found = json.loads(out)["protocols"]
    return {f"{p} {m}": value for p, its in found.items() for m, value in its.items()}


def without_scores(found: dict[str, float | None]) -> dict[str, float | None]:
    """The numbers that need no scores."""
    return {name: value for name, value in found.items() if name.startswith(("kaggle ", "panoptic ", "ctc "))}


def test_coco_results_score_as_the_run_did(workplace: Path, cli: Cli):
    (run,) = service.run_all("jitter", "tiny")
    measured = numbers(run.stored.id)
    assert 0 < measured["kaggle mAP@.5:.95"] < 1
    exported(cli, "--run", run.stored.id, "--format", "coco", "--to", "out")
    truth, results = workplace / "out" / "annotations.json", workplace / "out" / "results.json"
    assert submitted(cli, "--pred", results) == measured
    assert submitted(cli, "--pred", results, "--images", truth, "--force") == measured
    again = scored(cli, truth, results, "--protocol", "voc,kaggle")
    assert {name: again[name] for name in measured} == measured
    coco = COCO(str(truth))
    assert len(coco.loadRes(str(results)).anns) == len(json.loads(results.read_text()))
    said = json.loads((workplace / "out" / "provenance.json").read_text())
    assert (said["method"], said["dataset"], said["run"]) == ("jitter", "tiny", run.stored.key)


@pytest.mark.parametrize(("form", "more"), [("label-tiffs", ()), ("kaggle", ("--rle", "row"))])
def test_files_without_scores_score_as_the_run_did(workplace: Path, cli: Cli, form: str, more: tuple[str, ...]):
    (run,) = service.run_all("split", "tiny")
    notes = exported(cli, "--run", run.stored.id, "--format", form, "--to", "out", *more)
    assert "the format has no scores" in notes
    files = workplace / "out" / ("masks.csv" if form == "kaggle" else ".")
    expected = without_scores(numbers(run.stored.id))
    assert expected
    again = submitted(cli, "--pred", files)
    assert {name: again[name] for name in expected} == expected
    assert again["voc AP@0.5"] is None


def test_results_of_the_cell_tracking_challenge_score_as_the_run_did(workplace: Path, cli: Cli):
    (run,) = service.run_all("split", "tiny")
    exported(cli, "tiny", "--format", "ctc", "--to", "truth")
    exported(cli, "--run", run.stored.id, "--format", "ctc", "--to", "out")
    found = scored(cli, workplace / "truth" / "01_RES", workplace / "out" / "01_RES", "--protocol", "kaggle,ctc")
    expected = without_scores(numbers(run.stored.id))
    assert {name: found[name] for name in expected} == expected
    rows = list(csv.reader((workplace / "out" / "frames.csv").open()))
    assert rows[1] == ["01_RES/mask000.tif", "test0"]


def test_a_run_on_some_images_only(workplace: Path, cli: Cli):
    (run,) = service.run_all("jitter", "tiny", limit=2)
    exported(cli, "--run", run.stored.id, "--format", "coco", "--to", "out")
    assert len(json.loads((workplace / "out" / "annotations.json").read_text())["images"]) == 2
    found = scored(
        cli, workplace / "out" / "annotations.json", workplace / "out" / "results.json", "--protocol", "voc,kaggle"
    )
    expected = numbers(run.stored.id)
    assert {name: found[name] for name in expected} == expected


def test_classes_and_names_that_come_twice(workplace: Path, cli: Cli):
    """Two classes, and files of one name in several folders, as in sequences and in EVICAN."""
    card = workplace / "cards" / "tiny.toml"
    text = card.read_text().replace('classes = ["cell"]', 'classes = ["cell", "nucleus"]\noverlap = true')
    text = text.replace(
        'labels = ["{part}/labels/{stem}.png"]',
        """id = "{part}/{stem}"
labels = { nucleus = ["{part}/labels/{stem}.png"], cell = ["{part}/labels/{stem}.png"] }""",
    )
    card.write_text(text + '\n[[protocols]]\nname = "coco"\n')
    for part in ("train", "val", "test"):
        for path in sorted((workplace / "data" / "tiny" / part).rglob(f"{part}*.png")):
            path.rename(path.with_name(path.name.replace(part, "t")))
    (run,) = service.run_all("jitter", "tiny")
    notes = exported(cli, "--run", run.stored.id, "--format", "coco", "--to", "out")
    assert "annotations.json names the classes" in notes
    truth, results = workplace / "out" / "annotations.json", workplace / "out" / "results.json"
    expected = numbers(run.stored.id)
    assert submitted(cli, "--pred", results, "--images", truth) == expected
    assert submitted(cli, "--pred", results, "--force") == expected
    again = scored(cli, truth, results, "--protocol", "coco,voc,kaggle")
    assert {name: again[name] for name in expected if name.startswith("voc")} == {
        name: value for name, value in expected.items() if name.startswith("voc")
    }


def test_images_in_which_nothing_was_found(workplace: Path, cli: Cli):
    (run,) = service.run_all("empty", "tiny")
    notes = exported(cli, "--run", run.stored.id, "--format", "coco", "--to", "out")
    assert "nothing was found in 4 images: submit results.json with --missing-is-empty" in notes
    truth, results = workplace / "out" / "annotations.json", workplace / "out" / "results.json"
    expected = numbers(run.stored.id)
    assert submitted(cli, "--pred", results, "--missing-is-empty") == expected
    found = scored(cli, truth, results, "--protocol", "voc,kaggle")
    assert {name: found[name] for name in expected} == expected


def test_other_programs_read_the_results(workplace: Path, cli: Cli):
    (run,) = service.run_all("truth", "tiny")
    exported(cli, "--run", run.stored.id, "--format", "coco", "--to", "out")
    truth = COCO(str(workplace / "out" / "annotations.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(workplace / "out" / "results.json")), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    assert precision[precision > -1].min() == pytest.approx(1)


def overlapping(workplace: Path, cli: Cli) -> int:
    """A submission whose masks overlap and whose boxes are not the tight ones; the number of its run."""
    found = []
    for sample in open_dataset("tiny").split("test"):
        masks = sample.instances.to_masks()
        masks = np.concatenate([masks, np.roll(masks[:1], 2, axis=2)])
        tight = Instances.from_masks(masks).boxes
        scores = np.linspace(0.9, 0.4, len(masks))
        found.append(
            Annotated(sample.id, Instances.from_masks(masks, scores=scores, boxes=tight + np.array([-1, -1, 2, 0])))
        )
    write_coco_results(workplace / "mine.json", found, boxes=True)
    code, out, err = cli("submit", "-d", "tiny", "--name", "Mine", "--pred", workplace / "mine.json", "--json")
    assert code == 0, err
    return int(json.loads(out)["run"])


def test_boxes_of_a_methods_own_and_overlaps_come_back(workplace: Path, cli: Cli):
    card = workplace / "cards" / "tiny.toml"
    card.write_text(card.read_text() + '\n[[protocols]]\nname = "coco"\n')
    run = overlapping(workplace, cli)
    notes = exported(cli, "--run", run, "--format", "coco", "--to", "out")
    assert "boxes are the method's own" in notes
    results = workplace / "out" / "results.json"
    assert submitted(cli, "--pred", results, "--images", workplace / "out" / "annotations.json") == numbers(run)
    tight = [{k: v for k, v in result.items() if k != "bbox"} for result in json.loads(results.read_text())]
    (workplace / "tight.json").write_text(json.dumps(tight))
    others = submitted(cli, "--pred", "tight.json", "--images", workplace / "out" / "annotations.json", "--force")
    boxes = [name for name in others if "box" in name]
    assert boxes
    assert any(others[name] != numbers(run)[name] for name in boxes)


@pytest.mark.parametrize("form", ["label-tiffs", "ctc", "kaggle"])
def test_what_a_format_cannot_hold_is_refused_or_said(workplace: Path, cli: Cli, form: str):
    run = overlapping(workplace, cli)
    counted = ("--rle", "column") if form == "kaggle" else ()
    arguments = ("--run", run, "--format", form, *counted, "--to", "out")
    code, _, err = cli("data", "export", *arguments)
    assert code == 3
    assert "overlap" in err
    assert not (workplace / "out").exists()
    notes = exported(cli, *arguments, "--overlap", "score")
    assert "instances overlap in 4 images" in notes
    assert "the format has no scores" in notes
    assert "the format has no boxes" in notes


def test_label_images_hold_the_masks(workplace: Path, cli: Cli):
    (run,) = service.run_all("truth", "tiny")
    exported(cli, "--run", run.stored.id, "--format", "label-tiffs", "--to", "out")
    for sample in open_dataset("tiny").split("test"):
        labels = tifffile.imread(workplace / "out" / f"{sample.id}.tif")
        assert np.array_equal(np.stack([labels == i for i in np.unique(labels) if i]), sample.instances.to_masks())


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "name a data set, or a run by --run"),
        (("tiny", "--run", "1"), 2, "--run says the data set and the split itself"),
        (("--run", "1", "--split", "val"), 2, "--run says the data set and the split itself"),
        (("--run", "77"), 2, "there is no run 77 in this database (a run is named by its number"),
    ],
)
def test_faults_are_one_line(workplace: Path, cli: Cli, arguments: tuple[str, ...], code: int, says: str):
    service.run_all("truth", "tiny")
    got, _, err = cli("data", "export", *arguments, "--format", "coco", "--to", "out")
    assert got == code, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert says in line


def test_a_run_whose_predictions_are_gone(workplace: Path, cli: Cli):
    (run,) = service.run_all("truth", "tiny")
    (Path(run.stored.folder) / "predictions.jsonl").unlink()
    code, _, err = cli("data", "export", "--run", run.stored.id, "--format", "coco", "--to", "out")
    assert code == 3
    assert "the predictions of run 1 are gone" in err
