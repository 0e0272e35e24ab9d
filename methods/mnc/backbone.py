"""VGG-16 up to conv5_3, the published backbone of MNC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

LAYERS = (2, 2, 3, 3, 3)
"""Convolutions of each block; a 2 x 2 max-pool between the blocks."""


@MODELS.register_module()
class MNCVGG16(BaseModule):
    """conv1_1 ... conv5_3: 13 convolutions 3 x 3, stride 16.

    Args:
        channels: of each block; (64, 128, 256, 512, 512) is VGG-16.
        norm_cfg: normalisation after each convolution; None, as VGG-16 has none.
        frozen_stages: so many first blocks are not trained.
        init_cfg: mmengine's.
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        norm_cfg: Mapping[str, Any] | None = None,
        frozen_stages: int = 0,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg or {"type": "Kaiming", "layer": "Conv2d"})
        blocks: list[nn.Module] = []
        width = 3
        for block, (layers, wider) in enumerate(zip(LAYERS, channels, strict=True)):
            stage: list[nn.Module] = [nn.MaxPool2d(2)] if block else []
            for _ in range(layers):
                stage.append(ConvModule(width, wider, 3, padding=1, norm_cfg=_groups(norm_cfg, wider)))
                width = wider
            blocks.append(nn.Sequential(*stage))
        self.blocks = nn.ModuleList(blocks)
        self.out_channels = width
        for parameter in self.blocks[:frozen_stages].parameters():
            parameter.requires_grad = False

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """(B, 3, H, W) to a tuple of one (B, C, H / 16, W / 16)."""
        for block in self.blocks:
            images = block(images)
        return (images,)

    def convolutions(self) -> list[nn.Conv2d]:
        """The 13 convolutions in order."""
        return [m for m in self.modules() if isinstance(m, nn.Conv2d)]


def _groups(norm_cfg: Mapping[str, Any] | None, channels: int) -> dict[str, Any] | None:
    if norm_cfg is None or norm_cfg["type"] != "GN":
        return None if norm_cfg is None else dict(norm_cfg)
    # A group of one channel would take each channel's own mean away: groups of four at least.
    return {**norm_cfg, "num_groups": min(norm_cfg["num_groups"], max(1, channels // 4))}


def put_vgg16(state: Mapping[str, Tensor], backbone: MNCVGG16, trunks: Sequence[nn.Module]) -> None:
    """Put the weights of an ImageNet VGG-16 where they belong, whatever its file calls them.

    Convolutions are known by their order; fc6 and fc7 by their shapes, and go to every trunk, as in Fast R-CNN.

    Args:
        state: a VGG-16 that takes RGB normalised by ImageNet's mean and deviation.
        backbone: receives conv1_1 ... conv5_3.
        trunks: each receives fc6 and fc7, in ``trunk.fc6`` and ``trunk.fc7``.

    Raises:
        ValueError: it is no VGG-16.
    """
    kernels = [name for name, value in state.items() if value.ndim == 4]
    targets = backbone.convolutions()
    if [state[name].shape for name in kernels] != [c.weight.shape for c in targets]:
        raise ValueError("these weights are not of a VGG-16")
    matrices = [name for name, value in state.items() if value.ndim == 2]
    with torch.no_grad():
        for name, convolution in zip(kernels, targets, strict=True):
            convolution.weight.copy_(state[name])
            if convolution.bias is not None:
                convolution.bias.copy_(state[name.removesuffix("weight") + "bias"])
        for trunk in trunks:
            for name, layer in zip(matrices[:2], (trunk.fc6, trunk.fc7), strict=False):
                if state[name].shape == layer.weight.shape:
                    layer.weight.copy_(state[name])
                    layer.bias.copy_(state[name.removesuffix("weight") + "bias"])
