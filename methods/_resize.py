"""Resizing: of images of any shape, and of a crop as its image would be. Imports mmdet: for method pipelines only."""

from __future__ import annotations

from typing import Any

from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS

WHOLE = "whole_shape"
"""In mmdet's ``results``: (height, width) of the image that the example is a crop of."""


LEAST_SIDE = 2
"""Pixels of the network's input; an image of one column cannot be flipped in MMDetection's pipeline."""


@TRANSFORMS.register_module(force=True)
class ResizeAsWhole(Resize):  # type: ignore[misc]
    """MMDetection's ``Resize`` that keeps the aspect ratio; a crop is resized as the image that it is cut from.

    Of a strip so narrow that less would be left of its short side, :data:`LEAST_SIDE` pixels are.

    Args:
        scale: (long, short) side in pixels that images are resized into.
    """

    def __init__(self, scale: Any) -> None:
        super().__init__(scale=scale or (1, 1), keep_ratio=True)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """The resized example."""
        height, width = results["img"].shape[:2]
        whole, scale = results.get(WHOLE, (height, width)), self.scale
        factor = min(max(scale) / max(whole), min(scale) / min(whole))
        strip = round(min(height, width) * factor) < LEAST_SIDE
        if WHOLE not in results and not strip:
            return super().transform(results)  # type: ignore[no-any-return]
        self.scale = tuple(max(LEAST_SIDE, round(side * factor)) for side in (width, height))
        self.keep_ratio = not strip
        try:
            return super().transform(results)  # type: ignore[no-any-return]
        finally:
            self.scale, self.keep_ratio = scale, True
