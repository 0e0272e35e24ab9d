"""Neural stem cells in phase contrast: dark bodies with bright halos, slender protrusions, touching cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.data.synthetic._base import Generator, Picture, Planned
from bench.data.synthetic._exact import TURN, UNIT, Draws, Field, blur, cosine, sine, smooth_noise
from bench.data.synthetic._optics import background, dot, phase_contrast, to_gray8
from bench.data.synthetic._shapes import GRID, Canvas, Rod, Warp, curve, draw, largest_piece, tip

SEQUENCE = 6
"""Frames of a sequence."""

_SPINDLE, _MULTIPOLAR, _SPREAD, _ROUND = range(4)


class Neural(Generator):
    """The stand-in of the private neural set: 640 x 512 pixels, 8 bit, in sequences of six frames.

    A frame is made in three steps. Cells are bodies of thickness (:mod:`bench.data.synthetic._shapes`): spindles,
    multipolar cells, flat spread ones, round ones; most are put next to another. Each takes the pixels that are still
    free. Then the image: thickness delays the light, and phase contrast shows that delay against its surroundings,
    which makes bodies dark, their rims bright, and flat cells as gray as the background. Debris looks like cell parts
    and is not annotated.
    """

    name = "neural"
    version = 2

    shape: ClassVar[tuple[int, int]] = (512, 640)
    """Height and width of the images, pixels."""
    crowding: ClassVar[int] = 100
    """Cells for the same area, percent."""
    shadow: ClassVar[int] = 12
    tilt: ClassVar[int] = 18
    """Unevenness of the light, in grey levels; see :func:`bench.data.synthetic._optics.background`."""

    class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Images of each part."""

        train: int = 386
        val: int = 129
        test: int = 129

    def plan(self) -> tuple[Planned, ...]:
        """All images, in order; see :meth:`Generator.plan`."""
        return tuple(
            Planned(part, f"{part}{i // SEQUENCE:03d}", i % SEQUENCE)
            for part in ("train", "val", "test")
            for i in range(getattr(self.params, part))
        )

    def make(self, item: Planned) -> Picture:
        """Make one image; see :meth:`Generator.make`."""
        scene = f"{self.name} {self.version} {self.seed} {item.group}"
        frame = f"{scene} {item.frame}"
        thickness, labels = _cells(scene, item.frame, self.shape, self.crowding)
        thickness += _debris(Draws(f"{scene} debris"), self.shape)
        light = background(Draws(f"{scene} background"), self.shape, shadow=self.shadow, tilt=self.tilt)
        image = phase_contrast(thickness) + light
        return Picture(to_gray8(image, Draws(f"{frame} noise"), 75), {"cell": labels})


# -- cells ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """A cell of a sequence, as all its frames share it. Lengths in 1/8 pixel, angles in 1/1024 turn."""

    kind: int
    start: tuple[int, int]
    speed: tuple[int, int]
    angle: int
    turning: int
    radius: int
    thickness: int
    seed: str

    def at(self, frame: int) -> tuple[int, int]:
        return self.start[0] + self.speed[0] * frame, self.start[1] + self.speed[1] * frame


def _cells(scene: str, frame: int, shape: tuple[int, int], crowding: int) -> tuple[Field, NDArray[np.uint16]]:
    """Thickness and labels of all cells of a frame."""
    draws = Draws(f"{scene} warp {frame}")
    warp = Warp(
        smooth_noise(draws, shape, 8, 9, coarser=4, coarse_amplitude=18),
        smooth_noise(draws, shape, 8, 9, coarser=4, coarse_amplitude=18),
    )
    thickness = np.zeros(shape, np.int32)
    labels = np.zeros(shape, np.uint16)
    number = 0
    for cell in _population(scene, shape, crowding):
        y, x = (place // GRID for place in cell.at(frame))
        if 0 <= y < shape[0] and 0 <= x < shape[1] and labels[y, x]:
            continue
        canvas = draw(_body(cell, frame), shape, warp)
        if canvas is None:
            continue
        window = labels[canvas.slices]
        covered = canvas.thickness > 0
        free = largest_piece(covered & (window == 0))
        if int(free.sum()) * 10 < int(covered.sum()) * 7 or int(free.sum()) < 40:
            continue
        number += 1
        window[free] = number
        thickness[canvas.slices] += _inside(cell, frame, canvas, free)
    return thickness, labels


def _population(scene: str, shape: tuple[int, int], crowding: int) -> list[_Cell]:
    draws = Draws(f"{scene} population")
    cells: list[_Cell] = []
    room = shape[0] * shape[1] * crowding // (512 * 640)  # in percent of a field of 512 x 640 pixels
    for i in range(draws.integer(8, 34) * room // 100):
        kind = draws.pick((36, 27, 24, 13))
        smallest, largest = ((64, 116), (84, 150), (120, 220), (60, 100))[kind]
        radius = draws.integer(smallest, largest)
        if cells and draws.chance(70):
            other = cells[draws.integer(0, len(cells) - 1)]
            away = draws.integer(0, TURN - 1)
            distance = other.radius + radius + draws.integer(-20, 40)
            y = other.start[0] + sine(away) * distance // UNIT
            x = other.start[1] + cosine(away) * distance // UNIT
        else:
            y = draws.integer(-10 * GRID, (shape[0] + 10) * GRID)
            x = draws.integer(-10 * GRID, (shape[1] + 10) * GRID)
        thinnest, thickest = ((110, 260), (90, 230), (45, 100), (330, 430))[kind]
        thickness = draws.integer(thinnest, thickest)
        speed = draws.integer(-16, 16), draws.integer(-16, 16)
        angle, turning = draws.integer(0, TURN - 1), draws.integer(-14, 14)
        cells.append(_Cell(kind, (y, x), speed, angle, turning, radius, thickness, f"{scene} cell {i}"))
    return cells


def _body(cell: _Cell, frame: int) -> list[Rod]:
    """The rods of a cell in one frame."""
    draws = Draws(cell.seed)
    y, x = cell.at(frame)
    angle = cell.angle + cell.turning * frame
    radius, thick = cell.radius, cell.thickness
    if cell.kind == _ROUND:
        return [Rod(y, x, radius, y + draws.integer(-20, 20), x + draws.integer(-20, 20), radius, thick)]
    stretch = draws.integer(20, 70) * radius // 100
    along_y, along_x = sine(angle) * stretch // UNIT, cosine(angle) * stretch // UNIT
    flat = 3 if cell.kind == _SPREAD else 1
    rods = [Rod(y - along_y, x - along_x, radius * 7 // 8, y + along_y, x + along_x, radius * 7 // 8, thick, flat)]
    if cell.kind == _SPINDLE:
        roots = [angle + draws.integer(-60, 60), angle + TURN // 2 + draws.integer(-60, 60)]
        if draws.chance(25):
            roots.append(draws.integer(0, TURN - 1))
    else:
        count = draws.integer(3, 5)
        roots = [angle + TURN * i // count + draws.integer(-90, 90) for i in range(count)]
    for i, root in enumerate(roots):
        rods += _process(draws, cell, (y, x), root, i, frame)
    if cell.kind == _SPREAD or draws.chance(25):
        rods += _lamella(draws, cell, (y, x), angle + draws.integer(0, TURN - 1))
    return rods


def _process(draws: Draws, cell: _Cell, centre: tuple[int, int], root: int, index: int, frame: int) -> list[Rod]:
    """A protrusion that grows and shrinks over the frames, with what it may have at its tip."""
    radius, thick = cell.radius, cell.thickness
    longest = 900 if cell.kind == _SPINDLE and index < 2 and draws.chance(35) else 420
    length = draws.integer(150, longest)
    phase, swing = draws.integer(0, TURN - 1), draws.integer(5, 30)
    length += length * swing * sine(phase + frame * 90) // (100 * UNIT)
    thin = draws.integer(9, 22)
    rods = curve(
        centre, root, draws.integer(-130, 130), radius + length, (radius * 15 // 16, thin),
        (thick, max(thick * 2 // 3, 110)), pieces=6, taper=draws.integer(1, 3),
    )  # fmt: skip
    y, x = tip(rods)
    end = draws.pick((40, 25, 25, 10))
    if end == 1:  # a dark knob
        knob = thin + draws.integer(6, 18)
        rods.append(Rod(y, x, knob, y, x, knob, thick + 40))
    elif end == 2:  # filopodia
        for _ in range(draws.integer(2, 4)):
            rods += curve(
                (y, x), root + draws.integer(-200, 200), draws.integer(-60, 60), draws.integer(60, 200), (11, 9),
                (250, 200), pieces=2, taper=1,
            )  # fmt: skip
    elif end == 3:  # a small fan
        rods += _fan(draws, (y, x), root, draws.integer(60, 150), thick // 4 + 30)
    if draws.chance(25):  # a side spike
        start = rods[draws.integer(1, 4)]
        side = root + (150 if draws.chance(50) else -150) + draws.integer(-60, 60)
        rods += curve((start.y1, start.x1), side, 0, draws.integer(50, 170), (11, 9), (250, 200), pieces=1, taper=1)
    return rods


def _lamella(draws: Draws, cell: _Cell, centre: tuple[int, int], direction: int) -> list[Rod]:
    return _fan(draws, centre, direction, cell.radius + draws.integer(60, 200), cell.thickness // 4 + 25)


def _fan(draws: Draws, root: tuple[int, int], direction: int, length: int, thick: int) -> list[Rod]:
    """A thin sheet: flat blades that spread out from a root."""
    width = draws.integer(40, 110)
    rods = []
    for i in range(-2, 3):
        blade = direction + i * width // 2
        reach = length * draws.integer(75, 110) // 100
        y, x = root[0] + sine(blade) * reach // UNIT, root[1] + cosine(blade) * reach // UNIT
        rods.append(Rod(root[0], root[1], 40, y, x, 24 + length * width // 400, thick, 4))
    return rods


def _inside(cell: _Cell, frame: int, canvas: Canvas, mask: NDArray[np.bool_]) -> Field:
    """Thickness of a cell in its window: with organelles, thinned towards its outline, 0 outside ``mask``."""
    draws = Draws(f"{cell.seed} inside {frame // 2}")
    edge = blur(mask.astype(np.int32) * 256, 1, 2)
    height, width = mask.shape
    texture = smooth_noise(draws, (height, width), 3, 70, coarser=4, coarse_amplitude=70)
    result = canvas.thickness * (256 + texture) // 256
    y, x = cell.at(frame)
    y, x = y // GRID - canvas.top, x // GRID - canvas.left
    if cell.kind != _ROUND:
        dot(result, y, x, max(cell.radius * draws.integer(40, 55) // (100 * GRID), 3), -cell.thickness // 3)
        spread = max(cell.radius // GRID, 3)
        for _ in range(draws.integer(1, 3)):
            dot(
                result,
                y + draws.integer(-spread // 3, spread // 3),
                x + draws.integer(-spread // 3, spread // 3),
                2,
                110,
            )
        for _ in range(draws.integer(4, 26)):
            sign = 90 if draws.chance(70) else -90
            dot(result, y + draws.integer(-spread, spread), x + draws.integer(-spread, spread), 1, sign)
    keep = np.where(mask, np.clip(edge * 2 - 220, 90, 256), 0)
    return result * keep // 256


# -- the image -----------------------------------------------------------------------------------------


def _debris(draws: Draws, shape: tuple[int, int]) -> Field:
    """What lies about: specks, strings of them, and small refracting bodies."""
    field = np.zeros(shape, np.int32)
    for _ in range(draws.integer(15, 80)):
        y, x = draws.integer(0, shape[0] - 1), draws.integer(0, shape[1] - 1)
        drift_y, drift_x, darkest = draws.integer(-2, 2), draws.integer(-2, 2), draws.integer(20, 150)
        for _ in range(draws.pick((30, 20, 15, 10, 8, 6, 5, 3, 2, 1)) * 2 + 1):
            dot(field, y, x, draws.pick((45, 35, 20)), draws.integer(-darkest // 3, darkest))
            y, x = y + drift_y + draws.integer(-3, 3), x + drift_x + draws.integer(-3, 3)
    for _ in range(draws.integer(2, 8)):  # remains of dead cells
        y, x = draws.integer(0, shape[0] - 1), draws.integer(0, shape[1] - 1)
        for _ in range(draws.integer(5, 24)):
            dot(field, y + draws.integer(-8, 8), x + draws.integer(-8, 8), draws.integer(2, 4), draws.integer(-50, 130))
    for _ in range(draws.integer(0, 4)):
        at, size = (draws.integer(0, shape[0] - 1), draws.integer(0, shape[1] - 1)), draws.integer(3, 6)
        dot(field, *at, size, draws.integer(-220, 250))
        dot(field, *at, size // 2, draws.integer(-220, 250))
    return field
