"""Blocks 5 to 7, and the fusion of blocks 3 to 5 that takes the place of block 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule, build_norm_layer
from mmdet.models.necks import SSDNeck
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional


@MODELS.register_module()
class Yi2018Neck(SSDNeck):
    """SSD's extra layers and the fusion (Yi et al. 2018, section 2.1 and Fig. 1).

    Args:
        in_channels: of blocks 3 and 4.
        extra_channels: of blocks 5, 6 and 7; each comes from a 1 x 1 convolution to half as many channels and a
            3 x 3 convolution with stride 2.
        reduced_channels: that each of blocks 3 to 5 is brought to before they are concatenated.
        fused_channels: of the fused map.
        norm_cfg: normalisation of the concatenated maps.
        init_cfg: mmengine's.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        extra_channels: Sequence[int],
        reduced_channels: int,
        fused_channels: int,
        norm_cfg: Mapping[str, Any],
        init_cfg: Any = None,
    ) -> None:
        super().__init__(
            in_channels=tuple(in_channels),
            out_channels=(*in_channels, *extra_channels),
            level_strides=(2, 2, 2),
            level_paddings=(1, 1, 1),
            l2_norm_scale=None,
            init_cfg=init_cfg or {"type": "Kaiming", "layer": "Conv2d", "mode": "fan_in"},
        )
        joined = (*in_channels, extra_channels[0])
        self.reduce = nn.ModuleList(nn.Conv2d(width, reduced_channels, 1) for width in joined)
        _, self.norm = build_norm_layer(dict(norm_cfg), reduced_channels * len(joined))
        self.fuse = ConvModule(reduced_channels * len(joined), fused_channels, 1)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Blocks 3 and 4 to the fused block 3 and blocks 4 to 7."""
        third, *deeper = super().forward(inputs)
        maps = [reduce(block) for reduce, block in zip(self.reduce, (third, *deeper[:2]), strict=True)]
        size = third.shape[-2:]
        maps = [maps[0], *(functional.interpolate(m, size, mode="bilinear", align_corners=False) for m in maps[1:])]
        return (self.fuse(self.norm(torch.cat(maps, dim=1))), *deeper)
