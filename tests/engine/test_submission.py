"""``bench submit``: anyone's prediction files as a run, and every way in which they can be wrong."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pybtex.database import parse_string
from pycocotools import mask as coco_mask

from bench.api import Instances, UsageError
from bench.data import open_dataset
from bench.data.writers import Annotated, write_coco, write_coco_results, write_kaggle, write_label_images
from bench.engine.statement import Statement
from bench.store import open_store


@pytest.fixture
def truths(workplace: Path) -> dict[str, Instances]:
    return {sample.id: sample.instances for sample in open_dataset("tiny").split("test")}


def annotated(truths: dict[str, Instances], scored: bool = False) -> list[Annotated]:
    """The truth as predictions, but one instance an image is missing."""
    found = []
    for id_, truth in truths.items():
        kept = truth.take(np.arange(1, len(truth)))
        scores = np.linspace(0.9, 0.5, len(kept)) if scored else None
        found.append(Annotated(id_, Instances(*kept.shape, kept.rles, scores=scores)))
    return found


def written(kind: str, truths: dict[str, Instances], folder: Path) -> tuple[Path, list[str]]:
    """Predictions as files of a kind, with the options they need."""
    folder.mkdir(exist_ok=True)
    its = annotated(truths, scored=kind.startswith("coco"))
    if kind == "labels":
        write_label_images(folder / "labels", its)
        return folder / "labels", []
    if kind == "labels by bare name":
        for one in its:
            Image.fromarray(one.instances.to_label_map().astype(np.uint16)).save(folder / f"{Path(one.id).name}.png")
        return folder, []
    if kind == "kaggle":
        write_kaggle(folder / "submission.csv", its, "row")
        return folder / "submission.csv", []
    if kind == "kaggle by column":
        write_kaggle(folder / "submission.csv", its, "column")
        return folder / "submission.csv", ["--rle", "column"]
    if kind == "coco by id":
        write_coco_results(folder / "results.json", its)
        return folder / "results.json", []
    numbers = {one.id: 100 + i for i, one in enumerate(its)}
    write_coco_results(folder / "results.json", its, numbers)
    listed = {
        "images": [{"id": n, "file_name": f"some/where/{Path(i).name}.png"} for i, n in numbers.items()],
        "categories": [{"id": 1, "name": "cell"}],
    }
    if kind == "coco by numbers":
        (folder / "numbers.json").write_text(json.dumps(listed))
        return folder / "results.json", ["--images", str(folder / "numbers.json")]
    assert kind == "coco with its own list"
    results = json.loads((folder / "results.json").read_text())
    (folder / "whole.json").write_text(json.dumps({**listed, "annotations": results}))
    return folder / "whole.json", []


KINDS = [
    "labels",
    "labels by bare name",
    "kaggle",
    "kaggle by column",
    "coco by id",
    "coco by numbers",
    "coco with its own list",
]


def submit(*more: object) -> tuple[object, ...]:
    return ("submit", "-d", "tiny", "--name", "My net", *more)


# -- every kind of file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_numbers_that_bench_score_gives(workplace: Path, cli, truths, kind: str):
    path, options = written(kind, truths, workplace / "mine")
    code, out, err = cli(*submit("--pred", path, *options, "--who", "Ada", "--how", "by hand", "--json"))
    assert code == 0, err
    run = json.loads(out)
    with open_store(read_only=True) as store:
        bundle = store.bundle(run["run"])
    numbers = {r.metric: r.value for r in bundle.results if r.protocol == "kaggle"}
    # All discs of an image but one are found, and nothing else: an independent count.
    expected = np.mean([(len(t) - 1) / len(t) for t in truths.values()])
    assert numbers["mAP@.5:.95"] == pytest.approx(expected)
    ap = run["protocols"]["voc"]["AP@0.5"]
    assert (ap["value"] is None) == (not kind.startswith("coco"))
    stored = bundle.run
    assert (stored.badge, stored.submitted_by, stored.note) == ("submitted", "Ada", "by hand")
    assert stored.complete
    assert stored.device == bundle.machine.cpu == "unknown"


def test_the_same_content_is_one_run_whatever_its_format(workplace: Path, cli, truths):
    labels, _ = written("labels", truths, workplace / "a")
    table, _ = written("kaggle", truths, workplace / "b")
    first = json.loads(cli(*submit("--pred", labels, "--json"))[1])
    again = json.loads(cli(*submit("--pred", labels, "--json"))[1])
    other = json.loads(cli(*submit("--pred", table, "--json"))[1])
    assert first["new"]
    assert not again["new"]
    assert not other["new"]
    assert {first["run"], again["run"], other["run"]} == {1}
    assert json.loads(cli("list", "runs", "--json")[1])["items"][1:] == []
    by_another = json.loads(cli(*submit("--pred", labels, "--who", "Bob", "--json"))[1])
    assert by_another["new"]
    forced = json.loads(cli(*submit("--pred", labels, "--force", "--json"))[1])
    assert forced["run"] == 3
    assert not list((workplace / "runs").rglob(".incoming*"))


def test_a_submission_is_scored_again_compared_and_drawn_as_a_measured_run(workplace: Path, cli, truths):
    path, _ = written("labels", truths, workplace / "mine")
    cli(*submit("--pred", path))
    cli("run", "-m", "truth", "-d", "tiny")
    _, before, _ = cli("show", "1", "--json")
    code, _, err = cli("rescore", "1")
    assert code == 0, err
    _, after, _ = cli("show", "1", "--json")
    assert json.loads(after)["results"] == json.loads(before)["results"]
    code, out, err = cli("compare", "1", "2", "--protocol", "kaggle", "--json")
    assert code == 0, err
    assert json.loads(out)["differences"][0]["difference"] != 0
    code, _, err = cli("show", "1", "--picture", "sheet.png")
    assert code == 0, err
    assert (workplace / "sheet.png").is_file()


def test_it_ranks_beside_measured_runs_and_says_that_it_is_submitted(workplace: Path, cli, truths):
    path, _ = written("coco by id", truths, workplace / "mine")
    cli(*submit("--pred", path, "--who", "Ada", "--seconds-per-image", "0.5", "--how", "by hand"))
    with open_store(read_only=True) as store:
        board = store.leaderboard("tiny")
    row = board.iloc[0]
    assert row["badge"] == "submitted"
    assert row["rank"] == 1
    assert row["submitted_by"] == "Ada"
    assert np.isnan(row["latency_median_ms"])  # what somebody states is no measurement
    assert row["note"] == "by hand; stated speed, not measured here: 0.5 s an image"


def test_a_later_submission_takes_the_place_of_the_same_persons_earlier_one(workplace: Path, cli, truths):
    first, _ = written("labels", truths, workplace / "a")
    second, _ = written("coco by id", truths, workplace / "b")
    for path, who in ((first, "Ada"), (second, "Ada"), (second, "Bob")):
        assert cli(*submit("--pred", path, "--who", who))[0] == 0
    with open_store(read_only=True) as store:
        board = store.leaderboard("tiny")
        assert len(store.runs()) == 3  # all are kept
    assert sorted(zip(board["run_id"], board["submitted_by"], strict=True)) == [(2, "Ada"), (3, "Bob")]


def test_a_lost_folder_is_made_whole_again(workplace: Path, cli, truths):
    path, _ = written("labels", truths, workplace / "mine")
    run = json.loads(cli(*submit("--pred", path, "--json"))[1])
    (Path(run["folder"]) / "predictions.jsonl").unlink()
    assert not json.loads(cli(*submit("--pred", path, "--json"))[1])["new"]
    assert cli("rescore", "1")[0] == 0


# -- frames of the Cell Tracking Challenge ----------------------------------------------------------------

CTC_CARD = """
name = "film"
title = "Two films"
description = "Made for a test."
licence = "CC0-1.0"
citation = "nobody (2020)"
url = "https://example.org"
folders = ["film"]
default_scheme = "sequence"

[task]
classes = ["cell"]
modality = "DIC"

[format]
name = "ctc"

[schemes.sequence]
rule = "parts"
splits = { train = ["01-gold"], test = ["02-gold"] }

[schemes.both]
rule = "parts"
splits = { test = ["01-gold", "02-gold"] }

[[protocols]]
name = "ctc"
"""


@pytest.fixture
def film(workplace: Path) -> Path:
    """Two sequences of three frames, and results that are the truth."""
    (workplace / "cards" / "film.toml").write_text(CTC_CARD)
    root = workplace / "data" / "film"
    for sequence in ("01", "02"):
        (root / f"{sequence}_GT" / "SEG").mkdir(parents=True)
        (root / sequence).mkdir()
        (workplace / "results" / f"{sequence}_RES").mkdir(parents=True)
        for frame in range(3):
            labels = np.zeros((32, 40), np.uint16)
            labels[4 + frame : 14, 5 : 15 + int(sequence)] = 1
            labels[20:28, 20 : 30 + frame] = 2
            tifffile.imwrite(root / sequence / f"t{frame:03d}.tif", (labels * 50 + frame).astype(np.uint8))
            tifffile.imwrite(root / f"{sequence}_GT" / "SEG" / f"man_seg{frame:03d}.tif", labels)
            tifffile.imwrite(workplace / "results" / f"{sequence}_RES" / f"mask{frame:03d}.tif", labels)
        (workplace / "results" / f"{sequence}_RES" / "res_track.txt").write_text("1 0 2 0\n")
    return workplace / "results"


def test_the_result_folders_of_the_cell_tracking_challenge(film: Path, cli):
    for arguments in (["--pred", film / "02_RES"], ["--pred", film, "--split", "both/test"]):
        code, out, err = cli("submit", "-d", "film", "--name", "Tracker", *arguments, "--json")
        assert code == 0, err
        run = json.loads(out)
        assert run["protocols"]["ctc"]["SEG"]["value"] == 1.0
    code, _, err = cli("submit", "-d", "film", "--name", "Tracker", "--pred", film / "01_RES")
    assert code == 3
    assert "no prediction for 3 of the 3 images" in err


# -- classes ----------------------------------------------------------------------------------------------


def test_classes_by_category_by_name_or_for_all(workplace: Path, cli, truths):
    card = (workplace / "cards" / "tiny.toml").read_text()
    two = card.replace('classes = ["cell"]', 'classes = ["cell", "nucleus"]').replace('"tiny"', '"two"', 1)
    (workplace / "cards" / "two.toml").write_text(two.replace('folders = ["tiny"]', 'folders = ["two"]'))
    (workplace / "data" / "two").symlink_to(workplace / "data" / "tiny")
    code, _, err = cli("show", "two")
    assert code == 0, err
    path, _ = written("labels", truths, workplace / "mine")
    code, _, err = cli("submit", "-d", "two", "--name", "x", "--pred", path)
    assert code == 2
    assert "says no classes" in err
    code, _, err = cli("submit", "-d", "two", "--name", "x", "--pred", path, "--class", "nukleus")
    assert code == 2
    assert "no class 'nukleus'" in err
    code, _, err = cli("submit", "-d", "two", "--name", "x", "--pred", path, "--class", "nucleus")
    assert code == 0, err
    results, _ = written("coco by id", truths, workplace / "coco")
    data = json.loads(results.read_text())
    data[0]["category_id"] = 3
    results.write_text(json.dumps(data))
    code, _, err = cli("submit", "-d", "two", "--name", "x", "--pred", results)
    assert code == 3
    assert "category 3" in err


# -- what is refused --------------------------------------------------------------------------------------


def without_one(path: Path) -> None:
    """Take one image's predictions away."""
    if path.is_dir():
        next(iter(sorted(path.rglob("*.tif")))).unlink()
        return
    if path.suffix == ".csv":
        lines = path.read_text().splitlines()
        last = lines[-1].partition(",")[0]
        path.write_text("\n".join(line for line in lines if not line.startswith(last + ",")) + "\n")
        return
    results = json.loads(path.read_text())
    path.write_text(json.dumps([r for r in results if r["image_id"] != results[-1]["image_id"]]))


@pytest.mark.parametrize("kind", ["labels", "kaggle", "coco by id"])
def test_missing_images_are_refused_unless_somebody_says_what_that_means(workplace: Path, cli, truths, kind: str):
    path, _ = written(kind, truths, workplace / "mine")
    without_one(path)
    code, _, err = cli(*submit("--pred", path))
    assert code == 3
    assert "no prediction for 1 of the 4 images of the split test" in err
    assert json.loads(cli("list", "runs", "--json")[1])["items"] == []
    code, out, err = cli(*submit("--pred", path, "--partial", "--json"))
    assert code == 0, err
    partial = json.loads(out)
    assert (partial["complete"], partial["n_images"]) == (False, 3)
    assert cli("rescore", "1")[0] == 0
    with open_store(read_only=True) as store:
        assert store.leaderboard("tiny")["rank"].isna().all()
    code, out, err = cli(*submit("--pred", path, "--missing-is-empty", "--json"))
    assert code == 0, err
    whole = json.loads(out)
    assert (whole["complete"], whole["n_images"], whole["new"]) == (True, 4, True)
    assert "nothing was found" in err
    kaggle = [run["protocols"]["kaggle"]["mAP@.5:.95"]["value"] for run in (partial, whole)]
    assert kaggle[1] == pytest.approx(kaggle[0] * 3 / 4)


def test_an_image_that_a_coco_file_lists_without_annotations_is_empty_and_not_missing(workplace: Path, cli, truths):
    path = workplace / "empty.json"
    write_coco(path, [Annotated(id_, Instances.empty(*t.shape)) for id_, t in truths.items()], ["cell"])
    code, out, err = cli(*submit("--pred", path, "--json"))
    assert code == 0, err
    assert json.loads(out)["protocols"]["kaggle"]["mAP@.5:.95"]["value"] == 0


def unknown_label(path: Path) -> None:
    tifffile.imwrite(path / "nobody.tif", np.zeros((64, 64), np.uint16))


def other_size(path: Path) -> None:
    tifffile.imwrite(sorted(path.rglob("*.tif"))[1], np.ones((64, 63), np.uint16))


def turned(path: Path) -> None:
    file = sorted(path.rglob("*.tif"))[0]
    tifffile.imwrite(file, np.zeros((32, 128), np.uint16))


def fractions(path: Path) -> None:
    tifffile.imwrite(sorted(path.rglob("*.tif"))[0], np.full((64, 64), 0.5, np.float32))


def cut(path: Path) -> None:
    file = sorted(path.rglob("*.tif"))[0]
    file.write_bytes(file.read_bytes()[:20])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (unknown_label, "a prediction for image nobody, which the data set does not have"),
        (other_size, "64 x 63 pixels"),
        (turned, "32 x 128 pixels"),
        (fractions, "integers"),
        (cut, "not a readable image"),
    ],
)
def test_a_wrong_label_image_is_named_and_nothing_is_stored(workplace: Path, cli, truths, damage, says: str):
    path, _ = written("labels", truths, workplace / "mine")
    damage(path)
    code, _, err = cli(*submit("--pred", path))
    assert code == 3, err
    assert says in err
    assert "Traceback" not in err
    assert ".tif" in err or "nobody" in err
    assert json.loads(cli("list", "runs", "--json")[1])["items"] == []
    assert not list((workplace / "runs").rglob("predictions.jsonl"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_id": "nobody"}, "image nobody, which the data set does not have"),
        ({"image_id": 7}, "image 7, which the data set does not have"),
        ({"segmentation": {"size": [64, 60], "counts": "`n1"}}, "result 0"),
        ({"segmentation": {"size": [64, 64], "counts": "~~"}}, "result 0"),
        ({"score": float("nan")}, "score is nan"),
        ({"score": None}, "has no score"),
    ],
)
def test_a_wrong_result_is_named(workplace: Path, cli, truths, change: dict, says: str):
    path, _ = written("coco by id", truths, workplace / "mine")
    results = json.loads(path.read_text())
    results[0] |= change
    path.write_text(json.dumps(results))
    code, _, err = cli(*submit("--pred", path))
    assert code == 3, err
    assert says in err


def test_an_image_that_a_file_lists_twice_is_refused(workplace: Path, cli, truths):
    results, _ = written("coco by numbers", truths, workplace / "mine")
    listed = json.loads((workplace / "mine" / "numbers.json").read_text())
    listed["images"][1]["id"] = listed["images"][0]["id"]
    (workplace / "twice.json").write_text(json.dumps(listed))
    code, _, err = cli(*submit("--pred", results, "--images", "twice.json"))
    assert code == 3
    assert err.startswith("error: twice.json: two images have the id 100")


def test_a_table_without_a_header_does_not_fill_the_terminal(workplace: Path, cli):
    (workplace / "long.csv").write_text("test0," + "1 2 " * 100_000 + "\ntest1,1 2\n")
    code, _, err = cli(*submit("--pred", "long.csv"))
    assert code == 3
    assert err.startswith("error: long.csv: its columns are test0, 1 2 1 2 ")
    assert len(err) < 300


WITHOUT_CONFIDENCE = [("--rle", "row"), ("--images", "x.json"), ("--min-score", "0.5")]


@pytest.mark.parametrize("option", WITHOUT_CONFIDENCE)
def test_whatever_is_wrong_with_the_files_leads_with_their_path(workplace: Path, cli, truths, option):
    path, _ = written("labels", truths, workplace / "mine")
    code, _, err = cli(*submit("--pred", path, *option))
    assert code == 2
    assert err.startswith(f"error: {path}: ")


def test_two_predictions_for_an_image_are_refused(workplace: Path, cli, truths):
    path, _ = written("labels", truths, workplace / "mine")
    first = sorted(path.rglob("*.tif"))[0]
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(first.with_suffix(".png"))
    code, _, err = cli(*submit("--pred", path))
    assert code == 3
    assert "both" in err


def test_more_predictions_than_count_are_refused(workplace: Path, cli, truths):
    card = workplace / "cards" / "tiny.toml"
    card.write_text(
        card.read_text().replace('modality = "fluorescence"', 'modality = "fluorescence"\nmax_detections = 3')
    )
    path, _ = written("labels", truths, workplace / "mine")
    code, _, err = cli(*submit("--pred", path))
    assert code == 3
    assert "where at most 3 count" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--pred", "nowhere"), 3, "error: nowhere: no such file or folder (give a COCO results JSON"),
        (("--pred", "data/tiny/test/labels/test0.png"), 3, "of a single image, give its folder"),
        (("--pred", "cards"), 3, "no label image"),
        (("--pred", "cards/tiny.toml"), 3, "neither a folder nor"),
        (("--pred", "mine/labels", "--split", "tset"), 2, "'tset'"),
        (("--pred", "mine/labels", "--rle", "row"), 2, "--rle is for a Kaggle submission"),
        (("--pred", "mine/labels", "--images", "x.json"), 2, "--images is for COCO results"),
        (("--pred", "mine/labels", "--seconds-per-image", "-1"), 2, "is not above 0"),
        (("--pred", "mine/labels", "--seconds-per-image", "nan"), 2, "is not above 0"),
        (("--pred", "mine/labels", "--url", "javascript:alert(1)"), 2, "is no web address"),
        (("--pred", "mine/labels", "--name", "  "), 2, "needs a name"),
        (("--pred", "mine/labels", "--name", "x" * 101), 2, "longer than 100"),
        (("--pred", "mine/labels", "--name", "Truth"), 2, "is a method of this program"),
        (("--pred", "mine/labels", "--real", "-d", "neural"), 3, "neural"),
    ],
)
def test_a_mistake_is_one_line(workplace: Path, cli, truths, arguments, code: int, says: str):
    written("labels", truths, workplace / "mine")
    got, _, err = cli(*submit(*arguments))
    assert got == code, err
    assert says in err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1


# -- untrusted text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../../../../escape",
        "/etc/passwd",
        "..",
        "a/b\\c",
        "C:\\windows\\nul",
        "<script>alert(1)</script>",
        "名前 with ünïcode",
        "'; DROP TABLE run; --",
        "{{7*7}} %s {0}",
        "-rf",
    ],
)
def test_a_name_goes_nowhere_and_is_shown_harmlessly(workplace: Path, cli, truths, name: str):
    path, _ = written("labels", truths, workplace / "mine")
    before = {p for p in workplace.parent.rglob("*") if "mine" not in p.parts}
    code, _, err = cli("submit", "-d", "tiny", f"--name={name}", "--pred", path, "--who", name, "--note", name)
    assert code == 0, err
    submitted = (workplace / "runs" / "tiny" / "submitted").resolve()
    made = {p for p in workplace.parent.rglob("*") if "mine" not in p.parts} - before
    (folder,) = [p.parent for p in made if p.name == "predictions.jsonl"]
    assert folder.parent.parent == submitted
    assert folder.parent.name.replace("-", "").replace("_", "").isalnum()
    assert len(folder.parent.name) < 60
    assert json.loads(cli("list", "runs", "--json")[1])["items"][0]["run"] == 1
    with open_store(read_only=True) as store:
        assert store.run(1).badge == "submitted"


STEERING = {
    "a terminal sequence": "\x1b[31mred\x1b[0m",
    "a line break": "mine\nerror: none",
    "a tab": "a\tb",
    "a paragraph separator": "a\u2029b",
    "the direction of writing": "net \u202e07.5 :tsal",
    "an isolate": "net \u2067abc",
    "no Unicode": "\udcff",
    "a C1 control": "a\x9b31mb",
    "a zero width space": "unet-bce\u200b",
    "a soft hyphen": "a\xadb",
    "a joiner between Latin letters": "abc\u200ddef",
    "a mark of direction": "abc\u200fdef",
    "a mark of direction in Arabic": "abc\u061cdef",
    "a non-joiner between Latin letters": "abc\u200cdef",
    "a joiner that joins nothing": "abc\u200d",
    "a tag": "net\U000e0041",
    "a blank letter": "net\u3164x",
}


@pytest.mark.parametrize("text", STEERING.values(), ids=STEERING)
def test_text_that_steers_a_terminal_or_breaks_a_line_is_refused(workplace: Path, cli, text: str):
    for option in ("name", "who", "paper", "url"):
        given = {"name": "Mine", option: f"https://example.org/{text}" if option == "url" else text}
        options = [f"--{key}={value}" for key, value in given.items()]
        code, _, err = cli("submit", "-d", "tiny", "--pred", "mine", *options)
        assert code == 2, err
        assert err.startswith(f"error: --{option} ")
        assert err.count("\n") == 1
        assert err.rstrip("\n").isprintable()


OURS = [
    *("Mask R-CNN", "mask r-cnn", "Ｍask R-CNN", "Mask  R\u2011CNN", "Mask R\u2013CNN", "Mask\xa0R-CNN"),
    *("unet", "UNET-BCE", "unet-bce\ufe0f", "unet\u2010bce", "Truth (control)", "U-Net, BCE loss"),
]


@pytest.mark.parametrize("name", OURS)
def test_a_name_that_looks_like_a_method_of_this_program_is_refused(name: str):
    with pytest.raises(UsageError, match="is a method of this program"):
        Statement(name)


@pytest.mark.parametrize("name", ["\ufe0f", "\u2800", " \ufe0f "])
def test_a_name_that_nobody_sees_is_none(name: str):
    with pytest.raises(UsageError, match="needs a name"):
        Statement(name)


@pytest.mark.parametrize(
    "name",
    [
        *("Mask R-CNN by me", "my unet", "U-Net++", "μNet", "Split and merge", "سلول\u200cها", "क्\u200dष", "ක්\u200dෂ"),
        *("👩\u200d🔬 net", "👩🏽\u200d🔬", "❤\ufe0f\u200d🔥", "葛\U000e0100飾"),
    ],
)
def test_names_of_any_script_are_taken(name: str):
    assert Statement(name, who=name, note=name).name == name


def test_a_note_may_have_lines_but_no_terminal_sequences(workplace: Path, cli, truths):
    path, _ = written("labels", truths, workplace / "mine")
    assert cli("submit", "-d", "tiny", "--name", "Mine", "--pred", path, "--note", "one\x1b[2J")[0] == 2
    assert cli("submit", "-d", "tiny", "--name", "Mine", "--pred", path, "--note", "one\n\ttwo")[0] == 0


def test_what_a_database_holds_already_is_shown_harmlessly(workplace: Path, cli, truths):
    """A database may come from anywhere, and hold what no submission to this version can."""
    path, _ = written("labels", truths, workplace / "mine")
    assert cli("submit", "-d", "tiny", "--name", "Mine", "--who", "Me", "--pred", path)[0] == 0
    with sqlite3.connect("bench.db") as db:
        db.execute("UPDATE method_version SET title = ?, name = ?", ("evil\x1b[2J\u202e\n1 2 3", "evil\x1b[2J\u202e"))
        db.execute("UPDATE run SET submitted_by = ?, note = ?", ("\x1b]0;me\x07", "\x1b[2J"))
    calls = [("list", "runs"), ("show", "1"), ("rescore",), ("compare", "1", "1"), ("export", "-d", "tiny")]
    calls += [("export", "-d", "tiny", "--format", form) for form in ("text", "markdown", "latex", "bibtex")]
    for call in calls:
        _, out, err = cli(*call)
        assert all(line.isprintable() for line in (out + err).replace("\r\n", "\n").split("\n")), call
    assert "evil\\x1b" in cli("list", "runs")[1]


def test_names_that_look_alike_as_folders_stay_apart(workplace: Path, cli, truths):
    path, _ = written("labels", truths, workplace / "mine")
    for name in ("a/b", "a:b", "a b"):
        assert cli("submit", "-d", "tiny", "--name", name, "--pred", path)[0] == 0
    assert len(list((workplace / "runs" / "tiny" / "submitted").iterdir())) == 3


# -- data sets whose annotation file numbers the images ---------------------------------------------------

COCO_CARD = """
name = "numbered"
title = "Numbered"
description = "Made for a test."
licence = "CC0-1.0"
citation = "nobody (2020)"
url = "https://example.org"
folders = ["numbered"]
default_scheme = "official"

[task]
classes = ["round", "long"]
modality = "phase contrast"

[format]
name = "coco"
id = "{part}/{stem}"
images = ["images"]

[format.annotations]
train = ["train.json"]
test = ["test.json"]

[schemes.official]
rule = "parts"
splits = { train = ["train"], test = ["test"] }

[[protocols]]
name = "coco"
"""


@pytest.fixture
def numbered(workplace: Path) -> Path:
    """Two images a part, numbered 7 and 9 in both parts; the categories are 4 (long) and 11 (round)."""
    (workplace / "cards" / "numbered.toml").write_text(COCO_CARD)
    root = workplace / "data" / "numbered"
    (root / "images").mkdir(parents=True)
    for part, shift in (("train", 0), ("test", 3)):
        whole: dict = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 11, "name": "round"}, {"id": 4, "name": "long"}],
        }
        for number in (7, 9):
            labels = np.zeros((30, 40), np.uint16)
            labels[3 + shift : 12, 4:number] = 1
            labels[18:26, number : 30 + shift] = 2
            name = f"{part}{number}.png"
            Image.fromarray((labels * 70 + number).astype(np.uint8)).save(root / "images" / name)
            whole["images"].append({"id": number, "file_name": name, "height": 30, "width": 40})
            for label, category in ((1, 11), (2, 4)):
                mask = Instances.from_masks((labels == label)[None])
                whole["annotations"].append(
                    {
                        "id": len(whole["annotations"]) + 1,
                        "image_id": number,
                        "category_id": category,
                        "segmentation": {"size": [30, 40], "counts": mask.rles[0].decode()},
                        "iscrowd": 0,
                    }
                )
        (root / f"{part}.json").write_text(json.dumps(whole))
    return root


def results_of(path: Path) -> list[dict]:
    annotations = json.loads(path.read_text())["annotations"]
    return [{k: a[k] for k in ("image_id", "category_id", "segmentation")} | {"score": 0.5} for a in annotations]


def test_numbers_and_categories_are_those_of_the_annotation_file(numbered: Path, workplace: Path, cli):
    (workplace / "results.json").write_text(json.dumps(results_of(numbered / "test.json")))
    code, out, err = cli("submit", "-d", "numbered", "--name", "x", "--pred", "results.json", "--json")
    assert code == 0, err
    assert json.loads(out)["protocols"]["coco"]["AP"]["value"] == 1.0
    swapped = [r | {"category_id": 15 - r["category_id"]} for r in results_of(numbered / "test.json")]
    (workplace / "swapped.json").write_text(json.dumps(swapped))
    code, out, err = cli("submit", "-d", "numbered", "--name", "x", "--pred", "swapped.json", "--json")
    assert code == 0, err
    assert json.loads(out)["protocols"]["coco"]["AP"]["value"] == 0.0
    # The results of the other part have the same numbers, but not the masks.
    (workplace / "train.json").write_text(json.dumps(results_of(numbered / "train.json")))
    code, out, err = cli("submit", "-d", "numbered", "--name", "x", "--pred", "train.json", "--json")
    assert code == 0, err
    assert json.loads(out)["protocols"]["coco"]["AP"]["value"] < 1.0


def test_predictions_for_other_images_of_the_data_set_are_left_out_and_that_is_said(workplace: Path, cli):
    everything = open_dataset("tiny").everything()
    write_label_images(workplace / "all", [Annotated(s.id, s.instances) for s in everything])
    code, out, err = cli(*submit("--pred", "all", "--json"))
    assert code == 0, err
    assert json.loads(out)["n_images"] == 4
    assert "predictions for images outside the split test are left out: 7" in err


def test_real_images(shared_data: Path, workplace: Path, cli):
    """Otsu's threshold on real nuclei, brought as label images under the images' own file names."""
    from skimage import filters, measure

    split = open_dataset("bbbc039", shared_data, stand_in=False).split("test")
    (workplace / "otsu").mkdir()
    for sample, entry in zip(split, split.entries, strict=True):
        labels = measure.label(sample.image > filters.threshold_otsu(sample.image))
        tifffile.imwrite(workplace / "otsu" / f"{entry.image.stem}.tif", labels.astype(np.uint16))
    arguments = (
        "submit",
        "-d",
        "bbbc039",
        "--data-root",
        shared_data,
        "--real",
        "--name",
        "Otsu",
        "--pred",
        "otsu",
        "--json",
    )
    code, out, err = cli(*arguments)
    assert code == 0, err
    run = json.loads(out)
    assert run["source"] == "real"
    assert run["protocols"]["kaggle"]["mAP@.5:.95"]["value"] > 0.5
    assert cli("show", "1", "--picture", "sheet.png", "--data-root", shared_data)[0] == 0


# -- what is exported of it -------------------------------------------------------------------------------


EVERYTHING = (
    "--who", "Ada Lovelace", "--how", "by hand", "--url", "https://x.org/}{?a=1%",
    "--paper", "A {x of σ & Sjögren, 2020", "--seconds-per-image", "0.5",
)  # fmt: skip


@pytest.mark.parametrize(
    "options", [EVERYTHING, EVERYTHING[4:6], EVERYTHING[6:8], ()], ids=["all", "url", "paper", "none"]
)
def test_every_export_of_a_submission_with_every_option(workplace: Path, cli, truths, options: tuple[str, ...]):
    path, _ = written("coco by id", truths, workplace / "mine")
    assert cli(*submit("--pred", path, *options))[0] == 0
    for form in ("csv", "latex", "markdown", "json", "text", "bibtex"):
        code, out, err = cli("export", "-d", "tiny", "--format", form)
        assert code == 0, (form, err)
        assert ("My net" in out) == (form != "bibtex" or options != ())
        if form == "bibtex":
            entries = parse_string(out, "bibtex").entries
    assert len(entries) == (2 if options else 1)
    code, _, err = cli("export", "--html", "public")
    assert code == 0, err
    assert parse_string((workplace / "public" / "references.bib").read_text(encoding="utf-8"), "bibtex").entries
    if options == EVERYTHING:
        entry = next(entry for key, entry in entries.items() if not key.startswith("dataset_"))
        assert [str(person) for person in entry.persons["author"]] == ["Lovelace, Ada"]
        assert entry.fields["title"] == "{My net}"
        assert entry.fields["url"] == "https://x.org/%7D%7B?a=1%25"
        assert entry.fields["note"] == r"A \textbraceleft{}x of $\sigma$ \& Sj{\"{o}}gren, 2020"
        assert entry.fields["year"] == str(datetime.now(UTC).year)


def test_what_an_older_version_stored_is_exported(workplace: Path, cli, truths):
    path, _ = written("labels", truths, workplace / "mine")
    assert cli(*submit("--pred", path, "--paper", "x"))[0] == 0
    with sqlite3.connect("bench.db") as db:
        db.execute("UPDATE method_version SET paper = ?", (json.dumps({"title": "Old", "url": ""}),))
    code, out, err = cli("export", "--format", "bibtex")
    assert code == 0, err
    assert sorted(parse_string(out, "bibtex").entries) == ["dataset_tiny", "old"]
    assert cli("export", "--html", "public")[0] == 0


# -- what it was trained on -------------------------------------------------------------------------------


def test_trained_on_the_evaluated_data_set_is_marked_and_never_ranks(workplace: Path, cli, truths):
    card = (workplace / "cards" / "tiny.toml").read_text()
    (workplace / "cards" / "same.toml").write_text(card.replace('"tiny"', '"same"', 1))  # the same files, another card
    other = card.replace('"tiny"', '"other"', 1).replace('folders = ["tiny"]', 'folders = ["other"]')
    (workplace / "cards" / "other.toml").write_text(other)
    path, _ = written("coco by id", truths, workplace / "mine")
    for who, named in (("Ada", "tiny,other"), ("Bob", "other"), ("Cyd", "same"), ("Dan", None)):
        said = ("--trained-on", named) if named else ()
        code, _, err = cli(*submit("--pred", path, "--who", who, *said))
        assert code == 0, err
    with open_store(read_only=True) as store:
        board = store.leaderboard("tiny").set_index("submitted_by")
        said = {run.submitted_by: store.provenance(run.id).arguments.get("trained_on") for run in store.runs()}
    assert said == {"Ada": ["tiny", "other"], "Bob": ["other"], "Cyd": ["same", "tiny"], "Dan": None}
    marked = "submitted, trained-on-this"
    assert board["badges"].to_dict() == {"Ada": marked, "Bob": "submitted", "Cyd": marked, "Dan": "submitted"}
    assert board["rank"].notna().to_dict() == {"Ada": False, "Bob": True, "Cyd": False, "Dan": True}
    assert marked in cli("export", "-d", "tiny", "--format", "latex")[1]
    assert "other" in cli("show", "1")[1]


def test_the_same_predictions_with_another_statement_take_the_place_of_the_earlier_ones(workplace: Path, cli, truths):
    path, _ = written("coco by id", truths, workplace / "mine")

    def submitted(*said: object) -> tuple[int, bool]:
        code, out, err = cli(*submit("--pred", path, "--json", *said))
        assert code == 0, err
        return json.loads(out)["run"], json.loads(out)["new"]

    first = submitted()
    assert (first, submitted()) == ((1, True), (1, False))
    knows = submitted("--trained-on", "tiny")
    assert (knows, submitted("--trained-on", "tiny")) == ((2, True), (2, False))
    with open_store(read_only=True) as store:
        assert [run.superseded for run in store.runs_by_id([1, 2])] == [True, False]
        board = store.leaderboard("tiny")
        assert board[["run_id", "badges"]].values.tolist() == [[2, "submitted, trained-on-this"]]
        assert board["rank"].isna().all()
        values = store.ranking_values()
        assert values[["run_id", "may_rank"]].values.tolist() == [[2, False]], "as the board has it"
    assert (
        "it takes the place of run 2, of which something else was said"
        in cli(*submit("--pred", path, "--how", "by hand", "--json"))[1]
    )
    with open_store(read_only=True) as store:
        (run,) = store.runs()
        assert (run.id, run.note) == (3, "by hand")
        assert store.leaderboard("tiny")["rank"].tolist() == [1]


def test_trained_on_an_unknown_data_set_is_refused_with_the_nearest_names(workplace: Path, cli, truths):
    path, _ = written("labels", truths, workplace / "mine")
    code, _, err = cli(*submit("--pred", path, "--trained-on", "tinny"))
    assert code == 2
    assert err.count("\n") == 1
    assert "unknown data set 'tinny' (did you mean tiny" in err
    assert not (workplace / "runs").exists()


def test_the_confidence_from_which_they_count_is_the_authors_to_say(workplace: Path, cli, truths):
    path, options = written("coco by id", truths, workplace / "mine")
    results = json.loads(path.read_text())
    # The cells are sure; in each image a doubtful invention lies over its upper rows.
    sure = [{**result, "score": 0.9} for result in results]
    doubtful = []
    for image in {result["image_id"] for result in results}:
        height, width = next(r["segmentation"]["size"] for r in results if r["image_id"] == image)
        rows = np.zeros((height, width), np.uint8, order="F")
        rows[:4] = 1
        counts = coco_mask.encode(rows)["counts"].decode()
        mask = {"size": [height, width], "counts": counts}
        doubtful.append({"image_id": image, "category_id": 1, "score": 0.1, "segmentation": mask})
    path.write_text(json.dumps(sure + doubtful))
    assert cli("submit", "-d", "tiny", "--name", "all", "--pred", path, *options)[0] == 0
    code, _, err = cli("submit", "-d", "tiny", "--name", "sure", "--min-score", "0.2", "--pred", path, *options)
    assert code == 0, err
    kaggle = []
    for number in ("1", "2"):
        shown = json.loads(cli("show", number, "--json")[1])
        kaggle.append(shown["results"]["kaggle mAP@.5:.95"]["value"])
    assert shown["counted from confidence"]["min_score"] == 0.2
    assert kaggle[0] < kaggle[1]
    labels, _ = written("labels", truths, workplace / "labels")
    code, _, err = cli("submit", "-d", "tiny", "--name", "labels", "--min-score", "0.2", "--pred", labels)
    assert code == 2
    assert "has no confidences" in err
