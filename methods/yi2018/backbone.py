"""Blocks 1 to 4: ResNet-101 without its last stage, and VGG-16 for the paper's comparison of speeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmdet.models.backbones import SSDVGG, ResNet
from mmdet.registry import MODELS
from torch import Tensor, nn

from methods.mnc.backbone import put_vgg16


@MODELS.register_module()
class Yi2018ResNet(ResNet):
    """conv1 to conv4 of a ResNet; of ResNet-101, 64, 256, 512 and 1024 channels at strides 2, 4, 8 and 16.

    Args:
        arguments: of MMDetection's ``ResNet``.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(0, 1, 2), **arguments)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to blocks 1 to 4; block 1 is conv1 before its pooling, which MMDetection's ResNet keeps."""
        maps = [self.relu(self.norm1(self.conv1(images)))]
        below = self.maxpool(maps[0])
        for name in self.res_layers:
            below = getattr(self, name)(below)
            maps.append(below)
        return tuple(maps)


@MODELS.register_module()
class Yi2018VGG16(SSDVGG):
    """SSD's VGG-16: conv2_2, conv3_3, conv4_3 and fc7; 128, 256, 512 and 1024 channels at strides 2, 4, 8 and 16.

    Args:
        norm_cfg: normalisation after each convolution; None, as VGG-16 has none.
    """

    def __init__(self, norm_cfg: Mapping[str, Any] | None = None) -> None:
        super().__init__(depth=16, out_indices=(1, 2, 3, 4), out_feature_indices=(8, 15, 22, 34))
        if norm_cfg is not None:
            for index, layer in enumerate(self.features):
                if isinstance(layer, nn.Conv2d):
                    _, norm = build_norm_layer(dict(norm_cfg), layer.out_channels)
                    self.features[index] = nn.Sequential(layer, norm)

    def convolutions(self) -> list[nn.Conv2d]:
        """conv1_1 to conv5_3 in order, without fc6 and fc7."""
        return [m for m in self.modules() if isinstance(m, nn.Conv2d)][:-2]

    def put_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Put the weights of an ImageNet VGG-16 in, fc6 and fc7 thinned out as in SSD (Liu et al. 2016, section 3).

        Args:
            state: a VGG-16 that takes RGB normalised by ImageNet's mean and deviation; if its fully connected
                layers are absent, fc6 and fc7 keep their initial weights.

        Raises:
            ValueError: it is no VGG-16.
        """
        put_vgg16(state, self, ())  # type: ignore[arg-type]
        full = {value.shape: name for name, value in state.items() if value.ndim == 2}
        fc6, fc7 = full.get(torch.Size((4096, 512 * 7 * 7))), full.get(torch.Size((4096, 4096)))
        if fc6 is None or fc7 is None:
            return
        first, second = [m for m in self.modules() if isinstance(m, nn.Conv2d)][-2:]
        with torch.no_grad():
            first.weight.copy_(state[fc6].view(4096, 512, 7, 7)[::4, :, ::3, ::3])
            second.weight.copy_(state[fc7].view(4096, 4096, 1, 1)[::4, ::4])
            for layer, name in ((first, fc6), (second, fc7)):
                if layer.bias is not None:
                    layer.bias.copy_(state[name.removesuffix("weight") + "bias"][::4])
