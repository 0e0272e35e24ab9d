"""``bench data`` as a user meets it."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from bench.cli import main
from bench.data import open_dataset
from bench.data.readers import open_reader

STAND_IN = '\n[stand_in]\ngenerator = "neural"\nseed = 4\nparams = { train = 2, val = 1, test = 1 }\n'


@pytest.fixture
def data(capsys: pytest.CaptureFixture[str]):
    """Runs ``bench data ...`` in this process: ``data("list") -> (exit code, stdout, stderr)``."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(["data", *arguments])
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return call


def the_error(err: str) -> str:
    """The one line that says what is wrong."""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


def write_card(workplace: Path, before: str, after: str) -> None:
    path = workplace / "cards" / "tiny.toml"
    path.write_text(path.read_text().replace(before, after))


# -- list ----------------------------------------------------------------------------------------------


def test_list_says_what_is_here_and_what_a_stand_in_is(workplace: Path, data):
    code, out, _ = data("list")
    assert code == 0
    assert f"data root: {workplace / 'data'}" in out
    rows = {line.split()[0]: line for line in out.splitlines()[2:]}
    assert "real" in rows["tiny"]
    assert "stand-in can be made" in rows["livecell"]
    assert "5387" in rows["livecell"]
    assert "bench data download sartorius" in rows["sartorius"]
    assert data("check", "tiny")[0] == 0
    listed = json.loads(data("list", "--json")[1])
    tiny = next(item for item in listed["items"] if item["name"] == "tiny")
    assert (tiny["state"], tiny["images"]) == ("real", 11)
    labels = [np.asarray(Image.open(p)) for p in (workplace / "data" / "tiny").rglob("labels/*.png")]
    assert tiny["instances"] == sum(len(np.unique(a)) - 1 for a in labels)
    assert tiny["folder"] == str(workplace / "data" / "tiny")


def test_list_names_a_broken_card_beside_the_others(workplace: Path, data):
    (workplace / "cards" / "broken.toml").write_text("name = 3\n")
    code, out, err = data("list")
    assert code == 0
    assert "tiny" in out
    assert "broken is left out" in err


# -- check ---------------------------------------------------------------------------------------------


def test_check_of_a_sound_set(workplace: Path, data):
    code, out, err = data("check", "tiny", "--html", "page.html")
    assert code == 0, err
    assert "all 11 were read" in out
    assert "data:image/png;base64" in (workplace / "page.html").read_text()
    report = json.loads(data("check", "tiny", "--json")[1])
    assert report["problems"] == 0
    assert [s["images"] for s in report["splits"]] == [5, 2, 4]


def test_check_names_every_broken_image_and_ends_with_3(workplace: Path, data):
    folder = workplace / "data" / "tiny"
    first, second = folder / "train" / "images" / "train1.png", folder / "test" / "labels" / "test2.png"
    first.write_bytes(first.read_bytes()[:200])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(second)
    code, out, err = data("check", "tiny")
    assert code == 3
    assert "2 problems" in the_error(err)
    problems = [line for line in out.splitlines() if line.startswith("PROBLEM")]
    assert len(problems) == 2
    assert any("train1.png: not a readable image" in line for line in problems)
    assert any("test2.png: the label image is 9 x 9" in line for line in problems)
    assert "9 were read" in out


def test_check_finds_a_leak_between_splits(workplace: Path, data):
    folder = workplace / "data" / "tiny"
    (folder / "test" / "images" / "test0.png").write_bytes((folder / "train" / "images" / "train0.png").read_bytes())
    code, out, err = data("check", "tiny")
    assert code == 3
    assert "leak: 1 image of test is also in train" in the_error(err)
    assert "duplicates" in out


def test_check_reports_objects_outside_the_image(workplace: Path, data):
    (workplace / "data" / "tiny2").mkdir()
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(workplace / "data" / "tiny2" / "a.png")
    polygons = [[30, 30, 60, 30, 60, 60, 30, 60], [2, 2, 9, 2, 9, 9], [39, 0, 40, 0, 40, 4, 39, 4]]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 40}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "segmentation": [p]} for i, p in enumerate(polygons, 1)
        ],
    }
    (workplace / "data" / "tiny2" / "all.json").write_text(json.dumps(content))
    card = (workplace / "cards" / "tiny.toml").read_text()
    format_table = '[format]\nname = "coco"\nannotations = { train = ["all.json"] }\n'
    card = card.replace("tiny", "tiny2").replace('splits = { train = ["train"], val = ["val"], test = ["test"] }',
                                                 'splits = { test = ["train"] }')  # fmt: skip
    begin, end = card.index("[format]"), card.index("[schemes.parts]")
    (workplace / "cards" / "tiny2.toml").write_text(card[:begin] + format_table + card[end:])
    code, out, err = data("check", "tiny2")
    assert code == 0, err
    assert "outside: " in out
    assert "1 annotations of a (the first: 1) reach outside the image, cut off at its border" in out


def test_notes_of_one_kind_do_not_flood_the_terminal(workplace: Path, data):
    from bench.data.check import Finding, Report, to_text

    notes = tuple(Finding("note", "left out", f"thing {i}") for i in range(50))
    text = to_text(Report("a", "A", "real", "there", "0", (*notes, Finding("problem", "counts", "two")), ()))
    assert text.count("thing") == 5
    assert "left out 45" in text
    assert text.splitlines()[-1] == "PROBLEM  counts: two"


# -- prepare -------------------------------------------------------------------------------------------


def test_prepare_once_then_the_download_is_not_needed(workplace: Path, data):
    (workplace / "data" / "tiny").rename(workplace / "download")
    code, out, err = data("prepare", "tiny", "--from", "download")
    assert code == 0, err
    assert out.startswith(f"prepared: {Path('data/prepared/tiny')}, 11 images")
    assert "already prepared" in data("prepare", "tiny", "--from", "download")[1]
    assert "prepared" in data("list")[1]
    assert data("check", "tiny")[0] == 0
    assert the_error(data("prepare", "tiny", "--from", "download", "--drop-duplicates")[2])


def test_prepare_without_duplicates(workplace: Path, data):
    folder = workplace / "data" / "tiny"
    (folder / "train" / "images" / "train3.png").write_bytes((folder / "test" / "images" / "test0.png").read_bytes())
    code, out, err = data("prepare", "tiny", "--drop-duplicates")
    assert code == 0, err
    assert "10 images" in out
    assert "note: tiny: train3: the same image as test0, left out" in err
    assert not (workplace / "data" / "prepared" / "tiny" / "images" / "train" / "images" / "train3.png").exists()
    assert data("check", "tiny")[0] == 0


def test_a_failed_prepare_leaves_the_former_one(workplace: Path, data):
    assert data("prepare", "tiny")[0] == 0
    before = open_dataset("tiny", workplace / "data").content_hash
    path = workplace / "data" / "tiny" / "val" / "images" / "val0.png"
    path.unlink()
    path.write_bytes(b"nothing")
    code, _, err = data("prepare", "tiny", "--again")
    assert code == 3
    assert "val0.png: not a readable image" in the_error(err)
    assert open_dataset("tiny", workplace / "data").content_hash == before
    assert [p.name for p in (workplace / "data" / "prepared").iterdir() if "lock" not in p.name] == ["tiny"]


# -- download ------------------------------------------------------------------------------------------


@pytest.fixture
def server(workplace: Path) -> Iterator[str]:
    """A server on this machine with the file ``notes.txt``; its address."""
    (workplace / "www").mkdir()
    (workplace / "www" / "notes.txt").write_text("read me")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(workplace / "www"), **options)

        def log_message(self, format: str, *arguments) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()
    thread.join()


def test_download_shows_the_licence_then_fetches_and_says_the_checksum(workplace: Path, data, server: str):
    path = workplace / "cards" / "tiny.toml"
    path.write_text(path.read_text() + f'\n[[downloads]]\nurl = "{server}/notes.txt"\nto = "notes.txt"\n')
    code, _, err = data("download", "tiny")
    assert code == 2
    assert "CC0-1.0" in the_error(err)
    assert "--accept-licence" in err
    code, out, err = data("download", "tiny", "--accept-licence")
    assert code == 0, err
    assert (workplace / "data" / "tiny" / "notes.txt").read_text() == "read me"
    assert f"sha256 {hashlib.sha256(b'read me').hexdigest()}  {server}/notes.txt" in out
    assert data("download", "tiny", "--accept-licence")[0] == 0


@pytest.mark.parametrize(
    ("name", "word"),
    [("sartorius", "kaggle competitions download"), ("dic_hela", "own page"), ("neural", "private"), ("tiny", "see")],
)
def test_what_may_not_be_fetched_says_what_to_do(workplace: Path, data, name: str, word: str):
    code, _, err = data("download", name, "--accept-licence")
    assert code == 2
    assert word in the_error(err)


# -- synth, show ---------------------------------------------------------------------------------------


def test_synth(workplace: Path, data):
    path = workplace / "cards" / "tiny.toml"
    path.write_text(path.read_text() + STAND_IN)
    code, out, err = data("synth", "tiny", "--to", "made")
    assert code == 0, err
    (folder,) = (workplace / "made").iterdir()
    assert out.strip() == f"{Path('made') / folder.name}: 4 images"
    first = {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*.png"))}
    assert len(first) == 8
    assert data("synth", "tiny", "--to", "made", "--seed", "9")[0] == 0
    assert len(list((workplace / "made").iterdir())) == 2
    assert data("synth", "tiny")[0] == 0
    again = next((workplace / "data" / "synthetic").iterdir())
    assert {p.relative_to(again): p.read_bytes() for p in sorted(again.rglob("*.png"))} == first
    assert data("check", "tiny", "--stand-in")[0] == 0


def test_another_seed_reaches_every_process(workplace: Path, data, monkeypatch: pytest.MonkeyPatch):
    from bench.data import synthetic

    path = workplace / "cards" / "tiny.toml"
    path.write_text(path.read_text() + STAND_IN)
    monkeypatch.setattr(synthetic, "_WORTH_A_PROCESS", 2)
    monkeypatch.setattr(synthetic, "processors", lambda: 2)
    data("synth", "tiny", "--to", "two", "--seed", "9")
    monkeypatch.setattr(synthetic, "processors", lambda: 1)
    data("synth", "tiny", "--to", "one", "--seed", "9")
    files = [sorted((workplace / kind).rglob("*.png")) for kind in ("one", "two")]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    assert len(files[0]) == 8


def test_show(workplace: Path, data):
    code, _, err = data("show", "tiny", "--split", "train", "--images", "3", "--picture", "sheets/a.png")
    assert code == 7
    assert "there is no folder sheets" in the_error(err)
    (workplace / "sheets").mkdir()
    code, out, err = data("show", "tiny", "--split", "train", "--images", "3", "--picture", "sheets/a.png")
    assert code == 0, err
    assert "3 images" in out
    with Image.open("sheets/a.png") as picture:
        assert picture.width > 3 * 64
    code, _, err = data("show", "tiny", "--split", "tain", "--picture", "a.png")
    assert code == 2
    assert "did you mean train" in the_error(err)


# -- export --------------------------------------------------------------------------------------------


def truth_of(workplace: Path, split: str) -> dict[str, np.ndarray]:
    return {
        p.stem: np.asarray(Image.open(p)).astype(np.uint16)
        for p in (workplace / "data" / "tiny" / split / "labels").glob("*.png")
    }


def as_masks(labels: np.ndarray) -> list[bytes]:
    return sorted(np.packbits(labels == i).tobytes() for i in np.unique(labels) if i)


def test_export_to_label_images_and_ctc(workplace: Path, data):
    expected = truth_of(workplace, "test")
    code, out, err = data("export", "tiny", "--format", "label-tiffs", "--to", "out/labels")
    assert code == 0, err
    assert "4 images" in out
    for stem, labels in expected.items():
        assert as_masks(tifffile.imread(workplace / "out" / "labels" / f"{stem}.tif")) == as_masks(labels)
    assert data("export", "tiny", "--format", "ctc", "--to", "out/ctc")[0] == 0
    for stem, labels in expected.items():
        found = tifffile.imread(workplace / "out" / "ctc" / "01_RES" / f"mask00{stem[-1]}.tif")
        assert as_masks(found) == as_masks(labels)
    rows = (workplace / "out" / "ctc" / "frames.csv").read_text().splitlines()
    assert "01_RES/mask002.tif,test2" in rows


@pytest.mark.parametrize(
    ("form", "more", "table"),
    [
        ("coco", (), {"name": "coco", "annotations": {"": ["annotations.json"]}, "images": ["."]}),
        ("kaggle", ("--rle", "row"), {"order": "row", "mask": "annotation", "id": "id"}),
        ("kaggle", ("--rle", "column"), {"order": "column"}),
    ],
)
def test_export_there_and_back(workplace: Path, data, form: str, more: tuple[str, ...], table: dict):
    code, _, err = data("export", "tiny", "--format", form, "--to", "out", "--split", "train", *more)
    assert code == 0, err
    folder = workplace / "data" / "tiny"
    if form == "kaggle":
        images = {"": ["train/images/{id}.png"]}
        table = {"name": "kaggle_csv", "images": images, "tables": {"": ["masks.csv"]}} | table
    for path in (workplace / "out").iterdir():
        path.rename(folder / path.name)
    opened = open_reader(table, Path("card.toml"), folder, ("cell",))
    entries = opened.index().entries
    expected = truth_of(workplace, "train")
    assert {e.id for e in entries} == set(expected)
    for entry in entries:
        masks = opened.truth(entry, 64, 64).instances.to_masks()
        assert sorted(np.packbits(m).tobytes() for m in masks) == as_masks(expected[entry.id])


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ('name = "vocc"', "unknown protocol 'vocc' (did you mean voc"),
        ('name = "voc"\nparams = { tresholds = [0.5] }', "protocol voc has no parameter 'tresholds'"),
        ('name = "voc"\nparams = { thresholds = "a" }', "'a' does not fit parameter 'thresholds'"),
    ],
)
def test_check_says_which_card_names_a_protocol_that_there_is_not(workplace: Path, data, to: str, says: str):
    card = workplace / "cards" / "tiny.toml"
    card.write_text(re.sub(r"(?s)\[\[protocols\]\].*?(?=\n\[|\Z)", "", card.read_text()) + f"\n[[protocols]]\n{to}\n")
    code, _, err = data("check", "tiny")
    assert code == 3
    assert "tiny.toml: protocols: " in the_error(err)
    assert says in the_error(err)


def test_what_was_left_out_when_reading_is_said(workplace: Path, data):
    labels = workplace / "data" / "tiny" / "test" / "labels"
    for i in range(30):
        (labels / f"lonely{i:02d}.png").write_bytes((labels / "test0.png").read_bytes())
    code, _, err = data("export", "tiny", "--format", "coco", "--to", "out")
    assert code == 0
    told = [line for line in err.splitlines() if line.startswith("note:")]
    assert told[0].endswith("lonely00.png: a label image without an image, left out")
    assert len(told) == 21
    assert told[-1] == "note: tiny: and 10 more; `bench data check tiny --json` has all"


def test_what_export_loses_is_said(workplace: Path, data):
    labels = workplace / "data" / "tiny" / "labels2" / "test"
    write_card(workplace, 'classes = ["cell"]', 'classes = ["cell", "nucleus"]')
    write_card(workplace, 'labels = ["{part}/labels/{stem}.png"]',
               'labels = { cell = ["{part}/labels/{stem}.png"], nucleus = ["labels2/{part}/{stem}.png"] }')  # fmt: skip
    for part, count in (("train", 5), ("val", 2), ("test", 4)):
        labels = workplace / "data" / "tiny" / "labels2" / part
        labels.mkdir(parents=True)
        for i in range(count):
            truth = np.asarray(Image.open(workplace / "data" / "tiny" / part / "labels" / f"{part}{i}.png"))
            Image.fromarray(np.where(truth == 1, 1, 0).astype(np.uint8)).save(labels / f"{part}{i}.png")
    code, _, err = data("export", "tiny", "--format", "label-tiffs", "--to", "out")
    assert code == 3
    assert "overlap" in the_error(err)
    assert not (workplace / "out").exists()
    code, _, err = data("export", "tiny", "--format", "label-tiffs", "--to", "out", "--overlap", "smallest")
    assert code == 0
    assert "instances overlap in 4 images" in err
    assert "nucleus" in (workplace / "out" / "classes.csv").read_text()
    code, _, err = data("export", "tiny", "--format", "kaggle", "--rle", "row", "--to", "out2")
    assert code == 0
    assert "the format has no classes" in err


# -- faults --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("check", "tyni"), 2, "unknown data set 'tyni' (did you mean tiny?)"),
        (("prepare", "tyni"), 2, "unknown data set"),
        (("synth", "tyni"), 2, "unknown data set"),
        (("synth", "tiny"), 2, "tiny has no stand-in"),
        (("check", "tiny", "--data-root", "nowhere"), 3, "the files of tiny are not there"),
        (("check", "livecell", "--real"), 3, "the files of livecell are not there"),
        (("prepare", "tiny", "--from", "nowhere"), 3, "nowhere: no such folder"),
        (("prepare", "tiny", "--from", "cards/tiny.toml"), 3, "a file, not a folder"),
        (("export", "tiny", "--format", "coco", "--to", "data"), 2, "data: there is something already"),
        (("export", "tiny", "--format", "kaggle", "--to", "new"), 2, "--rle row or --rle column"),
        (("export", "tiny", "--format", "ctc", "--to", "new", "--overlap", "mine"), 2, "unknown overlap policy"),
        (
            ("export", "tiny", "--format", "coco", "--to", "new", "--overlap", "score"),
            2,
            "--overlap score decides nothing",
        ),
        (
            ("export", "tiny", "--format", "kaggle", "--rle", "row", "--to", "new", "--overlap", "score"),
            2,
            "table of truth",
        ),
        (("export", "tiny", "--format", "coco", "--to", "new", "--rle", "row"), 2, "--rle row decides nothing in coco"),
        (("export", "--run", "1", "--format", "ctc", "--to", "new", "--rle", "row"), 2, "decides nothing in ctc"),
        (("export", "--run", "1", "--format", "coco", "--to", "new", "--overlap", "index"), 2, "decides nothing: coco"),
        (("show", "tiny", "--picture", "a.xyz"), 2, "--picture a.xyz: a sheet is written as PNG (name it a.png)"),
        (("show", "tiny", "--picture", "sheet"), 2, "name it sheet.png"),
        (("export", "tiny", "--format", "coco", "--to", "/proc/new"), 7, "/proc"),
        (("show", "tiny", "--picture", "/proc/a.png"), 7, "/proc/a.png: cannot be written"),
        (("check", "tiny", "--html", "/proc/a.html"), 7, "/proc/a.html: cannot be written"),
        (("prepare", "tiny", "--from", "data/tiny", "--data-root", "/proc/x"), 7, "cannot be written"),
    ],
)
def test_faults_are_one_line(workplace: Path, data, arguments: tuple[str, ...], code: int, says: str):
    got, _, err = data(*arguments)
    assert got == code, err
    assert says in the_error(err)


def test_a_full_disk_leaves_nothing(workplace: Path, data, monkeypatch: pytest.MonkeyPatch):
    really = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, content: bytes) -> int:
            raise OSError(28, "No space left on device")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    def opened(self: Path, mode: str = "r", *arguments, **options):
        file = really(self, mode, *arguments, **options)
        return Full(file) if mode == "wb" and "out" in str(self) else file

    monkeypatch.setattr(Path, "open", opened)
    code, _, err = data("export", "tiny", "--format", "label-tiffs", "--to", "out")
    assert code == 7
    assert "No space left on device" in the_error(err)
    assert not list(workplace.glob("*out*"))


@pytest.mark.parametrize("form", ["coco", "label-tiffs", "ctc", "kaggle"])
def test_exported_files_say_where_they_are_from(workplace: Path, data, form: str):
    card = (workplace / "cards" / "tiny.toml").read_text().replace('"tiny"', '"imitated"')
    (workplace / "cards" / "imitated.toml").write_text(card + STAND_IN)
    more = ("--rle", "row") if form == "kaggle" else ()
    for name, source in (("imitated", "synthetic"), ("tiny", "real")):
        code, _, err = data("export", name, "--format", form, "--to", name, "--split", "test", *more)
        assert code == 0, err
        said = json.loads((workplace / name / "provenance.json").read_text())
        assert (said["source"], said["dataset"], said["split"]) == (source, name, "test")
        assert ("no microscopy" in said["description"]) == (source == "synthetic")
        if form == "coco":
            assert json.loads((workplace / name / "annotations.json").read_text())["info"] == said
