"""Each layout: the real pixels re-encoded into it come back exactly, and its faults are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy import ndimage

from bench.data.readers import Reader, Truth, open_reader, reader_names
from bench.errors import DataError

CARD = Path("card.toml")


def reader(table: dict[str, Any], root: Path, classes: tuple[str, ...] = ("cell",)) -> Reader:
    return open_reader(table, CARD, root, classes)


def truths(opened: Reader) -> dict[str, Truth]:
    result = {}
    for entry in opened.index().entries:
        height, width = opened.image(entry).shape[:2]
        result[entry.id] = opened.truth(entry, height, width)
    return result


def masks(labels: NDArray[Any]) -> NDArray[np.bool_]:
    return np.stack([labels == i for i in np.unique(labels) if i])


def crop(shared_data: Path, name: str) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """A part of a real image, 420 x 500 pixels, and of its label image."""
    raw = tifffile.imread(shared_data / "usiigaci" / name / "raw.tif")
    labels = np.asarray(Image.open(shared_data / "usiigaci" / name / "instances_ids.png"))
    return raw[500:920, 500:1000], labels[500:920, 500:1000]


def as_set(stack: NDArray[np.bool_]) -> set[bytes]:
    return {np.packbits(mask).tobytes() for mask in stack}


# -- mask folders --------------------------------------------------------------------------------------

FOLDERS = {"name": "mask_folders"}


def write_folder(root: Path, name: str, image: NDArray[Any], stack: NDArray[np.bool_]) -> Path:
    folder = root / name
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    Image.fromarray(image).save(folder / "images" / f"{name}.png")
    for i, mask in enumerate(stack):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{i:03d}.png")
    return folder


def test_the_dsb_images_as_they_are(shared_data: Path):
    opened = reader(FOLDERS, shared_data / "dsb2018")
    entries = opened.index().entries
    total = 0
    for entry in entries:
        image = np.asarray(Image.open(entry.image))
        if image.shape[0] * image.shape[1] > 400_000:
            continue
        assert np.array_equal(opened.image(entry), image)
        truth = opened.truth(entry, *image.shape[:2]).instances
        files = sorted((shared_data / "dsb2018" / entry.id / "masks").glob("*.png"))
        assert truth is not None
        assert len(truth) == len(files)
        for i, file in enumerate(files):
            assert np.array_equal(truth.mask(i), np.asarray(Image.open(file)) > 0)
        total += len(truth)
    assert len(entries) == 15
    assert total > 500


def test_real_cells_as_mask_folders(shared_data: Path, tmp_path: Path):
    image, labels = crop(shared_data, "set21")
    stack = masks(labels)
    write_folder(tmp_path, "a", image, stack)
    write_folder(tmp_path, "b", np.dstack([image >> 8] * 4).astype(np.uint8), stack[:0])
    opened = reader(FOLDERS, tmp_path)
    a, b = opened.index().entries
    assert np.array_equal(opened.image(a), image)
    assert opened.image(b).shape == (*image.shape, 4)
    found = truths(opened)
    assert np.array_equal(found["a"].instances.to_masks(), stack)
    assert len(found["b"].instances) == 0


def test_masks_that_overlap_stay_as_they_are(tmp_path: Path, picture: NDArray[np.uint8]):
    stack = np.zeros((2, 40, 50), np.bool_)
    stack[0, 5:20, 5:20] = stack[1, 15:30, 15:30] = True
    write_folder(tmp_path, "a", picture, stack)
    assert np.array_equal(truths(reader(FOLDERS, tmp_path))["a"].instances.to_masks(), stack)


def test_masks_in_other_modes(tmp_path: Path, picture: NDArray[np.uint8]):
    folder = write_folder(tmp_path, "a", picture, np.zeros((0, 40, 50), np.bool_))
    mask = np.zeros((40, 50), np.uint8)
    mask[3:9, 4:20] = 255
    image = Image.fromarray(mask)
    for mode in ("1", "L", "LA", "RGB", "RGBA"):
        image.convert(mode).save(folder / "masks" / f"{mode}.png")
    Image.fromarray(mask.astype(np.uint16)).save(folder / "masks" / "16.png")
    found = truths(reader(FOLDERS, tmp_path))["a"].instances
    assert len(found) == 6
    assert all(np.array_equal(found.mask(i), mask > 0) for i in range(6))


def test_an_empty_mask_is_left_out_and_noted(tmp_path: Path, picture: NDArray[np.uint8]):
    stack = np.zeros((2, 40, 50), np.bool_)
    stack[1, 3:6, 3:6] = True
    write_folder(tmp_path, "a", picture, stack)
    truth = truths(reader(FOLDERS, tmp_path))["a"]
    assert len(truth.instances) == 1
    assert truth.notes == (f"{tmp_path / 'a' / 'masks' / '000.png'}: the mask is empty, left out",)


def test_parts_of_mask_folders(tmp_path: Path, picture: NDArray[np.uint8]):
    one = np.ones((1, 40, 50), np.bool_)
    write_folder(tmp_path / "stage1_train", "a", picture, one)
    shutil.rmtree(write_folder(tmp_path / "stage1_test", "b", picture, one) / "masks")
    table = FOLDERS | {"parts": {"train": ["stage1_train", "."], "test": ["stage1_test"], "more": ["x"]}}
    with pytest.raises(DataError, match=r"stage1_test/b/masks: no such folder"):
        reader(table, tmp_path).index()
    opened = reader(table | {"unlabelled": ["test"]}, tmp_path)
    assert [(e.id, e.part) for e in opened.index().entries] == [("a", "train"), ("b", "test")]
    assert truths(opened)["b"].instances is None
    flat = reader(table, tmp_path / "stage1_train")
    assert [e.part for e in flat.index().entries] == ["train"]


def test_masks_without_an_image_are_noted(tmp_path: Path, picture: NDArray[np.uint8]):
    for name in ("a", "b"):
        write_folder(tmp_path, name, picture, np.ones((1, 40, 50), np.bool_))
    shutil.rmtree(tmp_path / "b" / "images")
    (tmp_path / "neither").mkdir()
    index = reader(FOLDERS, tmp_path).index()
    assert [e.id for e in index.entries] == ["a"]
    assert index.notes == (
        f"{tmp_path}: 1 folders without images (the first: neither), left out",
        f"{tmp_path / 'b'}: masks without a folder images beside them, left out",
    )


def test_masks_of_a_kind_that_is_not_read(tmp_path: Path, picture: NDArray[np.uint8]):
    folder = write_folder(tmp_path, "a", picture, np.ones((1, 40, 50), np.bool_))
    Image.fromarray(picture).save(folder / "masks" / "001.gif")
    for litter in ("Thumbs.db", ".DS_Store"):
        (folder / "masks" / litter).touch()
    opened = reader(FOLDERS, tmp_path)
    assert opened.index().notes == (
        f"{folder / 'masks'}: 1 files that are no mask images (the first: 001.gif), left out",
    )
    assert len(truths(opened)["a"].instances) == 1
    (folder / "masks" / "000.png").unlink()
    with pytest.raises(DataError, match=r"a/masks: none of its 1 files is a mask image; the first: 001\.gif"):
        opened.index()
    (folder / "masks" / "001.gif").unlink()
    assert len(truths(opened)["a"].instances) == 0


def test_faults_of_mask_folders(tmp_path: Path, picture: NDArray[np.uint8]):
    with pytest.raises(DataError, match="no image folder in it"):
        reader(FOLDERS, tmp_path).index()
    folder = write_folder(tmp_path, "a", picture, np.ones((1, 40, 50), np.bool_))
    opened = reader(FOLDERS, tmp_path)
    Image.fromarray(picture[:-1]).save(folder / "masks" / "001.png")
    with pytest.raises(DataError, match=r"a/masks/001\.png: the mask is 39 x 50 pixels, its image a\.png is 40 x 50"):
        truths(opened)
    (folder / "masks" / "001.png").write_bytes((folder / "masks" / "000.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"a/masks/001\.png: not a readable image"):
        truths(opened)
    Image.fromarray(picture).save(folder / "images" / "second.png")
    with pytest.raises(DataError, match=r"a/images: 2 images where one is expected"):
        opened.index()


# -- pairs ---------------------------------------------------------------------------------------------

PAIRS = {"name": "label_pairs", "images": ["images/{stem}.png"], "labels": ["labels/{stem}.png"]}


def write_pair(root: Path, stem: str, image: NDArray[Any], labels: NDArray[Any], suffix: str = ".png") -> None:
    for kind, array in (("images", image), ("labels", labels)):
        path = root / kind / f"{stem}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, array) if suffix == ".tif" else Image.fromarray(array).save(path)


def test_the_usiigaci_images_as_they_are(shared_data: Path):
    table = {"name": "label_pairs", "images": ["{set}/raw.tif"], "labels": ["{set}/instances_ids.png"]}
    opened = reader(table, shared_data / "usiigaci")
    assert [e.id for e in opened.index().entries] == ["set13", "set2", "set21", "set40"]
    several_components = 0
    for name, truth in truths(opened).items():
        labels = np.asarray(Image.open(shared_data / "usiigaci" / name / "instances_ids.png"))
        found = truth.instances
        assert len(found) == len(np.unique(labels)) - 1
        for i, label in enumerate(np.unique(labels)[1:]):
            x0, y0, x1, y1 = found.boxes[i].astype(int)
            assert np.array_equal(found.mask(i)[y0:y1, x0:x1], labels[y0:y1, x0:x1] == label)
            assert found.areas[i] == (labels == label).sum()
            several_components += ndimage.label(labels[y0:y1, x0:x1] == label, np.ones((3, 3)))[1] > 1
    assert several_components > 0


def test_the_bbbc039_images_as_they_are(shared_data: Path):
    table = {
        "name": "label_pairs",
        "images": ["images/{stem}.tif"],
        "labels": ["masks/{stem}.png"],
        "decode": "components-of-first-channel",
    }
    found = truths(reader(table, shared_data / "bbbc039"))
    for stem, truth in found.items():
        channel = np.asarray(Image.open(shared_data / "bbbc039" / "masks" / f"{stem}.png"))[..., 0]
        expected = []
        for value in np.unique(channel[channel > 0]):
            components, count = ndimage.label(channel == value, np.ones((3, 3)))
            expected += [components == i + 1 for i in range(count)]
        assert as_set(truth.instances.to_masks()) == as_set(np.array(expected).reshape(-1, *channel.shape))
    assert sum(len(t.instances) for t in found.values()) == 475
    assert min(len(t.instances) for t in found.values()) == 0


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_real_cells_as_pairs(shared_data: Path, tmp_path: Path, suffix: str, dtype: type):
    for name in ("set2", "set40"):
        image, labels = crop(shared_data, name)
        write_pair(tmp_path, name, image, labels.astype(dtype), suffix)
    table = PAIRS | {"images": [f"images/{{stem}}{suffix}"], "labels": [f"labels/{{stem}}{suffix}"]}
    opened = reader(table, tmp_path)
    for entry in opened.index().entries:
        image, labels = crop(shared_data, entry.id)
        assert np.array_equal(opened.image(entry), image)
        assert np.array_equal(opened.truth(entry, *labels.shape).instances.to_masks(), masks(labels))


def test_real_cells_in_colours(shared_data: Path, tmp_path: Path):
    labels = crop(shared_data, "set13")[1]
    palette = np.array([(i % 7 * 30 + 1, i % 11 * 20, i % 13 * 15 + 2) for i in range(labels.max() + 1)], np.uint8)
    assert len({tuple(c) for c in palette[1:]}) == labels.max()
    palette[0] = 128  # gray: background
    write_pair(tmp_path, "a", (labels > 0).astype(np.uint8), palette[labels])
    found = truths(reader(PAIRS | {"decode": "colours"}, tmp_path))["a"].instances
    assert as_set(found.to_masks()) == as_set(masks(labels))


def test_thin_instances_are_left_out_and_noted(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    cells[0, :30] = 77
    write_pair(tmp_path, "a", picture, cells)
    truth = truths(reader(PAIRS | {"min_side": 3}, tmp_path))["a"]
    assert len(truth.instances) == 5
    assert truth.notes == (f"{tmp_path / 'labels' / 'a.png'}: 1 instances thinner than 3 pixels, left out",)


def test_gray_labels_in_a_colour_file(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    small = (cells % 251).astype(np.uint8)
    write_pair(tmp_path, "a", picture, np.dstack([small] * 3 + [np.full_like(small, 255)]))
    assert np.array_equal(truths(reader(PAIRS, tmp_path))["a"].instances.to_masks(), masks(small))
    write_pair(tmp_path, "a", picture, np.dstack([small, small, small + 1]))
    with pytest.raises(DataError, match=r"labels/a\.png: a label image in colour .*decode"):
        truths(reader(PAIRS, tmp_path))


def test_parts_and_groups_from_the_path(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    for part, stem in (("train", "mouse_7_001"), ("train", "mouse_7_002"), ("test", "rat_001")):
        write_pair(tmp_path / part, stem, picture, cells)
    table = {
        "name": "label_pairs",
        "images": ["{part}/images/{group}_{frame}.png"],
        "labels": ["{part}/labels/{group}_{frame}.png"],
        "id": "{group}-{frame}",
    }
    entries = reader(table, tmp_path).index().entries
    assert [(e.id, e.part, e.group) for e in entries] == [
        ("mouse_7-001", "train", "mouse_7"),
        ("mouse_7-002", "train", "mouse_7"),
        ("rat-001", "test", "rat"),
    ]


def test_special_characters_in_patterns_stand_for_themselves(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    write_pair(tmp_path, "a[1]x", picture, cells)
    write_pair(tmp_path, "a1x", picture, cells)
    table = PAIRS | {"images": ["images/{stem}[1]x.png"], "labels": ["labels/{stem}[1]x.png"]}
    assert [e.id for e in reader(table, tmp_path).index().entries] == ["a"]


def test_a_folder_of_label_images_that_is_not_there_is_named(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    write_pair(tmp_path, "a", picture, cells)
    (tmp_path / "labels").rename(tmp_path / "Masks")
    with pytest.raises(DataError) as caught:
        reader(PAIRS, tmp_path).index()
    assert caught.value.message == (
        f"{tmp_path / 'labels'}: no such folder, expected the label image of {tmp_path / 'images' / 'a.png'} in it"
    )
    assert "has the folders Masks, images" in str(caught.value.hint)


def test_faults_of_pairs(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    with pytest.raises(DataError, match=r"no image in it \(expected images/\{stem\}\.png\)"):
        reader(PAIRS, tmp_path).index()
    write_pair(tmp_path, "a", picture, cells)
    write_pair(tmp_path, "b", picture, cells)
    (tmp_path / "images" / "b.png").unlink()
    index = reader(PAIRS, tmp_path).index()
    assert index.notes == (f"{tmp_path / 'labels' / 'b.png'}: a label image without an image, left out",)
    (tmp_path / "labels" / "a.png").unlink()
    with pytest.raises(DataError, match=r"labels/a\.png: no such label image, for the image .*images/a\.png"):
        reader(PAIRS, tmp_path).index()
    Image.fromarray(cells[:, :-2]).save(tmp_path / "labels" / "a.png")
    with pytest.raises(
        DataError, match=r"labels/a\.png: the label image is 40 x 48 pixels, its image a\.png is 40 x 50"
    ):
        truths(reader(PAIRS, tmp_path))


def test_image_files_with_another_suffix_are_noted(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    write_pair(tmp_path, "a", picture, cells)
    for name in ("b.jpeg", "c.tiff", "y.webp", "d.gif", "notes.txt", ".hidden.tif"):
        (tmp_path / "images" / name).touch()
    (tmp_path / "labels" / "b.tif").touch()
    index = reader(PAIRS, tmp_path).index()
    assert [e.id for e in index.entries] == ["a"]
    told = "image files with a suffix that the card does not name"
    assert index.notes == (
        f"{tmp_path / 'images'}: 4 {told} (b.jpeg), left out",
        f"{tmp_path / 'labels'}: 1 {told} (b.tif), left out",
    )


def test_other_files_beside_an_image_of_a_fixed_name_are_nothing_to_tell(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    for name, array in (("raw.png", picture), ("ids.png", cells), ("overview.jpg", picture)):
        (tmp_path / "set1").mkdir(exist_ok=True)
        Image.fromarray(array).save(tmp_path / "set1" / name)
    table = {"name": "label_pairs", "images": ["{set}/raw.png"], "labels": ["{set}/ids.png"]}
    assert reader(table, tmp_path).index().notes == ()


def test_one_id_for_two_images(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    write_pair(tmp_path / "x", "a", picture, cells)
    write_pair(tmp_path / "y", "a", picture, cells)
    table = {"name": "label_pairs", "images": ["{lab}/images/{stem}.png"], "labels": ["{lab}/labels/{stem}.png"]}
    with pytest.raises(DataError, match=r"the image a is also at"):
        reader(table | {"id": "{stem}"}, tmp_path).index()
    assert [e.id for e in reader(table, tmp_path).index().entries] == ["x/a", "y/a"]


def test_images_without_truth(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    write_pair(tmp_path / "train", "a", picture, cells)
    write_pair(tmp_path / "more", "b", picture, cells)
    shutil.rmtree(tmp_path / "more" / "labels")
    table = {"name": "label_pairs", "images": ["{part}/images/{stem}.png"], "labels": ["{part}/labels/{stem}.png"]}
    found = truths(reader(table | {"unlabelled": ["more"]}, tmp_path))
    assert found["b"].instances is None
    assert len(found["a"].instances) == 5


# -- COCO ----------------------------------------------------------------------------------------------

COCO_TABLE = {"name": "coco", "annotations": {"train": ["train.json"]}, "images": ["images"]}


def coco_file(labels: NDArray[Any], style: str) -> dict[str, Any]:
    """A COCO file of one image; its annotations in one of the styles that occur."""
    height, width = labels.shape
    annotations = []
    for number, mask in enumerate(masks(labels)):
        rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        if style == "compressed":
            segmentation: Any = {"size": [height, width], "counts": rle["counts"].decode()}
        else:
            flat = mask.ravel(order="F").astype(np.int8)
            edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
            segmentation = {"size": [height, width], "counts": np.diff([0, *edges, flat.size]).tolist()}
        annotations.append({"id": number, "image_id": 4, "category_id": 1, "segmentation": segmentation})
    return {
        "images": [{"id": 4, "file_name": "a.png", "height": height, "width": width}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": annotations,
    }


def write_coco(root: Path, content: Any, images: dict[str, NDArray[Any]], name: str = "train.json") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))
    for file, array in images.items():
        path = root / "images" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


@pytest.mark.parametrize("style", ["compressed", "uncompressed"])
def test_real_cells_as_coco(shared_data: Path, tmp_path: Path, style: str):
    labels = crop(shared_data, "set2")[1]
    write_coco(tmp_path, coco_file(labels, style), {"a.png": (labels > 0).astype(np.uint8)})
    assert np.array_equal(truths(reader(COCO_TABLE, tmp_path))["a"].instances.to_masks(), masks(labels))


def test_polygons_as_pycocotools_draws_them(tmp_path: Path, picture: NDArray[np.uint8]):
    polygons = [
        [[3.5, 2.0, 20.25, 4.0, 18.0, 17.5, 5.0, 15.0]],
        [[30, 5, 45, 5, 45, 20, 30, 20], [2, 30, 12, 30, 12, 38, 2, 38]],
        [[40.0, 30.0, 60.0, 30.0, 60.0, 50.0, 40.0, 50.0]],  # reaches out of the image
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 50}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": p,
                "iscrowd": 0,
                "area": 1,
                "bbox": [0, 0, 1, 1],
            }
            for i, p in enumerate(polygons)
        ],
    }
    write_coco(tmp_path, content, {"a.png": picture})
    reference = COCO(str(tmp_path / "train.json"))
    expected = [reference.annToMask(a).astype(np.bool_) for a in reference.loadAnns(reference.getAnnIds())]
    found = truths(reader(COCO_TABLE, tmp_path))["a"].instances
    assert np.array_equal(found.to_masks(), np.stack(expected))
    assert found.boxes[2].tolist() == [40, 30, 50, 40]


def test_a_polygon_that_is_not_in_a_list(tmp_path: Path, picture: NDArray[np.uint8]):
    content = coco_file(np.zeros((40, 50), np.uint8) + np.eye(40, 50, dtype=np.uint8), "compressed")
    content["annotations"][0]["segmentation"] = [3, 3, 9, 3, 9, 9, 3, 9]
    write_coco(tmp_path, content, {"a.png": picture})
    assert truths(reader(COCO_TABLE, tmp_path))["a"].instances.areas.tolist() == [36]


def test_annotations_as_a_dictionary(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    content = coco_file(cells, "compressed")
    content["annotations"] = {str(a["id"]): a for a in content["annotations"]}
    content["images"] = {"4": content["images"][0]}
    write_coco(tmp_path, content, {"a.png": picture})
    assert np.array_equal(truths(reader(COCO_TABLE, tmp_path))["a"].instances.to_masks(), masks(cells))


def test_crowds_and_fields_that_are_missing(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    content = coco_file(cells, "compressed")
    content["annotations"][2]["iscrowd"] = 1
    content["annotations"][3]["iscrowd"] = True
    for annotation in content["annotations"]:
        assert not {"area", "bbox"} & set(annotation)
    del content["annotations"][1]["id"], content["images"][0]["height"], content["images"][0]["width"]
    write_coco(tmp_path, content, {"a.png": picture})
    found = truths(reader(COCO_TABLE, tmp_path))["a"].instances
    assert found.crowd.tolist() == [False, False, True, True, False]
    assert found.areas.tolist() == [72, 64, 32, 30, 210]


def test_annotations_without_a_mask_are_left_out_and_noted(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    content = coco_file(cells, "compressed")
    content["annotations"][0]["segmentation"] = []
    content["annotations"][1]["segmentation"] = [[1, 1, 5, 5]]
    del content["annotations"][2]["segmentation"]
    content["annotations"][3]["segmentation"] = [[60, 60, 70, 60, 70, 70]]
    content["annotations"].append(content["annotations"][4] | {"id": 9, "image_id": 77})
    write_coco(tmp_path, content, {"a.png": picture})
    opened = reader(COCO_TABLE, tmp_path)
    assert opened.index().notes == (
        f"{tmp_path / 'train.json'}: 1 annotations of images that are not listed (the first: 77), left out",
    )
    truth = truths(opened)["a"]
    assert len(truth.instances) == 1
    assert [note.split(": ", 1)[1] for note in truth.notes] == [
        "annotation 0 of a: no mask, left out",
        "annotation 1 of a: no mask, left out",
        "annotation 2 of a: no mask, left out",
        "1 annotations of a (the first: 3) reach outside the image, cut off at its border",
        "annotation 3 of a: its mask has no pixel in the image, left out",
    ]


def test_polygons_of_fewer_than_three_points_are_counted(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    """LIVECell and others have parts of one or two points beside the outline of a cell."""
    content = coco_file(cells, "compressed")
    square = [2, 2, 12, 2, 12, 9, 2, 9]
    content["annotations"][1]["segmentation"] = [[50, 50, 60, 60], square, [3, 3]]
    content["annotations"][3]["segmentation"] = [square, [8, 8, 9, 9]]
    write_coco(tmp_path, content, {"a.png": picture})
    truth = truths(reader(COCO_TABLE, tmp_path))["a"]
    assert len(truth.instances) == 5
    assert truth.notes == (
        f"{tmp_path / 'train.json'}: 3 polygons of a (the first of annotation 1) have fewer than 3 points, left out",
    )
    drawn = coco_mask.decode(coco_mask.frPyObjects([square], 40, 50)[0])
    assert np.array_equal(truth.instances.mask(1), drawn.astype(bool))


def test_several_annotation_files_are_a_part_together(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    images = {}
    for line in ("bv2", "a172"):
        content = coco_file(cells, "compressed")
        content["images"][0]["file_name"] = f"{line}.png"
        content["categories"].append({"id": 9, "name": f"only in {line}"})
        images[f"{line}.png"] = picture
        (tmp_path / line).mkdir()
        write_coco(tmp_path, content, images, f"{line}/train.json")
    Image.fromarray(picture).save(tmp_path / "images" / "1_Background.png")
    annotations = {"train": ["all.json", "{line}/train.json"]}
    table = COCO_TABLE | {"annotations": annotations, "ignore": ["only*"], "without_annotations": ["*Background.*"]}
    found = truths(reader(table, tmp_path))
    assert {name: len(truth.instances) for name, truth in found.items()} == {"a172": 5, "bv2": 5, "1_Background": 0}
    write_coco(tmp_path, coco_file(cells, "compressed"), {"a.png": picture}, "all.json")
    assert set(truths(reader(table, tmp_path))) == {"a", "1_Background"}  # the first path that is there


def test_categories_become_classes(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    content = coco_file(cells, "compressed")
    content["categories"] = [{"id": 5, "name": "Nucleus"}, {"id": 1, "name": "Cell"}, {"id": 8, "name": "MCF7"}]
    for annotation, category in zip(content["annotations"], (1, 5, 1, 8, 5), strict=True):
        annotation["category_id"] = category
    write_coco(tmp_path, content, {"a.png": picture})
    both = ("cell", "nucleus")
    with pytest.raises(DataError, match=r"train\.json: the category 'MCF7' is no class of the card \(cell, nucleus\)"):
        truths(reader(COCO_TABLE, tmp_path, both))
    found = truths(reader(COCO_TABLE | {"ignore": ["MCF7"]}, tmp_path, both))["a"].instances
    assert found.class_ids.tolist() == [0, 1, 0, 1]
    mapped = COCO_TABLE | {"categories": {"nucleus": ["Nucleus"], "cell": ["*"]}}
    assert truths(reader(mapped, tmp_path, both))["a"].instances.class_ids.tolist() == [0, 1, 0, 0, 1]
    one = COCO_TABLE | {"categories": {"cell": ["Cell", "MCF7"]}, "ignore": ["Nucleus"]}
    assert len(truths(reader(one, tmp_path))["a"].instances) == 3
    with pytest.raises(DataError, match=r"format\.categories names the class 'vesicle'"):
        reader(COCO_TABLE | {"categories": {"vesicle": ["x"]}}, tmp_path).index()


def test_categories_of_the_file_as_classes(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    """EVICAN60: which classes there are stands in the file alone."""
    content = coco_file(cells, "compressed")
    content["categories"] = [
        {"id": 9, "name": "HeLa_Nucleus"},
        {"id": 2, "name": "HT29_Cell"},
        {"id": 5, "name": "HeLa_Cell"},
    ]
    for annotation, category in zip(content["annotations"], (5, 9, 5, 2, 9), strict=True):
        annotation["category_id"] = category
    write_coco(tmp_path, content, {"a.png": picture})
    table = COCO_TABLE | {"classes": "categories"}
    opened = reader(table, tmp_path, ())
    assert truths(opened)["a"].instances.class_ids.tolist() == [1, 2, 1, 0, 2]
    assert opened.classes == ("HT29_Cell", "HeLa_Cell", "HeLa_Nucleus")
    cells_only = reader(table | {"ignore": ["*nuc*"]}, tmp_path, ())
    assert truths(cells_only)["a"].instances.class_ids.tolist() == [1, 1, 0]
    assert cells_only.classes == ("HT29_Cell", "HeLa_Cell")


def test_groups_as_classes(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    content = coco_file(cells, "compressed")
    content["images"][0]["file_name"] = "SkBr3_Phase_1.png"
    write_coco(tmp_path, content, {"SkBr3_Phase_1.png": picture})
    table = COCO_TABLE | {"classes": "group", "names": "{group}_Phase_{rest}"}
    found = truths(reader(table, tmp_path, ("A172", "SkBr3")))["SkBr3_Phase_1"].instances
    assert found.class_ids.tolist() == [1] * 5
    with pytest.raises(DataError, match=r"SkBr3_Phase_1\.png: the group 'SkBr3' is no class of the card \(A172\)"):
        truths(reader(table, tmp_path, ("A172",)))


def test_background_images_that_no_file_lists(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    write_coco(
        tmp_path, coco_file(cells, "compressed"), {"a.png": picture, "7_Background.png": picture, "b.png": picture}
    )
    found = truths(reader(COCO_TABLE | {"without_annotations": ["*Background.*"]}, tmp_path))
    assert {name: len(truth.instances) for name, truth in found.items()} == {"a": 5, "7_Background": 0}


def test_background_images_are_found_where_listed_ones_are(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    write_coco(tmp_path, coco_file(cells, "compressed"), {"unpacked/deep/a.png": picture})
    for name in ("unpacked/deep/7_Background.png", "8_Background.png", "__MACOSX/9_Background.png"):
        (tmp_path / "images" / name).parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "images" / name)
    table = COCO_TABLE | {"without_annotations": ["*Background.*"], "images": ["images", "images/unpacked", "copy"]}
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    found = truths(reader(table, tmp_path))
    assert {name: len(t.instances) for name, t in found.items()} == {"a": 5, "7_Background": 0, "8_Background": 0}


def test_one_name_in_two_folders(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    content = coco_file(cells, "compressed")
    content["images"][0]["file_name"] = "A172_Phase_1.png"
    write_coco(tmp_path, content, {"BV2/A172_Phase_1.png": 255 - picture, "old/A172/A172_Phase_1.png": picture})
    with pytest.raises(
        DataError, match=r"train\.json: its image A172_Phase_1\.png may be \S*BV2\S* or \S*old/A172\S*, which differ"
    ):
        reader(COCO_TABLE, tmp_path).index()
    by_line = reader(COCO_TABLE | {"names": "{group}_Phase_{rest}"}, tmp_path)
    assert by_line.index().entries[0].image == tmp_path / "images" / "old" / "A172" / "A172_Phase_1.png"
    content["images"][0]["file_name"] = "train/BV2/A172_Phase_1.png"
    write_coco(tmp_path, content, {})
    opened = reader(COCO_TABLE | {"names": "{group}_Phase_{rest}"}, tmp_path)
    assert np.array_equal(opened.image(opened.index().entries[0]), 255 - picture)
    shutil.copy(tmp_path / "images" / "BV2" / "A172_Phase_1.png", tmp_path / "images" / "old" / "A172")
    content["images"][0]["file_name"] = "A172_Phase_1.png"
    write_coco(tmp_path, content, {})
    assert len(reader(COCO_TABLE, tmp_path).index().entries) == 1  # copies of one image


def test_a_folder_of_images_for_each_part(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    content = coco_file(cells, "compressed")
    write_coco(tmp_path, content, {}, "train.json")
    write_coco(tmp_path, content, {}, "easy.json")
    for folder in ("EVICAN_train2019", "EVICAN_eval2019"):
        (tmp_path / folder).mkdir()
        Image.fromarray(picture).save(tmp_path / folder / "a.png")
    table = {
        "name": "coco",
        "annotations": {"train": ["train.json"], "easy": ["easy_x.json", "easy.json"]},
        "images": {"train": ["EVICAN_{part}2019"], "easy": ["EVICAN_eval2019"]},
        "id": "{part}/{stem}",
    }
    entries = reader(table, tmp_path).index().entries
    assert {e.id: e.image.parent.name for e in entries} == {"easy/a": "EVICAN_eval2019", "train/a": "EVICAN_train2019"}


def test_images_nested_or_flat(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    write_coco(tmp_path, coco_file(cells, "compressed"), {"A172/a.png": picture})
    assert reader(COCO_TABLE, tmp_path).index().entries[0].image == tmp_path / "images" / "A172" / "a.png"
    Image.fromarray(picture).save(tmp_path / "images" / "a.png")
    assert reader(COCO_TABLE, tmp_path).index().entries[0].image == tmp_path / "images" / "a.png"


def test_parts_ids_and_groups_of_coco(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    content = coco_file(cells, "compressed")
    content["images"][0]["file_name"] = "A172_Phase_A7_1_00d00h00m_1.png"
    for name in ("train.json", "val_old.json"):
        write_coco(tmp_path, content, {"A172_Phase_A7_1_00d00h00m_1.png": picture}, name)
    table = COCO_TABLE | {
        "annotations": {"train": ["train.json"], "val": ["val.json", "val_old.json"], "test": ["test.json"]},
        "names": "{group}_Phase_{rest}",
    }
    with pytest.raises(DataError, match=r"val_old\.json: the image id 'A172_Phase_A7_1_00d00h00m_1' comes twice"):
        reader(table, tmp_path).index()
    entries = reader(table | {"id": "{part}-{id}"}, tmp_path).index().entries
    assert [(e.id, e.part, e.group) for e in entries] == [("train-4", "train", "A172"), ("val-4", "val", "A172")]


def _first(**changes: Any) -> Callable[[Any], None]:
    return lambda content: content["annotations"][0].update(changes)


def _first_rle(**changes: Any) -> Callable[[Any], None]:
    return lambda content: content["annotations"][0]["segmentation"].update(changes)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: c["images"].append({"id": 4, "file_name": "b.png"}), "two images have the id 4"),
        (lambda c: c["images"].append({"id": 5, "file_name": "b.png"}), "1 of its 2 images are not there; .*: b.png"),
        (lambda c: c["images"][0].update(height=41), r"it says that a\.png is 41 x 50 pixels, the file is 40 x 50"),
        (_first(category_id=3), "annotation 0 has the category 3, which is not listed"),
        (_first(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "annotation 0 of a: a polygon of 7 numbers"),
        (_first(segmentation="x"), "annotation 0 of a: not a COCO segmentation"),
        (
            _first(segmentation=[[1, 2, 3, 4, 5, 1e12]]),
            r"annotation 0 of a: a polygon reaches 1e\+12, the image",
        ),
        (_first_rle(size=[40, 51]), "annotation 0 of a: its RLE is of 40 x 51 pixels"),
        (_first_rle(counts="5"), "annotation 0 of a: an RLE covers 5 pixels"),
        (_first_rle(counts="é~"), "annotation 0 of a: illegal character"),
        (_first_rle(counts=[1999]), "annotation 0 of a: its run lengths sum to 1999"),
        (_first_rle(counts=[2001, -1]), "annotation 0 of a: its run lengths"),
        (lambda c: c["annotations"][0].pop("image_id"), r"not COCO: .*required field image_id - at annotations\[0\]"),
        (lambda c: c.pop("images"), "not COCO: .*missing required field images"),
        (lambda c: c.pop("categories"), "not COCO: .*missing required field categories"),
        (lambda c: c.update(annotations=[], images=[]), "no annotation file with images in it"),
    ],
)
def test_faults_of_coco(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8], change: Callable[[Any], Any], complaint: str
):
    content = coco_file(cells, "compressed")
    change(content)
    write_coco(tmp_path, content, {"a.png": picture})
    with pytest.raises(DataError, match=complaint) as caught:
        truths(reader(COCO_TABLE, tmp_path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in caught.value.message


def test_a_json_file_that_is_cut_off(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]):
    write_coco(tmp_path, coco_file(cells, "compressed"), {"a.png": picture})
    path = tmp_path / "train.json"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"train\.json: not JSON: .* \(the file may be cut off"):
        reader(COCO_TABLE, tmp_path).index()
    path.unlink()
    with pytest.raises(DataError, match=r"no annotation file with images in it \(expected train\.json\)"):
        reader(COCO_TABLE, tmp_path).index()


# -- the registry --------------------------------------------------------------------------------------


def test_formats_by_name():
    assert {"coco", "label_pairs", "mask_folders"} <= set(reader_names())
    assert not {"base", "patterns"} & set(reader_names())
