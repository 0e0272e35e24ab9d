"""Pictures of predictions: the image, the truth's outlines and the prediction's outlines, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bench.data.lettering import draw_text, text_width
from bench.imaging import to_rgb8
from bench.instances import Instances, Sample
from bench.rle import boxes as tight_boxes

TRUTH_COLOUR = (0, 158, 115)
PREDICTION_COLOUR = (230, 159, 0)
"""Bluish green and orange of Okabe and Ito's palette, which colour-blind readers tell apart."""

CAPTION_HEIGHT = 18


def outlined(image: NDArray[Any], instances: Instances, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The image as RGB with the outline of every instance, overlapping ones included.

    Args:
        image: (H, W) or (H, W, C), uint8 or uint16.
        instances: of the same size.
        colour: RGB, 0 to 255.

    Returns:
        (H, W, 3) uint8.
    """
    from scipy import ndimage

    picture = to_rgb8(image).copy()
    windows = tight_boxes(instances.rles, *instances.shape).astype(np.int64)
    for index, (x0, y0, x1, y1) in enumerate(windows):
        mask = np.pad(instances.mask(index)[y0:y1, x0:x1], 1)
        edge = (mask & ~ndimage.binary_erosion(mask))[1:-1, 1:-1]
        picture[y0:y1, x0:x1][edge] = colour
    return picture


def sheet(rows: Iterable[tuple[Sample, Instances]], *, width: int = 480) -> Image.Image:
    """One row an image: as it is, with the truth, with the prediction.

    Args:
        rows: samples with their truth, and what was predicted for them.
        width: of one picture in pixels; larger images are shrunk to it, smaller ones enlarged by whole factors.
    """
    strips = [_strip(sample, found, width) for sample, found in rows]
    if not strips:
        return Image.new("RGB", (width, CAPTION_HEIGHT), "white")
    page = Image.new("RGB", (max(s.width for s in strips), sum(s.height for s in strips)), "white")
    top = 0
    for strip in strips:
        page.paste(strip, (0, top))
        top += strip.height
    return page


def write_sheet(rows: Iterable[tuple[Sample, Instances]], path: Path) -> None:
    """Write :func:`sheet` to a picture file; the ending of ``path`` says which kind.

    Raises:
        OutputError: it cannot be written.
        UsageError: no picture format has this ending.
    """
    from bench.errors import OutputError, UsageError

    page = sheet(rows)
    try:
        page.save(path)
    except ValueError:
        raise UsageError(f"{path.name} has no ending of a picture", "name it .png or .jpg") from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}", "choose another place") from error


def _strip(sample: Sample, found: Instances, width: int) -> Image.Image:
    truth = sample.instances if sample.instances is not None else Instances.empty(*sample.shape)
    panels = [
        (f"{sample.id}", to_rgb8(sample.image)),
        (f"truth: {len(truth)}", outlined(sample.image, truth, TRUTH_COLOUR)),
        (f"prediction: {len(found)}", outlined(sample.image, found, PREDICTION_COLOUR)),
    ]
    pictures = [(caption, _sized(Image.fromarray(pixels), width)) for caption, pixels in panels]
    height = max(picture.height for _, picture in pictures) + CAPTION_HEIGHT
    strip = Image.new("RGB", (sum(p.width for _, p in pictures) + 4 * (len(pictures) - 1), height), "white")
    draw, left = ImageDraw.Draw(strip), 0
    for caption, picture in pictures:
        draw_text(draw, (left + 2, 2), _fitting(draw, caption, picture.width - 4))
        strip.paste(picture, (left, CAPTION_HEIGHT))
        left += picture.width + 4
    return strip


def _sized(picture: Image.Image, width: int) -> Image.Image:
    if picture.width > width:
        return picture.resize((width, max(1, round(picture.height * width / picture.width))), Image.Resampling.LANCZOS)
    factor = max(1, width // picture.width)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    while text_width(draw, text) > width and len(text) > 4:
        text = text[:-4] + "..."
    return text
