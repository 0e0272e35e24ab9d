"""Multi-scale deformable attention (Zhu et al., Deformable DETR, 2021), under the names of ``mmcv._ext``.

mmcv brings a torch form and uses it on the CPU; on a GPU it calls the compiled operator, which these two stand for.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Attend.

    Args:
        value: floating (N, pixels of all levels, heads, C).
        value_spatial_shapes: int64 (levels, 2), height and width of each level.
        value_level_start_index: not used: the levels follow each other.
        sampling_locations: (N, queries, heads, levels, points, 2), x and y as fractions of the level's size.
        attention_weights: (N, queries, heads, levels, points).
        im2col_step: not used.

    Returns:
        (N, queries, heads * C).
    """
    # mmcv.ops imports this stand-in for its extension first, hence late.
    attend = importlib.import_module("mmcv.ops.multi_scale_deform_attn").multi_scale_deformable_attn_pytorch
    result: Tensor = attend(value, value_spatial_shapes, sampling_locations, attention_weights)
    return result


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Overwrite the three gradients, given ``grad_output`` (N, queries, heads * C); else as the forward call."""
    inputs = [t.detach().requires_grad_() for t in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        result = ms_deform_attn_forward(
            inputs[0], value_spatial_shapes, value_level_start_index, inputs[1], inputs[2], im2col_step
        )
        gradients = torch.autograd.grad(result, inputs, grad_output)
    for target, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True):
        target.copy_(gradient)
