"""RoIAlign (He et al., Mask R-CNN, 2017, section 3) as products with sparse matrices.

A region of interest (RoI) is cut into bins; in each, values are sampled by bilinear interpolation at the points of a
regular grid, and the bin holds their mean or their maximum. The grid is a product of rows and columns, so the weights
of the mean are, too: they are computed for the two axes apart, where samples that read the same pixel are summed.

Two ways to the mean, equal up to rounding. Where a pixel has many channels, each bin sums the pixels that it reads
(a sparse matrix over pixels). Where it has few, as the masks from which training targets are cut, the index
arithmetic of that costs more than the sums: then whole image rows are summed first, and the columns by a dense matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.ops.torch_ops.rows import (
    RowWeights,
    as_table,
    from_table,
    ragged,
    starts_of,
    uniform,
    working_dtype,
)

MAX_ENTRIES = 1 << 21
"""Interpolation weights held at a time; RoIs are taken in parts that need no more (or one by one)."""

FEW_CHANNELS = 8
"""Up to so many channels, the mean is taken over rows first."""

MAX_POOL, MEAN_POOL = 0, 1
LOWEST_MAXIMUM = -10000.0
"""What mmcv's CPU operator gives as the maximum of a bin that has no sample, or none above it."""


@dataclass(frozen=True)
class _Samples:
    """Where RoIs are sampled along one axis.

    Attributes:
        at: floating (R, bins, S), positions in pixels of the feature map.
        taken: bool (R, 1, S), which of the S samples a RoI has.
        count: int64 (R,), how many those are in each bin.
    """

    at: Tensor
    taken: Tensor
    count: Tensor


@dataclass(frozen=True)
class _Taps:
    """What RoIs read along one axis: the pixels of each bin, each once, and the weight of each.

    Attributes:
        pixel: int64 (R, bins, T); the used slots come first.
        weight: floating (R, bins, T), 0 in unused slots.
        used: int64 (R, bins), number of used slots.
        count: int64 (R,), samples in each bin: what the weights of a full bin add up to.
    """

    pixel: Tensor
    weight: Tensor
    used: Tensor
    count: Tensor


@dataclass(frozen=True)
class _Pooling:
    """The settings of one call, and the size of the feature map."""

    height: int
    width: int
    bins_y: int
    bins_x: int
    scale: float
    sampling_ratio: int
    aligned: bool

    def samples(self, rois: Tensor) -> tuple[_Samples, _Samples]:
        """Where ``rois`` (R, 5) are sampled along y and x."""
        x0, y0, x1, y1 = (rois[:, 1:] * self.scale - (0.5 if self.aligned else 0.0)).unbind(1)
        return self._axis_samples(y0, y1, self.bins_y), self._axis_samples(x0, x1, self.bins_x)

    def _axis_samples(self, start: Tensor, end: Tensor, bins: int) -> _Samples:
        length = end - start if self.aligned else (end - start).clamp(min=1)
        bin_size = length / bins
        count = _samples_in_bin(bin_size, self.sampling_ratio)
        step = torch.arange(int(count.max()), device=start.device)
        place = torch.arange(bins, device=start.device, dtype=start.dtype)
        size = bin_size[:, None, None]
        within = (step + 0.5).to(start.dtype) * size / count.clamp(min=1)[:, None, None].to(start.dtype)
        at = start[:, None, None] + place[:, None] * size + within
        return _Samples(at, step < count[:, None, None], count)

    def taps(self, rois: Tensor) -> tuple[_Taps, _Taps]:
        """What the sums over the bins of ``rois`` read along y and x; a weight of the sum is the product of two."""
        y, x = self.samples(rois)
        return _axis_taps(y, self.height), _axis_taps(x, self.width)

    def parts(self, rois: Tensor, max_pool: bool = False) -> Iterator[slice]:
        """Cut the RoIs into runs that need at most ``MAX_ENTRIES`` weights each."""
        length = (rois[:, 3:] - rois[:, 1:3]) * self.scale
        bins = length.new_tensor([self.bins_x, self.bins_y])
        count = _samples_in_bin((length if self.aligned else length.clamp(min=1)) / bins, self.sampling_ratio)
        reads = 2 * count if max_pool else (2 * count).minimum(count.new_tensor([self.width, self.height]))
        entries = (reads.prod(1) * self.bins_x * self.bins_y).tolist()
        slots = (2 * count.amax(1) * max(self.bins_x, self.bins_y)).tolist()
        first, held, widest = 0, 0, 0
        for i, (entry, slot) in enumerate(zip(entries, slots, strict=True)):
            held, widest = held + entry, max(widest, slot)
            if i > first and (held > MAX_ENTRIES or (i + 1 - first) * widest > MAX_ENTRIES):
                yield slice(first, i)
                first, held, widest = i, entry, slot
        yield slice(first, len(entries))


def _samples_in_bin(bin_size: Tensor, sampling_ratio: int) -> Tensor:
    """Samples along one side of a bin: as asked, or one a pixel; none where the RoI is empty or not finite."""
    if sampling_ratio > 0:
        return torch.where(bin_size.isfinite(), sampling_ratio, 0)
    return bin_size.ceil().clamp(min=0).nan_to_num(0, 0, 0).long()


def _neighbours(at: Tensor, taken: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two pixels between which each position lies, int64 (..., 2), and their weights (..., 2).

    A position up to one pixel outside reads the border pixel; one further out, or not taken, has the weights 0.
    """
    taken = taken & (at >= -1) & (at <= size)
    at = torch.where(taken, at, 0).clamp(0, size - 1)
    low = at.long()
    fraction = at - low
    pixel = torch.stack([low, (low + 1).clamp(max=size - 1)], dim=-1)
    return pixel, torch.stack([1 - fraction, fraction], dim=-1) * taken[..., None]


def _axis_taps(samples: _Samples, size: int) -> _Taps:
    pixel, weight = (t.flatten(-2) for t in _neighbours(samples.at, samples.taken, size))
    if pixel.shape[-1] == 0:
        pixel, weight = pixel.new_zeros(*pixel.shape[:-1], 1), weight.new_zeros(*weight.shape[:-1], 1)
    read = weight != 0
    # A slot that reads nothing repeats the last pixel that is read, so that it is merged with it.
    last = torch.where(read, pixel, 0).amax(-1, keepdim=True)
    pixel, order = torch.where(read, pixel, last).sort(dim=-1, stable=True)
    weight = weight.gather(-1, order)
    slot = torch.zeros_like(pixel)
    slot[..., 1:] = (pixel[..., 1:] != pixel[..., :-1]).cumsum(-1)
    return _Taps(
        torch.zeros_like(pixel).scatter_(-1, slot, pixel),
        torch.zeros_like(weight).scatter_add_(-1, slot, weight),
        torch.where(read.any(-1), slot[..., -1] + 1, 0),
        samples.count,
    )


def _samples_in_mean(y: _Taps, x: _Taps, dtype: torch.dtype) -> Tensor:
    """What the sum over each RoI's bins is divided by, (R, 1, 1, 1). Dividing last keeps sums of masks exact."""
    return (y.count * x.count).clamp(min=1).to(dtype)[:, None, None, None]


def _bins_over_pixels(image: Tensor, y: _Taps, x: _Taps, shape: torch.Size) -> RowWeights:
    """A row a bin (R * bins_y * bins_x), a column a pixel of the whole batch (N * H * W)."""
    images, _, height, width = shape
    bins_y, bins_x = y.used.shape[1], x.used.shape[1]
    counts = (y.used[:, :, None] * x.used[:, None, :]).flatten()
    bin_, place = ragged(counts)
    roi = bin_ // (bins_y * bins_x)
    row = bin_ // bins_x  # counts (roi, bin along y)
    column = roi * bins_x + bin_ % bins_x  # counts (roi, bin along x)
    across = x.used.flatten()[column]
    y_slot = row * y.pixel.shape[-1] + place // across
    x_slot = column * x.pixel.shape[-1] + place % across
    index = (image[roi] * height + y.pixel.flatten()[y_slot]) * width + x.pixel.flatten()[x_slot]
    weight = y.weight.flatten()[y_slot] * x.weight.flatten()[x_slot]
    return RowWeights(index, weight, starts_of(counts), images * height * width)


def _bins_over_rows(image: Tensor, y: _Taps, shape: torch.Size) -> RowWeights:
    """A row a RoI, channel and bin along y (R * C * bins_y), a column a row of pixels of the batch (N * C * H)."""
    images, channels, height, _ = shape
    plane = image[:, None] * channels + torch.arange(channels, device=image.device)
    index = plane[:, :, None, None] * height + y.pixel[:, None]
    weight = y.weight[:, None].expand_as(index)
    return uniform(index, weight, images * channels * height)


def _bins_over_columns(x: _Taps, width: int) -> Tensor:
    """The weights of the columns of pixels in each bin along x, dense, (R, W, bins_x)."""
    dense = x.weight.new_zeros(*x.pixel.shape[:2], width)
    return dense.scatter_add_(-1, x.pixel, x.weight).transpose(1, 2)


def _mean_forward(features: Tensor, rois: Tensor, pooling: _Pooling) -> Tensor:
    y, x = pooling.taps(rois)
    image = rois[:, 0].long()
    channels, _, width = features.shape[1:]
    if channels > FEW_CHANNELS:
        table = _bins_over_pixels(image, y, x, features.shape).times(as_table(features))
        sums = from_table(table, pooling.bins_y, pooling.bins_x)
        return sums.div_(_samples_in_mean(y, x, sums.dtype))
    table = _bins_over_rows(image, y, features.shape).times(features.reshape(-1, width))
    rows = table.view(len(rois), channels * pooling.bins_y, width)
    sums = rows @ _bins_over_columns(x, width).to(rows.dtype)
    sums = sums.view(len(rois), channels, pooling.bins_y, pooling.bins_x)
    return sums.div_(_samples_in_mean(y, x, sums.dtype))


def _mean_backward(grad: Tensor, rois: Tensor, pooling: _Pooling, shape: torch.Size) -> Tensor:
    y, x = pooling.taps(rois)
    image = rois[:, 0].long()
    channels, height, width = shape[1:]
    grad = grad / _samples_in_mean(y, x, grad.dtype)
    if channels > FEW_CHANNELS:
        table = _bins_over_pixels(image, y, x, shape).transposed().times(as_table(grad))
        return from_table(table, height, width)
    columns = _bins_over_columns(x, width).to(grad.dtype)
    rows = grad.reshape(len(rois), channels * pooling.bins_y, pooling.bins_x) @ columns.transpose(1, 2)
    table = _bins_over_rows(image, y, shape).transposed().times(rows.view(-1, width))
    return table.view(shape)


def _max_forward(features: Tensor, rois: Tensor, pooling: _Pooling) -> tuple[Tensor, Tensor, Tensor]:
    """The largest sample of each bin, and its position along y and x: three times (R, C, bins_y, bins_x)."""
    y, x = pooling.samples(rois)
    channels, height, width = features.shape[1:]
    if 0 in (y.at.shape[-1], x.at.shape[-1]):
        empty = features.new_full((len(rois), channels, pooling.bins_y, pooling.bins_x), -1)
        return torch.full_like(empty, LOWEST_MAXIMUM), empty, empty.clone()
    y_pixel, y_weight = _neighbours(y.at, y.taken, height)
    x_pixel, x_weight = _neighbours(x.at, x.taken, width)
    # Axes: RoI, bin y, bin x, sample y, sample x, neighbour y, neighbour x.
    y_pixel, y_weight = (t[:, :, None, :, None, :, None] for t in (y_pixel, y_weight))
    x_pixel, x_weight = (t[:, None, :, None, :, None, :] for t in (x_pixel, x_weight))
    image = rois[:, 0].long()[(...,) + (None,) * 6]
    index = (image * height + y_pixel) * width + x_pixel
    weight = (y_weight * x_weight).expand_as(index)
    values = uniform(index.flatten(5), weight.flatten(5), features.shape[0] * height * width).times(as_table(features))
    n_y, n_x = y.at.shape[-1], x.at.shape[-1]
    values = values.view(len(rois), pooling.bins_y, pooling.bins_x, n_y * n_x, channels)
    taken = (y.taken[:, :, :, None] & x.taken[:, :, None, :]).flatten(2)[:, :, None, :, None]
    largest, sample = values.masked_fill(~taken, -torch.inf).max(dim=3)
    some = largest > LOWEST_MAXIMUM
    y_at = y.at.to(features.dtype)[:, :, None, :].expand(-1, -1, pooling.bins_x, -1).gather(3, sample // n_x)
    x_at = x.at.to(features.dtype)[:, None, :, :].expand(-1, pooling.bins_y, -1, -1).gather(3, sample % n_x)
    found = (torch.where(some, largest, LOWEST_MAXIMUM), torch.where(some, y_at, -1), torch.where(some, x_at, -1))
    largest, y_at, x_at = (t.permute(0, 3, 1, 2) for t in found)
    return largest, y_at, x_at


def _max_backward(grad: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor) -> None:
    _, channels, height, width = grad_input.shape
    some = argmax_y != -1
    dtype = working_dtype(grad.dtype)
    y_pixel, y_weight = _neighbours(argmax_y.to(dtype), some, height)
    x_pixel, x_weight = _neighbours(argmax_x.to(dtype), some, width)
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=grad.device)
    index = (plane[:, :, None, None, None, None] * height + y_pixel[..., :, None]) * width + x_pixel[..., None, :]
    weight = y_weight[..., :, None] * x_weight[..., None, :]
    share = (grad[..., None, None] * weight).to(grad.dtype)
    grad_input.view(-1).index_add_(0, index.flatten(), share.flatten())


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool features in regions of interest.

    Args:
        input: floating (N, C, H, W), the feature maps.
        rois: floating (R, 5): image of the batch, then x0, y0, x1, y1 in pixels of the image.
        output: (R, C, aligned_height, aligned_width), overwritten.
        argmax_y: as ``output`` for maximum pooling, overwritten with the position of the largest sample in pixels
            of the feature map, -1 where a bin has none; else unused.
        argmax_x: likewise.
        aligned_height: bins along y.
        aligned_width: bins along x.
        spatial_scale: pixels of the feature map per pixel of the image.
        sampling_ratio: samples along each side of a bin; 0 for one a pixel.
        pool_mode: 0 maximum, 1 mean.
        aligned: whether pixel centres lie at half coordinates; if not, RoIs are at least one pixel wide and high.
    """
    if output.numel() == 0:
        return
    height, width = input.shape[2:]
    pooling = _Pooling(height, width, aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned)
    rois = rois.to(working_dtype(rois.dtype))
    for part in pooling.parts(rois, max_pool=pool_mode == MAX_POOL):
        if pool_mode == MAX_POOL:
            output[part], argmax_y[part], argmax_x[part] = _max_forward(input, rois[part], pooling)
        else:
            output[part] = _mean_forward(input, rois[part], pooling)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """The gradient of :func:`roi_align_forward` for its features; RoIs get none.

    Args:
        grad_output: (R, C, aligned_height, aligned_width), gradient for the output.
        rois: as in the forward call, like all that follow.
        argmax_y: as the forward call left it.
        argmax_x: likewise.
        grad_input: (N, C, H, W); the gradient is added to it.
        aligned_height: bins along y.
        aligned_width: bins along x.
        spatial_scale: pixels of the feature map per pixel of the image.
        sampling_ratio: samples along each side of a bin; 0 for one a pixel.
        pool_mode: 0 maximum, 1 mean.
        aligned: whether pixel centres lie at half coordinates.
    """
    if grad_output.numel() == 0 or grad_input.numel() == 0:
        return
    if pool_mode == MAX_POOL:
        _max_backward(grad_output, rois, argmax_y, argmax_x, grad_input)
        return
    height, width = grad_input.shape[2:]
    pooling = _Pooling(height, width, aligned_height, aligned_width, spatial_scale, sampling_ratio, aligned)
    rois = rois.to(working_dtype(rois.dtype))
    for part in pooling.parts(rois):
        grad_input += _mean_backward(grad_output[part], rois[part], pooling, grad_input.shape)
