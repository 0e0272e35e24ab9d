"""Position-sensitive RoI pooling, by summed areas: each bin of a RoI is averaged from a map of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class SummedMaps:
    """Position-sensitive maps of one image, summed up so that any rectangle of them is read in four look-ups.

    Attributes:
        sums: float64 (K, g * g, (H + 1) * (W + 1)), what lies above and left of each corner of a cell. Single
            precision would lose the features of a cell in the sum of a large map.
        group: g.
        height: H, feature cells.
        width: W, feature cells.
        dtype: of what is read.
    """

    sums: Tensor
    group: int
    height: int
    width: int
    dtype: torch.dtype

    @classmethod
    def of(cls, maps: Tensor, group: int) -> SummedMaps:
        """Sum up maps.

        Args:
            maps: (K * g * g, H, W): for each of K outputs g x g maps, row by row.
            group: g.
        """
        channels, height, width = maps.shape
        if channels % group**2:
            raise ValueError(f"{channels} maps are no multiple of {group} x {group}")
        sums = functional.pad(maps.double(), (1, 0, 1, 0)).cumsum(-1).cumsum(-2)
        dtype = torch.promote_types(maps.dtype, torch.float32)
        return cls(sums.reshape(channels // group**2, group**2, -1), group, height, width, dtype)


def bin_edges(low: Tensor, high: Tensor, stride: int, size: int, limit: int) -> tuple[Tensor, Tensor]:
    """Feature cells of each bin of a RoI, along one axis.

    The ends of the RoI are rounded to whole pixels, and a RoI is at least a tenth of a cell long; a bin has every
    cell that it touches. Reckoned in integers, so that no rounding adds a cell to a bin that ends at its edge.

    Args:
        low: (N,), where the RoIs begin, pixels.
        high: (N,), where they end, pixels.
        stride: pixels a cell.
        size: bins a RoI.
        limit: cells of the map.

    Returns:
        first cell of each bin and the one after its last, int64 (N, size), within ``[0, limit]``; equal for a bin
        that lies outside the map.
    """
    first, last = ((10 * torch.floor(end.double() + 0.5)).long() for end in (low, high))  # tenths of a pixel
    length = (last - first).clamp(min=stride)[:, None]
    place = torch.arange(size, device=low.device)
    begin = first[:, None] * size + place * length
    cell = 10 * stride * size
    starts = begin.div(cell, rounding_mode="floor")
    ends = -(-(begin + length)).div(cell, rounding_mode="floor")
    return starts.clamp(0, limit), ends.clamp(0, limit)


def ps_roi_pool(maps: SummedMaps, boxes: Tensor, stride: int, size: int) -> Tensor:
    """Average position-sensitive maps over the bins of RoIs (R-FCN; FCIS, section 2.1).

    Bin (i, j) of ``size`` x ``size`` reads map (floor(i g / size), floor(j g / size)) of its output; the mean is over
    the cells that the bin touches, and 0 where there is none. Gradients reach the maps, not the boxes.

    Args:
        maps: of one image, K outputs.
        boxes: (N, 4) x0, y0, x1, y1 in pixels of the network's input.
        stride: input pixels a feature cell.
        size: bins a side, a multiple of g.

    Returns:
        (N, K, size, size).
    """
    outputs, groups, _ = maps.sums.shape
    count, side = len(boxes), maps.group
    part = size // side
    boxes = boxes.detach()
    left, right = bin_edges(boxes[:, 0], boxes[:, 2], stride, size, maps.width)
    top, bottom = bin_edges(boxes[:, 1], boxes[:, 3], stride, size, maps.height)

    def by_map(rows: Tensor, columns: Tensor) -> Tensor:
        """(N, size) and (N, size) to a value for each bin, ordered by the map that it reads: (g * g, N * part^2)."""
        grid = rows.view(count, side, part, 1, 1) + columns.view(count, 1, 1, side, part)
        return grid.permute(1, 3, 0, 2, 4).reshape(groups, -1)

    row = maps.width + 1
    corners = torch.cat([by_map(y * row, x) for y in (top, bottom) for x in (left, right)], dim=1)
    read = maps.sums.gather(2, corners[None].expand(outputs, -1, -1)).view(outputs, groups, 4, -1)
    total = read[:, :, 3] - read[:, :, 2] - read[:, :, 1] + read[:, :, 0]
    cells = ((bottom - top)[:, :, None] * (right - left)[:, None, :]).clamp(min=1)
    pooled = total.view(outputs, side, side, count, part, part).permute(3, 0, 1, 4, 2, 5)
    return (pooled.reshape(count, outputs, size, size) / cells[:, None]).to(maps.dtype)
