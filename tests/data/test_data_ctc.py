"""The layout of the Cell Tracking Challenge."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from bench.data.readers import Reader, open_reader
from bench.errors import DataError


def reader(root: Path, **options: object) -> Reader:
    return open_reader({"name": "ctc", **options}, Path("card.toml"), root, ("cell",))


def write(path: Path, array: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, array)


@pytest.fixture
def sequence(tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]) -> Path:
    """Two sequences of four frames; silver truth for all, gold for two frames of the first."""
    for name in ("01", "02"):
        for t in range(4):
            write(tmp_path / name / f"t{t:03d}.tif", np.roll(picture, t))
            write(tmp_path / f"{name}_ST" / "SEG" / f"man_seg{t:03d}.tif", np.roll(cells, t, axis=0))
            write(tmp_path / f"{name}_GT" / "TRA" / f"man_track{t:03d}.tif", cells)
    for t in (1, 3):
        write(tmp_path / "01_GT" / "SEG" / f"man_seg{t:03d}.tif", np.where(cells == 7, 0, cells).astype(np.uint16))
    (tmp_path / "01_GT" / "TRA" / "man_track.txt").write_text("1 0 3 0\n")
    return tmp_path


def test_real_cells_as_a_sequence(shared_data: Path, tmp_path: Path):
    expected = {}
    for t, name in enumerate(("set13", "set2", "set21", "set40")):
        image = tifffile.imread(shared_data / "usiigaci" / name / "raw.tif")[500:920, 500:]
        labels = np.asarray(Image.open(shared_data / "usiigaci" / name / "instances_ids.png"))[500:920, 500:]
        write(tmp_path / "01" / f"t{t:04d}.tif", image)
        write(tmp_path / "01_GT" / "SEG" / f"man_seg{t:04d}.tif", labels.astype(np.uint16))
        expected[f"01-gold/t{t:04d}"] = image, labels
    opened = reader(tmp_path)
    entries = opened.index().entries
    assert [e.id for e in entries] == list(expected)
    for entry in entries:
        image, labels = expected[entry.id]
        assert np.array_equal(opened.image(entry), image)
        found = opened.truth(entry, *labels.shape).instances
        assert np.array_equal(found.to_masks(), np.stack([labels == i for i in np.unique(labels) if i]))


def test_gold_and_silver_are_parts_of_their_own(sequence: Path, cells: NDArray[np.uint16]):
    opened = reader(sequence)
    index = opened.index()
    assert [e.id for e in index.entries if e.part == "01-gold"] == ["01-gold/t001", "01-gold/t003"]
    assert [e.id for e in index.entries if e.part == "02-silver"] == [f"02-silver/t00{t}" for t in range(4)]
    assert {e.group for e in index.entries} == {"01", "02"}
    assert index.notes == ()
    gold = next(e for e in index.entries if e.part == "01-gold")
    assert len(opened.truth(gold, 40, 50).instances) == 4  # not every cell


def test_frames_without_truth_are_left_out_and_noted(sequence: Path):
    index = reader(sequence, truth=["gold"]).index()
    assert [e.id for e in index.entries] == ["01-gold/t001", "01-gold/t003"]
    assert index.notes == (
        f"{sequence / '01'}: 2 of its 4 frames have no truth, left out",
        f"{sequence / '02'}: 4 of its 4 frames have no truth, left out",
    )


def test_truth_without_its_film_is_noted(sequence: Path):
    shutil.rmtree(sequence / "02")
    shutil.copytree(sequence / "01_GT" / "SEG", sequence / "03_GT" / "SEG")
    index = reader(sequence).index()
    assert {e.group for e in index.entries} == {"01"}
    assert index.notes == (
        f"{sequence / '03_GT' / 'SEG'}: 2 label images without the folder 03 of their frames, left out",
        f"{sequence / '02_ST' / 'SEG'}: 4 label images without the folder 02 of their frames, left out",
    )


def test_a_mask_without_a_frame_is_noted(sequence: Path, cells: NDArray[np.uint16]):
    write(sequence / "01_GT" / "SEG" / "man_seg009.tif", cells)
    assert reader(sequence).index().notes == (
        f"{sequence / '01_GT' / 'SEG' / 'man_seg009.tif'}: the frame 9 is not in {sequence / '01'}, left out",
    )


def test_three_digits_for_frames_and_four_for_masks(
    tmp_path: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8]
):
    write(tmp_path / "01" / "t007.tif", picture)
    write(tmp_path / "01_GT" / "SEG" / "man_seg0007.tif", cells)
    assert [e.id for e in reader(tmp_path).index().entries] == ["01-gold/t007"]


def test_faults_of_a_sequence(sequence: Path, cells: NDArray[np.uint16], picture: NDArray[np.uint8], tmp_path: Path):
    with pytest.raises(DataError, match=r"no annotated frame in it \(expected 01/tNNN\.tif"):
        reader(sequence / "01").index()
    write(sequence / "01_GT" / "SEG" / "man_seg001.tif", cells[:-1])
    opened = reader(sequence)
    entry = next(e for e in opened.index().entries if e.id == "01-gold/t001")
    with pytest.raises(
        DataError, match=r"man_seg001\.tif: the label image is 39 x 50 pixels, its frame t001\.tif is 40"
    ):
        opened.truth(entry, 40, 50)
    write(sequence / "01" / "t0001.tif", picture)
    with pytest.raises(DataError, match=r"t001\.tif: the frame 1 is also t0001\.tif"):
        opened.index()
