"""MMDetMethod: an MMDetection model, built from a config and trained and run by the harness.

A subclass gives :meth:`MMDetMethod.config`; everything else (initialisation, the way from an image to mmdet's
pipeline, training, prediction at the image's own resolution, masks encoded within a memory bound) is here.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError

import numpy as np

import bench.ops
from bench.api import (
    COMPUTE_OPTIONS,
    FitContext,
    Instances,
    Method,
    MethodError,
    MissingDependencyError,
    Sample,
    SampleSource,
    Task,
    UsageError,
    to_rgb8,
)

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of ImageNet in RGB, the values of every stock config of MMDetection."""

PASTE_BYTES = 64 * 2**20
"""Float pixels of pasted masks held at a time."""


@dataclass(frozen=True)
class Training:
    """How a method is optimised: mmengine configs, by step.

    Attributes:
        optimizer: ``{"type": "SGD", "lr": ...}``.
        schedulers: mmengine parameter schedulers with ``by_epoch=False``.
        accumulate: steps averaged into one update.
        clip_grad: arguments of ``clip_grad_norm_``, or None.
        paramwise: mmengine's ``paramwise_cfg``, or None.
        patience: passes over the training images without a lower validation loss after which the training ends, with
            the best weights kept; 0: it runs to the schedule's end.
    """

    optimizer: Mapping[str, Any]
    schedulers: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    accumulate: int = 1
    clip_grad: Mapping[str, Any] | None = None
    paramwise: Mapping[str, Any] | None = None
    patience: int = 0


class MMDetMethod(Method):
    """A method whose network is an MMDetection detector.

    Attributes:
        modules: modules that register the config's own types with mmdet, imported before it is built.
        coco_config: name of the stock config whose published weights ``--init coco`` takes, or None.
    """

    requires = ("torch", "mmengine", "mmcv", "mmdet")
    modules: ClassVar[tuple[str, ...]] = ()
    coco_config: ClassVar[str | None] = None
    compute_options: ClassVar[tuple[str, ...]] = COMPUTE_OPTIONS

    def __init__(self, task: Task, params: Any = None, device: str = "cpu") -> None:
        super().__init__(task, params, device)
        self._network: Any = None

    # -- what a subclass gives ----------------------------------------------------------------------

    def config(self, init: str) -> dict[str, Any]:
        """The model's config, as ``model = dict(type=...)`` of an MMDetection config file.

        Args:
            init: ``random``, ``imagenet``, ``coco`` or ``checkpoint``: batch statistics of a network from random
                weights cannot be frozen, so a config may choose its normalisation by it.
        """
        raise TypeError(f"{type(self).__name__} gives no config()")

    def training(self, steps: int, batch_size: int) -> Training:
        """How to optimise over ``steps`` steps of ``batch_size`` images."""
        raise TypeError(f"{type(self).__name__} gives no training()")

    def optimisation(self, steps: int, batch_size: int, steps_a_pass: int) -> Training:
        """As :meth:`training`, for a method whose schedule counts passes over the training images."""
        return self.training(steps, batch_size)

    def image_scale(self) -> tuple[int, int]:
        """(long side, short side) in pixels that images are resized into, keeping their aspect ratio."""
        return tuple(self.params.image_scale)  # type: ignore[return-value]

    def augmentations(self) -> list[dict[str, Any]]:
        """mmdet transforms of a training example, between loading and packing."""
        return [
            {"type": "Resize", "scale": self.image_scale(), "keep_ratio": True},
            {"type": "RandomFlip", "prob": 0.5},
        ]

    def packing(self) -> dict[str, Any]:
        """The mmdet transform that ends the pipeline of a training example, after every augmentation."""
        return {"type": "PackDetInputs"}

    # -- the contract -------------------------------------------------------------------------------

    def fit(self, train: SampleSource, val: SampleSource | None, context: FitContext) -> Path:
        """Train through mmengine's Runner; see :func:`methods._runner.train`."""
        bench.ops.import_mmdet()
        from methods import _runner
        from methods._early_stopping import EarlyStopping

        self._import_modules()
        transforms = self._compose([*self.augmentations(), self.packing()])
        plain = self._compose([self._resize(), self.packing()])
        schedule = context.schedule
        training = self.optimisation(
            schedule.steps(len(train)), schedule.batch_size, math.ceil(len(train) / schedule.batch_size)
        )
        init = context.init

        def example(sample: Sample, rng: np.random.Generator) -> Any:
            return transforms(to_mmdet(sample))

        return _runner.train(
            lambda: self._initialised(init),
            train,
            example,
            context=context,
            device=self.device,
            optimizer=training.optimizer,
            schedulers=training.schedulers,
            accumulate=training.accumulate,
            clip_grad=training.clip_grad,
            paramwise=training.paramwise,
            meta={"method": self.name, "init": _kind(init)},
            compute=self.compute,
            val=val,
            early_stopping=EarlyStopping(training.patience, lambda sample: plain(to_mmdet(sample)))
            if training.patience
            else None,
        )

    def load(self, weights: Path) -> None:
        """Build the network that ``weights`` belong to and load them."""
        bench.ops.import_mmdet()
        from methods import _runner

        content = _runner.read_weights(weights)
        init = str(content.meta.get("init", "checkpoint"))
        network = self._build(init)
        _runner.put_weights(network, content, name=self.name)
        self._ready(network)

    def load_fresh(self, seed: int) -> None:
        """Load random weights."""
        bench.ops.import_mmdet()
        from methods import _runner

        _runner.seed_everything(seed, 3)
        self._ready(self._initialised("random"))

    def predict(self, image: Any) -> Instances:
        """Predict one image at its original resolution."""
        (instances,) = self.predict_batch([image])
        return instances

    def predict_batch(self, images: Sequence[Any]) -> list[Instances]:
        """Predict images in one pass, smaller ones padded to the largest, each at its original resolution."""
        import torch

        if self._network is None:
            raise MethodError(f"{self.name} has no weights yet", "train it, or give a checkpoint to --weights")
        with self.phase("preprocess"):
            data = self._network.data_preprocessor(self._batch(*images), False)
        with self.phase("network"), torch.inference_mode():
            results = self._network.predict(data["inputs"], data["data_samples"], rescale=True)
        with self.phase("postprocess"):
            return [
                self._instances(result.pred_instances, *image.shape[:2])
                for result, image in zip(results, images, strict=True)
            ]

    def n_parameters(self) -> int | None:
        """Trainable parameters of the loaded network."""
        if self._network is None:
            return None
        return sum(p.numel() for p in self._network.parameters() if p.requires_grad)

    # -- inside -------------------------------------------------------------------------------------

    def _batch(self, *images: Any) -> dict[str, Any]:
        pipeline = self._compose([self._resize(), {"type": "PackDetInputs"}])
        packed = [pipeline(to_mmdet(Sample("image", i, Instances.empty(*i.shape[:2])))) for i in images]
        return {"inputs": [p["inputs"] for p in packed], "data_samples": [p["data_samples"] for p in packed]}

    def _resize(self) -> dict[str, Any]:
        return {"type": "Resize", "scale": self.image_scale(), "keep_ratio": True}

    def _import_modules(self) -> None:
        for module in self.modules:
            importlib.import_module(module)

    def _compose(self, transforms: list[dict[str, Any]]) -> Any:
        from mmengine.dataset import Compose

        return Compose(transforms)

    def _build(self, init: str) -> Any:
        from mmdet.registry import MODELS
        from mmengine.config import ConfigDict

        self._import_modules()
        return MODELS.build(ConfigDict(self.config(init)))

    def _initialised(self, init: str) -> Any:
        """A network with its initial weights."""
        from methods import _runner

        kind = _kind(init)
        if kind not in ("checkpoint", *self.inits):
            raise UsageError(f"{self.name} has no --init {init}", f"it has: {', '.join(self.inits)}, or a path")
        network = self._build(kind)
        _runner.quiet_loggers()
        try:
            network.init_weights()
            if kind == "coco":
                network.load_state_dict(_matching(_download(stock_weights(self.coco_config)), network), strict=False)
        except (URLError, OSError) as error:
            raise MissingDependencyError(
                f"the {kind} weights of {self.name} cannot be fetched: {getattr(error, 'reason', None) or error}",
                "use --init random, or give a checkpoint by path: --init PATH",
            ) from error
        if init != kind:
            _runner.put_weights(network, _runner.read_weights(Path(init)), name=self.name, strict=False)
        return network

    def _ready(self, network: Any) -> None:
        from mmdet.models.roi_heads.mask_heads import FCNMaskHead

        from methods._compute import accelerate
        from methods._full_masks import encode_in_parts

        for module in network.modules():
            if isinstance(module, FCNMaskHead):
                module._predict_by_feat_single = _EncodedPaste(module, self.phase)
            if hasattr(module, "phase"):
                module.phase = self.phase
        encode_in_parts(network, self.phase)
        # mmdet's own calls; there is nothing in it for a user.
        warnings.filterwarnings("ignore", message=r"torch\.meshgrid", category=UserWarning)
        self._network = network.to(self.device).eval()
        accelerate(self._network, self.compute, self.device)

    def _instances(self, found: Any, height: int, width: int) -> Instances:
        """mmdet's prediction of one image as Instances, at most ``task.max_detections``, empty masks dropped."""
        scores = found.scores.detach().cpu().numpy().astype(np.float64)
        masks = found.get("rles", None)
        if masks is None:
            masks = found.masks
        if not isinstance(masks, (list, tuple)):
            masks = encode_tensor(masks)
        instances = Instances(
            height,
            width,
            tuple(masks),
            class_ids=found.labels.detach().cpu().numpy(),
            scores=scores,
        )
        return instances.take(instances.areas > 0).top(self.task.max_detections)

    # -- small, dense cells -------------------------------------------------------------------------

    def resize_factor(self) -> float:
        """By how much a typical image of the task is enlarged before the network sees it."""
        if self.task.image_shape is None:
            return 1.0
        long, short = max(self.image_scale()), min(self.image_scale())
        height, width = self.task.image_shape
        return min(long / max(height, width), short / min(height, width))

    def object_sizes(self) -> tuple[float, float, float] | None:
        """5th percentile, median and 95th percentile of the objects' sizes as the network sees them, pixels."""
        if self.task.objects is None:
            return None
        factor = self.resize_factor()
        objects = self.task.objects
        return objects.size_p05 * factor, objects.size_median * factor, objects.size_p95 * factor

    def smallest_anchor(self, default: float, least: float = 8.0) -> float:
        """Side of the smallest anchor in pixels: the published one, or smaller where the task's objects are.

        A power of two times the default, so that the levels of a feature pyramid go on covering octaves.
        """
        sizes = self.object_sizes()
        if sizes is None or sizes[0] >= default:
            return default
        octaves = math.ceil(math.log2(default / max(sizes[0], least)))
        return max(default / 2**octaves, least)


def to_mmdet(sample: Sample) -> dict[str, Any]:
    """A sample as the ``results`` dictionary of mmdet's pipelines.

    Masks become mmdet's BitmapMasks, boxes their tight boxes; crowd regions are flagged to be ignored. Objects
    without a pixel cannot be trained on and are left out.
    """
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    truth = sample.instances if sample.instances is not None else Instances.empty(*sample.shape)
    truth = truth.take(truth.areas > 0)
    height, width = sample.shape
    return {
        "img": to_rgb8(sample.image),
        "img_id": sample.id,
        "img_path": sample.id,
        "img_shape": (height, width),
        "ori_shape": (height, width),
        "scale_factor": (1.0, 1.0),
        "gt_bboxes": HorizontalBoxes(truth.boxes.astype(np.float32)),
        "gt_bboxes_labels": truth.class_ids.copy(),
        "gt_masks": BitmapMasks(truth.to_masks().view(np.uint8), height, width),
        "gt_ignore_flags": truth.crowd.copy(),
    }


def preprocessor(divisor: int = 32) -> dict[str, Any]:
    """The data preprocessor of every config: RGB input, ImageNet statistics, padding to a multiple of ``divisor``."""
    return {
        "type": "DetDataPreprocessor",
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "bgr_to_rgb": False,
        "pad_mask": True,
        "pad_size_divisor": divisor,
    }


def stock_config(name: str) -> Any:
    """The ``model`` part of :func:`stock`."""
    return stock(name).model


def stock(name: str) -> Any:
    """One of MMDetection's own configs, by its path below ``configs`` without ``.py``.

    Raises:
        MethodError: this MMDetection ships no such config.
    """
    from mmengine.config import Config

    path = _configs() / f"{name}.py"
    if not path.is_file():
        raise MethodError(f"MMDetection ships no config {name}", "check the version with `bench doctor`")
    return Config.fromfile(path)


def stock_weights(name: str | None) -> str:
    """Where the published weights of a stock config lie, as MMDetection's own model index says.

    Raises:
        MethodError: the index names none.
    """
    import yaml

    if name is not None:
        for index in sorted((_configs() / name).parent.glob("metafile.yml")):
            for model in yaml.safe_load(index.read_text())["Models"]:
                if model["Config"] == f"configs/{name}.py":
                    return str(model["Weights"])
    raise MethodError(f"MMDetection publishes no weights for {name}", "use --init random or --init PATH")


def _configs() -> Path:
    import mmdet

    return Path(mmdet.__file__).parent / ".mim" / "configs"


def _download(url: str) -> Mapping[str, Any]:
    from torch.hub import load_state_dict_from_url

    content = load_state_dict_from_url(url, map_location="cpu", progress=False, check_hash=True)
    state: Mapping[str, Any] = content.get("state_dict", content)
    return state


def _matching(state: Mapping[str, Any], network: Any) -> dict[str, Any]:
    """Those weights that fit: the heads of another number of classes stay as they were initialised."""
    own = network.state_dict()
    return {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}


def _kind(init: str) -> str:
    """What kind of initialisation an ``--init`` is: of a checkpoint trained from random weights still ``random``.

    The normalisation of such a network is another (see :meth:`MMDetMethod.config`), and its weights must fit.
    """
    if init in ("random", "imagenet", "coco"):
        return init
    from methods import _runner

    return "random" if _runner.read_weights(Path(init)).meta.get("init") == "random" else "checkpoint"


def encode_tensor(masks: Any) -> list[bytes]:
    """COCO RLEs of a (N, H, W) bool tensor, one mask on the host at a time."""
    from bench.rle import encode_masks

    return [encode_masks(mask.cpu().numpy()[None])[0] for mask in masks]


class _EncodedPaste:
    """In place of mmdet's pasting, which holds all N x H x W masks: paste few at a time and keep only their RLEs."""

    def __init__(self, head: Any, phase: Any) -> None:
        self._head, self._phase = head, phase

    def __call__(
        self,
        mask_preds: Any,
        bboxes: Any,
        labels: Any,
        img_meta: Mapping[str, Any],
        rcnn_test_cfg: Any,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> list[bytes]:
        with self._phase("postprocess"):
            height, width = img_meta["ori_shape"][:2]
            factor = bboxes.new_tensor(img_meta["scale_factor"]).repeat((1, 2))
            if rescale:
                bboxes /= factor
            else:
                height = round(height * float(factor[0, 1]))
                width = round(width * float(factor[0, 0]))
            probabilities = mask_preds if activate_map else mask_preds.sigmoid()
            if not self._head.class_agnostic:
                probabilities = probabilities[range(len(labels)), labels][:, None]
            return paste_and_encode(probabilities, bboxes, height, width, rcnn_test_cfg.mask_thr_binary)


def paste_and_encode(probabilities: Any, boxes: Any, height: int, width: int, threshold: float) -> list[bytes]:
    """Paste box masks into the image and encode them, within :data:`PASTE_BYTES`.

    Args:
        probabilities: (N, 1, h, w) float tensor, foreground probability in each box.
        boxes: (N, 4) x0, y0, x1, y1 in image pixels.
        height: of the image, pixels.
        width: of the image, pixels.
        threshold: a pixel belongs to the mask from this probability on.

    Returns:
        N COCO RLEs (compressed counts).
    """
    import torch
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    from bench.rle import encode_masks

    on_cpu = boxes.device.type == "cpu"
    at_once = 1 if on_cpu else max(1, PASTE_BYTES // (4 * height * width))
    rles: list[bytes] = []
    canvas = np.zeros((1, height, width), np.bool_)
    for chunk in torch.arange(len(boxes), device=boxes.device).split(at_once):
        pasted, window = _do_paste_mask(probabilities[chunk], boxes[chunk], height, width, skip_empty=on_cpu)
        binary = (pasted >= threshold).cpu().numpy()
        if on_cpu:
            rows, columns = window
            canvas[:, rows, columns] = binary
            rles += encode_masks(canvas)
            canvas[:, rows, columns] = False
        else:
            rles += encode_masks(binary)
    return rles
