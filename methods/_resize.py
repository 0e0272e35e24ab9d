"""Resizing a crop of an image as the whole image would be. Imports mmdet: for use by a method's pipeline only."""

from __future__ import annotations

from typing import Any

from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS

WHOLE = "whole_shape"
"""In mmdet's ``results``: (height, width) of the image that the example is a crop of."""


@TRANSFORMS.register_module(force=True)
class ResizeAsWhole(Resize):  # type: ignore[misc]
    """MMDetection's ``Resize`` that keeps the aspect ratio; a crop is resized as the image that it is cut from.

    Args:
        scale: (long, short) side in pixels that images are resized into.
    """

    def __init__(self, scale: Any) -> None:
        super().__init__(scale=scale or (1, 1), keep_ratio=True)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """The resized example."""
        if WHOLE not in results:
            return super().transform(results)  # type: ignore[no-any-return]
        whole, scale = results[WHOLE], self.scale
        factor = min(max(scale) / max(whole), min(scale) / min(whole))
        height, width = results["img"].shape[:2]
        self.scale = (max(1, round(width * factor)), max(1, round(height * factor)))
        try:
            return super().transform(results)  # type: ignore[no-any-return]
        finally:
            self.scale = scale
