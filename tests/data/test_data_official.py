"""Each card opens the official layout of its data set, rebuilt from real pixels, and gives them back exactly."""

from __future__ import annotations

import csv
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
from skimage.measure import find_contours

from bench.data import load_card, open_dataset
from bench.data.check import check, open_and_check
from bench.data.dataset import Dataset
from bench.data.export import export
from bench.data.prepare import prepare
from bench.errors import DataError

HEIGHT, WIDTH = 520, 704
Picture = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture(scope="module")
def pictures(shared_data: Path) -> list[Picture]:
    """Four real phase-contrast images, 520 x 704 pixels, 8 bit, and their label images."""
    result = []
    for name in ("set13", "set2", "set21", "set40"):
        raw = tifffile.imread(shared_data / "usiigaci" / name / "raw.tif")[400 : 400 + HEIGHT, 100 : 100 + WIDTH]
        labels = np.asarray(Image.open(shared_data / "usiigaci" / name / "instances_ids.png"))
        scaled = (raw.astype(np.float64) - raw.min()) * (255 / np.ptp(raw))
        result.append((scaled.astype(np.uint8), labels[400 : 400 + HEIGHT, 100 : 100 + WIDTH].astype(np.int64)))
    return result


def stack(labels: NDArray[Any]) -> NDArray[np.bool_]:
    return np.stack([labels == i for i in np.unique(labels) if i])


def save(path: Path, array: NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, **options)
    else:
        Image.fromarray(array).save(path, **options)


def same(dataset: Dataset, expected: dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]) -> None:
    """Every pixel of images and masks, the masks in their order."""
    assert dataset.source == "real"
    everything = dataset.everything()
    assert set(everything.ids) == set(expected)
    for sample in everything:
        image, masks = expected[sample.id]
        assert np.array_equal(sample.image, image)
        assert sample.image.dtype == image.dtype
        assert sample.instances is not None
        assert np.array_equal(sample.instances.to_masks(), masks)


def same_after_preparing(name: str, root: Path, folder: Path) -> Dataset:
    prepare(load_card(name), folder, root / "again")
    raw, prepared = open_dataset(name, root, stand_in=False), open_dataset(name, root / "again", stand_in=False)
    assert prepared.is_prepared
    assert raw.content_hash == prepared.content_hash
    return prepared


# -- LIVECell ------------------------------------------------------------------------------------------

LINES = ("A172", "Huh7", "SkBr3", "SKOV3")


def livecell(root: Path, pictures: list[Picture], *, nested: bool, as_dictionary: bool = False) -> dict[str, Path]:
    """The download with four images: two to train, one each to validate and test, the second one annotated twice."""
    parts = {"train": (0, 1, 1), "val": (2,), "test": (3,)}
    files = {}
    for part, members in parts.items():
        images, annotations = [], []
        for number, i in enumerate(members):
            image, labels = pictures[i]
            name = f"{LINES[i]}_Phase_C4_1_00d0{i}h00m_1.tif"
            folder = root / "livecell" / "images"
            folder /= "livecell_test_images" if part == "test" else "livecell_train_val_images"
            save(folder / (LINES[i] if nested else ".") / name, image, compression="lzw")
            images.append(
                {"id": 100 * i + number, "file_name": name, "original_filename": name, "height": HEIGHT, "width": WIDTH}
            )
            for mask in stack(labels):
                padded = np.pad(mask, 1).astype(float)
                outlines = [c[:, ::-1] - 1 for c in find_contours(padded, 0.5) if len(c) > 4]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": 100 * i + number,
                        "category_id": 1,
                        "iscrowd": 0,
                        "area": int(mask.sum()),
                        "bbox": [0, 0, 1, 1],
                        "segmentation": [np.round(c, 2).ravel().tolist() for c in outlines],
                    }
                )
        content: dict[str, Any] = {"images": images, "categories": [{"id": 1, "name": "cell"}]}
        content["annotations"] = {str(a["id"]): a for a in annotations} if as_dictionary else annotations
        files[part] = root / "livecell" / "annotations" / "LIVECell" / f"livecell_coco_{part}.json"
        files[part].parent.mkdir(parents=True, exist_ok=True)
        files[part].write_text(json.dumps(content))
    return files


def livecell_expected(files: dict[str, Path], pictures: list[Picture]) -> dict[str, Any]:
    """What pycocotools makes of the same files."""
    expected = {}
    for part, path in files.items():
        coco = COCO(str(path))
        for number, image in coco.imgs.items():
            masks = [coco.annToMask(a) for a in coco.imgToAnns[number]]
            name = f"{part}/{Path(image['file_name']).stem}#{number}"
            expected[name] = pictures[number // 100][0], np.stack(masks).astype(bool)
    return expected


@pytest.mark.parametrize("nested", [True, False])
def test_livecell(pictures: list[Picture], tmp_path: Path, nested: bool):
    files = livecell(tmp_path, pictures, nested=nested)
    dataset = open_dataset("livecell", tmp_path, stand_in=False)
    same(dataset, livecell_expected(files, pictures))
    assert len(dataset.split("train")) == 3
    assert dataset.split("skbr3/val").ids == dataset.split("val").ids
    assert dataset.ids_of("skbr3/train") == ()
    assert len(dataset.duplicates()) == 1


LIVECELL_CARDS = ("livecell", "livecell_lines")


def single_cells(root: Path, files: dict[str, Path], *, under: str, as_dictionary: bool) -> None:
    """Take the annotations of all lines apart into ``<line>/{train,val,test}.json``; a line may lack some of them."""
    for part, path in files.items():
        content = json.loads(path.read_text())
        for line in LINES:
            images = [i for i in content["images"] if i["file_name"].startswith(f"{line}_")]
            numbers = {i["id"] for i in images}
            its = [a for a in content["annotations"] if a["image_id"] in numbers]
            if images:
                target = root / "livecell" / under / line.lower() / f"{part}.json"
                target.parent.mkdir(parents=True, exist_ok=True)
                stored = {str(a["id"]): a for a in its} if as_dictionary else its
                target.write_text(json.dumps(content | {"images": images, "annotations": stored}))
        path.unlink()


@pytest.mark.parametrize("as_dictionary", [True, False])
@pytest.mark.parametrize("under", ["annotations/LIVECell_single_cells", "LIVECell_single_cells"])
def test_livecell_annotations_of_single_lines(pictures: list[Picture], tmp_path: Path, under: str, as_dictionary: bool):
    whole = {}
    files = livecell(tmp_path, pictures, nested=True)
    for name in LIVECELL_CARDS:
        whole[name] = open_dataset(name, tmp_path, stand_in=False)
    expected = livecell_expected(files, pictures)
    single_cells(tmp_path, files, under=under, as_dictionary=as_dictionary)
    assert len(list((tmp_path / "livecell" / under).rglob("*.json"))) == 4
    for name in LIVECELL_CARDS:
        dataset = open_dataset(name, tmp_path, stand_in=False)
        same(dataset, expected)
        assert dataset.content_hash == whole[name].content_hash
        assert dataset.notes == ()


def test_livecell_annotations_of_one_line_only(pictures: list[Picture], tmp_path: Path):
    files = livecell(tmp_path, pictures, nested=False)
    single_cells(tmp_path, files, under="annotations/LIVECell_single_cells", as_dictionary=False)
    for line in ("huh7", "skbr3", "skov3"):
        for path in (tmp_path / "livecell" / "annotations" / "LIVECell_single_cells" / line).iterdir():
            path.unlink()
    dataset = open_dataset("livecell", tmp_path, stand_in=False)
    assert {sample.group for sample in dataset.everything()} == {"A172"}
    assert dataset.split("a172/train").ids == dataset.split("train").ids


def test_livecell_annotations_as_a_dictionary(pictures: list[Picture], tmp_path: Path):
    livecell(tmp_path / "list", pictures, nested=False)
    livecell(tmp_path / "dictionary", pictures, nested=False, as_dictionary=True)
    hashes = {open_dataset("livecell", tmp_path / k, stand_in=False).content_hash for k in ("list", "dictionary")}
    assert len(hashes) == 1


def test_livecell_duplicates_are_reported_and_dropped_if_wanted(pictures: list[Picture], tmp_path: Path):
    livecell(tmp_path, pictures, nested=False)
    _, report = open_and_check("livecell", tmp_path, stand_in=False)
    assert [f for f in report.findings if f.topic == "duplicates" and f.level == "note"]
    prepare(load_card("livecell"), tmp_path / "livecell", tmp_path / "other", drop_duplicates=True)
    dataset = open_dataset("livecell", tmp_path / "other")
    assert len(dataset) == 4
    assert dataset.duplicates() == ()
    assert sum("the same image as" in note for note in dataset.notes) == 1
    by_hand = open_dataset("livecell", tmp_path, stand_in=False, drop_duplicates=True)
    assert by_hand.content_hash == dataset.content_hash
    assert next(f for f in check(dataset).findings if f.topic == "prepared").level == "ok"


def test_the_lines_of_livecell_as_classes(pictures: list[Picture], tmp_path: Path):
    livecell(tmp_path, pictures, nested=True)
    dataset = open_dataset("livecell_lines", tmp_path, stand_in=False)
    for sample in dataset.everything():
        line = sample.id.partition("/")[2].partition("_")[0]
        assert {dataset.task.classes[c] for c in sample.instances.class_ids.tolist()} == {line}


# -- EVICAN --------------------------------------------------------------------------------------------


def evican(root: Path, pictures: list[Picture], family: str, *, suffix: bool, with_boxes: bool) -> dict[str, Any]:
    """Cells of real images, each with an invented nucleus; one background image; no area, and no bbox if not wanted."""
    cultures = ("C2C12", "HeLa", "hMSC", "A549", *(f"culture{i}" for i in range(26)))
    names = ["Cell", "Nucleus"] if family == "EVICAN2" else [f"{c}_{k}" for k in ("Cell", "Nucleus") for c in cultures]
    numbers = {name: i for i, name in enumerate(names, 1)}
    folder = root / "evican"
    expected: dict[str, Any] = {}
    for i, part in enumerate(("train", "val", "easy", "medium")):
        image, labels = pictures[i]
        split = f"eval2019_{part}" if part in ("easy", "medium") else f"{part}2019"
        place = folder / f"EVICAN_{'eval' if part in ('easy', 'medium') else part}2019"
        save(place / f"{i}_{cultures[i]}.jpg", image, quality=95)
        masks, annotations = [], []
        for kind in ("Cell", "Nucleus"):
            for mask in stack(labels):
                rows, columns = np.nonzero(mask)
                if kind == "Nucleus":
                    mask = mask & (np.hypot(*(np.indices(mask.shape).T - (rows[0], columns[0])).T) < 9)
                masks.append(mask)
                counts = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
                name = kind if family == "EVICAN2" else f"{cultures[i]}_{kind}"
                annotation = {
                    "id": len(annotations), "image_id": 7, "category_id": numbers[name], "iscrowd": 0,
                    "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
                }  # fmt: skip
                annotations.append(annotation | ({"bbox": [1, 2, 3, 4]} if with_boxes else {}))
        content = {
            "images": [{"id": 7, "file_name": f"{i}_{cultures[i]}.jpg", "height": HEIGHT, "width": WIDTH}],
            "categories": [{"id": n, "name": name} for name, n in numbers.items()],
            "annotations": annotations,
        }
        (folder / f"instances_{split}{f'_{family}' if suffix else ''}.json").write_text(json.dumps(content))
        decoded = np.asarray(Image.open(place / f"{i}_{cultures[i]}.jpg"))
        expected[f"{part}/{i}_{cultures[i]}"] = decoded, np.stack(masks)
    save(folder / "EVICAN_train2019" / "12_Background.jpg", pictures[0][0][:, ::-1])
    empty = np.asarray(Image.open(folder / "EVICAN_train2019" / "12_Background.jpg"))
    expected["train/12_Background"] = empty, np.zeros((0, HEIGHT, WIDTH), bool)
    return expected


@pytest.mark.parametrize("suffix", [True, False])
@pytest.mark.parametrize("with_boxes", [True, False])
def test_evican2(pictures: list[Picture], tmp_path: Path, suffix: bool, with_boxes: bool):
    expected = evican(tmp_path, pictures, "EVICAN2", suffix=suffix, with_boxes=with_boxes)
    dataset = open_dataset("evican2", tmp_path, stand_in=False)
    same(dataset, expected)
    assert dataset.split("test").ids == (*dataset.split("easy").ids, *dataset.split("medium").ids)
    sample = dataset.split("easy")[0]
    half = len(sample.instances) // 2
    assert sample.instances.class_ids.tolist() == [0] * half + [1] * half


def test_the_three_settings_of_deepcis(pictures: list[Picture], tmp_path: Path):
    evican(tmp_path, pictures, "EVICAN60", suffix=True, with_boxes=False)
    both, cells, nuclei = (
        open_dataset(n, tmp_path, stand_in=False) for n in ("evican60", "evican60_cell", "evican60_nucleus")
    )
    assert len(both.task.classes) == 60
    assert cells.task.classes == both.task.classes[:30]
    assert nuclei.task.classes == both.task.classes[30:]
    for whole, cell, nucleus in zip(both.everything(), cells.everything(), nuclei.everything(), strict=True):
        assert whole.instances.rles == cell.instances.rles + nucleus.instances.rles


@pytest.mark.parametrize(("name", "count"), [("evican60", 60), ("evican60_cell", 30), ("evican60_nucleus", 30)])
def test_files_of_evican2_are_not_taken_for_those_of_evican60(
    pictures: list[Picture], tmp_path: Path, name: str, count: int
):
    evican(tmp_path, pictures, "EVICAN2", suffix=False, with_boxes=False)
    found = {60: r"2 classes \(Cell, Nucleus\)", 30: r"1 classes \((Cell|Nucleus)\)"}[count]
    complaint = rf"evican: its annotation files name {found}, {name} has {count} \(they may be the files of another"
    for act in (
        lambda: open_dataset(name, tmp_path, stand_in=False),
        lambda: prepare(load_card(name), tmp_path / "evican", tmp_path / "again"),
    ):
        with pytest.raises(DataError, match=complaint) as caught:
            act()
        assert "\n" not in str(caught.value)


def test_files_of_evican60_are_not_taken_for_those_of_evican2(pictures: list[Picture], tmp_path: Path):
    evican(tmp_path, pictures, "EVICAN60", suffix=False, with_boxes=False)
    with pytest.raises(DataError, match=r"the category 'C2C12_Cell' is no class of the card \(cell, nucleus\)"):
        open_dataset("evican2", tmp_path, stand_in=False)


def test_evican_unpacked_one_folder_deeper(pictures: list[Picture], tmp_path: Path):
    expected = evican(tmp_path, pictures, "EVICAN2", suffix=True, with_boxes=True)
    for part in ("train", "val", "eval"):
        folder = tmp_path / "evican" / f"EVICAN_{part}2019"
        folder.rename(tmp_path / "images")
        (folder / "deep").mkdir(parents=True)
        (tmp_path / "images").rename(folder / "deep" / "images")
    same(open_dataset("evican2", tmp_path, stand_in=False), expected)


def test_check_compares_the_instances_of_each_split(pictures: list[Picture], tmp_path: Path):
    evican(tmp_path, pictures, "EVICAN2", suffix=True, with_boxes=True)
    dataset, report = open_and_check("evican2", tmp_path, stand_in=False)
    told = [f.text for f in report.findings if f.topic == "counts"]
    count = sum(len(s.instances) for s in dataset.split("easy"))
    assert f"{count} instances of easy, the card expects 374" in told
    assert "5 images, the card expects 4738" in told


# -- the others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [3, 4])
@pytest.mark.parametrize("name", ["dic_hela", "phc_u373"])
def test_cell_tracking_challenge(pictures: list[Picture], tmp_path: Path, name: str, digits: int):
    folder = tmp_path / load_card(name).folders[0]
    expected = {}
    for t, (image, labels) in enumerate(pictures):
        sequence, frame = f"{t // 2 + 1:02d}", f"{t % 2:0{digits}d}"
        save(folder / sequence / f"t{frame}.tif", image)
        save(folder / f"{sequence}_ST" / "SEG" / f"man_seg{frame}.tif", labels.astype(np.uint16))
        expected[f"{sequence}-silver/t{frame}"] = image, stack(labels)
    sparse = np.where(pictures[3][1] == pictures[3][1].max(), 0, pictures[3][1])
    save(folder / "02_GT" / "SEG" / f"man_seg{1:0{digits}d}.tif", sparse.astype(np.uint16))
    save(folder / "02_GT" / "TRA" / f"man_track{1:0{digits}d}.tif", sparse.astype(np.uint16))
    expected[f"02-gold/t{1:0{digits}d}"] = pictures[3][0], stack(sparse)
    dataset = open_dataset(name, tmp_path, stand_in=False)
    same(dataset, expected)
    assert {i.partition("-")[0] for i in dataset.ids_of("sequence/train")} == {"01"}
    assert {i.partition("-")[0] for i in dataset.ids_of("sequence/test")} == {"02"}
    assert dataset.ids_of("gold/test") == (f"02-gold/t{1:0{digits}d}",)
    same_after_preparing(name, tmp_path, folder)
    prepare(load_card(name), folder, tmp_path / "single", drop_duplicates=True)
    assert len(open_dataset(name, tmp_path / "single")) == len(dataset)  # gold and silver truth of one frame


def runs(mask: NDArray[np.bool_], order: str) -> str:
    """Kaggle's encoding, pixel by pixel from its definition."""
    flat = np.flatnonzero(mask.ravel(order=order)) + 1
    starts = flat[np.flatnonzero(np.diff(flat, prepend=-1) > 1)]
    ends = flat[np.flatnonzero(np.diff(flat, append=flat[-1] + 2) > 1)]
    return " ".join(f"{a} {b - a + 1}" for a, b in zip(starts, ends, strict=True))


def write_table(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_sartorius(pictures: list[Picture], tmp_path: Path):
    folder, rows, expected = tmp_path / "sartorius", [], {}
    for i, (image, labels) in enumerate(pictures):
        save(folder / "train" / f"{i:012x}.png", image)
        kind = ("shsy5y", "astro", "cort", "cort")[i]
        rows += [
            [f"{i:012x}", runs(m, "C"), WIDTH, HEIGHT, kind, "11h30m00s", "2019-06-16", f"{kind}[diff]_{i}", "0 days"]
            for m in stack(labels)
        ]
        expected[f"{i:012x}"] = image, stack(labels)
    header = ["id", "annotation", "width", "height", "cell_type", "plate_time", "sample_date", "sample_id", "elapsed"]
    write_table(folder / "train.csv", header, rows)
    same(open_dataset("sartorius", tmp_path, stand_in=False), expected)
    save(folder / "train_semi_supervised" / "shsy5y[diff]_1.png", pictures[0][0])
    save(folder / "test" / "7ae19de7bc2a.png", pictures[1][0])
    dataset = same_after_preparing("sartorius", tmp_path, folder)
    assert dataset.split("unlabelled")[0].instances is None
    assert dataset.split("competition").ids == ("7ae19de7bc2a",)
    assert {dataset.task.classes[c] for s in dataset.split("train") for c in s.instances.class_ids} <= {
        "shsy5y", "astro", "cort",
    }  # fmt: skip
    everything = dataset.everything().take(list(expected))
    done = export(dataset, everything, "kaggle", tmp_path / "exported")  # in the order that the card reads
    assert done.notes == ()
    (folder / "train.csv").unlink()
    (tmp_path / "exported" / "masks.csv").rename(folder / "train.csv")
    again = open_dataset("sartorius", tmp_path, stand_in=False)
    assert again.content_hash == dataset.content_hash
    assert again.split("train")[0].group == dataset.split("train")[0].group


def test_wells_of_sartorius_stay_together_in_a_scheme_of_their_own(pictures: list[Picture], tmp_path: Path):
    folder, rows = tmp_path / "sartorius", []
    for i in range(20):
        save(folder / "train" / f"{i:012x}.png", np.roll(pictures[0][0][:40, :50], i))
        rows.append([f"{i:012x}", "1 5", 50, 40, "cort", "x", "x", f"well{i // 4}", "x"])
    header = ["id", "annotation", "width", "height", "cell_type", "plate_time", "sample_date", "sample_id", "elapsed"]
    write_table(folder / "train.csv", header, rows)
    dataset = open_dataset("sartorius", tmp_path, stand_in=False)
    wells = {s: {sample.group for sample in dataset.split(s)} for s in ("sample/train", "sample/test", "train", "test")}
    assert not wells["sample/train"] & wells["sample/test"]
    assert [len(wells["sample/train"]), len(wells["sample/test"])] == [4, 1]
    assert wells["train"] & wells["test"]
    groups = [f.text for f in check(dataset).findings if f.topic == "groups"]
    assert len(groups) == 1
    assert groups[0].startswith("test and train share")


def test_data_science_bowl(pictures: list[Picture], tmp_path: Path):
    tables: dict[str, list[list[Any]]] = {"train": [], "test": []}
    expected = {}
    for i, (image, labels) in enumerate(pictures):
        part, name = ("test" if i == 3 else "train"), f"{i:064x}"
        rgba = np.dstack([image, image, image, np.full_like(image, 255)])[:, :, : 3 if i == 1 else 4]
        save(tmp_path / "dsb2018_stage1" / f"stage1_{part}" / name / "images" / f"{name}.png", rgba)
        more = [HEIGHT, WIDTH, "Private"] if part == "test" else []
        tables[part] += [[name, runs(m, "F"), *more] for m in stack(labels)]
        expected[name] = rgba, stack(labels)
    folder = tmp_path / "dsb2018_stage1"
    write_table(folder / "stage1_train_labels.csv", ["ImageId", "EncodedPixels"], tables["train"])
    header = ["ImageId", "EncodedPixels", "Height", "Width", "Usage"]
    write_table(folder / "stage1_solution.csv", header, tables["test"])
    same(open_dataset("dsb2018_stage1", tmp_path, stand_in=False), expected)
    dataset = same_after_preparing("dsb2018_stage1", tmp_path, folder)
    for part, table in (("train", "stage1_train_labels.csv"), ("test", "stage1_solution.csv")):
        assert export(dataset, dataset.split(part), "kaggle", tmp_path / part).notes == ()
        (tmp_path / part / "masks.csv").replace(folder / table)
    same(open_dataset("dsb2018_stage1", tmp_path, stand_in=False), expected)
    notes = export(dataset, dataset.split("test"), "kaggle", tmp_path / "other", order="row").notes
    assert notes == ("dsb2018_stage1 itself reads tables that count pixels along each column",)
    tables["test"][0][2:4] = [WIDTH, HEIGHT]
    write_table(folder / "stage1_solution.csv", header, tables["test"])
    with pytest.raises(
        DataError, match=rf"stage1_solution\.csv: line 2 .*: Height is {WIDTH}, the image .* is {HEIGHT} x"
    ):
        open_dataset("dsb2018_stage1", tmp_path, stand_in=False)


@pytest.mark.parametrize("place", ["", "Mask R-CNN/", "archive"])
def test_usiigaci_as_its_repository_has_it(shared_data: Path, tmp_path: Path, place: str):
    card = load_card("usiigaci")
    commit = Path(card.downloads[0].url).stem
    if place == "archive":
        place = f"Usiigaci-{commit}/Mask R-CNN/"
    for i, name in enumerate(("set13", "set2", "set40")):
        part = "" if not place else "val/" if i else "train/"
        target = tmp_path / "usiigaci" / f"{place}{part}{name}"
        shutil.copytree(shared_data / "usiigaci" / name, target)
        (target / "feature_0.png").touch()
    dataset = open_dataset("usiigaci", tmp_path, stand_in=False)
    assert dataset.everything().ids == ("set13", "set2", "set40")
    assert dataset.notes == ()
    labels = np.asarray(Image.open(shared_data / "usiigaci" / "set13" / "instances_ids.png"))
    assert len(dataset.everything()[0].instances) == len(np.unique(labels)) - 1


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("mcf10a", lambda path, labels: save(path.with_suffix(".tif"), labels.astype(np.uint16))),
        ("neural", lambda path, labels: save(path.with_suffix(".png"), coloured(labels))),
    ],
)
def test_private_sets(pictures: list[Picture], tmp_path: Path, name: str, write: Callable[[Path, Any], None]):
    expected = {}
    for i, (image, labels) in enumerate(pictures):
        part = ("train", "train", "val", "test")[i]
        save(tmp_path / name / part / "images" / f"im{i}.png", image)
        write(tmp_path / name / part / "labels" / f"im{i}", labels)
        sides = [np.ptp(np.nonzero(m), axis=1).min() + 1 for m in stack(labels)]
        kept = [m for m, side in zip(stack(labels), sides, strict=True) if name != "neural" or side >= 3]
        expected[f"im{i}"] = image, np.stack(kept)
    same(open_dataset(name, tmp_path, stand_in=False), expected)


def coloured(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A colour an instance, none of them gray, their codes ascending; gray where there is none."""
    picture = np.full((*labels.shape, 3), 90, np.uint8)
    for i, label in enumerate(np.unique(labels[labels > 0]), 1):
        picture[labels == label] = (i, 200, 255 - i)
    return picture
