"""Migrating fibroblasts in phase contrast, 16 bit: imitates the Usiigaci training images."""

from __future__ import annotations

import msgspec
import numpy as np

from bench.data.synthetic._base import Picture, Planned
from bench.data.synthetic.neural import Neural


class Usiigaci(Neural):
    """The cells of :class:`~bench.data.synthetic.neural.Neural` in fields of 1022 x 1024 pixels, single images."""

    name = "usiigaci"
    version = 2
    shape = (1022, 1024)
    crowding = 210
    shadow = 3
    tilt = 8

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Images in all."""

        images: int = 50

    def plan(self) -> tuple[Planned, ...]:
        """All images, in order; see :meth:`Generator.plan`."""
        return tuple(Planned("all", f"set{i + 1}", 0) for i in range(self.params.images))

    def make(self, item: Planned) -> Picture:
        """Make one image; see :meth:`Generator.make`."""
        picture = super().make(item)
        return Picture(picture.image.astype(np.uint16) * np.uint16(257), picture.labels)
