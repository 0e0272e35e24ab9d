"""A U-Net whose encoder also proposes boxes.

Imports torch: import it inside the methods that need it, never at the top of a method's module.
Source: Instance-U-Net with watershed, sections 4.1 and 4.2.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from methods._unet import UNet, initialise, pad_to_multiple


class ProposingUNet(nn.Module):
    """The maps of a U-Net and, from what enters its bottleneck, objectness and box deltas of anchors.

    Args:
        unet: its encoder is shared.
        features: channels of what enters the bottleneck.
        channels: of the region proposal network's 3 x 3 convolution.
        anchors: at each place of the map.
    """

    def __init__(self, unet: UNet, features: int, channels: int, anchors: int) -> None:
        super().__init__()
        self.unet = unet
        self.shared = nn.Conv2d(features, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, 2 * anchors, 1)
        self.deltas = nn.Conv2d(channels, 4 * anchors, 1)
        for layer in (self.shared, self.objectness, self.deltas):
            initialise(layer, "xavier_normal")

    @property
    def stride(self) -> int:
        """Of the U-Net, and from one place of the proposals' map to the next."""
        return self.unet.stride

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Logits of the U-Net's heads at the image's size; ``objectness`` and ``deltas`` at ``1 / stride`` of it.

        Args:
            image: (N, in_channels, H, W), any size.

        Returns:
            the U-Net's maps; (N, 2 A, h, w), for each anchor no object, then object; (N, 4 A, h, w), for each anchor
            dx, dy, dw, dh; h and w are H and W divided by the stride, rounded up.
        """
        height, width = image.shape[-2:]
        skips, pooled = self.unet.encode(pad_to_multiple(image, self.stride))
        features = self.unet.decode(skips, pooled)
        maps = {name: head(features)[..., :height, :width] for name, head in self.unet.heads.items()}
        proposals = functional.relu(self.shared(pooled))
        return {**maps, "objectness": self.objectness(proposals), "deltas": self.deltas(proposals)}
