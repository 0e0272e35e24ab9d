"""Kaggle's run-length encoding in both orders, and the tables it comes in."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from bench import rle
from bench.data import kaggle_rle
from bench.data.readers import Reader, Truth, open_reader
from bench.errors import DataError

ORDERS = ("row", "column")


def by_hand(mask: NDArray[np.bool_], order: str) -> str:
    """The encoding as the competitions' own pages explain it: a pixel at a time."""
    flat = mask.ravel(order="C" if order == "row" else "F")
    parts, start = [], None
    for place, pixel in enumerate([*flat, False], 1):
        if pixel and start is None:
            start = place
        elif not pixel and start is not None:
            parts += [start, place - start]
            start = None
    return " ".join(map(str, parts))


MASKS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(MASKS, st.sampled_from(ORDERS))
def test_decoding_and_encoding_any_mask(mask: NDArray[np.bool_], order: str):
    text = by_hand(mask, order)
    counts = kaggle_rle.decode(text, *mask.shape, order)
    assert counts == rle.encode_masks(mask[None])[0]
    assert kaggle_rle.encode(counts, *mask.shape, order) == text


def test_the_two_orders_by_hand():
    mask = np.zeros((2, 3), np.bool_)
    mask[0, 1] = mask[0, 2] = mask[1, 2] = True
    assert kaggle_rle.encode(rle.encode_masks(mask[None])[0], 2, 3, "row") == "2 2 6 1"
    assert kaggle_rle.encode(rle.encode_masks(mask[None])[0], 2, 3, "column") == "3 1 5 2"


@pytest.mark.parametrize("order", ORDERS)
def test_runs_in_any_order_and_runs_that_touch(order: str):
    assert kaggle_rle.decode("7 2 1 3 4 2", 4, 5, order) == kaggle_rle.decode("1 5 7 2", 4, 5, order)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 2 3", "3 numbers, which are not pairs"),
        ("1 x", "something else than whole numbers: '1 x'"),
        ("1 2.5", "something else than whole numbers"),
        ("0 2", "a start below 1"),
        ("3 0", "a length below 1"),
        ("19 3", "reaches pixel 21 of an image of 4 x 5 = 20"),
        ("99999999999999999999 1", "something else than whole numbers"),
        ("1 3 3 2", "two runs of an RLE overlap"),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_faults_of_an_rle(text: str, complaint: str, order: str):
    with pytest.raises(DataError, match=complaint):
        kaggle_rle.decode(text, 4, 5, order)


# -- tables --------------------------------------------------------------------------------------------

SARTORIUS = {
    "name": "kaggle_csv",
    "order": "row",
    "images": {"train": ["train/{id}.png"], "unlabelled": ["train_semi_supervised/{id}.png"]},
    "tables": {"train": ["train.csv"]},
    "id": "id",
    "mask": "annotation",
    "class_column": "cell_type",
    "height": "height",
    "width": "width",
    "group": "sample_id",
}
TYPES = ("shsy5y", "astro", "cort")
COLUMNS = ["id", "annotation", "width", "height", "cell_type", "plate_time", "sample_date", "sample_id"]


def sartorius(root: Path, rows: list[dict[str, Any]], images: dict[str, NDArray[Any]]) -> Reader:
    (root / "train").mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(root / "train" / f"{name}.png")
    with (root / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="x")
        writer.writeheader()
        writer.writerows(rows)
    return open_reader(SARTORIUS, Path("card.toml"), root, TYPES)


def row(name: str, mask: NDArray[np.bool_], kind: str = "cort", **more: Any) -> dict[str, Any]:
    height, width = mask.shape
    text = by_hand(mask, "row")
    return {
        "id": name,
        "annotation": text,
        "height": height,
        "width": width,
        "cell_type": kind,
        "sample_id": "s1",
    } | more


def truths(opened: Reader) -> dict[str, Truth]:
    return {e.id: opened.truth(e, *opened.image(e).shape[:2]) for e in opened.index().entries}


def masks(labels: NDArray[Any]) -> NDArray[np.bool_]:
    return np.stack([labels == i for i in np.unique(labels) if i])


def test_real_cells_as_sartorius(shared_data: Path, tmp_path: Path):
    stacks = {}
    rows: list[dict[str, Any]] = []
    for name in ("set2", "set40"):
        labels = np.asarray(Image.open(shared_data / "usiigaci" / name / "instances_ids.png"))
        stacks[name] = masks(labels[300:820, 200:904])  # 520 x 704, the official size
        rows += [row(name, mask, TYPES[i % 3], sample_id=f"of {name}") for i, mask in enumerate(stacks[name])]
    images = {name: stack.any(axis=0).astype(np.uint8) for name, stack in stacks.items()}
    opened = sartorius(tmp_path, rows, images)
    (tmp_path / "train_semi_supervised").mkdir()
    Image.fromarray(images["set2"] + 1).save(tmp_path / "train_semi_supervised" / "more.png")
    found = truths(opened)
    assert [(e.id, e.part, e.group) for e in opened.index().entries] == [
        ("more", "unlabelled", None),
        ("set2", "train", "of set2"),
        ("set40", "train", "of set40"),
    ]
    assert found["more"].instances is None
    for name, stack in stacks.items():
        assert np.array_equal(found[name].instances.to_masks(), stack)
        assert found[name].instances.class_ids.tolist() == [i % 3 for i in range(len(stack))]


def test_real_nuclei_as_the_data_science_bowl(shared_data: Path, tmp_path: Path):
    """``stage1_solution.csv``: by columns, with the image's size; the images in a folder of their own each."""
    source = sorted((shared_data / "dsb2018").iterdir())[2]
    image = np.asarray(Image.open(next((source / "images").iterdir())))
    stack = np.stack([np.asarray(Image.open(p)) > 0 for p in sorted((source / "masks").iterdir())])
    target = tmp_path / "stage1_test" / source.name / "images" / f"{source.name}.png"
    target.parent.mkdir(parents=True)
    Image.fromarray(image).save(target)
    lines = [f"{source.name},{by_hand(m, 'column')},{m.shape[0]},{m.shape[1]},Public" for m in stack]
    (tmp_path / "stage1_solution.csv").write_text("\n".join(["ImageId,EncodedPixels,Height,Width,Usage", *lines]))
    table = {
        "name": "kaggle_csv",
        "order": "column",
        "images": {"test": ["stage1_test/{id}/images/{id}.png"]},
        "tables": {"test": ["stage1_solution.csv"]},
        "height": "Height",
        "width": "Width",
    }
    found = truths(open_reader(table, Path("card.toml"), tmp_path, ("nucleus",)))
    assert np.array_equal(found[source.name].instances.to_masks(), stack)
    wrong = open_reader(table | {"order": "row"}, Path("card.toml"), tmp_path, ("nucleus",))
    assert not np.array_equal(truths(wrong)[source.name].instances.to_masks(), stack)


def test_sizes_are_compared_in_the_tables_that_have_them(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    rows = [row("a", cells > 0, height="40.0", width=" 50 ")]
    opened = sartorius(tmp_path, rows, {"a": picture})
    assert len(truths(opened)["a"].instances) == 1
    text = (tmp_path / "train.csv").read_text().replace("height", "rows").replace("width", "columns")
    (tmp_path / "train.csv").write_text(text)
    assert len(truths(opened)["a"].instances) == 1
    rows = [row("a", cells > 0, height=50, width=40)]  # the mask itself would fit either way
    with pytest.raises(DataError, match=r"line 2 \(a\): height is 50, the image a\.png is 40 x 50"):
        truths(sartorius(tmp_path, rows, {"a": picture}))


def test_masks_that_overlap_and_an_image_without_any(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    one, two = cells > 0, np.roll(cells, 3) > 0
    rows = [row("a", one, "astro"), row("a", two), row("b", one & False)]
    found = truths(sartorius(tmp_path, rows, {"a": picture, "b": picture}))
    assert np.array_equal(found["a"].instances.to_masks(), np.stack([one, two]))
    assert len(found["b"].instances) == 0


def test_an_empty_mask_beside_others_is_noted(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    rows = [row("a", cells > 0), row("a", cells > 999)]
    found = truths(sartorius(tmp_path, rows, {"a": picture}))["a"]
    assert len(found.instances) == 1
    said = "line 3 (a): an empty mask beside others of its image, left out"
    assert found.notes == (f"{tmp_path / 'train.csv'}: {said}",)


def test_images_without_a_row_are_left_out_and_noted(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    opened = sartorius(tmp_path, [row("a", cells > 0)], {"a": picture, "b": picture, "c": picture})
    assert opened.index().notes == (f"{tmp_path / 'train.csv'}: 2 images have no row (the first: b), left out",)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda rows: rows.append(rows[0] | {"id": "z"}),
            r"1 of its 2 images are not there; the first: z .*train/\{id\}",
        ),
        (lambda rows: rows[1].update(height=41), r"line 3 \(a\): height is 41, the image a\.png is 40 x 50"),
        (lambda rows: rows[1].update(width=""), r"line 3 \(a\): width is , the image a\.png is 40 x 50"),
        (lambda rows: rows[1].update(annotation="1 2 3"), r"line 3 \(a\): an RLE holds 3 numbers"),
        (lambda rows: rows[1].update(annotation="1999 3"), r"line 3 \(a\): an RLE reaches pixel 2001"),
        (lambda rows: rows[1].update(cell_type="glia"), r"line 3 \(a\): the class 'glia' is none of the card's"),
    ],
)
def test_faults_of_a_table(
    tmp_path: Path,
    cells: NDArray[np.uint16],
    picture: NDArray[np.uint8],
    change: Callable[[list[dict[str, Any]]], None],
    complaint: str,
):
    rows = [row("a", mask) for mask in masks(cells)]
    change(rows)
    with pytest.raises(DataError, match=complaint) as caught:
        truths(sartorius(tmp_path, rows, {"a": picture}))
    assert "train.csv" in caught.value.message
    assert "\n" not in str(caught.value)


def test_faults_of_a_csv_file(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    opened = sartorius(tmp_path, [row("a", cells > 0)], {"a": picture})
    table = tmp_path / "train.csv"
    text = table.read_text()
    table.write_text(text.replace("annotation", "annotations"))
    with pytest.raises(DataError, match=r"train\.csv: no column 'annotation' \(its columns: id, annotations"):
        opened.index()
    table.write_text(text.replace("plate_time", "annotation"))
    with pytest.raises(DataError, match=r"train\.csv: two columns 'annotation'"):
        opened.index()
    table.write_text(text.splitlines()[0] + "\n")
    with pytest.raises(DataError, match=r"no image with truth in it \(.*train\.csv: 1 images have no row"):
        opened.index()
    table.write_text(text + "a,3 4\n")
    with pytest.raises(DataError, match=r"train\.csv: line 3: 2 fields where the header has 8"):
        opened.index()
    table.write_text(text + 'a,"3 4')
    with pytest.raises(DataError, match=r"train\.csv: not a CSV table: unexpected end of data"):
        opened.index()
    table.write_bytes(b"\xff\xfe\x00" + text.encode())
    with pytest.raises(DataError, match=r"train\.csv: not a CSV table"):
        opened.index()
    table.unlink()
    with pytest.raises(DataError, match=r"no image with truth in it"):
        opened.index()


def test_a_mask_longer_than_a_csv_module_expects(tmp_path: Path, picture: NDArray[np.uint8]):
    mask = np.zeros((600, 700), np.bool_)
    mask[::2, ::2] = True
    opened = sartorius(tmp_path, [row("a", mask)], {"a": np.zeros((600, 700), np.uint8)})
    assert np.array_equal(truths(opened)["a"].instances.mask(0), mask)
