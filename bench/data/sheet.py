"""Contact sheets: many images of a data set on one page, with the outlines of the truth."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.data.lettering import draw_text
from bench.data.system import write_whole
from bench.imaging import to_rgb8
from bench.instances import Instances, Sample

if TYPE_CHECKING:
    from PIL import Image

OUTLINES = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0))
"""Colours of the classes, in turn: Okabe and Ito's, which colour-blind readers tell apart."""
_CAPTION = 16
_GAP = 4


def contact_sheet(
    samples: Iterable[Sample], *, columns: int = 4, width: int = 320, outlines: bool = True
) -> Image.Image:
    """A page of images, each with its id and the number of its instances.

    Args:
        samples: one after the other.
        columns: images in a row.
        width: of one image on the page, pixels.
        outlines: whether the outlines of the truth are drawn, in a colour for each class.
    """
    from PIL import Image

    tiles = [_tile(sample, width, outlines) for sample in samples]
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    page = Image.new("RGB", (columns * (width + _GAP) + _GAP, sum(h + _GAP for h in heights) + _GAP), "white")
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for i, tile in enumerate(row):
            page.paste(tile, (_GAP + i * (width + _GAP), top))
        top += height + _GAP
    return page


def write_sheet(path: Path, samples: Iterable[Sample], *, columns: int = 4, outlines: bool = True) -> None:
    """Write a contact sheet as PNG.

    Args:
        path: of the file.
        samples: one after the other.
        columns: images in a row at most.
        outlines: whether the outlines of the truth are drawn.

    Raises:
        OutputError: the file cannot be written.
    """
    page = io.BytesIO()
    contact_sheet(samples, columns=columns, outlines=outlines).save(page, "PNG")
    write_whole(path, page.getvalue())


def outlined(image: NDArray[np.uint8], instances: Instances) -> NDArray[np.uint8]:
    """A copy of an RGB image, (H, W, 3), with the inner outline of every instance in the colour of its class."""
    picture = image.copy()
    for class_id in np.unique(instances.class_ids):
        labels = instances.take(instances.class_ids == class_id).to_label_map("smallest")
        padded = np.pad(labels, 1, mode="edge")
        inside = np.ones(labels.shape, np.bool_)
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
            inside &= padded[dy : dy + labels.shape[0], dx : dx + labels.shape[1]] == labels
        picture[(labels > 0) & ~inside] = OUTLINES[int(class_id) % len(OUTLINES)]
    return picture


def _tile(sample: Sample, width: int, outlines: bool) -> Image.Image:
    from PIL import Image, ImageDraw

    picture = to_rgb8(sample.image)
    if outlines and sample.instances is not None:
        picture = outlined(picture, sample.instances)
    image = Image.fromarray(picture)
    height = max(1, round(image.height * width / image.width))
    image = image.resize((width, height), Image.Resampling.LANCZOS if width < image.width else Image.Resampling.NEAREST)
    tile = Image.new("RGB", (width, height + _CAPTION), "white")
    tile.paste(image, (0, _CAPTION))
    count = "not annotated" if sample.instances is None else str(len(sample.instances))
    name = sample.id if len(sample.id) <= 34 else f"{sample.id[:16]}…{sample.id[-16:]}"
    draw_text(ImageDraw.Draw(tile), (2, 1), f"{name}: {count}")
    return tile
