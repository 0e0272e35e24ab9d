"""Colonies of many cells in phase contrast, described by a style: how large, how dense, how branched."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bench.data.synthetic._exact import TURN, UNIT, Draws, Field, cosine, sine, smooth_noise
from bench.data.synthetic._paint import Labels, paint, rims, scatter, tidy
from bench.data.synthetic._shapes import Rod, Warp, cover, curve

Range = tuple[int, int]


@dataclass(frozen=True)
class Style:
    """How cells of a kind look. Ranges are the least and the greatest; lengths in 1/8 pixel.

    Attributes:
        count: cells an image.
        radius: of a cell's body.
        stretch: half the length of a body's axis, percent of its radius; 0 is round.
        thickness: of a body; see :func:`bench.data.synthetic._optics.phase_contrast`.
        flatness: 1 is a lens, 4 a pancake.
        lobes: sheets that spread from a body to one side.
        processes: protrusions of a cell.
        process_length: of each, beyond the body.
        pieces: straight parts that a process is made of.
        tip: thickness of its end at least.
        taper: 1: a process becomes thinner evenly, 2: fast at its root.
        nucleus: what the nucleus adds to the thickness; 0 shows none.
        texture: unevenness of the inside, percent.
        together: see :func:`bench.data.synthetic._paint.scatter`.
        islands: the same.
        spacing: the same.
        tries: the same.
        outline: amplitude of the irregularity of outlines.
        seam: thickness that is left where cells touch, percent.
        optics: arguments of the phase contrast.
    """

    count: Range
    radius: Range
    stretch: Range = (0, 60)
    thickness: Range = (100, 250)
    flatness: int = 1
    lobes: Range = (0, 0)
    processes: Range = (0, 0)
    process_length: Range = (80, 200)
    pieces: int = 4
    tip: int = 110
    taper: int = 2
    nucleus: int = 40
    texture: int = 45
    together: int = 30
    islands: int = 0
    spacing: int = 75
    tries: int = 12
    outline: int = 10
    seam: int = 45
    optics: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A cell of a colony: where it is (y, x in 1/8 pixel), its rods, and the place and radius of its nucleus."""

    centre: tuple[int, int]
    rods: tuple[Rod, ...]
    nucleus: tuple[int, int, int]


def grow(style: Style, seed: str, shape: tuple[int, int], crowding: int = 100) -> list[Cell]:
    """The cells of a colony.

    Args:
        style: of all of them.
        seed: what they follow from.
        shape: (H, W) of the image, pixels.
        crowding: percent of the style's greatest count at most.
    """
    draws = Draws(f"{seed} colony")
    low, high = style.count
    count = draws.integer(low, max(low, high * crowding // 100))
    radii = [draws.integer(*style.radius) for _ in range(count)]
    places = scatter(
        draws, radii, shape, spacing=style.spacing, together=style.together, islands=style.islands, tries=style.tries
    )
    return [body(style, draws, place, radius) for place, radius in zip(places, radii, strict=True) if place is not None]


def body(style: Style, draws: Draws, place: tuple[int, int], radius: int) -> Cell:
    """One cell of a style."""
    y, x = place
    angle = draws.integer(0, TURN - 1)
    stretch = draws.integer(*style.stretch) * radius // 100
    along_y, along_x = sine(angle) * stretch // UNIT, cosine(angle) * stretch // UNIT
    thick = draws.integer(*style.thickness)
    thin = radius * draws.integer(70, 100) // 100
    rods = [Rod(y - along_y, x - along_x, thin, y + along_y, x + along_x, radius, thick, style.flatness)]
    for _ in range(draws.integer(*style.lobes)):
        lobe = draws.integer(0, TURN - 1)
        reach = radius * draws.integer(60, 130) // 100
        y1, x1 = y + sine(lobe) * reach // UNIT, x + cosine(lobe) * reach // UNIT
        rods.append(Rod(y, x, radius * 3 // 4, y1, x1, radius * draws.integer(20, 60) // 100, thick * 3 // 4, 3))
    for i in range(draws.integer(*style.processes)):
        root = angle + (TURN // 2 if i % 2 else 0) + draws.integer(-120, 120)
        length = radius + stretch + draws.integer(*style.process_length)
        rods += curve(
            place, root, draws.integer(-120, 120), length, (radius * 3 // 4, draws.integer(9, 16)),
            (thick, max(thick // 2, style.tip)), pieces=style.pieces, taper=style.taper,
        )  # fmt: skip
    size = radius * draws.integer(38, 52) // 100
    centre = y + draws.integer(-radius, radius) // 4, x + draws.integer(-radius, radius) // 4
    return Cell(place, tuple(rods), (*centre, size))


def fill(
    style: Style, cells: list[Cell], seed: str, shape: tuple[int, int], smallest: int = 25
) -> tuple[Field, Labels]:
    """Thickness and labels of a colony.

    Args:
        style: of all cells.
        cells: of the colony.
        seed: what outlines and insides follow from; another one for each frame of a sequence.
        shape: (H, W) of the image, pixels.
        smallest: pixels of the smallest piece that is a cell.
    """
    draws = Draws(f"{seed} inside")
    warp = Warp(
        smooth_noise(draws, shape, 6, style.outline, coarser=4, coarse_amplitude=style.outline * 2),
        smooth_noise(draws, shape, 6, style.outline, coarser=4, coarse_amplitude=style.outline * 2),
    )
    thickness, labels = paint([cell.rods for cell in cells], shape, warp)
    labels = tidy(labels, smallest)
    texture = smooth_noise(draws, shape, 3, 256 * style.texture // 100, coarser=4, coarse_amplitude=128)
    texture += 256
    thickness *= texture
    thickness >>= 8
    if style.nucleus:
        nuclei = [Rod(y, x, size, y, x, size, style.nucleus, 2) for y, x, size in (c.nucleus for c in cells)]
        _, places, heights = cover(nuclei, shape, None)
        np.add.at(thickness.reshape(-1), places, heights)
    edge = np.flatnonzero(rims(labels))
    thickness.reshape(-1)[edge] = thickness.reshape(-1)[edge] * style.seam // 100
    thickness *= labels > 0
    return thickness, labels
