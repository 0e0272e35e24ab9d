"""DeepCIS (Khalid et al. 2022): Cascade Mask R-CNN, ResNeSt-200 with deformable convolution, a mask head at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import Paper, Schedule, UsageError
from methods._cascade import SHORTEST, many_scales, plain, set_caps, set_heads, set_normalisation
from methods._mmdet import MMDetMethod, Training, stock_config, stock_preprocessor

STOCK = "resnest/cascade-mask-rcnn_s101_fpn_syncbn-backbone+head_ms-1x_coco"
"""MMDetection's nearest config: the same network with ResNeSt-101, plain convolution and a mask head a stage."""

CELL_ANCHORS = (2, 6, 17, 31, 64, 127, 256, 512, 1024)
NUCLEUS_ANCHORS = (2, 6, 8, 12, 17, 24, 31, 64, 127, 256)
"""Sides in pixels, section IV."""
ANCHOR_RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)

STEPS_A_UPDATE = 8
"""Steps of 2 images make an update of 16, Detectron2's batch."""

GROUP_NORM = {"type": "GroupNorm16"}
BATCH_NORM = {"type": "BN", "requires_grad": True}


class DeepCIS(MMDetMethod):
    """The network and its training; the three settings of the paper are the classes below."""

    paper = Paper(
        "DeepCIS: An end-to-end Pipeline for Cell-type aware Instance Segmentation in Microscopic Images",
        "Khalid, Munir, Edlund, Jackson, Trygg, Sjögren, Dengel, Ahmed",
        2022,
    )
    inits = ("random", "imagenet")
    modules = ("methods.deepcis.network",)
    deviations = (
        "Built on MMDetection, not Detectron2, from its config of ResNeSt-101, deepened to 200 layers.",
        "The mask head is on the last cascade stage only, as the paper says, and its loss is not scaled by that "
        "stage's weight of 0.25: the paper gives no weight, Detectron2's single mask head has 1.",
        "Deformable convolution in the 3 x 3 convolutions of the last three stages, one deformable group, without "
        "modulation: the paper cites Dai et al. 2017 and does not say where (setting deformable).",
        "All anchor sides at every level of the pyramid, 45 or 50 anchors a place: nine or ten sides cannot be shared "
        "out over five levels, and the paper does not say how they are.",
        "No COCO weights of this network can be loaded: random weights (group normalisation with 16 channels a group "
        "in the backbone, nothing frozen), ImageNet weights of the backbone, or --init PATH.",
        "Batch normalisation over eight GPUs is replaced by group normalisation in the heads and, from ImageNet "
        "weights, by the stored statistics in the backbone: a batch of two images has none worth taking.",
        "Batch 16, weight decay 0.0001 (none for normalisation), a short side of 640 to 800 in training, a linear "
        "warm-up over 1000 updates and a constant learning rate after it are Detectron2's defaults: the paper states "
        "the rate, the momentum and the iteration of the checkpoint.",
        "An anchor is background below IoU 0.3; the paper prints 'greater than 0.3', which would contradict its 0.7.",
        "Detections down to a score of 0.05 are kept, as AP needs them; the paper draws those above 0.5.",
        "Proposals, samples and detections are capped by what the data set's densest image needs; at most 2048 RoIs "
        "and anchors are sampled; in training, images whose masks would fill more than 512 MiB are cropped.",
        "Where the data set's objects are slender (95th percentile of their boxes' sides above 3:1), detections are "
        "suppressed from a box IoU of 0.6 instead of 0.5: boxes overlap where slender cells cross.",
    )

    @dataclass(frozen=True)
    class Params(MMDetMethod.Params):
        """Settings. Sources: Khalid et al. 2022 (stated), MMDetection's ResNeSt configs, Detectron2's defaults, ours.

        Attributes:
            image_scale: (long, short) side in pixels that images are resized into. Detectron2's test scale.
            shortest: in training the short side is one of six sizes from this share of ``image_scale``'s to all of it
                (640 to 800 of 800, Detectron2's default); 1: always all.
            depth: of the ResNeSt (200, stated).
            stem_channels: of its three-layer stem (128, as every ResNeSt deeper than 50).
            base_channels: of its first stage's blocks (64).
            deformable: DCN, DCNv2 (modulated), or none. DCN is what the paper cites.
            deformable_groups: sets of offsets in one convolution (ours).
            anchor_sides: of all anchors, pixels of the resized image (stated).
            anchor_ratios: height over width of the anchors (stated).
            pyramid_channels: channels of the feature pyramid and of the heads' convolutions (256).
            head_channels: channels of the box heads' fully connected layer (1024).
            samples: RoIs sampled an image and stage in training; 0: 512, or what the densest image needs.
            score_threshold: detections below are dropped.
            nms_iou: box IoU above which the weaker of two detections is dropped; 0: 0.5, 0.6 where the data set's
                objects are slender (ours).
            mask_weight: of the mask loss (ours).
            learning_rate: 0.02, stated, for 16 images an update; scaled linearly with them.
            momentum: of SGD (0.9, stated).
            weight_decay: of the optimiser.
            optimizer: SGD as published, or AdamW.
            warmup: updates over which the learning rate rises.
            steps_a_update: steps whose gradients are averaged into one update.
        """

        image_scale: tuple[int, ...] = (1333, 800)
        shortest: float = SHORTEST
        depth: int = 200
        stem_channels: int = 128
        base_channels: int = 64
        deformable: str = "DCN"
        deformable_groups: int = 1
        anchor_sides: tuple[int, ...] = CELL_ANCHORS
        anchor_ratios: tuple[float, ...] = ANCHOR_RATIOS
        pyramid_channels: int = 256
        head_channels: int = 1024
        samples: int = 0
        score_threshold: float = 0.05
        nms_iou: float = 0.0
        mask_weight: float = 1.0
        learning_rate: float = 0.02
        momentum: float = 0.9
        weight_decay: float = 0.0001
        optimizer: str = "SGD"
        warmup: int = 1000
        steps_a_update: int = STEPS_A_UPDATE

        def __post_init__(self) -> None:
            if self.deformable not in ("DCN", "DCNv2", "none"):
                raise UsageError(f"deepcis: deformable={self.deformable}", "DCN, DCNv2 or none")
            if self.depth not in (50, 101, 152, 200):
                raise UsageError(f"deepcis: there is no ResNeSt of depth={self.depth}", "50, 101, 152 or 200")
            if not 0 < self.shortest <= 1:
                raise UsageError(f"deepcis: shortest={self.shortest} is no share", "above 0, at most 1")
            if not self.anchor_sides or min(self.anchor_sides) <= 0:
                raise UsageError(f"deepcis: anchor_sides={self.anchor_sides}", "sides in pixels, such as 8,16,32")
            if not self.anchor_ratios or min(self.anchor_ratios) <= 0:
                raise UsageError(f"deepcis: anchor_ratios={self.anchor_ratios}", "height over width, such as 0.5,1,2")

    params: Params

    def config(self, init: str) -> dict[str, Any]:
        """MMDetection's ResNeSt-101 config, with what the paper and :attr:`deviations` change."""
        p = self.params
        model = stock_config(STOCK)
        model.data_preprocessor = stock_preprocessor(model.data_preprocessor)
        deformable = p.deformable != "none"
        model.backbone.update(
            type="DeformableResNeSt",
            depth=p.depth,
            stem_channels=p.stem_channels,
            base_channels=p.base_channels,
            # Shared by all blocks, the first of which takes the key away: only False means the same in every block.
            dcn={"type": p.deformable, "deform_groups": p.deformable_groups, "fallback_on_stride": False}
            if deformable
            else None,
            stage_with_dcn=(False, deformable, deformable, deformable),
            norm_cfg=dict(BATCH_NORM),
            norm_eval=True,
        )
        model.neck.in_channels = [4 * p.base_channels * 2**stage for stage in range(4)]
        set_heads(model, self.task, pyramid_channels=p.pyramid_channels, head_channels=p.head_channels)
        model.rpn_head.anchor_generator.update(
            base_sizes=[1] * 5, scales=list(p.anchor_sides), ratios=list(p.anchor_ratios)
        )
        # Anchors of 512 and 1024 pixels reach over the border of every image.
        model.train_cfg.rpn.allowed_border = -1
        set_caps(model, self.task, samples=p.samples, score_threshold=p.score_threshold, nms_iou=p.nms_iou)
        roi = model.roi_head
        roi.update(type="LastStageMaskCascadeRoIHead", mask_loss_weight=p.mask_weight)
        for head in roi.bbox_head:
            head.update(conv_out_channels=p.pyramid_channels, norm_cfg=dict(GROUP_NORM))
        roi.mask_head.norm_cfg = dict(GROUP_NORM)
        if init == "random":
            set_normalisation(model, GROUP_NORM)
        else:
            weights = {"type": "Pretrained", "checkpoint": f"open-mmlab://resnest{p.depth}"}
            model.backbone.init_cfg = weights if init == "imagenet" else None
        return plain(model)

    def augmentations(self) -> list[dict[str, Any]]:
        """Several sizes, and horizontal flips."""
        return [many_scales(self.image_scale(), self.params.shortest), {"type": "RandomFlip", "prob": 0.5}]

    def training(self, steps: int, batch_size: int) -> Training:
        """The stated learning rate after a warm-up, for the images of an update."""
        p = self.params
        optimizer: dict[str, Any] = {
            "type": p.optimizer,
            "lr": p.learning_rate * batch_size * p.steps_a_update / 16,
            "weight_decay": p.weight_decay,
        }
        if p.optimizer == "SGD":
            optimizer["momentum"] = p.momentum
        warmup = min(p.warmup * p.steps_a_update, steps // 2)
        rise = {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": warmup}
        return Training(
            optimizer=optimizer,
            schedulers=[rise] if warmup else [],
            accumulate=p.steps_a_update,
            paramwise={"norm_decay_mult": 0.0},
        )


def _schedules(iterations: int) -> dict[str, Schedule]:
    return {
        "paper": Schedule(
            iterations=iterations * STEPS_A_UPDATE,
            batch_size=2,
            note=f"{iterations} updates of 16 images (8 steps of 2): the checkpoint that the paper chose",
        ),
        "short": Schedule(
            iterations=1500,
            batch_size=2,
            settings={"steps_a_update": 1, "warmup": 200},
            note="learning rate scaled linearly with the batch",
        ),
        "smoke": Schedule(
            iterations=1,
            batch_size=1,
            train_images=4,
            eval_images=6,
            settings={"image_scale": (128, 128), "samples": 32, "steps_a_update": 1},
            note="one step of the whole network on small images: shows that it runs, no accuracy",
        ),
    }


class DeepCISCell(DeepCIS):
    """Setting 1: the cells of 30 cultures (data set evican60_cell)."""

    name = "deepcis"
    title = "DeepCIS"
    summary = "Cascade Mask R-CNN with ResNeSt-200 and deformable convolution; cells by culture (evican60_cell)."
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cell": {}}
    schedules: ClassVar[Mapping[str, Schedule]] = _schedules(1500)


class DeepCISNucleus(DeepCIS):
    """Setting 2: the nuclei of 30 cultures (data set evican60_nucleus)."""

    name = "deepcis"
    title = "DeepCIS"
    summary = "Cascade Mask R-CNN with ResNeSt-200 and deformable convolution; nuclei by culture (evican60_nucleus)."
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"nucleus": {"anchor_sides": NUCLEUS_ANCHORS}}
    schedules: ClassVar[Mapping[str, Schedule]] = _schedules(2000)


class DeepCISBoth(DeepCIS):
    """Setting 3: cells and nuclei of 30 cultures (data set evican60)."""

    name = "deepcis"
    title = "DeepCIS"
    summary = "Cascade Mask R-CNN with ResNeSt-200 and deformable convolution; cells and nuclei by culture (evican60)."
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"both": {}}
    schedules: ClassVar[Mapping[str, Schedule]] = _schedules(3500)
