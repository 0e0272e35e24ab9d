"""Checks of a data set, its overview and its contact sheet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bench.data import lettering, load_card, open_dataset
from bench.data.check import Report, check, to_html
from bench.data.overview import overview
from bench.data.prepare import prepare
from bench.data.sheet import OUTLINES, contact_sheet, outlined
from bench.errors import DataError
from bench.instances import Instances, Sample

PARTS = """
[format]
name = "label_pairs"
images = ["{part}/images/{stem}.png"]
labels = ["{part}/labels/{stem}.png"]
"""
SEEDED = 'rule = "seeded"\nseed = 1\nsplits = { train = 0.5, val = 0.25, test = 0.25 }'


def findings(report: Report, topic: str) -> list[str]:
    return [f"{f.level}: {f.text}" for f in report.findings if f.topic == topic]


@pytest.fixture
def mine(tmp_path: Path, write_card: Callable[..., Path], cells: NDArray[np.uint16]) -> Path:
    """A data root with eight images of ``mine``, of which the card expects nine."""
    path = write_card("mine")
    path.write_text(path.read_text() + "\n[expected]\nimages = 9\nsplits = { train = 4 }\n")
    for i in range(8):
        image = np.random.default_rng(i).integers(0, 256, cells.shape).astype(np.uint8)
        for kind, array in (("images", image), ("labels", cells)):
            target = tmp_path / "root" / "mine" / kind / f"im{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(target)
    return tmp_path / "root"


def test_a_report(mine: Path):
    calls = []
    report = check(open_dataset("mine", mine), lambda *call: calls.append(call))
    assert [c[:2] for c in calls] == [(i, 8) for i in range(1, 9)]
    assert findings(report, "counts") == ["problem: 8 images, the card expects 9", "ok: 4 images of train"]
    assert findings(report, "images") == ["ok: all 8 were read"]
    assert findings(report, "sizes") == ["ok: 40 x 50: 8"]
    assert findings(report, "kinds") == ["ok: 8 bit, 1 channel: 8"]
    assert findings(report, "classes") == ["ok: cell: 40"]
    assert findings(report, "pieces") == ["note: 8 instances are in several pieces"]
    assert findings(report, "overlap") == ["ok: no two instances of a class share a pixel"]
    assert findings(report, "duplicates") == ["ok: no image is there twice"]
    assert [str(p) for p in report.problems] == ["counts: 8 images, the card expects 9"]
    train = report.splits[0]
    assert (train.name, train.images, train.annotated, train.instances) == ("train", 4, 4, 20)
    assert (train.least, train.median, train.most) == (5, 5.0, 5)


def test_images_that_no_split_uses(tmp_path: Path, write_card: Callable[..., Path], cells: NDArray[np.uint16]):
    path = write_card("mine", format=PARTS)
    path.write_text(path.read_text().replace(SEEDED, 'rule = "parts"\nsplits = { train = ["train"], test = ["test"] }'))
    for part in ("train", "test", "validation"):
        for kind in ("images", "labels"):
            target = tmp_path / "mine" / part / kind / f"{part}.png"
            target.parent.mkdir(parents=True)
            Image.fromarray(cells.astype(np.uint8)).save(target)
    said = findings(check(open_dataset("mine", tmp_path)), "counts")
    assert "note: 1 image of the part 'validation' is in no split" in said
    path.write_text(path.read_text().replace('["train"]', '["trian"]').replace('["test"]', '["tset"]'))
    with pytest.raises(DataError, match="with images: none; the files have the parts test, train, validation"):
        open_dataset("mine", tmp_path).split()


def test_what_is_wrong_with_images(mine: Path, cards: Path, cells: NDArray[np.uint16]):
    labels, images = mine / "mine" / "labels", mine / "mine" / "images"
    Image.fromarray(cells * 0).save(labels / "im1.png")
    Image.fromarray(np.full((40, 50), 7, np.uint8)).save(images / "im2.png")
    cells[0, 0] = 55
    Image.fromarray(cells).save(labels / "im3.png")
    path = cards / "mine.toml"
    path.write_text(path.read_text().replace("[task]", "[task]\nmax_detections = 5"))
    report = check(open_dataset("mine", mine))
    assert findings(report, "truth") == ["note: 1 image has no instance"]
    assert "problem: 1 has one grey level only" in findings(report, "images")
    assert findings(report, "tiny") == ["note: 1 instance has 4 pixels or less"]
    assert findings(report, "cap") == ["problem: 1 image has more instances than max_detections = 5"]
    assert next(f.images for f in report.findings if f.topic == "cap") == ("im3",)


def test_a_leak_is_found_by_content(mine: Path):
    dataset = open_dataset("mine", mine)
    trained, tested = dataset.split("train").ids[1], dataset.split("test").ids[0]
    pixels = np.array(Image.open(mine / "mine" / "images" / f"{trained}.png"))
    Image.fromarray(pixels).save(mine / "mine" / "images" / f"{tested}.png", compress_level=0)
    report = check(open_dataset("mine", mine))
    assert findings(report, "duplicates") == ["note: 1 image is there more than once"]
    assert findings(report, "leak") == ["problem: 1 image of test is also in train"]
    assert next(f.images for f in report.findings if f.topic == "leak") == (tested,)


def test_a_leak_between_training_and_validation_is_one_too(mine: Path):
    dataset = open_dataset("mine", mine)
    trained, validated = dataset.split("train").ids[0], dataset.split("val").ids[1]
    pixels = np.array(Image.open(mine / "mine" / "images" / f"{trained}.png"))
    Image.fromarray(pixels).save(mine / "mine" / "images" / f"{validated}.png", compress_level=0)
    report = check(open_dataset("mine", mine))
    assert findings(report, "leak") == ["problem: 1 image of val is also in train"]
    assert next(f.images for f in report.findings if f.topic == "leak") == (validated,)


def test_a_leak_between_validation_and_test_is_one_too(mine: Path):
    dataset = open_dataset("mine", mine)
    validated, tested = dataset.split("val").ids[0], dataset.split("test").ids[1]
    for kind in ("images", "labels"):
        source = mine / "mine" / kind / f"{validated}.png"
        (mine / "mine" / kind / f"{tested}.png").write_bytes(source.read_bytes())
    assert findings(check(open_dataset("mine", mine)), "leak") == ["problem: 1 image of test is also in val"]


def test_instances_of_a_split_are_compared_with_the_card(mine: Path, cards: Path):
    path = cards / "mine.toml"
    path.write_text(path.read_text() + "split_instances = { train = 20, test = 11 }\n")
    told = findings(check(open_dataset("mine", mine)), "counts")
    assert told[2:] == ["ok: 20 instances of train", "problem: 10 instances of test, the card expects 11"]


def test_duplicates_inside_a_split_are_no_leak(mine: Path):
    a, b = open_dataset("mine", mine).split("train").ids[:2]
    for kind in ("images", "labels"):
        (mine / "mine" / kind / f"{b}.png").write_bytes((mine / "mine" / kind / f"{a}.png").read_bytes())
    report = check(open_dataset("mine", mine))
    assert findings(report, "leak") == ["ok: no image is in two of the splits for training, validation and test"]


@pytest.mark.parametrize(("overlap", "level"), [("true", "note"), ("false", "problem")])
def test_overlap_is_as_the_card_says(
    tmp_path: Path, write_card: Callable[..., Path], picture: NDArray[np.uint8], overlap: str, level: str
):
    path = write_card("mine", format='[format]\nname = "mask_folders"')
    path.write_text(path.read_text().replace("[task]", f"[task]\noverlap = {overlap}"))
    for i in range(3):
        folder = tmp_path / "mine" / f"im{i}"
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        Image.fromarray(np.roll(picture, i)).save(folder / "images" / "a.png")
        for j in range(2):
            mask = np.zeros((40, 50), np.uint8)
            mask[5 : 15 + i, 5 + 10 * j - i : 15 + 10 * j] = 255  # i of them overlap
            mask[30, 30 + j * 9] = 255
            Image.fromarray(mask).save(folder / "masks" / f"{j}.png")
    report = check(open_dataset("mine", tmp_path))
    told = "" if overlap == "true" else ", the card says that there is none"
    assert findings(report, "overlap") == [f"{level}: instances of one class overlap in 2 images{told}"]
    assert findings(report, "pieces") == ["note: 6 instances are in several pieces"]


def test_groups_that_training_and_test_share(
    tmp_path: Path, write_card: Callable[..., Path], cells: NDArray[np.uint16]
):
    form = '[format]\nname = "label_pairs"\nimages = ["images/{group}_{t}.png"]\nlabels = ["labels/{group}_{t}.png"]'
    write_card("mine", format=form)
    for i in range(8):
        for kind in ("images", "labels"):
            target = tmp_path / "mine" / kind / f"film{i % 2}_{i}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((np.roll(cells, i) % 251).astype(np.uint8)).save(target)
    report = check(open_dataset("mine", tmp_path))
    assert any("test and train share" in text for text in findings(report, "groups"))


def test_a_prepared_set_is_verified(mine: Path, tmp_path: Path):
    folder = prepare(load_card("mine"), mine / "mine", tmp_path / "new")
    dataset = open_dataset("mine", tmp_path / "new")
    assert findings(check(dataset), "prepared") == ["ok: masks and classes are those that were written"]
    dataset = open_dataset("mine", tmp_path / "new")
    other = tmp_path / "other.bin"
    other.write_bytes((folder / "masks.bin").read_bytes()[:-1] + b"0")
    other.replace(folder / "masks.bin")  # while it is open
    assert findings(check(dataset), "prepared")[0].startswith("problem: ")


@pytest.mark.parametrize("name", ["spans.npy", "classes.npy", "crowd.npy"])
def test_every_array_of_a_prepared_set_is_verified(mine: Path, tmp_path: Path, name: str):
    folder = prepare(load_card("mine"), mine / "mine", tmp_path / "new")
    before = (folder / name).stat()
    array = np.load(folder / name)
    array[-1] ^= 1
    np.save(folder / name, array)
    os.utime(folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk that forgets does it
    dataset = open_dataset("mine", tmp_path / "new")
    report = check(dataset)
    assert len(report.findings) == 1
    assert "<table>" in to_html(report, dataset)
    (told,) = findings(report, "prepared")
    assert told.startswith(f"problem: {folder / name}: its content is not what was written")
    os.utime(folder / name, (5, 5))
    with pytest.raises(DataError, match=f"{name}: its content is not what was written"):
        open_dataset("mine", tmp_path / "new")


def test_an_image_of_a_prepared_set_that_changed_is_a_problem(mine: Path, tmp_path: Path):
    folder = prepare(load_card("mine"), mine / "mine", tmp_path / "new")
    path = folder / "images" / "images" / "im3.png"
    pixels = np.array(Image.open(path))
    path.unlink()
    Image.fromarray(255 - pixels).save(path)
    told = findings(check(open_dataset("mine", tmp_path / "new")), "prepared")
    assert told == [
        "ok: masks and classes are those that were written",
        "problem: 1 image is not as it was prepared",
    ]


def test_files_that_changed_after_they_were_prepared(mine: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENCH_DATA_ROOT", str(mine))
    prepare(load_card("mine"), mine / "mine", mine)
    assert findings(check(open_dataset("mine", mine)), "prepared") == [
        "ok: masks and classes are those that were written"
    ]
    (mine / "mine" / "labels" / "im5.png").unlink()
    told = f"problem: the files in {mine / 'mine'} changed after they were prepared: bench data prepare mine --again"
    assert told in findings(check(open_dataset("mine", mine)), "prepared")


def masked(labels: Path, cells: NDArray[np.uint16], names: Iterable[str]) -> None:
    for name in names:
        Image.fromarray(np.where(cells > 0, 255, 0).astype(np.uint8)).save(labels / f"{name}.png")


def test_masks_read_as_one_instance_are_told_with_the_remedy(mine: Path, cards: Path, cells: NDArray[np.uint16]):
    labels = mine / "mine" / "labels"
    Image.fromarray(cells * 0).save(labels / "im7.png")  # of no side
    masked(labels, cells, ("im0", "im1", "im2"))
    assert findings(check(open_dataset("mine", mine)), "mask") == []
    masked(labels, cells, ("im3",))
    (told,) = findings(check(open_dataset("mine", mine)), "mask")
    assert told.startswith("note: 4 images have one instance of a class, in several pieces: ")
    assert 'decode = "components-of-first-channel"' in told
    prepare(load_card("mine"), mine / "mine", mine)
    assert findings(check(open_dataset("mine", mine)), "mask") == [told]
    path = cards / "mine.toml"
    path.write_text(path.read_text().replace("[format]", '[format]\ndecode = "components-of-first-channel"'))
    prepare(load_card("mine"), mine / "mine", mine, again=True)
    report = check(open_dataset("mine", mine))
    assert findings(report, "mask") == []
    assert report.splits[0].most == 6  # one of the five is of two pieces


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_escapes(mine: Path, cards: Path):
    path = cards / "mine.toml"
    path.write_text(path.read_text().replace("A small set", "Cells <b>&</b>"))
    dataset = open_dataset("mine", mine)
    page = to_html(check(dataset), dataset, pictures=2)
    assert "Cells &lt;b&gt;&amp;&lt;/b&gt;" in page
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert len(tags.images) == 1
    assert tags.images[0].startswith("data:image/png;base64,")


def test_real_nuclei(shared_data: Path):
    report = check(open_dataset("bbbc039", shared_data))
    assert findings(report, "kinds") == ["ok: 16 bit, 1 channel: 6"]
    assert findings(report, "truth") == ["note: 1 image has no instance"]


# -- sheets --------------------------------------------------------------------------------------------


def test_outlines_by_class():
    masks = np.zeros((2, 12, 20), np.bool_)
    masks[0, 2:9, 2:9] = masks[1, 3:10, 11:18] = True
    image = np.full((12, 20, 3), 50, np.uint8)
    drawn = outlined(image, Instances.from_masks(masks, class_ids=[0, 1]))
    assert (image == 50).all()
    for mask, colour in zip(masks, OUTLINES, strict=False):
        painted = (drawn == colour).all(axis=2)
        assert painted.sum() == 24  # the rim of 7 x 7 pixels
        assert (painted & ~mask).sum() == 0
    assert (drawn[0] == 50).all()


def test_a_sheet_of_images_of_any_kind(cells: NDArray[np.uint16]):
    truth = Instances.from_label_map(cells)
    samples = [
        Sample("gray", cells.astype(np.uint8), truth),
        Sample("wide", np.zeros((40, 50), np.uint16), truth),
        Sample("colour", np.zeros((40, 50, 4), np.uint8), None),
        Sample("a name that is much longer than its picture is wide", np.zeros((100, 30, 3), np.uint8), None),
        Sample("empty", np.zeros((40, 50), np.uint8), Instances.empty(40, 50)),
    ]
    page = contact_sheet(samples, columns=2, width=100)
    assert page.mode == "RGB"
    assert page.width == 2 * 104 + 4
    assert page.height > 80 + 333 + 80
    assert contact_sheet([], columns=2, width=100).size == (212, 4)
    assert (np.asarray(page) == OUTLINES[0]).all(axis=2).any()
    assert not (np.asarray(contact_sheet(samples, outlines=False)) == OUTLINES[0]).all(axis=2).any()


def test_captions_have_the_letters_of_names():
    """Letters that a font lacks are all drawn as the same box."""
    pictures = {
        letter: np.asarray(contact_sheet([Sample(letter, np.zeros((40, 50), np.uint8), None)])).tobytes()
        for letter in "aäöüéłжα–—ñ"
    }
    assert len(set(pictures.values())) == len(pictures)
    apart = contact_sheet([Sample("u\u0308", np.zeros((40, 50), np.uint8), None)])  # as macOS names files
    assert np.asarray(apart).tobytes() == pictures["ü"]


def test_where_there_is_no_font_letters_lose_their_marks(monkeypatch: pytest.MonkeyPatch):
    assert lettering.plain("Zürich – Łódź") == "Zurich - ?odz"
    monkeypatch.setattr(lettering, "_NAME", "no such font.ttf")
    lettering._font.cache_clear()
    try:
        page, same = (
            np.asarray(contact_sheet([Sample(name, np.zeros((40, 50), np.uint8), None)])) for name in ("ü–", "u-")
        )
    finally:
        lettering._font.cache_clear()
    assert np.array_equal(page, same)


# -- overview ------------------------------------------------------------------------------------------


def test_what_is_here(mine: Path, tmp_path: Path, write_card: Callable[..., Path]):
    path = write_card("other")
    path.write_text(
        path.read_text() + '\n[stand_in]\ngenerator = "neural"\nparams = { train = 2, val = 1, test = 1 }\n'
    )
    write_card("broken", text="name = 3\n")
    rows, broken = overview(mine)
    state = {row.card.name: row.state for row in rows}
    assert state["mine"] == "real"
    assert state["other"] == state["livecell"] == "stand-in can be made"
    assert list(broken) == ["broken"]
    open_dataset("other", mine)
    prepare(load_card("mine"), mine / "mine", mine)
    write_card("third")
    rows, _ = overview(mine)
    by_name = {row.card.name: row for row in rows}
    assert by_name["mine"].state == "prepared"
    assert by_name["other"].state == "stand-in"
    assert by_name["other"].folder.is_dir()
    assert by_name["third"].state == "missing"
    assert "https://example.org" in by_name["third"].advice
    assert by_name["livecell"].advice == "bench data download livecell"
