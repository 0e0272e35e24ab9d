"""Migrating fibroblasts in phase contrast, 16 bit: imitates the Usiigaci training images."""

from __future__ import annotations

from types import MappingProxyType

import msgspec
import numpy as np

from bench.data import png, tiff
from bench.data.synthetic._base import Generator, Picture, Planned
from bench.data.synthetic._colony import Style, body, fill
from bench.data.synthetic._exact import Draws
from bench.data.synthetic._optics import background, dirt, phase_contrast, specks
from bench.data.synthetic._paint import scatter

SHAPE = (1022, 1024)
# fmt: off
KINDS = (
    # angular cells whose sides are drawn in between broad processes
    (46, Style(
        (1, 1), (86, 150), (10, 70), (70, 140), flatness=3, processes=(3, 5), process_length=(60, 260), tip=65,
        pieces=2, taper=1,
    )),
    # spindles, some of them very long
    (32, Style(
        (1, 1), (60, 110), (60, 180), (85, 170), flatness=2, processes=(2, 3), process_length=(100, 460), tip=75,
        pieces=2, taper=1,
    )),
    # wide flat cells that are hardly darker than the background
    (16, Style(
        (1, 1), (140, 240), (10, 70), (45, 80), flatness=4, lobes=(1, 3), processes=(1, 4), process_length=(40, 240),
        tip=40, pieces=2, taper=1,
    )),
    # round ones, about to divide or to die
    (6, Style((1, 1), (54, 84), (0, 30), (330, 430))),
)
# fmt: on
"""Kind of cell -> its share in percent, and how it looks."""
_FIELD = Style((36, 92), (54, 240), texture=30, outline=7, nucleus=34, seam=60)
"""What all cells of an image share."""


class Usiigaci(Generator):
    """The stand-in of the Usiigaci training images: single fields of 1022 x 1024 pixels, 16 bit, 36 to 92 cells.

    Images are TIFF files without compression, as the real ones.
    """

    name = "usiigaci"
    version = 3
    format = MappingProxyType(
        {"name": "label_pairs", "images": ["{part}/images/{stem}.tif"], "labels": ["{part}/labels/{stem}.png"]}
    )

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Images in all."""

        images: int = 50

    def plan(self) -> tuple[Planned, ...]:
        """All images, in order; see :meth:`Generator.plan`."""
        return tuple(Planned("all", f"set{i + 1}", 0) for i in range(self.params.images))

    def make(self, item: Planned) -> Picture:
        """Make one image; see :meth:`Generator.make`."""
        seed = f"{self.name} {self.version} {self.seed} {item.stem}"
        draws = Draws(f"{seed} field")
        styles = [KINDS[draws.pick([share for share, _ in KINDS])][1] for _ in range(draws.integer(*_FIELD.count))]
        radii = [draws.integer(*style.radius) for style in styles]
        together = draws.integer(10, 80)
        places = scatter(draws, radii, SHAPE, spacing=105, together=together)
        cells = [
            body(style, draws, place, radius)
            for style, place, radius in zip(styles, places, radii, strict=True)
            if place is not None
        ]
        thickness, labels = fill(_FIELD, cells, seed, SHAPE, smallest=120)
        specks(thickness, Draws(f"{seed} specks"), 60)
        dirt(thickness, Draws(f"{seed} dirt"), 160)
        light = background(Draws(f"{seed} background"), SHAPE, tilt=6, shadow=3, grain=1)
        image = phase_contrast(thickness)
        image += light
        image *= 256
        noise = Draws(f"{seed} noise").noise(SHAPE)
        noise *= 200
        image += noise
        return Picture(image.clip(0, 65535).astype(np.uint16), {"cell": labels})

    def paths(self, item: Planned) -> tuple[str, ...]:
        """Where the files of an image go; see :meth:`Generator.paths`."""
        return f"{item.part}/images/{item.stem}.tif", f"{item.part}/labels/{item.stem}.png"

    def files(self, item: Planned) -> tuple[bytes, ...]:
        """The files of an image; see :meth:`Generator.files`."""
        picture = self.make(item)
        return tiff.encode(picture.image, compress=False), png.encode(picture.labels["cell"].astype(np.uint8))
