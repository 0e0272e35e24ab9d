"""Cascade Mask R-CNN: MMDetection's own with ResNet-50, and Guo 2022 with ResNeXt-152 in three phases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from bench.api import FitContext, Paper, Sample, SampleSource, Schedule, UsageError
from bench.progress import say
from methods._cascade import SHORTEST, STOCK, many_scales, plain, set_caps, set_heads, set_normalisation
from methods._mmdet import MMDetMethod, Training, stock_config, stock_preprocessor
from methods._proposals import DEVIATIONS_FOR_CELLS
from methods._pseudo_labels import LABELS, Labelled, Predict, Rule, make_labels
from methods._stages import Stage, run_stages

GROUP_NORM = {"type": "GN", "num_groups": 32, "requires_grad": True}

PHASES = ("pretrain", "finetune", "retrain")
"""Of Guo 2022, in their order."""
SARTORIUS = "sartorius"
"""The data set of Guo 2022: the one on which all three phases are the default."""


class CascadeMaskRCNN(MMDetMethod):
    """Cascade Mask R-CNN R50-FPN: MMDetection's stock config, its caps and anchors fitted to small, dense cells."""

    name = "cascade_mask_rcnn"
    title = "Cascade Mask R-CNN R50-FPN"
    summary = "Mask R-CNN whose boxes are refined in three stages, each trained at a higher IoU."
    paper = Paper(
        "Cascade R-CNN: High Quality Object Detection and Instance Segmentation",
        "Cai, Vasconcelos",
        2019,
        "TPAMI",
        "https://arxiv.org/abs/1906.09756",
    )
    origin = "stock"
    inits = ("random", "imagenet", "coco")
    coco_config = STOCK
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(epochs=12, batch_size=16, note="MMDetection's 1x schedule: 12 epochs, batch 16, SGD 0.02"),
        "short": Schedule(iterations=1500, batch_size=2, note="learning rate scaled linearly with the batch"),
        "smoke": Schedule(
            iterations=4,
            batch_size=1,
            train_images=16,
            eval_images=6,
            settings={"image_scale": (384, 384), "samples": 64},
            note="shows that it runs; says nothing about accuracy",
        ),
    }
    deviations = (
        "From random weights, group normalisation in backbone, pyramid and mask heads and no frozen stage, as in He et "
        "al. 2019 (Rethinking ImageNet pre-training): frozen batch statistics of random weights cannot be trained.",
        "Anchors start below 32 px where the data set's objects are smaller; proposals, samples and detections are "
        "capped by what the densest image needs instead of 1000, 512 and 100.",
        *DEVIATIONS_FOR_CELLS,
    )

    @dataclass(frozen=True)
    class Params(MMDetMethod.Params):
        """Settings. Sources: MMDetection's ``cascade-mask-rcnn_r50_fpn_1x_coco`` unless said otherwise.

        Attributes:
            image_scale: (long, short) side in pixels that images are resized into.
            depth: of the ResNet.
            pyramid_channels: channels of the feature pyramid (256).
            head_channels: channels of the box heads' fully connected layers (1024).
            samples: RoIs sampled an image and stage in training; 0: 512, or what the densest image needs.
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
        model = stock_config(STOCK)
        model.data_preprocessor = stock_preprocessor(model.data_preprocessor)
        self._set_backbone(model)
        set_heads(model, self.task, pyramid_channels=p.pyramid_channels, head_channels=p.head_channels)
        model.rpn_head.anchor_generator.scales = [self.smallest_anchor(32.0) / 4]
        set_caps(model, self.task, samples=p.samples, score_threshold=p.score_threshold, nms_iou=p.nms_iou)
        if init == "random":
            set_normalisation(model, GROUP_NORM)
        elif init != "imagenet":
            model.backbone.init_cfg = None
        return plain(model)

    def _set_backbone(self, model: Any) -> None:
        model.backbone.depth = self.params.depth
        if self.params.depth < 50:
            model.neck.in_channels = [64, 128, 256, 512]

    def training(self, steps: int, batch_size: int) -> Training:
        """MMDetection's 1x schedule, stretched over ``steps``: drops at 8/12 and 11/12, warm-up of 500 steps."""
        p = self.params
        warmup = min(500, max(1, steps // 10))
        return Training(
            optimizer=_optimizer(p.optimizer, p.learning_rate * batch_size / 16, 0.0001),
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


class GuoCascade(CascadeMaskRCNN):
    """Guo 2022: ResNeXt-152 32x8d, pre-trained on LIVECell, trained on Sartorius, trained again with pseudo labels."""

    name = "cascade_mask_rcnn"
    title = "Cascade Mask R-CNN X152-FPN"
    summary = "Cascade Mask R-CNN with ResNeXt-152 32x8d: pre-trained on LIVECell, fine-tuned, pseudo-labelled."
    paper = Paper(
        "Segmenting Neuronal Cells in Microscopic Images Using Cascade Mask R-CNN",
        "Guo",
        2022,
    )
    origin = "reimplementation"
    inits = ("random",)
    coco_config = None
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"x152": {}}
    variant_titles: ClassVar[Mapping[str, str]] = {"x152": "Cascade Mask R-CNN X152-FPN (Guo 2022)"}
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(
            iterations=5000,
            batch_size=8,
            note="5000 iterations in each phase, as published; a batch of 8, an image for each of its GPUs, is ours",
        ),
        "short": Schedule(iterations=600, batch_size=2, note="600 iterations in each phase: one and a half waves"),
        "smoke": Schedule(
            iterations=1,
            batch_size=1,
            train_images=6,
            eval_images=3,
            settings={"image_scale": (192, 192), "samples": 32, "label_score": 0.3},
            note="one iteration of the whole network in each phase, on small images: shows that it runs, no accuracy",
        ),
    }
    deviations = (
        "Built on MMDetection, not Detectron2: a mask head on each of the three stages, their masks averaged, as the "
        "paper's text says; Detectron2's cascade has one mask head.",
        "No published weights of this backbone can be loaded (the paper names none): random weights, or --init PATH. "
        "From random weights, group normalisation in backbone, pyramid and mask heads and no frozen stage.",
        "Batch, weight decay, image scale and momentum are not stated: 8 images, 0.0001 (none for normalisation), "
        "1333 x 800 (in training with a short side of 640 to 800), 0.9, all but the batch Detectron2's defaults.",
        "LIVECell's training split as its authors give it, 3253 images; the paper counts 4184 training images.",
        "No warm-up, and a cosine of half period 200 that rises and falls again until the end: formula 4 as written.",
        "The thresholds of the pseudo labels are not stated: score 0.7, mask probability 0.5, at least 30 pixels. "
        "Unlabelled images without any label are left out, and retraining goes on from the fine-tuned weights.",
        "Detections below a score of 0.3 are dropped: the competition's metric counts every false one.",
        "Anchors start below 32 px where the data set's objects are smaller; proposals, samples and detections are "
        "capped by what the densest image needs.",
        *DEVIATIONS_FOR_CELLS,
        "On another data set than sartorius only the second phase runs, on that data set (setting phases): the first "
        "needs LIVECell, the third a split of images without annotations.",
    )

    after_network: ClassVar[tuple[str, ...]] = ()
    """Nothing: the third phase learns from predictions."""

    @dataclass(frozen=True)
    class Params(MMDetMethod.Params):
        """Settings. Sources: Guo 2022 (stated), Detectron2's defaults (what the paper leaves open), or ours.

        Attributes:
            image_scale: (long, short) side in pixels that images are resized into. Detectron2's test scale.
            shortest: in training the short side is one of six sizes from this share of ``image_scale``'s to all of it
                (640 to 800 of 800, Detectron2's default); 1: always all.
            depth: of the ResNeXt (152).
            groups: cardinality (32).
            base_width: channels of a group in the first stage (8).
            base_channels: of the first stage's blocks, before cardinality and width (64).
            pyramid_channels: channels of the feature pyramid (256).
            head_channels: channels of the box heads' two fully connected layers (1024).
            samples: RoIs sampled an image and stage in training; 0: 512, or what the densest image needs.
            score_threshold: detections below are dropped (ours).
            nms_iou: box IoU above which the weaker of two detections is dropped; 0: 0.5, 0.6 where the data set's
                objects are slender (ours).
            learning_rate: highest (0.005, stated).
            least_rate: lowest learning rate (0.00001, stated).
            half_period: steps from the highest to the lowest learning rate (T_max = 200, stated).
            momentum: of SGD.
            weight_decay: of the optimiser.
            optimizer: SGD as published, or AdamW.
            phases: of pretrain, finetune, retrain those to run, in this order; none named: all three on sartorius,
                finetune on any other data set.
            pretrain_dataset: data set of the first phase, all its objects as one class.
            pretrain_split: of that data set.
            unlabelled_split: of the run's data set, pseudo-labelled in the third phase.
            label_score: least score of a pseudo label (ours).
            label_area: least area of a pseudo label in pixels (ours).
        """

        image_scale: tuple[int, ...] = (1333, 800)
        shortest: float = SHORTEST
        depth: int = 152
        groups: int = 32
        base_width: int = 8
        base_channels: int = 64
        pyramid_channels: int = 256
        head_channels: int = 1024
        samples: int = 0
        score_threshold: float = 0.3
        nms_iou: float = 0.0
        learning_rate: float = 0.005
        least_rate: float = 1e-5
        half_period: int = 200
        momentum: float = 0.9
        weight_decay: float = 0.0001
        optimizer: str = "SGD"
        phases: tuple[str, ...] = ()
        pretrain_dataset: str = "livecell"
        pretrain_split: str = "train"
        unlabelled_split: str = "unlabelled"
        label_score: float = 0.7
        label_area: int = 30

        def __post_init__(self) -> None:
            wrong = [phase for phase in self.phases if phase not in PHASES]
            if wrong or list(self.phases) != [phase for phase in PHASES if phase in self.phases]:
                raise UsageError(
                    f"cascade_mask_rcnn-x152: phases={','.join(self.phases)} is not a list of phases in their order",
                    f"some of {', '.join(PHASES)}",
                )
            if not 0 < self.shortest <= 1:
                raise UsageError(f"cascade_mask_rcnn-x152: shortest={self.shortest} is no share", "above 0, at most 1")
            if self.phases == ("pretrain",):
                raise UsageError(
                    "cascade_mask_rcnn-x152: phases=pretrain alone never sees the data set of the run",
                    "add finetune, or run finetune alone on the data set itself",
                )

    params: Params

    @classmethod
    def phases_on(cls, params: Params, dataset: str) -> tuple[str, ...]:
        """The phases that run on a data set."""
        return params.phases or (PHASES if dataset == SARTORIUS else ("finetune",))

    @classmethod
    def trains_on(cls, params: Params, dataset: str) -> tuple[tuple[str, str], ...]:
        """LIVECell for the first phase, the images without annotations for the third."""
        needed = {
            "pretrain": (params.pretrain_dataset, params.pretrain_split),
            "retrain": (dataset, params.unlabelled_split),
        }
        return tuple(needed[phase] for phase in cls.phases_on(params, dataset) if phase in needed)

    def _set_backbone(self, model: Any) -> None:
        p = self.params
        model.backbone.update(
            type="ResNeXt",
            depth=p.depth,
            groups=p.groups,
            base_width=p.base_width,
            base_channels=p.base_channels,
            init_cfg=None,
        )
        model.neck.in_channels = [4 * p.base_channels * 2**stage for stage in range(4)]

    def training(self, steps: int, batch_size: int) -> Training:
        """Formula 4: a cosine that goes on after its half period, up and down again."""
        p = self.params
        return Training(
            optimizer=_optimizer(p.optimizer, p.learning_rate, p.weight_decay, p.momentum),
            schedulers=[
                {
                    "type": "CosineAnnealingLR",
                    "T_max": p.half_period,
                    "eta_min": p.least_rate,
                    "by_epoch": False,
                    "begin": 0,
                    "end": steps,
                }
            ],
            paramwise={"norm_decay_mult": 0.0},
        )

    def augmentations(self) -> list[dict[str, Any]]:
        """Several sizes, and horizontal flips."""
        return [many_scales(self.image_scale(), self.params.shortest), {"type": "RandomFlip", "prob": 0.5}]

    def fit(self, train: SampleSource, val: SampleSource | None, context: FitContext) -> Path:
        """Train the phases of :meth:`phases_on`, each in a folder of its own."""
        plain_fit = super().fit

        def pretrain(stage: FitContext) -> Path:
            single = type(self)(replace(self.task, classes=("cell",)), self.params, self.device)
            single.compute = self.compute
            source = context.data(self.params.pretrain_dataset, self.params.pretrain_split)
            return super(GuoCascade, single).fit(OneClass(source), None, stage)

        def finetune(stage: FitContext) -> Path:
            return plain_fit(train, val, stage)

        def retrain(stage: FitContext) -> Path:
            unlabelled = context.data(context.dataset, self.params.unlabelled_split)
            self._label(unlabelled, stage)
            return plain_fit(Labelled(train, unlabelled, stage.folder / LABELS), val, stage)

        phases: dict[str, Callable[[FitContext], Path]] = {
            "pretrain": pretrain,
            "finetune": finetune,
            "retrain": retrain,
        }
        wanted = self.phases_on(self.params, context.dataset)
        if wanted != PHASES:
            left = ", ".join(phase for phase in PHASES if phase not in wanted)
            on = context.dataset or "these images"
            say(
                f"cascade_mask_rcnn-x152: only the phases {', '.join(wanted)} run on {on}; left out: {left} "
                "(setting phases)"
            )
        return run_stages([Stage(name, context.schedule, phases[name]) for name in wanted], context)

    def _label(self, unlabelled: SampleSource, stage: FitContext) -> None:
        """Write the pseudo labels of the third phase, with the weights that it begins with."""
        rule = Rule(self.params.label_score, self.params.label_area)

        def predictor() -> Predict:
            if not Path(stage.init).is_file():
                raise UsageError(
                    "cascade_mask_rcnn-x152: phases=retrain needs trained weights to label with",
                    "put finetune before it, or give them by --init PATH",
                )
            labeller = type(self)(self.task, self.params, self.device)
            labeller.compute = self.compute
            labeller.load(Path(stage.init))
            return labeller.predict

        counts = make_labels(unlabelled, stage.folder / LABELS, rule, predictor, stage.progress)
        say(counts.text(self.task.classes))


class OneClass:
    """A source whose instances are all of class 0; it is a :class:`bench.api.SampleSource`."""

    def __init__(self, source: SampleSource) -> None:
        self._source = source

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids in order."""
        return self._source.ids

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        sample = self._source[index]
        if sample.instances is None:
            return sample
        return replace(sample, instances=replace(sample.instances, class_ids=None))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


def _optimizer(kind: str, rate: float, weight_decay: float, momentum: float = 0.9) -> dict[str, Any]:
    optimizer: dict[str, Any] = {"type": kind, "lr": rate, "weight_decay": weight_decay}
    if kind == "SGD":
        optimizer["momentum"] = momentum
    return optimizer
