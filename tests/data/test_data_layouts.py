"""Downloads as they are unpacked on people's machines: the same data set, or one line that says what is wrong."""

from __future__ import annotations

import csv
import gzip
import json
import os
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

from bench.data import load_card, open_dataset
from bench.data.folders import files_below, unwrapped
from bench.data.prepare import prepare
from bench.data.readers import open_reader
from bench.errors import DataError

HEIGHT, WIDTH = 24, 30


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)


def labels(seed: int) -> NDArray[np.uint8]:
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    found[2:9, 3 + seed : 11 + seed] = 1
    found[12:20, 14 : 22 + seed] = 2
    return found


def masks(seed: int) -> list[NDArray[np.bool_]]:
    return [labels(seed) == i for i in (1, 2)]


def save(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array)
    else:
        Image.fromarray(array).save(path)


def runs(mask: NDArray[np.bool_], order: Any) -> str:
    flat = np.flatnonzero(mask.ravel(order=order)) + 1
    starts = flat[np.flatnonzero(np.diff(flat, prepend=-1) > 1)]
    ends = flat[np.flatnonzero(np.diff(flat, append=flat[-1] + 2) > 1)]
    return " ".join(f"{a} {b - a + 1}" for a, b in zip(starts, ends, strict=True))


def write_table(path: Path, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def write_coco(path: Path, name: str, seed: int, categories: dict[int, str]) -> None:
    segments = [coco_mask.encode(np.asfortranarray(m, np.uint8))["counts"].decode() for m in masks(seed)]
    content = {
        "images": [{"id": seed, "file_name": name, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": i, "name": text} for i, text in categories.items()],
        "annotations": [
            {"id": i, "image_id": seed, "category_id": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}}
            for i, counts in enumerate(segments)
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


# -- the official layouts, a few images each --------------------------------------------------------------------


def livecell(folder: Path, annotations: str = "annotations/LIVECell/livecell_coco_{part}.json") -> None:
    for seed, (part, line) in enumerate((("train", "A172"), ("val", "SkBr3"), ("test", "SKOV3"))):
        name = f"{line}_Phase_C4_1_00d00h00m_{seed}.tif"
        images = "livecell_test_images" if part == "test" else "livecell_train_val_images"
        save(folder / "images" / images / line / name, picture(seed))
        write_coco(folder / annotations.format(part=part, line=line.lower()), name, seed, {1: "cell"})


def sartorius(folder: Path) -> None:
    header = ["id", "annotation", "width", "height", "cell_type", "plate_time", "sample_date", "sample_id", "elapsed"]
    rows: list[list[Any]] = [header]
    for seed in range(3):
        save(folder / "train" / f"{seed:012x}.png", picture(seed))
        well = f"cort[oneDayRun]_E10-4_Vessel-{seed}_Ph_3"
        rows += [
            [f"{seed:012x}", runs(m, "C"), WIDTH, HEIGHT, "cort", "11h30m00s", "2019-06-16", well, "0 days 11:30:00"]
            for m in masks(seed)
        ]
    write_table(folder / "train.csv", rows)
    save(folder / "train_semi_supervised" / "astros[cereb]_D1-1_Vessel-361_Ph_1.png", picture(7))
    save(folder / "test" / "7ae19de7bc2a.png", picture(8))
    write_table(folder / "sample_submission.csv", [["id", "predicted"], ["7ae19de7bc2a", ""]])
    livecell(folder / "LIVECell_dataset_2021")


def film(folder: Path) -> None:
    for sequence in ("01", "02"):
        for t in range(3):
            save(folder / sequence / f"t{t:03d}.tif", picture(t))
            save(folder / f"{sequence}_ST" / "SEG" / f"man_seg{t:03d}.tif", labels(t).astype(np.uint16))
            save(folder / f"{sequence}_GT" / "TRA" / f"man_track{t:03d}.tif", labels(t).astype(np.uint16))
            save(folder / f"{sequence}_ERR_SEG" / f"mask{t:03d}.tif", labels(t).astype(np.uint16))
        save(folder / f"{sequence}_GT" / "SEG" / "man_seg001.tif", labels(1).astype(np.uint16))
        (folder / f"{sequence}_GT" / "TRA" / "man_track.txt").write_text("1 0 2 0\n")


def evican(folder: Path, annotations: str = ".", images: str = ".") -> None:
    for seed, part in enumerate(("train", "val", "eval")):
        save(folder / images / f"EVICAN_{part}2019" / f"{seed}_HeLa.jpg", picture(seed))
        name = f"instances_{part}2019{'_easy' if part == 'eval' else ''}_EVICAN2.json"
        write_coco(folder / annotations / name, f"{seed}_HeLa.jpg", seed, {1: "Cell", 2: "Nucleus"})
    save(folder / images / "EVICAN_train2019" / "9_Background.jpg", picture(9))


def bowl(folder: Path) -> None:
    for seed in range(3):
        name = f"{seed:064x}"
        save(folder / "stage1_train" / name / "images" / f"{name}.png", np.dstack([picture(seed)] * (3 + seed % 2)))
        for i, mask in enumerate(masks(seed)):
            save(folder / "stage1_train" / name / "masks" / f"{i:064x}.png", (mask * 255).astype(np.uint8))


def bowl_tables(folder: Path) -> None:
    bowl(folder)
    rows = [[f"{seed:064x}", runs(m, "F")] for seed in range(3) for m in masks(seed)]
    write_table(folder / "stage1_train_labels.csv", [["ImageId", "EncodedPixels"], *rows])
    save(folder / "stage1_test" / "ab" / "images" / "ab.png", picture(5))
    rows = [["ab", runs(m, "F"), HEIGHT, WIDTH, "Public"] for m in masks(5)]
    write_table(folder / "stage1_solution.csv", [["ImageId", "EncodedPixels", "Height", "Width", "Usage"], *rows])
    save(folder / "stage2_test_final" / "cd" / "images" / "cd.png", picture(6))


def nuclei(folder: Path) -> None:
    (folder / "metadata").mkdir(parents=True)
    for seed, part in enumerate(("training", "training", "validation", "test")):
        save(folder / "images" / f"IXMtest_{seed}.tif", picture(seed).astype(np.uint16))
        opaque = np.full_like(labels(seed), 255)
        save(folder / "masks" / f"IXMtest_{seed}.png", np.dstack([labels(seed)] * 3 + [opaque]))
        with (folder / "metadata" / f"{part}.txt").open("a") as file:
            file.write(f"IXMtest_{seed}.png\n")


def repository(folder: Path) -> None:
    for seed, part in enumerate(("train", "train", "val")):
        save(folder / "Mask R-CNN" / part / f"set{seed}" / "raw.tif", picture(seed).astype(np.uint16))
        save(folder / "Mask R-CNN" / part / f"set{seed}" / "instances_ids.png", labels(seed))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "livecell": livecell,
    "sartorius": sartorius,
    "dic_hela": film,
    "evican2": evican,
    "dsb2018": bowl,
    "dsb2018_stage1": bowl_tables,
    "bbbc039": nuclei,
    "usiigaci": repository,
}


# -- what happens to them ---------------------------------------------------------------------------------------


def litter(folder: Path) -> None:
    files = [p for p in folder.rglob("*") if p.is_file()]
    for place in {folder, *(p.parent for p in files)}:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
            (place / name).write_bytes(b"\0\1")
    for file in files:
        for beside in (file, folder / "__MACOSX" / file.relative_to(folder)):
            beside.parent.mkdir(parents=True, exist_ok=True)
            (beside.parent / f"._{file.name}").write_bytes(b"\0\5\x16\7")


def one_folder_deeper(folder: Path) -> None:
    folder.rename(folder.parent / "inside")
    folder.mkdir()
    (folder.parent / "inside").rename(folder / folder.name)
    (folder / ".DS_Store").touch()
    (folder / "__MACOSX").mkdir()
    (folder / f"{folder.name}.zip").touch()


def linked_folders(folder: Path) -> None:
    for i, place in enumerate(sorted(p.parent for p in folder.rglob("*") if p.is_file())):
        if not place.is_symlink() and place != folder and not any(p.is_dir() for p in place.iterdir()):
            target = folder.parent / "elsewhere" / str(i)
            target.parent.mkdir(exist_ok=True)
            place.rename(target)
            place.symlink_to(target, target_is_directory=True)


def capitals(folder: Path) -> None:
    for path in [p for p in folder.rglob("*") if p.suffix in (".png", ".tif", ".jpg")]:
        path.rename(path.with_suffix(path.suffix.upper()))


def as_windows_saves_it(folder: Path) -> None:
    for path in [p for p in folder.rglob("*") if p.suffix in (".json", ".csv", ".txt")]:
        text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        path.write_bytes(b"\xef\xbb\xbf" + text)


def each_archive_in_its_folder(folder: Path) -> None:
    for name in ("images", "masks", "metadata", "stage1_train", "stage1_test", "EVICAN_train2019", "train"):
        if (folder / name).is_dir():
            one_folder_deeper(folder / name)


@pytest.mark.parametrize(
    "happens", [litter, one_folder_deeper, linked_folders, capitals, as_windows_saves_it, each_archive_in_its_folder]
)
@pytest.mark.parametrize("name", LAYOUTS)
def test_it_is_the_same_data_set(tmp_path: Path, name: str, happens: Callable[[Path], None]):
    folder = load_card(name).folders[0]
    LAYOUTS[name](tmp_path / "as it should be" / folder)
    as_it_should = open_dataset(name, tmp_path / "as it should be", stand_in=False)
    assert as_it_should.notes == ()
    root = tmp_path / "Müllers “Daten” [1] {x}*"
    LAYOUTS[name](root / folder)
    happens(root / folder)
    as_it_is = open_dataset(name, root, stand_in=False)
    assert as_it_is.content_hash == as_it_should.content_hash
    assert as_it_is.notes == ()
    if happens is not one_folder_deeper:  # once for each card
        return
    prepare(load_card(name), root / folder, tmp_path / "prepared")
    assert open_dataset(name, tmp_path / "prepared", stand_in=False).content_hash == as_it_should.content_hash


@pytest.mark.parametrize(
    ("name", "place", "make"),
    [
        ("livecell", "sartorius-cell-instance-segmentation/LIVECell_dataset_2021", livecell),
        ("livecell", "sartorius/LIVECell_dataset_2021", livecell),
        ("livecell", "livecell-dataset.s3.eu-central-1.amazonaws.com/LIVECell_dataset_2021", livecell),
        (
            "livecell",
            "livecell",
            lambda p: livecell(p, "annotations/LIVECell_single_cells/{line}/livecell_{line}_{part}.json"),
        ),
        ("evican2", "evican/dataverse_files", lambda p: evican(p, "annotations_EVICAN2", "Images")),
        ("dsb2018", "data-science-bowl-2018", bowl_tables),
        ("dsb2018", "dsb2018_stage1", bowl_tables),
        ("dsb2018_stage1", "BBBC038", bowl_tables),
        ("usiigaci", "Usiigaci-master", repository),
        ("usiigaci", "usiigaci/Usiigaci-master", repository),
        ("evican2", "EVICAN_dataset", lambda p: evican(p, "annotations_EVICAN2", "Images")),
    ],
)
def test_where_else_it_is_published(tmp_path: Path, name: str, place: str, make: Callable[[Path], None]):
    LAYOUTS[name](tmp_path / "one" / load_card(name).folders[0])
    make(tmp_path / "other" / place)
    one, other = (open_dataset(name, tmp_path / root, stand_in=False) for root in ("one", "other"))
    assert one.content_hash == other.content_hash
    assert other.notes == ()


def test_a_bag_is_opened(tmp_path: Path):
    evican(tmp_path / "plain" / "evican")
    bag = tmp_path / "bagged" / "evican" / "10.17617-3.AJBV1S"
    evican(bag / "data" / "dataset")
    (bag / "bagit.txt").write_text("BagIt-Version: 0.97\n")
    found = [open_dataset("evican2", tmp_path / root, stand_in=False) for root in ("plain", "bagged")]
    assert found[0].content_hash == found[1].content_hash


def test_a_folder_that_lies_in_itself(tmp_path: Path):
    (tmp_path / "dsb2018").mkdir()
    (tmp_path / "dsb2018" / "dsb2018").symlink_to(tmp_path / "dsb2018", target_is_directory=True)
    with pytest.raises(DataError, match="no image folder in it"):
        open_dataset("dsb2018", tmp_path, stand_in=False)
    assert list(files_below(tmp_path)) == []


def test_only_folders_of_known_names_are_passed_through(tmp_path: Path):
    (tmp_path / "set" / "SET" / "plate1" / "plate1").mkdir(parents=True)
    assert unwrapped(tmp_path / "set", ()) == tmp_path / "set" / "SET"
    assert unwrapped(tmp_path / "set", ("x/Plate1",)) == tmp_path / "set" / "SET" / "plate1" / "plate1"
    assert unwrapped(tmp_path / "absent", ()) == tmp_path / "absent"


@pytest.mark.parametrize(
    ("listed", "on_disk"),
    [
        ("M\u00fcller 1.png", "Mu\u0308ller 1.png"),
        ("plate\\M\u00fcller.png", "plate/M\u00fcller.png"),
        ("C:\\data\\a.png", "a.png"),
        ("a.png", "deep/er/A.PNG"),
    ],
)
def test_names_as_other_systems_write_them(tmp_path: Path, listed: str, on_disk: str):
    save(tmp_path / "images" / on_disk, picture(1))
    write_coco(tmp_path / "train.json", listed, 1, {1: "cell"})
    table = {"name": "coco", "annotations": {"": ["train.json"]}, "images": ["images"]}
    index = open_reader(table, Path("card.toml"), tmp_path, ("cell",)).index()
    assert [e.image for e in index.entries] == [tmp_path / "images" / on_disk]
    assert "\\" not in index.entries[0].id
    assert index.notes == ()


# -- one clear line ---------------------------------------------------------------------------------------------


def refused(name: str, root: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_dataset(name, root, stand_in=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["livecell", "sartorius", "evican2", "dsb2018_stage1"])
def test_what_is_packed_is_named(tmp_path: Path, name: str):
    folder = tmp_path / load_card(name).folders[0]
    LAYOUTS[name](folder)
    tables = {"sartorius": "train.csv", "dsb2018_stage1": "stage1_train_labels.csv"}
    file = next(folder.rglob(tables.get(name, "*train*.json")))
    file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    assert refused(name, tmp_path) == f"{file}.gz: it is packed (unpack it, so that {file.name} lies beside it)"


def test_what_is_not_unpacked_is_named(tmp_path: Path):
    (tmp_path / "DIC-C2DH-HeLa").mkdir()
    (tmp_path / "DIC-C2DH-HeLa" / "DIC-C2DH-HeLa.zip").touch()
    assert "DIC-C2DH-HeLa: no annotated frame in it, but DIC-C2DH-HeLa.zip (unpack it" in refused("dic_hela", tmp_path)


def test_what_is_half_fetched_is_said(tmp_path: Path):
    (tmp_path / "bbbc039" / ".downloads").mkdir(parents=True)
    assert "bbbc039: no image in it, its download did not end" in refused("bbbc039", tmp_path)


def test_the_test_set_over_the_training_set_of_the_same_name(tmp_path: Path):
    film(tmp_path / "DIC-C2DH-HeLa")
    for t in range(5):
        save(tmp_path / "DIC-C2DH-HeLa" / "01" / f"t{t:03d}.tif", picture(20 + t))
    said = refused("dic_hela", tmp_path)
    assert "01: 2 of its 5 frames are not in the silver truth, which has all (the test set has folders" in said


@pytest.mark.skipif(os.name == "nt", reason="permissions of another kind")
@pytest.mark.parametrize(
    ("name", "place"),
    [("bbbc039", "masks"), ("livecell", "images"), ("sartorius", "train"), ("dic_hela", "01_ST"), ("dsb2018", ".")],
)
def test_what_may_not_be_read_is_named(tmp_path: Path, name: str, place: str, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / load_card(name).folders[0]
    LAYOUTS[name](folder)
    closed = str(folder / place)
    for function in ("stat", "scandir", "listdir"):  # permissions do not hold an administrator, who may run this
        real = getattr(os, function)

        def guarded(path: Any = ".", *rest: Any, _real: Any = real, **named: Any) -> Any:
            if isinstance(path, (str, Path)) and str(path).startswith(closed + os.sep * (_real is os.stat)):
                raise PermissionError(13, "Permission denied", str(path))
            return _real(path, *rest, **named)

        monkeypatch.setattr(os, function, guarded)
    said = refused(name, tmp_path)
    assert said.startswith(closed)
    assert said.endswith("cannot be read: Permission denied")


# -- nothing is left out unsaid ---------------------------------------------------------------------------------


def test_images_that_no_annotation_file_lists(tmp_path: Path):
    livecell(tmp_path / "livecell")
    folder = tmp_path / "livecell" / "images"
    save(folder / "livecell_test_images" / "SKOV3" / "new.tif", picture(4))
    said = "1 images that no annotation file lists (the first: livecell_test_images/SKOV3/new.tif), left out"
    assert open_dataset("livecell", tmp_path, stand_in=False).notes == (f"{folder}: {said}",)
    for path in [p for p in folder.rglob("*.tif") if p.name != "new.tif"]:  # an old download and a new one
        shutil.copy(path, folder / "livecell_test_images" / path.name)
    assert open_dataset("livecell", tmp_path, stand_in=False).notes == (f"{folder}: {said}",)


def test_frames_and_masks_of_other_names(tmp_path: Path):
    film(tmp_path / "DIC-C2DH-HeLa")
    frames, silver = tmp_path / "DIC-C2DH-HeLa" / "01", tmp_path / "DIC-C2DH-HeLa" / "01_ST" / "SEG"
    save(frames / "t003.png", picture(1))
    save(silver / "man_seg_003_001.tif", labels(1))
    assert set(open_dataset("dic_hela", tmp_path, stand_in=False).notes) == {
        f"{frames}: 1 files with other names (the first: t003.png), left out",
        f"{silver}: 1 files with other names (the first: man_seg_003_001.tif), left out",
    }


def test_images_in_folders_below(tmp_path: Path):
    nuclei(tmp_path / "bbbc039")
    save(tmp_path / "bbbc039" / "images" / "plate2" / "x.tif", picture(1))
    assert open_dataset("bbbc039", tmp_path, stand_in=False).notes == (
        f"{tmp_path / 'bbbc039' / 'images'}: 1 image files in folders below it (the first: plate2/x.tif), left out",
    )


def test_image_folders_of_another_kind(tmp_path: Path):
    bowl(tmp_path / "dsb2018")
    train = tmp_path / "dsb2018" / "stage1_train"
    shutil.copytree(train / f"{0:064x}", tmp_path / "dsb2018" / "beside")
    (train / "other" / "Pictures").mkdir(parents=True)
    assert open_dataset("dsb2018", tmp_path, stand_in=False).notes == (
        f"{train}: 1 folders without images (the first: other), left out",
        f"{tmp_path / 'dsb2018'}: 1 image folders beside those of {train}, left out",
    )


# -- the official lists of BBBC039 ------------------------------------------------------------------------------


def test_the_lists_of_bbbc039_are_its_official_scheme(tmp_path: Path):
    nuclei(tmp_path / "bbbc039")
    dataset = open_dataset("bbbc039", tmp_path, stand_in=False)
    assert dataset.ids_of("official/train") == ("IXMtest_0", "IXMtest_1")
    assert dataset.ids_of("official/val") == ("IXMtest_2",)
    assert dataset.ids_of("official/test") == ("IXMtest_3",)
    lists = tmp_path / "bbbc039" / "metadata"
    (lists / "test.txt").write_text("IXMtest_9.png\n")
    (lists / "validation.txt").unlink()
    here = tmp_path / "bbbc039"
    assert open_dataset("bbbc039", tmp_path, stand_in=False).notes == (
        f"{here}: no list metadata/validation.txt: the part val is empty",
        f"{here}: 1 images that lists name are not there (the first: IXMtest_9)",
        f"{here}: 2 images are in none of the lists (the first: IXMtest_2)",
    )
    (lists / "test.txt").write_text("IXMtest_1.png\n")
    assert "test.txt: the image IXMtest_1.png is also in the list of train" in refused("bbbc039", tmp_path)
    shutil.rmtree(lists)
    dataset = open_dataset("bbbc039", tmp_path, stand_in=False)
    assert (dataset.notes, dataset.ids_of("official/test"), len(dataset)) == ((), (), 4)
