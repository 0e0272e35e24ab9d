"""Writers: what they write is read back, by others' readers and by ours, without a pixel lost."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from bench.data import open_dataset, tiff
from bench.data.export import export_predictions
from bench.data.readers import open_reader
from bench.data.writers import (
    Annotated,
    from_samples,
    write_coco,
    write_coco_results,
    write_ctc_results,
    write_kaggle,
    write_label_images,
)
from bench.errors import DataError, OutputError
from bench.instances import Instances, Sample


@pytest.fixture
def overlapping() -> Instances:
    masks = np.zeros((3, 20, 30), np.bool_)
    masks[0, 2:9, 3:12] = masks[1, 6:14, 8:20] = masks[2, 15:19, 22:29] = True
    masks[2, 1, 1] = True
    return Instances.from_masks(masks, class_ids=[1, 0, 1], scores=[0.25, 0.75, 1 / 3], crowd=[False, False, True])


@pytest.fixture
def apart(cells: NDArray[np.uint16]) -> Instances:
    return Instances.from_label_map(cells)


def test_coco_as_pycocotools_reads_it(tmp_path: Path, overlapping: Instances):
    images = [Annotated("a", overlapping, "images/a.png"), Annotated("b", Instances.empty(7, 9))]
    assert write_coco(tmp_path / "x" / "truth.json", images, ("cell", "nucleus")) == 3
    reference = COCO(str(tmp_path / "x" / "truth.json"))
    assert [i["file_name"] for i in reference.loadImgs(reference.getImgIds())] == ["images/a.png", "b"]
    found = reference.loadAnns(reference.getAnnIds())
    assert [a["id"] for a in found] == [1, 2, 3]
    for annotation, mask, area, box in zip(
        found, overlapping.to_masks(), overlapping.areas, overlapping.boxes, strict=True
    ):
        assert np.array_equal(reference.annToMask(annotation), mask)
        assert annotation["area"] == area
        assert annotation["bbox"] == [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    assert [a["category_id"] for a in found] == [2, 1, 2]
    assert [a["iscrowd"] for a in found] == [0, 0, 1]


def test_coco_there_and_back(tmp_path: Path, overlapping: Instances):
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "a.png")
    write_coco(tmp_path / "truth.json", [Annotated("a", overlapping, "a.png")], ("cell", "nucleus"))
    table = {"name": "coco", "annotations": {"": ["truth.json"]}}
    opened = open_reader(table, Path("c"), tmp_path, ("cell", "nucleus"))
    found = opened.truth(opened.index().entries[0], 20, 30).instances
    assert found.rles == overlapping.rles
    assert found.class_ids.tolist() == [1, 0, 1]
    assert found.crowd.tolist() == [False, False, True]


def test_coco_results(tmp_path: Path, overlapping: Instances, apart: Instances):
    images = [Annotated("a", overlapping), Annotated("b", apart)]
    assert write_coco_results(tmp_path / "pred.json", images, {"a": 7, "b": 9}) == 8
    results = json.loads((tmp_path / "pred.json").read_text())
    assert [r["image_id"] for r in results] == [7] * 3 + [9] * 5
    assert [r["score"] for r in results[:3]] == [0.25, 0.75, 1 / 3]
    assert all("score" not in r for r in results[3:])
    reference = COCO()
    truth = [{"id": 7, "height": 20, "width": 30}, {"id": 9, "height": 40, "width": 50}]
    reference.dataset = {"images": truth, "categories": [{"id": 1}, {"id": 2}], "annotations": []}
    reference.createIndex()
    loaded = reference.loadRes(results[:3])
    assert np.array_equal(loaded.annToMask(loaded.loadAnns([2])[0]), overlapping.mask(1))
    with pytest.raises(DataError, match="image b has no number"):
        write_coco_results(tmp_path / "other.json", images, {"a": 7})
    assert not (tmp_path / "other.json").exists()


def test_a_class_without_a_name(tmp_path: Path, overlapping: Instances):
    with pytest.raises(DataError, match="image a has an instance of class 1, of 1 classes"):
        write_coco(tmp_path / "truth.json", [Annotated("a", overlapping)], ("cell",))
    assert list(tmp_path.iterdir()) == []


def test_label_images(tmp_path: Path, apart: Instances, overlapping: Instances):
    files = write_label_images(tmp_path, [Annotated("x/a", apart), Annotated("b", Instances.empty(5, 6))])
    assert files == [tmp_path / "x" / "a.tif", tmp_path / "b.tif"]
    labels = tifffile.imread(files[0])
    assert labels.dtype == np.uint16
    assert Instances.from_label_map(labels) == apart
    assert np.array_equal(tifffile.imread(files[1]), np.zeros((5, 6)))
    with pytest.raises(DataError, match="image c: instances 0 and 1 overlap"):
        write_label_images(tmp_path, [Annotated("c", overlapping)])
    by_index = tifffile.imread(write_label_images(tmp_path, [Annotated("c", overlapping)], policy="index")[0])
    assert np.array_equal(by_index == 1, overlapping.mask(0))


@pytest.mark.parametrize("name", ["../a", "/a", "", "."])
def test_an_id_that_is_no_file_name(tmp_path: Path, apart: Instances, name: str):
    with pytest.raises(DataError, match="cannot be a file name"):
        write_label_images(tmp_path, [Annotated(name, apart)])


def test_more_instances_than_labels(tmp_path: Path):
    crowd = Instances(1, 1, (b"01",) * 65_536)
    with pytest.raises(DataError, match="image a has 65536 instances, a 16-bit label image holds 65535"):
        write_label_images(tmp_path, [Annotated("a", crowd)])


def test_ctc_results(tmp_path: Path, apart: Instances, overlapping: Instances):
    frames = [
        (3, Annotated("a", apart)),
        (11, Annotated("b", Instances.empty(5, 6))),
        (12, Annotated("c", overlapping)),
    ]
    files = write_ctc_results(tmp_path, "02", frames)
    assert [f.relative_to(tmp_path).as_posix() for f in files] == [f"02_RES/mask{n}.tif" for n in ("003", "011", "012")]
    first, _, last = (tifffile.imread(f) for f in files)
    assert Instances.from_label_map(first) == apart
    assert np.unique(first).tolist() == [0, 1, 2, 3, 4, 5]
    assert np.unique(last).tolist() == [0, 6, 7, 8]
    tracks = (tmp_path / "02_RES" / "res_track.txt").read_text().splitlines()
    assert tracks == [f"{n} 3 3 0" for n in range(1, 6)] + [f"{n} 12 12 0" for n in range(6, 9)]
    with pytest.raises(DataError, match="frame 3 of 02 comes twice"):
        write_ctc_results(tmp_path, "02", [frames[0], frames[0]])


@pytest.mark.parametrize("order", ["row", "column"])
def test_kaggle_there_and_back(tmp_path: Path, apart: Instances, overlapping: Instances, order: str):
    for name, shape in (("a", (20, 30)), ("b", (40, 50)), ("c", (5, 6))):
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "train" / f"{name}.png")
    images = [Annotated("a", overlapping), Annotated("b", apart), Annotated("c", Instances.empty(5, 6))]
    count = write_kaggle(
        tmp_path / "t.csv", images, order, id_column="ImageId", mask_column="EncodedPixels", policy=None
    )
    assert count == 3 + 5 + 1
    table = {"name": "kaggle_csv", "order": order, "images": {"": ["train/{id}.png"]}, "tables": {"": ["t.csv"]}}
    opened = open_reader(table, Path("c"), tmp_path, ("cell",))
    found = [opened.truth(e, *opened.image(e).shape).instances for e in opened.index().entries]
    assert [f.rles for f in found] == [overlapping.rles, apart.rles, ()]


def test_a_submission_does_not_overlap(tmp_path: Path, overlapping: Instances):
    write_kaggle(tmp_path / "s.csv", [Annotated("a", overlapping)], "row")
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "predicted"]
    pixels: list[int] = []
    for row in rows:
        numbers = [int(n) for n in row["predicted"].split()]
        for start, length in zip(numbers[::2], numbers[1::2], strict=True):
            pixels += range(start, start + length)
    assert len(set(pixels)) == len(pixels) > 100


def test_the_truth_of_a_split(shared_data: Path, tmp_path: Path):
    dataset = open_dataset("bbbc039", shared_data)
    everything = [s for name in ("train", "val", "test") for s in dataset.split(name)]
    write_coco(tmp_path / "truth.json", from_samples(everything, dataset.folder), dataset.task.classes)
    reference = COCO(str(tmp_path / "truth.json"))
    assert len(reference.anns) == 475
    for number, sample in enumerate(everything, 1):
        assert reference.imgs[number]["file_name"] == f"images/{sample.id}.tif"
        found = reference.loadAnns(reference.getAnnIds(imgIds=[number]))
        assert [f["segmentation"]["counts"].encode() for f in found] == list(sample.instances.rles)
    files = write_label_images(tmp_path / "labels", from_samples(everything))
    for path, sample in zip(files, everything, strict=True):
        assert Instances.from_label_map(tifffile.imread(path)) == sample.instances


@pytest.mark.parametrize("form", ["label-tiffs", "ctc", "kaggle"])
def test_instances_without_a_pixel_are_said(
    tmp_path: Path, write_card: Callable[..., Path], cells: NDArray[np.uint16], picture: NDArray[np.uint8], form: Any
):
    write_card("mine")
    for kind, array in (("images", picture), ("labels", cells.astype(np.uint8))):
        (tmp_path / "root" / "mine" / kind).mkdir(parents=True)
        for name in "abcd":
            Image.fromarray(array).save(tmp_path / "root" / "mine" / kind / f"{name}.png")
    dataset = open_dataset("mine", tmp_path / "root")
    split = dataset.split("train")
    masks = np.zeros((3, *cells.shape), np.bool_)
    masks[0, 1:5, 1:5] = masks[2, 8:12, 8:12] = True
    found = dict.fromkeys(split.ids, Instances.from_masks(masks))
    order = "row" if form == "kaggle" else None
    done = export_predictions(dataset, split, found, form, tmp_path / "out", made_by={}, order=order)
    assert f"{len(split)} instances without a pixel are left out: only COCO holds such" in done.notes
    if form == "kaggle":
        assert len((tmp_path / "out" / "masks.csv").read_text().splitlines()) == 1 + 2 * len(split)


def test_an_image_that_is_not_annotated(picture: NDArray[np.uint8]):
    with pytest.raises(DataError, match="image a is not annotated"):
        list(from_samples([Sample("a", picture)]))


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, apart: Instances):
    (tmp_path / "taken").write_text("a file where a folder must go")
    with pytest.raises(OutputError, match=r"taken/truth\.json: cannot be written"):
        write_coco(tmp_path / "taken" / "truth.json", [Annotated("a", apart)], ("cell",))

    def fails_half_way():
        yield Annotated("a", apart)
        raise DataError("the second image is broken")

    (tmp_path / "truth.json").write_text("what was there before")
    with pytest.raises(DataError, match="the second image is broken"):
        write_coco(tmp_path / "truth.json", fails_half_way(), ("cell",))
    assert (tmp_path / "truth.json").read_text() == "what was there before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["taken", "truth.json"]


@settings(max_examples=40)
@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=30),
        elements=st.integers(0, 255),
    )
)
def test_tiff_files_as_tifffile_reads_them(tmp_path_factory: pytest.TempPathFactory, array: NDArray[np.uint8]):
    path = tmp_path_factory.mktemp("t") / "a.tif"
    path.write_bytes(tiff.encode(array))
    read = tifffile.imread(path)
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)
    assert np.array_equal(np.asarray(Image.open(path)), array)


def test_a_table_with_further_columns(tmp_path: Path):
    stack = np.zeros((2, 3, 4), np.bool_)
    stack[0, 0, :2] = stack[1, 1:, 3] = True
    images = [
        Annotated("a", Instances.from_masks(stack, class_ids=[1, 0]), group="well, 7"),
        Annotated("b", Instances.empty(5, 6)),
    ]
    columns = {"class_column": "cell_type", "height_column": "h", "width_column": "w", "group_column": "sample_id"}
    count = write_kaggle(
        tmp_path / "t.csv", images, "row", mask_column="annotation", classes=("astro", "cort"), **columns
    )
    assert count == 3
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        "id,annotation,w,h,cell_type,sample_id",
        'a,1 2,4,3,cort,"well, 7"',
        'a,8 1 12 1,4,3,astro,"well, 7"',
        "b,,6,5,,",
    ]


# -- whatever the masks -----------------------------------------------------------------------------------

MASKS = (
    st.integers(1, 6)
    .flatmap(lambda count: arrays.arrays(np.bool_, st.tuples(st.just(count), st.integers(1, 12), st.integers(1, 12))))
    .filter(lambda stack: bool(stack.any(axis=(1, 2)).all()))
)
"""Stacks of masks that may overlap, none of them empty."""
LABELS = arrays.arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 5))


def folder_with_image(tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...]) -> Path:
    folder = tmp_path_factory.mktemp("round")
    Image.fromarray(np.zeros(shape, np.uint8)).save(folder / "a.png")
    return folder


def read_back(folder: Path, table: dict[str, object], classes: tuple[str, ...] = ("one", "two")) -> Instances:
    opened = open_reader(table, Path("card.toml"), folder, classes)
    (entry,) = opened.index().entries
    truth = opened.truth(entry, *opened.image(entry).shape[:2]).instances
    assert truth is not None
    return truth


@settings(max_examples=30, deadline=None)
@given(MASKS, st.data())
def test_any_masks_survive_coco(
    tmp_path_factory: pytest.TempPathFactory, stack: NDArray[np.bool_], data: st.DataObject
):
    classes = data.draw(st.lists(st.integers(0, 1), min_size=len(stack), max_size=len(stack)))
    crowd = data.draw(st.lists(st.booleans(), min_size=len(stack), max_size=len(stack)))
    written = Instances.from_masks(stack, class_ids=classes, crowd=crowd)
    folder = folder_with_image(tmp_path_factory, stack.shape[1:])
    write_coco(folder / "truth.json", [Annotated("a", written, "a.png")], ("one", "two"))
    table = {"name": "coco", "annotations": {"": ["truth.json"]}}
    assert read_back(folder, table) == written


@settings(max_examples=30, deadline=None)
@given(MASKS, st.sampled_from(["row", "column"]))
def test_any_masks_survive_kaggle(tmp_path_factory: pytest.TempPathFactory, stack: NDArray[np.bool_], order: str):
    written = Instances.from_masks(stack)
    folder = folder_with_image(tmp_path_factory, stack.shape[1:])
    write_kaggle(folder / "t.csv", [Annotated("a", written)], order, policy=None)
    table = {
        "name": "kaggle_csv", "order": order, "id": "id", "mask": "predicted", "images": {"": ["{id}.png"]},
        "tables": {"": ["t.csv"]},
    }  # fmt: skip
    assert read_back(folder, table) == written


@settings(max_examples=30, deadline=None)
@given(LABELS)
def test_any_labels_survive_label_images_and_ctc(tmp_path_factory: pytest.TempPathFactory, labels: NDArray[np.uint16]):
    written = Instances.from_label_map(labels)
    folder = folder_with_image(tmp_path_factory, labels.shape)
    write_label_images(folder / "labels", [Annotated("a", written)])
    table = {"name": "label_pairs", "images": ["{stem}.png"], "labels": ["labels/{stem}.tif"]}
    assert read_back(folder, table) == written
    (mask,) = write_ctc_results(folder, "01", [(0, Annotated("a", written))])
    assert Instances.from_label_map(tifffile.imread(mask)) == written
