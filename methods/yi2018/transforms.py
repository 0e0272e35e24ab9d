"""What happens to an image before the network sees it: its light in training, its size always."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS

from methods._resize import WHOLE
from methods.yi2018.config import input_shape

if TYPE_CHECKING:
    from methods.yi2018 import Yi2018


@TRANSFORMS.register_module()
class Yi2018Resize(Resize):
    """Resize an image to a square, or, where that would squeeze it too much, to its own aspect ratio.

    The first in a pipeline decides by the image as it comes; a later one brings it back to the same shape. A crop is
    resized as the image that it is cut from.

    Args:
        side: see :func:`~methods.yi2018.config.input_shape`.
        params: the method's settings.
    """

    def __init__(self, side: int, params: Yi2018.Params) -> None:
        super().__init__(scale=(side, side), keep_ratio=False)
        self.side, self.params = side, params

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """The resized example."""
        if "input_shape" not in results:
            own = results["img"].shape[:2]
            whole = results.get(WHOLE, own)
            wanted = input_shape(*whole, self.side, self.params)
            results["input_shape"] = tuple(
                max(1, round(side * part / length)) for side, part, length in zip(wanted, own, whole, strict=True)
            )
        height, width = results["input_shape"]
        self.scale = (width, height)
        return super().transform(results)


@TRANSFORMS.register_module()
class Yi2018Light(BaseTransform):
    """Another brightness and another contrast, each in half of the examples, as in SSD's training.

    MMDetection's own distortion also exchanges colour channels, which stains do not survive.

    Args:
        brightness: added grey levels, of 255, at most, either way.
        contrast: least and largest factor.
    """

    def __init__(self, brightness: float, contrast: tuple[float, float]) -> None:
        self.brightness, self.contrast = brightness, contrast

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """The example in another light; grey levels stay uint8."""
        image = results["img"].astype(np.float32)
        if random.random() < 0.5:
            image += random.uniform(-self.brightness, self.brightness)
        if random.random() < 0.5:
            image *= random.uniform(*self.contrast)
        results["img"] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        return results
