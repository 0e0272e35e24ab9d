"""Stained nuclei: bright ellipses with chromatin, some of them touching, as a fluorescence microscope shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.data.synthetic._exact import TURN, UNIT, Draws, Field, blur, cosine, sine, smooth_noise
from bench.data.synthetic._optics import dot
from bench.data.synthetic._paint import Labels, paint, scatter, tidy
from bench.data.synthetic._shapes import Rod, Warp


@dataclass(frozen=True)
class Stain:
    """How nuclei of an experiment look. Ranges are the least and the greatest.

    Attributes:
        count: nuclei an image.
        radius: in 1/8 pixel.
        stretch: half the length of the axis, percent of the radius, less 30.
        brightness: of a nucleus, where 1000 is the brightest.
        together: of 100 nuclei, how many touch another.
        islands: round islands in which nuclei lie; 0 for anywhere.
        lobed: percent of nuclei that are bean-shaped.
        debris: small faint spots an image that are no nuclei, at most.
        fragments: percent of nuclei that are dying: small, bright, in pieces.
        focus: radius of the blur, pixels.
    """

    count: tuple[int, int]
    radius: tuple[int, int]
    stretch: tuple[int, int] = (5, 45)
    brightness: tuple[int, int] = (250, 900)
    together: int = 35
    islands: int = 0
    lobed: int = 35
    debris: int = 24
    fragments: int = 4
    focus: int = 1


def stain(style: Stain, seed: str, shape: tuple[int, int]) -> tuple[Field, Labels]:
    """Brightness, 0 to about 1100 where there is stain, and labels.

    Args:
        style: of the experiment.
        seed: what everything follows from.
        shape: (H, W) of the image, pixels.
    """
    draws = Draws(f"{seed} nuclei")
    count = draws.integer(*style.count)
    radii, kinds = [], []
    for _ in range(count):
        dying = draws.chance(style.fragments)
        radius = draws.integer(*style.radius)
        radii.append(radius // 2 if dying else radius)
        kinds.append(dying)
    places = scatter(draws, radii, shape, spacing=72, together=style.together, islands=style.islands)
    bodies, levels = [], [0]
    for place, radius, dying in zip(places, radii, kinds, strict=True):
        if place is None:
            continue
        y, x = place
        angle = draws.integer(0, TURN - 1)
        half = radius * (30 + draws.integer(*style.stretch)) // 100
        bend = draws.integer(50, 130) if draws.chance(style.lobed) else draws.integer(0, 20)
        rods = []
        for towards in (angle + bend, angle + TURN // 2 - bend):
            y1, x1 = y + sine(towards) * half // UNIT, x + cosine(towards) * half // UNIT
            rods.append(Rod(y, x, radius, y1, x1, radius * draws.integer(52, 88) // 100, 1000, 4))
        bodies.append(rods)
        levels.append(1000 if dying else draws.integer(*style.brightness))
    warp = Warp(
        smooth_noise(draws, shape, 9, 5, coarser=3, coarse_amplitude=8),
        smooth_noise(draws, shape, 9, 5, coarser=3, coarse_amplitude=8),
    )
    profile, labels = paint(bodies, shape, warp)
    brightness = np.array(levels, np.int32)[labels] * profile // 1000
    labels = tidy(labels, 20)
    chromatin = smooth_noise(draws, shape, 3, 50, coarser=3, coarse_amplitude=55)
    brightness = np.where(labels > 0, brightness * (256 + chromatin) // 256, 0).astype(np.int32)
    for _ in range(draws.integer(0, style.debris)):
        row, column = draws.integer(0, shape[0] - 1), draws.integer(0, shape[1] - 1)
        dot(brightness, row, column, draws.pick((0, 40, 35, 20, 5)), draws.integer(30, 330))
    return blur(brightness, style.focus, 2), labels


def haze(light: Field, amount: int) -> Field:
    """Light from out of focus: a part, in percent, of what the wide surroundings send."""
    return blur(light, 12, 2) * amount // 100


def shot_noise(light: Field, draws: Draws, dark: int, gain: int) -> Field:
    """Noise that grows with the light, as counted photons do.

    Args:
        light: any units, 0 or more.
        draws: what it follows from.
        dark: standard deviation in the dark, percent of a unit.
        gain: how fast the variance grows, in units for 100 units of light.

    Returns:
        noise with a mean of 0; its deviation follows the square root of the light.
    """
    height, width = light.shape
    variance = dark * dark + np.maximum(light, 0).astype(np.int64) * gain * 100
    deviation = np.sqrt(variance.astype(np.float64)).astype(np.int64)  # a square root is exact in every bit
    return (draws.noise((height, width)) * deviation // 283).astype(np.int32)
