"""Stages 2 and 3: a mask for each RoI, then its class seen through that mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional


class MaskRegression(BaseModule):
    """Stage 2: one mask for each RoI, of no class.

    Args:
        in_channels: of a RoI's features.
        roi_size: their side.
        hidden: units of the first layer.
        mask_size: m.
        init_std: deviation of the initial weights.
    """

    def __init__(self, in_channels: int, roi_size: int, hidden: int, mask_size: int, init_std: float = 0.001) -> None:
        super().__init__({"type": "Normal", "layer": "Linear", "std": init_std})
        self.mask_size = mask_size
        self.hidden = nn.Linear(in_channels * roi_size**2, hidden)
        self.masks = nn.Linear(hidden, mask_size**2)

    def forward(self, rois: Tensor) -> Tensor:
        """(N, C, s, s) to the logits (N, m, m)."""
        logits = self.masks(functional.relu(self.hidden(rois.flatten(1))))
        return logits.view(-1, self.mask_size, self.mask_size)


@MODELS.register_module()
class MNCFullyConnectedTrunk(BaseModule):
    """VGG-16's fc6 and fc7 on a RoI that is max-pooled once more.

    Args:
        in_channels: of a RoI's features.
        roi_size: their side, even.
        channels: units of each layer.
    """

    def __init__(self, in_channels: int, roi_size: int = 14, channels: int = 4096) -> None:
        super().__init__({"type": "Kaiming", "layer": "Linear", "mode": "fan_in", "a": 0})
        self.fc6 = nn.Linear(in_channels * (roi_size // 2) ** 2, channels)
        self.fc7 = nn.Linear(channels, channels)
        self.out_channels = channels

    def forward(self, rois: Tensor) -> Tensor:
        """(N, C, s, s) to (N, channels)."""
        pooled = functional.max_pool2d(rois, 2).flatten(1)
        return functional.relu(self.fc7(functional.relu(self.fc6(pooled))))


@MODELS.register_module()
class MNCConv5Trunk(BaseModule):
    """ResNet's conv5 (stride 2) on a RoI, then the mean over its places.

    Args:
        depth: of the ResNet.
        layer: further arguments of MMDetection's shared head ``ResLayer`` (normalisation, initial weights).
    """

    def __init__(self, in_channels: int, depth: int = 101, **layer: Any) -> None:
        super().__init__()
        self.conv5 = ResLayer(depth, stage=3, stride=2, **layer)
        self.out_channels = 512 if depth < 50 else 2048
        if in_channels != self.out_channels // 2:
            raise ValueError(f"conv5 of ResNet-{depth} takes {self.out_channels // 2} channels, not {in_channels}")

    def forward(self, rois: Tensor) -> Tensor:
        """(N, C, s, s) to (N, 2 C)."""
        if len(rois) == 0:
            return rois.new_zeros((0, self.out_channels))
        return self.conv5(rois).mean(dim=(2, 3))


class MaskedClassifier(BaseModule):
    """Stage 3: class, class of the mask, and box, from the RoI's features as they are and through its mask.

    Args:
        in_channels: of a RoI's features.
        num_classes: C, without the background.
        trunk: config of the layers between a RoI and its vector; built twice, with weights of their own.
    """

    def __init__(self, in_channels: int, num_classes: int, trunk: Mapping[str, Any]) -> None:
        super().__init__()
        self.box_trunk = MODELS.build({**trunk, "in_channels": in_channels})
        self.mask_trunk = MODELS.build({**trunk, "in_channels": in_channels})
        width = 2 * self.box_trunk.out_channels
        self.cls = nn.Linear(width, num_classes + 1)
        self.seg_cls = nn.Linear(width, num_classes + 1)
        self.bbox = nn.Linear(width, 4 * (num_classes + 1))

    def init_weights(self) -> None:
        """Small random answers at first, as in Fast R-CNN: deviation 0.01 for classes, 0.001 for boxes."""
        super().init_weights()
        for layer, std in ((self.cls, 0.01), (self.seg_cls, 0.01), (self.bbox, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, rois: Tensor, masks: Tensor, positive: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Classify RoIs.

        Args:
            rois: (N, C, s, s), features.
            masks: (N, m, m), foreground probabilities.
            positive: bool (N,), RoIs whose mask is right; only of these does a gradient go through the mask. None
                for all.

        Returns:
            logits of the class (N, C + 1), of the mask's class (N, C + 1), background last, and box deltas
            (N, 4 (C + 1)).
        """
        if positive is not None:
            masks = torch.where(positive[:, None, None], masks, masks.detach())
        if len(masks):
            masks = functional.interpolate(masks[:, None], rois.shape[-2:], mode="bilinear", align_corners=False)
        else:
            masks = masks.new_zeros((0, 1, *rois.shape[-2:]))
        vector = torch.cat([self.box_trunk(rois), self.mask_trunk(rois * masks)], dim=1)
        return self.cls(vector), self.seg_cls(vector), self.bbox(vector)
