"""A detector of two stages as MMDetection sees it: backbone, proposals, RoI head, mask voting."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from methods._rois import Truth
from methods._voting import Candidates, VotingRule, vote


def _untimed(_name: str) -> AbstractContextManager[Any]:
    return nullcontext()


class VotingDetector(BaseDetector):
    """Proposals, then a head that gives each of them a soft mask and class scores, then mask voting.

    A subclass says in :meth:`extract_feat` which feature maps the two stages read, and is given a RoI head with

    - ``loss(features, proposals, truth, img_shape)``: the losses of one image, by name;
    - ``predict(features, proposals, img_shape)``: boxes (N, 4), masks (N, m, m) and class scores (N, C).

    Args:
        backbone: config.
        rpn_head: config of a :class:`~methods._rpn.OneMapRPNHead`.
        roi_head: config, see above.
        train_cfg: ``proposals``: see ``OneMapRPNHead.proposals``.
        test_cfg: ``proposals``, and ``voting``: see :class:`~methods._voting.VotingRule`.
        data_preprocessor: config.
        init_cfg: mmengine's.

    Attributes:
        phase: called with "postprocess" around what follows the network; gives a context manager.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        rpn_head: Mapping[str, Any],
        roi_head: Mapping[str, Any],
        train_cfg: Mapping[str, Any],
        test_cfg: Mapping[str, Any],
        data_preprocessor: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.rpn_head = MODELS.build(rpn_head)
        self.roi_head = MODELS.build(roi_head)
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.voting = VotingRule(**test_cfg["voting"])
        self.phase: Callable[[str], AbstractContextManager[Any]] = _untimed

    @abstractmethod
    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) to the feature map of the proposals and that of the RoI head, each (B, C, h, w)."""

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[Any]) -> dict[str, Any]:
        """The losses of both stages, each the mean over the images."""
        for_proposals, for_rois = self.extract_feat(batch_inputs)
        cls_scores, bbox_preds = self.rpn_head((for_proposals,))
        metas = [sample.metainfo for sample in batch_data_samples]
        objects = [
            InstanceData(bboxes=s.gt_instances.bboxes, labels=torch.zeros_like(s.gt_instances.labels))
            for s in batch_data_samples
        ]
        ignored = [s.get("ignored_instances") for s in batch_data_samples]
        losses: dict[str, Any] = self.rpn_head.loss_by_feat(cls_scores, bbox_preds, objects, metas, ignored)

        per_image = []
        for index, sample in enumerate(batch_data_samples):
            shape = tuple(metas[index]["img_shape"][:2])
            proposals = self.rpn_head.proposals(
                cls_scores[0][index], bbox_preds[0][index], shape, self.train_cfg["proposals"]
            )
            per_image.append(self.roi_head.loss(for_rois[index], proposals, _truth(sample), shape))
        for name in per_image[0]:
            losses[name] = torch.stack([one[name] for one in per_image]).mean()
        return losses

    def predict(self, batch_inputs: Tensor, batch_data_samples: list[Any], rescale: bool = True) -> list[Any]:
        """The instances of every image.

        Returns:
            the data samples with ``pred_instances``: ``bboxes`` (N, 4), ``scores`` (N,), ``labels`` (N,) and ``rles``
            (N COCO compressed counts), in pixels of the original image, or of the network's input without ``rescale``.
        """
        for_proposals, for_rois = self.extract_feat(batch_inputs)
        cls_scores, bbox_preds = self.rpn_head((for_proposals,))
        for index, sample in enumerate(batch_data_samples):
            shape = tuple(sample.img_shape[:2])
            proposals = self.rpn_head.proposals(
                cls_scores[0][index], bbox_preds[0][index], shape, self.test_cfg["proposals"]
            )
            boxes, masks, scores = self.roi_head.predict(for_rois[index], proposals, shape)
            with self.phase("postprocess"):
                sample.pred_instances = self._vote(boxes, masks, scores, sample, rescale)
        return batch_data_samples

    def _vote(self, boxes: Tensor, masks: Tensor, scores: Tensor, sample: Any, rescale: bool) -> InstanceData:
        height, width = sample.img_shape[:2]
        if rescale:
            height, width = sample.ori_shape[:2]
            boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
        candidates = Candidates(*(t.float().cpu().numpy() for t in (boxes, masks, scores)))
        voted = vote(candidates, height, width, self.voting)
        device = boxes.device
        return InstanceData(
            bboxes=torch.from_numpy(voted.boxes).to(device),
            scores=torch.from_numpy(voted.scores).to(device),
            labels=torch.from_numpy(voted.labels).to(device),
            rles=voted.rles,
        )

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Any = None) -> tuple[Tensor, ...]:
        """Everything but voting, for counting operations: boxes, masks and scores of the first image."""
        for_proposals, for_rois = self.extract_feat(batch_inputs)
        cls_scores, bbox_preds = self.rpn_head((for_proposals,))
        shape = (batch_inputs.shape[-2], batch_inputs.shape[-1])
        proposals = self.rpn_head.proposals(cls_scores[0][0], bbox_preds[0][0], shape, self.test_cfg["proposals"])
        return self.roi_head.predict(for_rois[0], proposals, shape)


def _truth(sample: Any) -> Truth:
    objects = sample.gt_instances
    ignored = sample.get("ignored_instances")
    return Truth(
        boxes=objects.bboxes,
        classes=objects.labels,
        masks=objects.masks.to_ndarray(),
        ignored=objects.bboxes.new_zeros((0, 4)) if ignored is None else ignored.bboxes,
    )
