"""How training crops may differ from their image: what a dense method declares. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """How a training crop may differ from the image; :func:`methods._crops.random_crop` carries it out.

    Attributes:
        flip_horizontal: left and right change places in half of the crops.
        flip_vertical: top and bottom likewise.
        right_angles: turned by 0, 90, 180 or 270 degrees.
        rotation: turned by up to so many degrees either way; 0 leaves every pixel as it is.
        zoom: scaled by a factor within [1 - zoom, 1 + zoom], rows and columns alike; 0 leaves every pixel as it is.

    Raises:
        ValueError: a rotation below 0, or a zoom outside [0, 1).
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    right_angles: bool = False
    rotation: float = 0.0
    zoom: float = 0.0

    def __post_init__(self) -> None:
        if self.rotation < 0:
            raise ValueError(f"rotation is a number of degrees from 0 on, not {self.rotation}")
        if not 0 <= self.zoom < 1:
            raise ValueError(f"zoom is a share from 0 to below 1, not {self.zoom}")
