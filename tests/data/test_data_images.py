"""Image files: every bit kept, and every broken file one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from bench.data.images import read_image, read_labels
from bench.errors import DataError

RANDOM = np.random.default_rng(1)
GRAY8 = RANDOM.integers(0, 256, (30, 41)).astype(np.uint8)
GRAY16 = RANDOM.integers(0, 65536, (30, 41)).astype(np.uint16)
RGB8 = RANDOM.integers(0, 256, (30, 41, 3)).astype(np.uint8)
RGBA8 = RANDOM.integers(0, 256, (30, 41, 4)).astype(np.uint8)
RGB16 = RANDOM.integers(0, 65536, (30, 41, 3)).astype(np.uint16)


def _pillow(array: NDArray[np.uint8] | NDArray[np.uint16]) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(array).save(path)


def _tiff(array: NDArray[np.uint8] | NDArray[np.uint16], **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, array, **options)


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        ("gray8.png", _pillow(GRAY8), GRAY8),
        ("gray16.png", _pillow(GRAY16), GRAY16),
        ("rgb8.png", _pillow(RGB8), RGB8),
        ("rgba8.png", _pillow(RGBA8), RGBA8),
        ("graya8.png", lambda p: Image.fromarray(GRAY8).convert("LA").save(p), np.dstack([GRAY8, GRAY8 * 0 + 255])),
        ("rgb16.png", lambda p: p.write_bytes(imagecodecs.png_encode(RGB16)), RGB16),
        ("gray8.bmp", _pillow(GRAY8), GRAY8),
        ("gray8.tif", _tiff(GRAY8), GRAY8),
        ("gray16.tiff", _tiff(GRAY16), GRAY16),
        ("big_endian.tif", _tiff(GRAY16, byteorder=">"), GRAY16),
        ("lzw8.tif", _tiff(GRAY8, compression="lzw", rowsperstrip=7), GRAY8),
        ("lzw16.tif", _tiff(GRAY16, compression="lzw", predictor=True), GRAY16),
        ("tiles.tif", _tiff(GRAY16, tile=(16, 16), compression="zlib"), GRAY16),
        ("bigtiff.tif", _tiff(GRAY8, bigtiff=True), GRAY8),
        ("imagej.tif", _tiff(GRAY16, imagej=True), GRAY16),
        ("rgb.tif", _tiff(RGB8, photometric="rgb"), RGB8),
        ("planes.tif", _tiff(np.moveaxis(RGB8, -1, 0), photometric="rgb", planarconfig="separate"), RGB8),
        ("int32.tif", _tiff(GRAY16.astype(np.int32)), GRAY16),
        ("named_wrong.png", _tiff(GRAY16), GRAY16),
    ],
)
def test_every_bit_is_kept(tmp_path: Path, name: str, write: Callable[[Path], None], expected: NDArray[np.uint8]):
    write(tmp_path / name)
    read = read_image(tmp_path / name)
    assert read.dtype == expected.dtype
    assert read.dtype.isnative
    assert np.array_equal(read, expected)


def test_a_bilevel_image_is_black_and_white(tmp_path: Path):
    Image.fromarray(GRAY8 > 127).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.where(GRAY8 > 127, 255, 0))


def test_a_palette_gives_colours_to_an_image_and_indices_to_labels(tmp_path: Path):
    indices = Image.fromarray((GRAY8 % 4).astype(np.uint8), mode="P")
    palette = [10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200]
    indices.putpalette(palette)
    indices.save(tmp_path / "a.png")
    colours = np.array(palette, np.uint8).reshape(4, 3)
    assert np.array_equal(read_image(tmp_path / "a.png"), colours[GRAY8 % 4])
    assert np.array_equal(read_labels(tmp_path / "a.png"), GRAY8 % 4)


def test_labels_above_16_bit(tmp_path: Path):
    labels = GRAY16.astype(np.uint32) * 3
    tifffile.imwrite(tmp_path / "a.tif", labels)
    assert np.array_equal(read_labels(tmp_path / "a.tif"), labels)


def test_jpeg(tmp_path: Path):
    smooth = np.tile(np.arange(0, 240, 6, dtype=np.uint8), (30, 1))
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - smooth).max() <= 2


@pytest.mark.parametrize(
    ("name", "write", "complaint"),
    [
        ("stack.tif", _tiff(np.stack([GRAY8] * 3), photometric="minisblack"), "it holds 3 pages"),
        ("imagej.tif", _tiff(np.stack([GRAY8] * 3), imagej=True), "it holds 3 pages"),
        ("colour_stack.tif", _tiff(np.stack([RGB8] * 2), photometric="rgb"), "it holds 2 pages"),
        ("moving.gif", lambda p: Image.fromarray(GRAY8).save(
            p, save_all=True, append_images=[Image.fromarray(255 - GRAY8)]), "it holds 2 frames"),
        ("float.tif", _tiff(GRAY8.astype(np.float32)), "an image of float32"),
        ("wide.tif", _tiff(GRAY16.astype(np.uint32) * 5), "an image of uint32"),
        ("negative.tif", _tiff(GRAY8.astype(np.int16) - 50), "an image of int16"),
        ("empty.png", lambda p: p.touch(), "the file is empty"),
        ("text.png", lambda p: p.write_text("<html>404</html>"), "its content is of no known image format"),
        ("absent.png", lambda p: None, "no such file"),
        ("folder.png", lambda p: p.mkdir(), "cannot be read: Is a directory"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(tmp_path: Path, name: str, write: Callable[[Path], None], complaint: str):
    write(tmp_path / name)
    with pytest.raises(DataError, match=complaint) as caught:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.png", _pillow(GRAY8)),
        ("b.png", lambda p: p.write_bytes(imagecodecs.png_encode(RGB16))),
        ("a.jpg", _pillow(RGB8)),
        ("a.bmp", _pillow(GRAY8)),
        ("a.tif", _tiff(GRAY16)),
        ("lzw.tif", _tiff(GRAY16, compression="lzw", rowsperstrip=6)),
        ("zip.tif", _tiff(GRAY8, compression="zlib", tile=(16, 16))),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, name: str, write: Callable[[Path], None]):
    path = tmp_path / name
    write(path)
    content, whole = path.read_bytes(), read_image(path)
    refused = 0
    for end in np.linspace(0, len(content) - 13, 40).astype(int):
        path.write_bytes(content[:end])
        try:
            read = read_image(path)
        except DataError as error:
            complaint = str(error)
            refused += 1
        else:
            assert np.array_equal(read, whole)  # only a trailer was lost
            continue
        assert str(path) in complaint
        assert "\n" not in complaint
    assert refused >= 38


@pytest.mark.parametrize(("name", "write"), [("a.png", _pillow(GRAY8)), ("a.tif", _tiff(GRAY16, compression="lzw"))])
@pytest.mark.filterwarnings("ignore")
def test_a_file_with_wrong_bytes_is_read_or_refused(tmp_path: Path, name: str, write: Callable[[Path], None]):
    path = tmp_path / name
    write(path)
    content = path.read_bytes()
    random = np.random.default_rng(5)
    refused = 0
    for _ in range(150):
        wrong = bytearray(content)
        for place in random.integers(0, min(len(content), 400), 3):
            wrong[place] = random.integers(0, 256)
        path.write_bytes(bytes(wrong))
        try:
            read_image(path)
        except DataError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (GRAY8.astype(np.float32), "a label image of float32"),
        (GRAY8.astype(np.int16) - 300, "it holds the negative label -300"),
    ],
)
def test_what_is_no_label_image_is_refused(tmp_path: Path, array: NDArray[np.float32], complaint: str):
    array[0, 0] = -300
    tifffile.imwrite(tmp_path / "a.tif", array)
    with pytest.raises(DataError, match=complaint):
        read_labels(tmp_path / "a.tif")
