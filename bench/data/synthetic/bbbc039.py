"""Hoechst-stained nuclei of a chemical screen, 16 bit: imitates BBBC039."""

from __future__ import annotations

from types import MappingProxyType

import msgspec
import numpy as np

from bench.data.synthetic._base import Generator, Picture, Planned
from bench.data.synthetic._exact import Draws, smooth_noise
from bench.data.synthetic._nuclei import Stain, haze, shot_noise, stain

SHAPE = (520, 696)
STYLE = Stain((70, 200), (74, 122), (5, 95), (50, 700), together=85, fragments=6)
SPARSE = Stain((0, 12), (70, 118), (5, 95), (150, 700), together=30, fragments=30)
"""The wells whose cells were killed: one image in twelve."""


class Bbbc039(Generator):
    """The stand-in of BBBC039: 520 x 696 pixels, 16 bit with values as of a cooled camera."""

    name = "bbbc039"
    version = 3
    format = MappingProxyType(
        {"name": "label_pairs", "images": ["{part}/images/{stem}.png"], "labels": ["{part}/labels/{stem}.png"]}
    )

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Images in all."""

        images: int = 200

    def plan(self) -> tuple[Planned, ...]:
        """All images, in order; see :meth:`Generator.plan`."""
        return tuple(Planned("all", f"well{i // 9:02d}", i % 9) for i in range(self.params.images))

    def make(self, item: Planned) -> Picture:
        """Make one image; see :meth:`Generator.make`."""
        seed = f"{self.name} {self.version} {self.seed} {item.stem}"
        draws = Draws(f"{seed} light")
        light, labels = stain(SPARSE if draws.chance(8) else STYLE, seed, SHAPE)
        light = light * (1000 + smooth_noise(draws, SHAPE, 120, 250)) // 1000 + haze(light, 8)
        image = light * draws.integer(900, 2800) // 1000 + draws.integer(120, 160)
        image = image + shot_noise(image, draws, 450, 60)
        return Picture(np.clip(image, 0, 65535).astype(np.uint16), {"nucleus": labels})
