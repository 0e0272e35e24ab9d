"""Deformable convolution (Dai et al., 2017) and its modulated form (Zhu et al., Deformable ConvNets v2, 2019).

Each tap of the kernel reads the input, by bilinear interpolation, at its own place plus a learned offset; the modulated
form multiplies what it reads by a learned factor. The values read are gathered (:mod:`bench.ops.torch_ops.rows`) and
multiplied by the kernel. Pixels outside the input are zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bench.ops.deform_interface import Geometry, Gradients
from bench.ops.torch_ops.rows import RowWeights, uniform, working_dtype

MAX_VALUES = 1 << 24
"""Gathered values held at a time, at least those of one row of the output."""


@dataclass(frozen=True)
class _Reading:
    """What some rows of one output image read: L outputs, K taps, D deformable groups, 4 neighbours.

    Attributes:
        index: int64 (L, K, D, 4), the pixel in a table of D * H * W rows: one for each group and pixel.
        inside: floating (L, K, D, 4), 1 where the neighbour is a pixel of the input, else 0.
        fraction_y: floating (L, K, D), from the upper neighbours down.
        fraction_x: likewise, from the left ones to the right.
        factor: floating (L, K, D), the modulation, or None.
        columns: D * H * W.
    """

    index: Tensor
    inside: Tensor
    fraction_y: Tensor
    fraction_x: Tensor
    factor: Tensor | None
    columns: int

    def _matrix(self, upper: Tensor, lower: Tensor, left: Tensor, right: Tensor, scaled: bool) -> RowWeights:
        weight = torch.stack([upper * left, upper * right, lower * left, lower * right], dim=-1) * self.inside
        if scaled and self.factor is not None:
            weight = weight * self.factor[..., None]
        return uniform(self.index, weight, self.columns)

    def values(self, scaled: bool = True) -> RowWeights:
        """Interpolation: each row gives the value read by one output, tap and group, times its factor if ``scaled``."""
        y, x = self.fraction_y, self.fraction_x
        return self._matrix(1 - y, y, 1 - x, x, scaled)

    def slopes(self) -> tuple[RowWeights, RowWeights]:
        """Like :meth:`values`, for the derivatives of the value along y and x."""
        y, x = self.fraction_y, self.fraction_x
        one = torch.ones_like(y)
        return self._matrix(-one, one, 1 - x, x, True), self._matrix(1 - y, y, -one, one, True)


class _Image:
    """One image of a batch: its input as a table, and where each output reads it."""

    def __init__(self, features: Tensor, offset: Tensor, mask: Tensor | None, geometry: Geometry) -> None:
        self.geometry = geometry
        self.channels, self.height, self.width = features.shape
        self.out_height, self.out_width = offset.shape[1:]
        self._features = features
        groups, taps = geometry.deform_groups, geometry.taps
        working = working_dtype(features.dtype)
        self._offset = offset.to(working).reshape(groups, taps, 2, self.out_height, self.out_width)
        self._mask = None if mask is None else mask.to(working).reshape(groups, taps, self.out_height, self.out_width)

    @cached_property
    def table(self) -> Tensor:
        """(D * H * W, C / D), a row for each deformable group and pixel."""
        groups = self.geometry.deform_groups
        split = self._features.reshape(groups, self.channels // groups, self.height * self.width)
        return split.transpose(1, 2).reshape(groups * self.height * self.width, -1)

    def from_table(self, table: Tensor) -> Tensor:
        """The inverse of :attr:`table`, (C, H, W)."""
        groups = self.geometry.deform_groups
        split = table.view(groups, self.height * self.width, self.channels // groups)
        return split.transpose(1, 2).reshape(self.channels, self.height, self.width)

    def parts(self) -> Iterator[slice]:
        """Rows of the output in runs that read at most ``MAX_VALUES`` values each."""
        taps = self.geometry.taps
        values = self.out_width * taps * max(self.channels, 4 * self.geometry.deform_groups)
        step = max(1, MAX_VALUES // values)
        for first in range(0, self.out_height, step):
            yield slice(first, min(first + step, self.out_height))

    def reading(self, rows: slice) -> _Reading:
        """What the outputs in ``rows`` read; L runs through rows, then columns."""
        g = self.geometry
        offset = self._offset[:, :, :, rows].permute(3, 4, 1, 0, 2)  # row, column, tap, group, axis
        make = {"device": offset.device, "dtype": offset.dtype}
        out_y = torch.arange(rows.start, rows.stop, **make) * g.stride[0] - g.padding[0]
        out_x = torch.arange(self.out_width, **make) * g.stride[1] - g.padding[1]
        tap = torch.arange(g.taps, device=offset.device)
        tap_y, tap_x = (tap // g.kernel[1]) * g.dilation[0], (tap % g.kernel[1]) * g.dilation[1]
        y = (out_y[:, None, None, None] + tap_y[:, None]) + offset[..., 0]
        x = (out_x[:, None, None] + tap_x[:, None]) + offset[..., 1]
        y, x = y.flatten(0, 1), x.flatten(0, 1)
        near = (y > -1) & (y < self.height) & (x > -1) & (x < self.width)
        y, x = torch.where(near, y, -1), torch.where(near, x, -1)
        top, left = y.floor(), x.floor()
        pixel_y = torch.stack([top, top, top + 1, top + 1], dim=-1).long()
        pixel_x = torch.stack([left, left + 1, left, left + 1], dim=-1).long()
        inside = (pixel_y >= 0) & (pixel_y < self.height) & (pixel_x >= 0) & (pixel_x < self.width) & near[..., None]
        group = torch.arange(g.deform_groups, device=y.device)[:, None] * self.height
        index = (group + pixel_y.clamp(0, self.height - 1)) * self.width + pixel_x.clamp(0, self.width - 1)
        factor = None if self._mask is None else self._mask[:, :, rows].permute(2, 3, 1, 0).flatten(0, 1)
        return _Reading(index, inside.to(y.dtype), y - top, x - left, factor, len(self.table))


@dataclass(frozen=True)
class _Part:
    """Some rows of the output of one image: where they lie, and what they read."""

    n: int
    rows: slice
    image: _Image
    reading: _Reading


def _parts(input: Tensor, offset: Tensor, mask: Tensor | None, geometry: Geometry) -> Iterator[_Part]:
    for n in range(len(input)):
        image = _Image(input[n], offset[n], None if mask is None else mask[n], geometry)
        for rows in image.parts():
            yield _Part(n, rows, image, image.reading(rows))


def _kernel(weight: Tensor, geometry: Geometry) -> Tensor:
    """(C', C / G, height, width) as (K, G, C / G, C' / G)."""
    groups = geometry.groups
    split = weight.reshape(groups, len(weight) // groups, weight.shape[1], geometry.taps)
    return split.permute(3, 0, 2, 1).contiguous()


def _columns(part: _Part, geometry: Geometry) -> Tensor:
    """What the part reads, (L, K, G, C / G). The channels of a pixel follow each other in either grouping."""
    values = part.reading.values().times(part.image.table)
    return values.view(-1, geometry.taps, geometry.groups, part.image.channels // geometry.groups)


def _grad_results(part: _Part, grad_output: Tensor, geometry: Geometry) -> Tensor:
    """The part of the output's gradient, (L, G, C' / G)."""
    grad = grad_output[part.n, :, part.rows].flatten(1)
    return grad.view(geometry.groups, -1, grad.shape[1]).permute(2, 0, 1)


def convolve(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: Geometry) -> Tensor:
    """As :class:`bench.ops.deform_interface.Convolve` says."""
    output = input.new_empty(len(input), len(weight), *offset.shape[2:])
    kernel = _kernel(weight, geometry)
    for part in _parts(input, offset, mask, geometry):
        result = torch.einsum("lkgc,kgco->lgo", _columns(part, geometry), kernel)
        output[part.n, :, part.rows] = result.flatten(1).T.reshape(len(weight), -1, part.image.out_width)
    return output


def differentiate(
    input: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    grad_output: Tensor,
    geometry: Geometry,
    *,
    of_reading: bool,
    of_weight: bool,
) -> Gradients:
    """As :class:`bench.ops.deform_interface.Differentiate` says."""
    kernel = _kernel(weight, geometry)
    grad_kernel = torch.zeros_like(kernel)
    grad_input = input.new_zeros(input.shape)
    grad_offset = offset.new_zeros(offset.shape)
    grad_mask = None if mask is None else mask.new_zeros(mask.shape)
    for part in _parts(input, offset, mask, geometry):
        grad_results = _grad_results(part, grad_output, geometry)
        if of_weight:
            grad_kernel += torch.einsum("lkgc,lgo->kgco", _columns(part, geometry), grad_results)
        if of_reading:
            grad_values = torch.einsum("lgo,kgco->lkgc", grad_results, kernel)
            of_mask = None if grad_mask is None else grad_mask[part.n]
            _differentiate_reading(part, grad_values, geometry, grad_input[part.n], grad_offset[part.n], of_mask)
    grad_weight = grad_kernel.permute(1, 3, 2, 0).reshape(weight.shape) if of_weight else None
    if not of_reading:
        return Gradients(weight=grad_weight)
    return Gradients(grad_input, grad_offset, grad_mask, grad_weight)


def _differentiate_reading(
    part: _Part,
    grad_values: Tensor,
    geometry: Geometry,
    grad_input: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor | None,
) -> None:
    """Add the part's gradients to those of its image: input (C, H, W), offset and mask (channels, H', W')."""
    image, reading, rows = part.image, part.reading, part.rows
    groups, taps = geometry.deform_groups, geometry.taps
    grad_values = grad_values.reshape(-1, image.channels // groups)
    grad_input += image.from_table(reading.values().transposed().times(grad_values))
    sizes = (groups, taps, image.out_height, image.out_width)
    slopes = [_dots(matrix, grad_values, image, geometry) for matrix in reading.slopes()]
    grad_offset.view(groups, taps, 2, *sizes[2:])[:, :, :, rows] = torch.stack(slopes, dim=2)
    if grad_mask is not None:
        grad_mask.view(sizes)[:, :, rows] = _dots(reading.values(scaled=False), grad_values, image, geometry)


def _dots(matrix: RowWeights, grad_values: Tensor, image: _Image, geometry: Geometry) -> Tensor:
    """For each group, tap and output the dot product of what the matrix reads and its gradient, (D, K, rows, W')."""
    dots = (matrix.times(image.table) * grad_values).sum(1)
    return dots.view(-1, image.out_width, geometry.taps, geometry.deform_groups).permute(3, 2, 0, 1)
