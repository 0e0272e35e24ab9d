"""mmcv's operators from torchvision's kernels, under the names and with the arguments of ``mmcv._ext``.

Torchvision has suppression, RoIAlign with the mean, and deformable convolution, each for CPU and CUDA. What it has not
(boxes with the offset 1, the maximum in RoIAlign, soft suppression, focal losses, deformable attention) comes from
:mod:`bench.ops.torch_ops`.

One difference is left: where a deformable convolution reads exactly one pixel outside the input, where the value has a
kink, torchvision's gradient of the offset is that of the inner side, mmcv's is zero.
"""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from torch import Tensor

from bench.ops import deform_interface, torch_ops
from bench.ops.deform_interface import Geometry, Gradients
from bench.ops.torch_ops.roi_align import MAX_POOL

_kernels = torch.ops.torchvision


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """As :func:`bench.ops.torch_ops.nms.nms`."""
    if offset:
        return torch_ops.OPERATORS["nms"](boxes, scores, iou_threshold, offset)
    # mmcv sorts without asking for stability, which decides between equal scores, and has a float32 threshold.
    order = scores.sort(0, descending=True).indices
    ranks = torch.arange(len(order), 0, -1, dtype=torch.float64, device=boxes.device).to(boxes.dtype)
    kept: Tensor = order[torchvision.ops.nms(boxes[order], ranks, float(np.float32(iou_threshold)))]
    return kept


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
    """As :func:`bench.ops.torch_ops.roi_align.roi_align_forward`."""
    bins = (aligned_height, aligned_width)
    if pool_mode == MAX_POOL:
        torch_ops.OPERATORS["roi_align_forward"](
            input, rois, output, argmax_y, argmax_x, *bins, spatial_scale, sampling_ratio, pool_mode, aligned
        )
    elif output.numel():
        output.copy_(_kernels.roi_align(input, rois, spatial_scale, *bins, sampling_ratio, aligned))


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
    """As :func:`bench.ops.torch_ops.roi_align.roi_align_backward`."""
    bins = (aligned_height, aligned_width)
    if pool_mode == MAX_POOL:
        torch_ops.OPERATORS["roi_align_backward"](
            grad_output, rois, argmax_y, argmax_x, grad_input, *bins, spatial_scale, sampling_ratio, pool_mode, aligned
        )
    elif grad_output.numel():
        grad_input += _kernels._roi_align_backward(
            grad_output, rois, spatial_scale, *bins, *grad_input.shape, sampling_ratio, aligned
        )


def convolve(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: Geometry) -> Tensor:
    """As :class:`bench.ops.deform_interface.Convolve` says."""
    result: Tensor = _kernels.deform_conv2d(*_deform_arguments(input, offset, mask, weight, geometry))
    return result


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
    """As :class:`bench.ops.deform_interface.Differentiate` says; the kernel computes all gradients in any case."""
    arguments = _deform_arguments(input, offset, mask, weight, geometry)
    of_input, of_kernel, of_offset, of_mask, _ = _kernels._deform_conv2d_backward(grad_output, *arguments)
    return Gradients(of_input, of_offset, None if mask is None else of_mask, of_kernel)


def _deform_arguments(
    input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: Geometry
) -> tuple[object, ...]:
    """What torchvision's forward and backward kernels both take; the bias is zero."""
    factors = input.new_zeros(len(input), 1) if mask is None else mask
    tensors = (input, weight, offset, factors, input.new_zeros(len(weight)))
    lengths = (*geometry.stride, *geometry.padding, *geometry.dilation)
    return (*tensors, *lengths, geometry.groups, geometry.deform_groups, mask is not None)


OPERATORS = (
    torch_ops.OPERATORS
    | {operator.__name__: operator for operator in (nms, roi_align_forward, roi_align_backward)}
    | deform_interface.operators(convolve, differentiate)
)
"""Every operator, by its name in ``mmcv._ext``."""
