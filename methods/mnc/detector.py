"""The network as MMDetection sees it: backbone, proposals, cascade, voting."""

from __future__ import annotations

from typing import Any

from mmdet.registry import MODELS
from mmengine.runner import CheckpointLoader
from torch import Tensor

from methods._two_stage import VotingDetector
from methods.mnc.backbone import put_vgg16


@MODELS.register_module()
class MNCDetector(VotingDetector):
    """Multi-task Network Cascade (Dai et al. 2016).

    Args:
        vgg16_weights: where the weights of an ImageNet VGG-16 are, for the backbone and the classifier's layers.
        arguments: of :class:`~methods._two_stage.VotingDetector`; the backbone's output is one feature map,
            ``rpn_head`` is a :class:`~methods.mnc.rpn.MNCRPNHead`, ``roi_head`` a
            :class:`~methods.mnc.cascade.MNCRoIHead`.
    """

    def __init__(self, vgg16_weights: str | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.vgg16_weights = vgg16_weights

    def init_weights(self) -> None:
        """Initialise every part, then put ImageNet's weights where they are asked for."""
        super().init_weights()
        if self.vgg16_weights is not None:
            content = CheckpointLoader.load_checkpoint(self.vgg16_weights, map_location="cpu", logger="silent")
            classifier = self.roi_head.classifier
            put_vgg16(content.get("state_dict", content), self.backbone, (classifier.box_trunk, classifier.mask_trunk))

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to (B, C, H / 16, W / 16), twice: both stages share one map."""
        (features,) = self.backbone(batch_inputs)
        return features, features
