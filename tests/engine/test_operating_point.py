"""From which confidence detections count, where a protocol knows none."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label
from tifffile import imread

from bench.api import Instances, to_gray
from bench.data import open_dataset
from bench.engine import operating_point
from bench.metrics import score

SHAPE = (40, 60)


def squares(*corners, scores=None, side=8):
    masks = np.zeros((len(corners), *SHAPE), bool)
    for mask, (row, column) in zip(masks, corners, strict=True):
        mask[row : row + side, column : column + side] = True
    return Instances.from_masks(masks, scores=None if scores is None else np.array(scores))


TRUTH = squares((2, 2), (2, 20), (20, 2))
FOUND = squares((2, 2), (2, 20), (20, 2), (20, 40), (30, 50), scores=[0.9, 0.6, 0.4, 0.3, 0.1])
"""Three right ones, and below them two inventions."""


def values(min_score, found=FOUND):
    scores = score([TRUTH], [found], ["panoptic", "kaggle", "ctc", "voc", "coco"], intervals=False, min_score=min_score)
    return {name: protocol.results[0].value for name, protocol in scores.protocols.items()}, scores


def test_protocols_without_confidence_count_from_it_on():
    assert values(None)[0]["panoptic"] == pytest.approx(3 / (3 + 2 / 2))
    assert values(0.35)[0]["panoptic"] == 1.0
    assert values(0.35)[0]["kaggle"] == 1.0
    assert values(0.6)[0]["panoptic"] == pytest.approx(2 / (2 + 1 / 2))  # from 0.6 on, itself included
    assert values(0.6)[0]["ctc"] == pytest.approx(2 / 3)
    assert values(2.0)[0]["panoptic"] == 0.0


def test_average_precision_orders_all_of_them_still():
    everything = values(None)[0]
    for min_score in (0.35, 0.95):
        found = values(min_score)[0]
        assert (found["voc"], found["coco"]) == (everything["voc"], everything["coco"])


def test_without_scores_nothing_changes():
    plain = squares((2, 2), (2, 20), (20, 2), (20, 40))
    assert values(0.99, plain)[0] == values(None, plain)[0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.95]), min_size=5, max_size=5), st.floats(0, 1))
def test_it_is_the_same_as_scoring_what_is_sure_enough(confidences, min_score):
    found = FOUND.take(np.arange(5))
    found = Instances(found.height, found.width, found.rles, found.class_ids, np.array(confidences), found.boxes)
    whole, _ = values(min_score, found)
    kept, _ = values(None, found.at_least(min_score))
    for protocol in ("panoptic", "kaggle", "ctc"):
        assert whole[protocol] == kept[protocol]


# -- in a run -------------------------------------------------------------------------------------------


METHOD = '''
import numpy as np
from scipy import ndimage
from bench.api import Instances, Method, Schedule, to_gray


class Doubtful(Method):
    """Finds every cell with 0.62, and beside each a shadow of it with 0.41."""

    name = "doubtful"
    title = "Doubtful"
    trainable = False
    inits = ("none",)
    schedules = {"paper": Schedule(), "smoke": Schedule()}

    def predict(self, image):
        labels, _ = ndimage.label(to_gray(image) > 1)
        cells = Instances.from_label_map(labels)
        shadows = Instances.from_label_map(np.roll(labels, 3, axis=0) * (labels == 0))
        masks = np.concatenate([cells.to_masks(), shadows.to_masks()])
        scores = np.repeat([0.62, 0.41], [len(cells), len(shadows)])
        return Instances.from_masks(masks, scores=scores).top(self.task.max_detections)
'''


@pytest.fixture
def doubtful(workplace: Path, monkeypatch):
    folder = workplace / "methods_here"
    folder.mkdir()
    (folder / "doubtful.py").write_text(METHOD)
    monkeypatch.setenv("BENCH_METHODS", str(folder))
    return workplace


def stored(cli):
    code, out, _ = cli("show", "1", "--json")
    assert code == 0
    return json.loads(out)


def test_a_run_chooses_it_on_images_that_are_not_evaluated(doubtful, cli):
    code, _, err = cli("run", "-m", "doubtful", "-d", "tiny", "--schedule", "paper")
    assert code == 0, err
    shown = stored(cli)
    point = shown["counted from confidence"]
    assert point["min_score"] in (0.45, 0.5, 0.55, 0.6)
    assert point["split"] in ("val", "train")
    assert point["metric"] == "panoptic PQ"
    # Scored again from the folder, the numbers are the same.
    before = {name: result["value"] for name, result in shown["results"].items()}
    assert cli("rescore", "1")[0] == 0
    assert {name: r["value"] for name, r in stored(cli)["results"].items()} == before
    # Label images hold what was counted, and say so.
    code, _, err = cli(
        "data", "export", "--run", "1", "--format", "label-tiffs", "--to", "labels", "--overlap", "score"
    )
    assert code == 0, err
    said = json.loads((doubtful / "labels" / "provenance.json").read_text())
    assert said["counted_from_confidence"] == point["min_score"]
    split = open_dataset("tiny").split("test")
    written = sum(int(imread(path).max()) for path in (doubtful / "labels").rglob("*.tif"))
    assert written == sum(label(to_gray(sample.image) > 1)[1] for sample in split)  # the cells, none of the shadows


@pytest.mark.parametrize(("sure", "doubt"), [("620.0", "41.0"), ("-1.5", "-8.0"), ("3.5", "0.2")])
def test_scores_that_are_no_shares_are_told_apart_as_well(doubtful, cli, sure, doubt):
    path = doubtful / "methods_here" / "doubtful.py"
    path.write_text(path.read_text().replace("[0.62, 0.41]", f"[{sure}, {doubt}]"))
    code, _, err = cli("run", "-m", "doubtful", "-d", "tiny", "--schedule", "paper")
    assert code == 0, err
    point = stored(cli)["counted from confidence"]
    assert float(doubt) < point["min_score"] <= float(sure)


def test_the_confidences_that_are_tried():
    def scored(*scores: float) -> Instances:
        return Instances.from_masks(np.ones((len(scores), 4, 4), bool), scores=np.array(scores))

    tenths = tuple(step / 20 for step in range(20))
    assert operating_point.candidates([scored(0.0, 1.0), scored(0.3)]) == tenths
    assert operating_point.candidates([Instances.empty(4, 4)]) == tenths
    tried = operating_point.candidates([scored(*range(1, 51)), scored(*range(51, 101))])
    assert tried == tuple(sorted(tried))
    assert (len(tried), tried[0]) == (20, 1.0)
    assert set(tried) <= set(range(1, 101))


def test_a_method_without_confidence_shows_none(workplace, cli):
    assert cli("run", "-m", "otsu_watershed", "-d", "tiny")[0] == 0
    assert stored(cli)["counted from confidence"] is None


def test_a_damaged_choice_is_not_used_and_is_made_again_by_force(doubtful, cli):
    assert cli("run", "-m", "doubtful", "-d", "tiny", "--schedule", "paper")[0] == 0
    (path,) = (doubtful / "runs").rglob("operating_point.json")
    whole = path.read_text()
    path.write_text("")
    assert cli("show", "1")[0] == 0
    code, _, err = cli("rescore", "1")
    assert code == 3
    assert "operating_point.json are not those of run 1 any more" in err
    assert cli("run", "-m", "doubtful", "-d", "tiny", "--schedule", "paper", "--force")[0] == 0
    assert path.read_text() == whole


def test_exported_results_say_from_where_they_count(doubtful, cli):
    assert cli("run", "-m", "doubtful", "-d", "tiny", "--schedule", "paper")[0] == 0
    counted = stored(cli)["counted from confidence"]["min_score"]
    code, _, err = cli("data", "export", "--run", "1", "--format", "coco", "--to", "out")
    assert code == 0, err
    assert f"--min-score {counted:g}" in err
    assert json.loads((doubtful / "out" / "provenance.json").read_text())["counted_from_confidence"] == counted
    given = ("--pred", "out/results.json", "--min-score", counted, "--missing-is-empty")
    code, _, err = cli("submit", "-d", "tiny", "--name", "x", *given)
    assert code == 0, err
    first, second = (json.loads(cli("show", number, "--json")[1])["results"] for number in ("1", "2"))
    for name in ("kaggle mAP@.5:.95", "voc AP@0.5"):
        assert first[name]["value"] == second[name]["value"]
