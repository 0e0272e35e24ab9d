"""RoI warping: crops of a feature map that are differentiable with respect to the boxes, too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def roi_warp(features: Tensor, boxes: Tensor, stride: int, size: int = 14, samples: int = 2) -> Tensor:
    """Crop boxes out of a feature map and resize the crops bilinearly, then pool them (MNC, section 3.2).

    Each box is divided into ``size * samples`` cells a side; the features are read bilinearly at the cells' centres
    and every ``samples`` x ``samples`` of them are max-pooled. The reading positions are functions of the box, so
    gradients reach its coordinates.

    Args:
        features: (C, H, W), one image's.
        boxes: (N, 4) x0, y0, x1, y1 in pixels of the network's input.
        stride: input pixels a feature cell.
        size: side of a crop after pooling.
        samples: side of the pooling.

    Returns:
        (N, C, size, size).
    """
    channels, height, width = features.shape
    count, side = len(boxes), size * samples
    if count == 0:
        return features.new_zeros((0, channels, size, size))
    place = (torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5) / side
    # Normalised so that -1 and 1 are the outer edges of the map (align_corners=False).
    x = (boxes[:, 0:1] + place * (boxes[:, 2:3] - boxes[:, 0:1])) * (2 / (stride * width)) - 1
    y = (boxes[:, 1:2] + place * (boxes[:, 3:4] - boxes[:, 1:2])) * (2 / (stride * height)) - 1
    grid = torch.stack((x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)), dim=-1)
    # The boxes are stacked into one tall grid, so that the features are neither copied nor indexed for each box.
    precise = torch.promote_types(features.dtype, boxes.dtype)  # half precision cannot tell pixels apart
    read = functional.grid_sample(
        features[None].to(precise),
        grid.reshape(1, count * side, side, 2).to(precise),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return functional.max_pool2d(read.view(channels, count, side, side), samples).transpose(0, 1)


class _LimitGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, limit: float) -> Tensor:
        ctx.limit = limit
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.clamp(-ctx.limit, ctx.limit), None


def limit_gradient(values: Tensor, limit: float) -> Tensor:
    """``values`` themselves; on the way back each gradient is clipped to ``[-limit, limit]``."""
    out: Tensor = _LimitGradient.apply(values, limit)
    return out
