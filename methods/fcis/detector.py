"""The network as MMDetection sees it: backbone, proposals on res4, score maps on res5, voting."""

from __future__ import annotations

from mmdet.registry import MODELS
from torch import Tensor

from methods._two_stage import VotingDetector


@MODELS.register_module()
class FCISDetector(VotingDetector):
    """Fully Convolutional Instance-aware Semantic Segmentation (Li et al. 2017).

    The backbone's outputs are res4 and res5, of one stride; ``rpn_head`` is a
    :class:`~methods._rpn.OneMapRPNHead`, ``roi_head`` a :class:`~methods.fcis.head.FCISRoIHead`.
    """

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to res4 and the position-sensitive maps, each (B, C, H / 16, W / 16)."""
        shallow, deep = self.backbone(batch_inputs)
        return shallow, self.roi_head.maps(deep)
