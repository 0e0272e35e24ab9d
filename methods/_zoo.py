"""ZooMethod: a network of MMDetection's own zoo, built and trained by its stock config, its caps raised for cells.

A subclass names the config and the few fields that differ from the stock; everything else is read from the config.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.api import Schedule
from methods._mmdet import MMDetMethod, Training, stock, stock_preprocessor

GROUP_NORM = {"type": "GN", "num_groups": 32, "requires_grad": True}
CAPS = ("max_per_img", "max_per_image", "nms_pre", "top_k")
"""Fields of ``test_cfg`` and of its parts that cut the number of detections."""

SMOKE = Schedule(
    iterations=6,
    batch_size=1,
    train_images=16,
    eval_images=6,
    settings={"image_scale": (512, 512)},
    note="shows that it runs; says nothing about accuracy",
)


class ZooMethod(MMDetMethod):
    """A stock network.

    From a subclass: ``coco_config``, and :meth:`adapt` where its config needs more than every config does.
    """

    origin = "stock"
    inits = ("random", "imagenet", "coco")
    trial: ClassVar[Mapping[str, Any]] = {"image_scale": (128, 128), "score_threshold": 0.0}
    coco_config: ClassVar[str]

    @dataclass(frozen=True)
    class Params(MMDetMethod.Params):
        """Settings of every stock network; what they do not name is as MMDetection has it.

        Attributes:
            image_scale: (long, short) side in pixels that images are resized into.
            learning_rate: for the config's own batch size, scaled linearly with the batch; 0: the config's.
            score_threshold: detections below are dropped; below 0: the config's.
            clip_grad: norm to which gradients are clipped; 0: the config's.
        """

        image_scale: tuple[int, ...] = (1333, 800)
        learning_rate: float = 0.0
        score_threshold: float = -1.0
        clip_grad: float = 0.0

    params: Any

    def adapt(self, model: Any) -> None:
        """Change the stock ``model`` in place; caps, classes and normalisation are seen to already."""

    def config(self, init: str) -> dict[str, Any]:
        """The stock config with the task's classes, caps that its objects need, and norms that ``init`` allows."""
        model = stock(self.coco_config).model
        model.data_preprocessor = stock_preprocessor(model.data_preprocessor)
        everywhere(model, lambda part: set_classes(part, len(self.task.classes)))
        everywhere(model, single_process)
        everywhere(model.get("test_cfg", {}), lambda part: raise_caps(part, self.task.max_detections))
        if self.params.score_threshold >= 0:
            everywhere(model.get("test_cfg", {}), lambda part: set_threshold(part, self.params.score_threshold))
        if init == "random":
            random_backbone(model.backbone)
        elif init != "imagenet":
            model.backbone.init_cfg = None
        self.adapt(model)
        plain: dict[str, Any] = model.to_dict()
        return plain

    def training(self, steps: int, batch_size: int) -> Training:
        """The stock optimiser, and its schedule stretched over ``steps``."""
        return stock_training(self.coco_config, steps, batch_size, self.params.learning_rate, self.params.clip_grad)


def everywhere(config: Any, change: Callable[[Any], None]) -> None:
    """Call ``change`` with every dictionary of a config, the outermost last."""
    values = config.values() if isinstance(config, dict) else config
    for value in list(values):
        if isinstance(value, (dict, list, tuple)):
            everywhere(value, change)
    if isinstance(config, dict):
        change(config)


def set_classes(part: Any, classes: int) -> None:
    """Give a part that tells classes the task's number of them."""
    if "num_classes" in part:
        part.num_classes = classes
    if "num_things_classes" in part:
        part.num_things_classes, part.num_stuff_classes = classes, 0
        if "loss_cls" in part:
            part.loss_cls.class_weight = [1.0] * classes + [part.loss_cls.class_weight[-1]]


def raise_caps(part: Any, detections: int) -> None:
    """Let a part of ``test_cfg`` keep as many detections, and as many candidates for them.

    One that suppresses nothing, such as QueryInst's, takes ``max_per_img`` out of a fixed set: there are no more.
    """
    suppresses = "nms" in part or "nms_pre" in part
    part.update({n: max(part[n], detections) for n in CAPS if n in part and (suppresses or n != "max_per_img")})


def set_threshold(part: Any, score: float) -> None:
    """Let a part of ``test_cfg`` that drops detections by their score drop those below ``score``."""
    if "score_thr" in part:
        part.score_thr = score


def single_process(part: Any) -> None:
    """Batch normalisation over processes becomes that of one: the harness trains in one."""
    if part.get("type") == "SyncBN":
        part.type = "BN"


def random_backbone(backbone: Any) -> None:
    """Let a backbone learn from random weights: no downloaded ones, no frozen stage or batch statistics.

    A ResNet takes group normalisation, as in He et al. 2019 (Rethinking ImageNet pre-training).
    """
    backbone.init_cfg = None
    if backbone.type == "ResNet":
        backbone.update(frozen_stages=-1, norm_cfg=dict(GROUP_NORM), norm_eval=False, zero_init_residual=False)


def stock_training(
    name: str, steps: int, batch_size: int, learning_rate: float = 0.0, clip_grad: float = 0.0
) -> Training:
    """The optimiser and schedule of a stock config, for another length and batch.

    The learning rate follows the batch linearly from the config's own. Milestones keep their share of the length;
    the warm-up keeps its steps, up to a tenth of the length.

    Args:
        name: of the config, below ``configs`` and without ``.py``.
        steps: of this training.
        batch_size: images a step.
        learning_rate: instead of the config's, for the config's batch; 0: the config's.
        clip_grad: norm instead of the config's; 0: the config's.
    """
    config = stock(name)
    wrapper = config.optim_wrapper.to_dict()
    scale = batch_size / stock_batch(name, config)
    optimizer = wrapper["optimizer"]
    base = learning_rate or optimizer["lr"]
    schedulers = config.param_scheduler
    length = config.train_cfg.get("max_iters") or config.train_cfg.max_epochs
    clip = {**(wrapper.get("clip_grad") or {}), **({"max_norm": clip_grad} if clip_grad else {})}
    return Training(
        optimizer={**optimizer, "lr": base * scale},
        schedulers=[
            _stretched(dict(s), length, steps, base * scale / optimizer["lr"])
            for s in (schedulers if isinstance(schedulers, list) else [schedulers])
        ],
        clip_grad=clip or None,
        paramwise=wrapper.get("paramwise_cfg"),
    )


def stock_batch(name: str, config: Any) -> int:
    """Images a step that a stock config's learning rate is for.

    A name with processes and images, such as ``8xb32``, is believed over the default that every config inherits.
    """
    named = re.search(r"_(\d+)xb(\d+)", name)
    return int(named[1]) * int(named[2]) if named else int(config.auto_scale_lr.base_batch_size)


def _stretched(scheduler: dict[str, Any], length: int, steps: int, rate: float) -> dict[str, Any]:
    """A scheduler for ``steps`` in place of ``length`` epochs or steps, its learning rates times ``rate``."""
    scheduler.pop("convert_to_iter_based", None)
    if scheduler["type"] == "LinearLR" and not scheduler.get("by_epoch", True):
        scheduler["end"] = max(1, min(scheduler["end"], steps // 10))
        return scheduler

    def stretched(value: int) -> int:
        return max(1, round(value * steps / length)) if value else 0

    scheduler["by_epoch"] = False
    for key in ("begin", "end", "T_max"):
        if key in scheduler:
            scheduler[key] = stretched(scheduler[key])
    if "end" in scheduler:
        scheduler["end"] = max(scheduler["end"], scheduler.get("begin", 0) + 1)
    if "milestones" in scheduler:
        scheduler["milestones"] = [stretched(m) for m in scheduler["milestones"]]
    if "eta_min" in scheduler:
        scheduler["eta_min"] *= rate
    return scheduler
