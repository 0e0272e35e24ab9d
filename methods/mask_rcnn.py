"""Mask R-CNN with a ResNet-50 feature pyramid, as MMDetection builds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import Paper, Schedule, Task
from methods import _proposals
from methods._mmdet import MMDetMethod, Training, stock_config, stock_preprocessor
from methods._proposals import DEVIATIONS_FOR_CELLS


class MaskRCNN(MMDetMethod):
    """Mask R-CNN R50-FPN: MMDetection's stock config, its caps and anchors fitted to small, dense cells."""

    name = "mask_rcnn"
    title = "Mask R-CNN R50-FPN"
    summary = "Two-stage detector with a mask branch on RoI-aligned pyramid features."
    paper = Paper("Mask R-CNN", "He, Gkioxari, Dollár, Girshick", 2017, "ICCV", "https://arxiv.org/abs/1703.06870")
    origin = "stock"
    inits = ("random", "imagenet", "coco")
    coco_config = "mask_rcnn/mask-rcnn_r50_fpn_1x_coco"
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=12, batch_size=16, note="MMDetection's 1x schedule: 12 epochs, batch 16, SGD 0.02"),
        "short": Schedule(iterations=1500, batch_size=2, note="learning rate scaled linearly with the batch"),
        "smoke": Schedule(
            iterations=6,
            batch_size=1,
            train_images=16,
            eval_images=6,
            settings={"image_scale": (512, 512), "samples": 128},
            note="shows that it runs; says nothing about accuracy",
        ),
    }
    trial: ClassVar[Mapping[str, Any]] = {
        "image_scale": (128, 128),
        "depth": 18,
        "pyramid_channels": 32,
        "head_channels": 64,
        "samples": 64,
    }
    deviations = (
        "From random weights, group normalisation everywhere and no frozen stage, as in He et al. 2019 (Rethinking "
        "ImageNet pre-training): frozen batch statistics of random weights cannot be trained.",
        "From random weights, the box head has four convolutions with group normalisation and one fully connected "
        "layer instead of two fully connected ones (1.3 million weights more), also as in He et al. 2019.",
        "Anchors start below 32 px where the data set's objects are smaller; proposals and detections are capped by "
        "the data set's needs instead of 1000 and 100, and 512 sampled RoIs become as many as its densest image needs.",
        *DEVIATIONS_FOR_CELLS,
    )

    @dataclass(frozen=True)
    class Params(MMDetMethod.Params):
        """Settings. Sources: MMDetection's ``mask-rcnn_r50_fpn_1x_coco`` unless said otherwise.

        Attributes:
            image_scale: (long, short) side in pixels that images are resized into.
            depth: of the ResNet.
            pyramid_channels: channels of the feature pyramid (256).
            head_channels: channels of the box head's fully connected layers (1024).
            samples: RoIs sampled an image in training; 0: 512, or what the densest image needs.
            score_threshold: detections below are dropped (0.05).
            nms_iou: box IoU above which the weaker of two detections is dropped; 0: 0.5 as published, 0.6 where the
                data set's objects are slender.
            learning_rate: for a batch of 16 (0.02); scaled linearly with the batch.
            optimizer: SGD as published, or AdamW.
        """

        image_scale: tuple[int, ...] = (1333, 800)
        depth: int = 50
        pyramid_channels: int = 256
        head_channels: int = 1024
        samples: int = 0
        score_threshold: float = 0.05
        nms_iou: float = 0.0
        learning_rate: float = 0.02
        optimizer: str = "SGD"

    params: Params

    def config(self, init: str) -> dict[str, Any]:
        """MMDetection's config with the overrides of :attr:`deviations`."""
        p = self.params
        model = stock_config(self.coco_config)
        model.data_preprocessor = stock_preprocessor(model.data_preprocessor)
        backbone, neck, roi = model.backbone, model.neck, model.roi_head
        backbone.depth = p.depth
        if p.depth < 50:
            neck.in_channels = [64, 128, 256, 512]
        for part in (neck, roi.bbox_roi_extractor, roi.mask_roi_extractor):
            part.out_channels = p.pyramid_channels
        for part in (model.rpn_head, roi.bbox_head, roi.mask_head):
            part.in_channels = p.pyramid_channels
        model.rpn_head.feat_channels = roi.mask_head.conv_out_channels = p.pyramid_channels
        roi.bbox_head.fc_out_channels = p.head_channels
        roi.bbox_head.num_classes = roi.mask_head.num_classes = len(self.task.classes)
        fit_to_cells(model, self.task, self.smallest_anchor(32.0), samples=p.samples, overlap=p.nms_iou)
        model.test_cfg.rcnn.score_thr = p.score_threshold
        if init == "random":
            norm = {"type": "GN", "num_groups": 32, "requires_grad": True}
            backbone.update(frozen_stages=-1, norm_cfg=norm, norm_eval=False, zero_init_residual=False, init_cfg=None)
            neck.norm_cfg = norm
            roi.bbox_head.update(type="Shared4Conv1FCBBoxHead", conv_out_channels=p.pyramid_channels, norm_cfg=norm)
            roi.mask_head.norm_cfg = norm
        elif init != "imagenet":
            backbone.init_cfg = None
        return model.to_dict() if hasattr(model, "to_dict") else dict(model)

    def training(self, steps: int, batch_size: int) -> Training:
        """MMDetection's 1x schedule, stretched over ``steps``: drops at 8/12 and 11/12, warm-up of 500 steps."""
        p = self.params
        warmup = min(500, max(1, steps // 10))
        optimizer: dict[str, Any] = {
            "type": p.optimizer,
            "lr": p.learning_rate * batch_size / 16,
            "weight_decay": 0.0001,
        }
        if p.optimizer == "SGD":
            optimizer["momentum"] = 0.9
        return Training(
            optimizer=optimizer,
            schedulers=[
                {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": warmup},
                {
                    "type": "MultiStepLR",
                    "by_epoch": False,
                    "begin": 0,
                    "end": steps,
                    "milestones": [max(1, steps * 8 // 12), max(2, steps * 11 // 12)],
                    "gamma": 0.1,
                },
            ],
        )


def fit_to_cells(model: Any, task: Task, smallest_anchor: float, *, samples: int = 0, overlap: float = 0.0) -> None:
    """Fit the anchors, samplers, suppression and caps of a two-stage model of MMDetection to a task, in place.

    Args:
        model: its config; as far as its sampled anchors and RoIs, proposals and detections suffice they stay.
        task: says how large, how slender and how many the objects of an image are.
        smallest_anchor: side of the anchors of the pyramid's finest level (stride 4), pixels.
        samples: RoIs sampled an image in training; 0: what the densest image needs.
        overlap: box IoU above which the weaker of two detections is dropped; 0: by the objects.
    """
    anchors, train, test = model.rpn_head.anchor_generator, model.train_cfg, model.test_cfg
    anchors.update(scales=[smallest_anchor / 4], ratios=list(_proposals.fitted_ratios(task, anchors.ratios)))
    samples = _proposals.sampled_rois(task, samples)
    train.rcnn.sampler.num = samples
    train.rpn.sampler.num = _proposals.sampled_anchors(task)
    for part in (train.rpn, train.rcnn):
        part.assigner.gpu_assign_thr = _proposals.ASSIGNED_ON_GPU
    train.rpn_proposal.update(nms_pre=max(2000, 2 * samples), max_per_img=max(1000, samples))
    proposals = _proposals.proposals(task)
    test.rpn.update(nms_pre=proposals, max_per_img=proposals)
    suppression = test.rcnn.nms
    suppression.iou_threshold = _proposals.nms_iou(task, overlap, suppression.iou_threshold)
    test.rcnn.max_per_img = task.max_detections
