"""One U-Net for every dense method: any widths, any number of output maps, any image size.

Imports torch: import it inside the methods that need it, never at the top of a method's module.

Source: O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015. Convolutions keep the size here (the original's lose two pixels each), so that maps and images agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["none", "batch", "group"]
Up = Literal["transposed", "bilinear"]
Init = Literal["xavier_normal", "kaiming_normal"]

GROUPS = 8
"""Groups of a group normalisation, where the width is divisible by it."""


class UNet(nn.Module):
    """A contracting and an expanding path of 3x3 convolutions, joined by skips; one 1x1 convolution a head.

    Args:
        in_channels: channels of the image.
        widths: channels of each level, from full resolution down; the last is the bottleneck. Each level halves
            the resolution once more.
        heads: name -> channels of an output map; every head reads the last full-resolution features.
        norm: normalisation after each 3x3 convolution, before its ReLU. A normalised convolution has no bias.
        up: ``transposed``, a learned 2x2 transposed convolution that halves the channels (Ronneberger 2015), or
            ``bilinear``, an upsampling without weights.
        init: of the convolution weights, with zero biases: ``xavier_normal`` (Glorot and Bengio 2010) or
            ``kaiming_normal`` (He 2015).
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        heads: Mapping[str, int],
        *,
        norm: Norm = "none",
        up: Up = "transposed",
        init: Init = "xavier_normal",
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"a U-Net needs at least one level of at least one channel, not widths {tuple(widths)}")
        inputs = (in_channels, *widths[:-1])
        self.down = nn.ModuleList(_double_convolution(i, o, norm) for i, o in zip(inputs, widths, strict=True))
        deeper_first = list(itertools.pairwise(widths))[::-1]
        self.up = nn.ModuleList(_Up(deep, shallow, up) for shallow, deep in deeper_first)
        self.merge = nn.ModuleList(
            _double_convolution(shallow + (shallow if up == "transposed" else deep), shallow, norm)
            for shallow, deep in deeper_first
        )
        self.heads = nn.ModuleDict({name: nn.Conv2d(widths[0], channels, 1) for name, channels in heads.items()})
        initialise(self, init)

    @property
    def stride(self) -> int:
        """How many pixels of the image one position of the bottleneck stands for, a side."""
        return 1 << (len(self.down) - 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits of every head at the image's own size.

        Args:
            image: (N, in_channels, H, W), any H and W of at least 1; sizes that the stride does not divide are
                padded below and on the right by repeating the edge, and the maps are cut back.

        Returns:
            name -> (N, channels, H, W).
        """
        height, width = image.shape[-2:]
        skips, pooled = self.encode(pad_to_multiple(image, self.stride))
        features = self.decode(skips, pooled)
        return {name: head(features)[..., :height, :width] for name, head in self.heads.items()}

    def encode(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """The contracting path.

        Args:
            image: (N, in_channels, H, W), H and W divisible by :attr:`stride`.

        Returns:
            the skips from full resolution down, and what enters the bottleneck: the last pooled features, which
            an auxiliary head (a region proposal network) may share.
        """
        skips: list[Tensor] = []
        features = image
        for convolutions in self.down[:-1]:
            skips.append(convolutions(features))
            features = functional.max_pool2d(skips[-1], 2)
        return skips, features

    def decode(self, skips: Sequence[Tensor], pooled: Tensor) -> Tensor:
        """The bottleneck and the expanding path: full-resolution features (N, widths[0], H, W)."""
        features: Tensor = self.down[-1](pooled)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            features = merge(torch.cat([skip, up(features)], dim=1))
        return features


class _Up(nn.Module):
    """Twice the resolution."""

    def __init__(self, deep: int, shallow: int, kind: Up) -> None:
        super().__init__()
        if kind not in ("transposed", "bilinear"):
            raise ValueError(f"unknown upsampling {kind!r}")
        self.learned = nn.ConvTranspose2d(deep, shallow, 2, stride=2) if kind == "transposed" else None

    def forward(self, features: Tensor) -> Tensor:
        if self.learned is not None:
            return self.learned(features)
        return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def _double_convolution(inputs: int, outputs: int, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=norm == "none"))
        layers.extend(_norm(norm, outputs))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _norm(kind: Norm, channels: int) -> list[nn.Module]:
    if kind == "none":
        return []
    if kind == "batch":
        return [nn.BatchNorm2d(channels)]
    if kind == "group":
        return [nn.GroupNorm(math.gcd(GROUPS, channels), channels)]
    raise ValueError(f"unknown normalisation {kind!r}")


def initialise(module: nn.Module, kind: Init) -> None:
    """Draw every convolution's weights anew and set its bias to zero.

    Args:
        module: changed in place.
        kind: ``xavier_normal``, variance 2 / (fan in + fan out), or ``kaiming_normal``, variance 2 / fan in.
    """
    draws = {
        "xavier_normal": nn.init.xavier_normal_,
        "kaiming_normal": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    }
    if kind not in draws:
        raise ValueError(f"unknown initialisation {kind!r}")
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            draws[kind](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """``image`` (N, C, H, W) padded below and on the right, by repeating its edge, to multiples of ``multiple``."""
    height, width = image.shape[-2:]
    below, right = -height % multiple, -width % multiple
    return functional.pad(image, (0, right, 0, below), mode="replicate") if below or right else image
