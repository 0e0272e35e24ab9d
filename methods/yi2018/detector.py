"""The network as MMDetection sees it: backbone, fusion, default boxes, masks of the detections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.runner import CheckpointLoader
from mmengine.structures import InstanceData
from torch import Tensor

from methods import _raster
from methods.yi2018.mask import Window, mask_loss

Part = Literal["all", "detector", "mask"]
"""What is trained."""


def _untimed(_name: str) -> AbstractContextManager[Any]:
    return nullcontext()


@MODELS.register_module()
class Yi2018Detector(BaseDetector):
    """SSD whose detections are segmented from crops of its own maps (Yi et al. 2018).

    Args:
        backbone: config; its outputs are blocks 1 to 4.
        neck: config of :class:`~methods.yi2018.neck.Yi2018Neck`.
        bbox_head: config of :class:`~methods.yi2018.head.Yi2018Head`.
        mask_head: config of :class:`~methods.yi2018.mask.Yi2018MaskHead`.
        mask_iou: box IoU with an object from which a detection's mask is trained.
        mask_objects: masks trained on, an image, at most; a random choice of them.
        mask_threshold: a pixel is foreground from this probability on.
        vgg16_weights: where the weights of an ImageNet VGG-16 are, for that backbone.
        data_preprocessor: config.
        init_cfg: mmengine's.

    Attributes:
        phase: called with "postprocess" around what follows the network; gives a context manager.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        neck: Mapping[str, Any],
        bbox_head: Mapping[str, Any],
        mask_head: Mapping[str, Any],
        mask_iou: float = 0.5,
        mask_objects: int = 128,
        mask_threshold: float = 0.5,
        vgg16_weights: str | None = None,
        data_preprocessor: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        self.bbox_head = MODELS.build(bbox_head)
        self.mask_head = MODELS.build(mask_head)
        self.mask_iou, self.mask_objects, self.mask_threshold = mask_iou, mask_objects, mask_threshold
        self.vgg16_weights = vgg16_weights
        self.part: Part = "all"
        self.phase: Callable[[str], AbstractContextManager[Any]] = _untimed

    def init_weights(self) -> None:
        """Initialise every part, then put ImageNet's VGG-16 where it is asked for."""
        super().init_weights()
        if self.vgg16_weights is not None:
            content = CheckpointLoader.load_checkpoint(self.vgg16_weights, map_location="cpu", logger="silent")
            self.backbone.put_imagenet(content.get("state_dict", content))

    # -- what is trained ----------------------------------------------------------------------------

    def train_part(self, part: Part) -> None:
        """Train only one part from now on; the other takes no gradient and stays in ``eval()``."""
        self.part = part
        for name, parameter in self.named_parameters():
            parameter.requires_grad = part == "all" or name.startswith("mask_head.") == (part == "mask")
        self.train(self.training)

    def train(self, mode: bool = True) -> Yi2018Detector:
        """As of any module; parts that are not trained stay as they predict."""
        super().train(mode)
        if mode and self.part == "mask":
            for module in (self.backbone, self.neck, self.bbox_head):
                module.eval()
        return self

    # -- the network --------------------------------------------------------------------------------

    def extract_feat(self, batch_inputs: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The maps of both heads.

        Args:
            batch_inputs: (B, 3, H, W).

        Returns:
            blocks 3 to 7 for the detector, and blocks 1 to 4 for the masks; block 3 is the fused one in both.
        """
        first, second, third, fourth = self.backbone(batch_inputs)
        detected = self.neck((third, fourth))
        return detected, (first, second, detected[0], fourth)

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[Any]) -> dict[str, Any]:
        """The losses of the parts that are trained: ``loss_cls`` and ``loss_bbox``, ``loss_mask``."""
        losses: dict[str, Any] = {}
        metas = [sample.metainfo for sample in batch_data_samples]
        with torch.no_grad() if self.part == "mask" else nullcontext():
            detected, maps = self.extract_feat(batch_inputs)
            answers = self.bbox_head(detected)
            if self.part != "mask":
                losses.update(
                    self.bbox_head.loss_by_feat(
                        *answers,
                        [sample.gt_instances for sample in batch_data_samples],
                        metas,
                        [sample.get("ignored_instances") for sample in batch_data_samples],
                    )
                )
        if self.part != "detector":
            with torch.no_grad():
                found = self.bbox_head.predict_by_feat(*answers, batch_img_metas=metas)
            losses["loss_mask"] = self.mask_losses(batch_inputs, maps, found, batch_data_samples)
        return losses

    def mask_losses(
        self, images: Tensor, maps: Sequence[Tensor], found: Sequence[Any], samples: Sequence[Any]
    ) -> Tensor:
        """The mean over all detections that are an object of the mean over their pixels (equation 4).

        Args:
            images: (B, 3, H, W).
            maps: blocks 1 to 4, (B, C, h, w) each.
            found: detections of each image, ``bboxes`` (N, 4) in pixels of the input.
            samples: data samples with the objects.
        """
        shape = (images.shape[-2], images.shape[-1])
        each = []
        for index, (detections, sample) in enumerate(zip(found, samples, strict=True)):
            objects, levels = sample.gt_instances, [features[index] for features in maps]
            for box, truth in self._positive(detections.bboxes, objects.bboxes):
                logits, window = self.mask_head.at(box, images[index], levels, shape)
                mask = torch.from_numpy(np.ascontiguousarray(window.cut(objects.masks.masks[truth])))
                each.append(mask_loss(logits, mask.to(logits.device)))
        return torch.stack(each).mean() if each else self.mask_head.nothing()

    def _positive(self, boxes: Tensor, objects: Tensor) -> list[tuple[list[float], int]]:
        """Detections that are an object, each with the object's index."""
        if len(boxes) == 0 or len(objects) == 0:
            return []
        overlap, chosen = bbox_overlaps(boxes, objects).max(dim=1)
        rows = torch.nonzero(overlap >= self.mask_iou).flatten()
        if len(rows) > self.mask_objects:
            # The generator of the CPU on every device, so that a seed means the same everywhere.
            rows = rows[torch.randperm(len(rows))[: self.mask_objects].sort().values.to(rows.device)]
        return list(zip(boxes[rows].tolist(), chosen[rows].tolist(), strict=True))

    # -- prediction ---------------------------------------------------------------------------------

    def predict(self, batch_inputs: Tensor, batch_data_samples: list[Any], rescale: bool = True) -> list[Any]:
        """The instances of every image.

        Returns:
            the data samples with ``pred_instances``: ``bboxes`` (N, 4), ``scores`` (N,), ``labels`` (N,) and ``rles``
            (N COCO compressed counts), in pixels of the original image, or of the network's input without ``rescale``.
        """
        detected, maps = self.extract_feat(batch_inputs)
        metas = [sample.metainfo for sample in batch_data_samples]
        found = self.bbox_head.predict_by_feat(*self.bbox_head(detected), batch_img_metas=metas)
        shape = (batch_inputs.shape[-2], batch_inputs.shape[-1])
        for index, (detections, sample) in enumerate(zip(found, batch_data_samples, strict=True)):
            levels = [features[index] for features in maps]
            rles = []
            for box in detections.bboxes.tolist():
                logits, window = self.mask_head.at(box, batch_inputs[index], levels, shape)
                with self.phase("postprocess"):
                    rles.append(self._encode(logits.sigmoid(), window, sample, rescale))
            boxes = detections.bboxes
            if rescale:
                boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)
            sample.pred_instances = InstanceData(
                bboxes=boxes, scores=detections.scores, labels=detections.labels, rles=rles
            )
        return batch_data_samples

    def _encode(self, probabilities: Tensor, window: Window, sample: Any, rescale: bool) -> bytes:
        """The RLE of a mask that covers the input's pixels in ``window``."""
        height, width = sample.ori_shape[:2] if rescale else sample.img_shape[:2]
        across, down = sample.scale_factor if rescale else (1.0, 1.0)
        box = np.array(
            [window.left / across, window.top / down, (window.right + 1) / across, (window.bottom + 1) / down]
        )
        pasted, top, left = _raster.paste(probabilities.detach().float().cpu().numpy(), box, height, width)
        return _raster.encode_window(pasted >= self.mask_threshold, top, left, height, width)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Any = None) -> tuple[Any, ...]:
        """Confidences and offsets without masks, for counting operations."""
        detected, _ = self.extract_feat(batch_inputs)
        return self.bbox_head(detected)
