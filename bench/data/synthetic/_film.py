"""Films in the layout of the Cell Tracking Challenge: cells that move, with silver truth for all frames."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import msgspec

from bench.data import tiff
from bench.data.synthetic._base import Generator, Picture, Planned
from bench.data.synthetic._colony import Cell, Style, grow
from bench.data.synthetic._exact import TURN, UNIT, Draws, Field, cosine, sine
from bench.data.synthetic._optics import to_gray8
from bench.data.synthetic._paint import Labels
from bench.data.synthetic._shapes import Rod

GOLD_EVERY = 7
"""One frame in so many has gold truth as well, of the first film and of the second."""


class Film(Generator):
    """Two sequences, ``01`` and ``02``, read as the real ones are.

    Attributes:
        shape: height and width of the frames, pixels.
        frames: of each sequence, where the card does not say otherwise.
        style: of the cells.
        speed: the farthest a cell moves from frame to frame, in 1/8 pixel.
    """

    format = None
    shape: ClassVar[tuple[int, int]]
    frames: ClassVar[int]
    style: ClassVar[Style]
    speed: ClassVar[int]

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Frames of each sequence; 0: as many as the real one has."""

        frames: int = 0

    @abstractmethod
    def picture(self, scene: str, frame: int) -> tuple[Field, Labels]:
        """Grey levels without noise, and labels, of a frame."""

    def plan(self) -> tuple[Planned, ...]:
        """All frames, in order; see :meth:`Generator.plan`."""
        count = self.params.frames or self.frames
        return tuple(Planned(sequence, sequence, t) for sequence in ("01", "02") for t in range(count))

    def make(self, item: Planned) -> Picture:
        """Make one frame; see :meth:`Generator.make`."""
        scene = f"{self.name} {self.version} {self.seed} {item.group}"
        image, labels = self.picture(scene, item.frame)
        return Picture(to_gray8(image, Draws(f"{scene} {item.frame} noise"), 80), {"cell": labels})

    def paths(self, item: Planned) -> tuple[str, ...]:
        """Where the files of a frame go; see :meth:`Generator.paths`."""
        names = [f"{item.group}/t{item.frame:03d}.tif", f"{item.group}_ST/SEG/man_seg{item.frame:03d}.tif"]
        if item.frame % GOLD_EVERY == 0:
            names.append(f"{item.group}_GT/SEG/man_seg{item.frame:03d}.tif")
        return tuple(names)

    def files(self, item: Planned) -> tuple[bytes, ...]:
        """The files of a frame; see :meth:`Generator.files`."""
        picture = self.make(item)
        truth = tiff.encode(picture.labels["cell"])
        return (tiff.encode(picture.image), truth, truth)[: len(self.paths(item))]

    def cells(self, scene: str, frame: int) -> list[Cell]:
        """The cells of a sequence, where they are in one frame: each drifts, and sways about its way."""
        moved = []
        for i, cell in enumerate(grow(self.style, scene, self.shape)):
            draws = Draws(f"{scene} way {i}")
            drift_y, drift_x = draws.integer(-self.speed, self.speed), draws.integer(-self.speed, self.speed)
            phase, period, sway = draws.integer(0, TURN - 1), draws.integer(20, 50), draws.integer(10, 60)
            turn = phase + TURN * frame // period
            moved.append(
                _shifted(
                    cell,
                    drift_y * frame // 2 + sway * (sine(turn) - sine(phase)) // UNIT,
                    drift_x * frame // 2 + sway * (cosine(turn) - cosine(phase)) // UNIT,
                )
            )
        return moved


def _shifted(cell: Cell, dy: int, dx: int) -> Cell:
    rods = tuple(
        Rod(r.y0 + dy, r.x0 + dx, r.radius0, r.y1 + dy, r.x1 + dx, r.radius1, r.thickness, r.flatness)
        for r in cell.rods
    )
    y, x, size = cell.nucleus
    return Cell((cell.centre[0] + dy, cell.centre[1] + dx), rods, (y + dy, x + dx, size))
