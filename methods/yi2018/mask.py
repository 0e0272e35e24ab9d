"""The mask head: crops of the image and of blocks 1 to 4 at a box, joined from the deepest to the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

Map = TypeVar("Map", Tensor, np.ndarray)
"""(..., H, W)."""


@dataclass(frozen=True)
class Window:
    """The cells of a map that a box covers: rows ``top`` to ``bottom``, columns ``left`` to ``right``, inclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.bottom - self.top + 1, self.right - self.left + 1

    def cut(self, features: Map) -> Map:
        """The crop (..., rows, columns) of a map (..., H, W)."""
        return features[..., self.top : self.bottom + 1, self.left : self.right + 1]


def window_of(box: Sequence[float], input_shape: tuple[int, int], map_shape: tuple[int, int]) -> Window:
    """The cells of a map that a box covers: coordinates between 0 and 1 times the map's size, rounded.

    Args:
        box: (4,) x0, y0, x1, y1 in pixels of the input.
        input_shape: (height, width) of the input with its padding, pixels.
        map_shape: (height, width) of the map, cells.

    Returns:
        at least one cell, within the map.
    """

    def index(value: float, pixels: int, cells: int) -> int:
        return min(max(round(value / pixels * cells), 0), cells - 1)

    (height, width), (rows, columns) = input_shape, map_shape
    x0, y0, x1, y1 = box
    top, left = index(y0, height, rows), index(x0, width, columns)
    return Window(top, left, max(index(y1, height, rows), top), max(index(x1, width, columns), left))


def crops(
    maps: Sequence[Tensor], box: Sequence[float], input_shape: tuple[int, int], least_cells: int = 3
) -> list[Tensor]:
    """The crops of a box, from the shallowest map to the deepest that still shows it.

    Args:
        maps: (C, H, W) each, from shallow to deep.
        box: (4,) x0, y0, x1, y1 in pixels of the input.
        input_shape: (height, width) of the input with its padding, pixels.
        least_cells: a map of which the box covers fewer rows or columns is left out, and all deeper ones with it.

    Returns:
        the first map's crop in any case, and those of the others that are not left out.
    """
    found: list[Tensor] = []
    for features in maps:
        rows, columns = features.shape[-2:]
        crop = window_of(box, input_shape, (rows, columns)).cut(features)
        if found and min(crop.shape[-2:]) < least_cells:
            break
        found.append(crop)
    return found


@MODELS.register_module()
class Yi2018MaskHead(BaseModule):
    """Yi et al. 2018, section 2.2 and Fig. 2: a small U of one object, of no class.

    From the deepest crop on: a 3 x 3 convolution to the channels of the next shallower one, bilinear enlargement to
    its size, addition, ReLU, another 3 x 3 convolution. The last that is added are features of the image itself.

    Args:
        in_channels: of the maps, from shallow to deep.
        patch_channels: of the image's features.
        least_cells: see :func:`crops`, whose answer the head takes.
        init_cfg: mmengine's.
    """

    def __init__(
        self, in_channels: Sequence[int], patch_channels: int = 64, least_cells: int = 3, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg or {"type": "Kaiming", "layer": "Conv2d", "mode": "fan_in"})
        self.least_cells = least_cells
        widths = (patch_channels, *in_channels)
        self.patch = nn.Sequential(_conv(3, patch_channels), nn.ReLU(), _conv(patch_channels, patch_channels))
        self.narrow = nn.ModuleList(_conv(deep, shallow) for shallow, deep in zip(widths, in_channels, strict=False))
        self.join = nn.ModuleList(_conv(shallow, shallow) for shallow in widths[: len(in_channels)])
        self.last = nn.Sequential(_conv(patch_channels, patch_channels), nn.ReLU(), _conv(patch_channels, 1))

    def init_weights(self) -> None:
        """Kaiming's, but small random answers at first."""
        super().init_weights()
        nn.init.normal_(self.last[-1].weight, std=0.01)
        nn.init.zeros_(self.last[-1].bias)

    def at(
        self, box: Sequence[float], image: Tensor, maps: Sequence[Tensor], input_shape: tuple[int, int]
    ) -> tuple[Tensor, Window]:
        """The mask of what a box holds.

        Args:
            box: (4,) x0, y0, x1, y1 in pixels of the input.
            image: (3, H, W), the input.
            maps: (C, h, w) each, from shallow to deep.
            input_shape: (height, width) of the input with its padding, pixels.

        Returns:
            foreground logits (rows, columns), and the pixels of the input that they cover.
        """
        window = window_of(box, input_shape, input_shape)
        return self(window.cut(image), crops(maps, box, input_shape, self.least_cells)), window

    def forward(self, patch: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """The mask of one object.

        Args:
            patch: (3, h, w), the image at the box.
            levels: crops (C, h', w'), from shallow to deep, at least one.

        Returns:
            (h, w), foreground logits.
        """
        shallower = [self.patch(patch[None]), *(level[None] for level in levels)]
        below = shallower.pop()
        for step in reversed(range(len(levels))):
            beside = shallower.pop()
            below = self.narrow[step](below)
            below = functional.interpolate(below, beside.shape[-2:], mode="bilinear", align_corners=False)
            below = functional.relu(self.join[step](functional.relu(below + beside)))
        return self.last(below)[0, 0]

    def nothing(self) -> Tensor:
        """A loss of zero that every parameter takes part in."""
        return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0


def _conv(wide: int, narrow: int) -> nn.Conv2d:
    return nn.Conv2d(wide, narrow, 3, padding=1)


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross entropy of one object, the mean over its pixels.

    Args:
        logits: (h, w).
        truth: (h', w') {0, 1}, read at the nearest pixel where the sizes differ.
    """
    wanted = functional.interpolate(truth[None, None].to(logits), logits.shape, mode="nearest")[0, 0]
    return functional.binary_cross_entropy_with_logits(logits, wanted)
