"""MMDetMethod: an MMDetection model, built from a config and trained and run by the harness.

A subclass gives :meth:`MMDetMethod.config`; everything else (initialisation, the way from an image to mmdet's
pipeline, training, prediction at the image's own resolution, masks encoded within a memory bound) is here.
"""

from __future__ import annotations

import copy
import importlib
import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self
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
    Schedule,
    Task,
    UsageError,
    to_rgb8,
)
from bench.progress import say
from methods._crowds import within_bound
from methods._feeding import Tally
from methods._mmdet_tiles import (
    AUTOMATIC,
    LARGEST_INPUT,
    TILE_OF_LARGEST,
    Tiling,
    default_overlap,
    in_tiles,
    vanishes_when_whole,
)
from methods._windows import window_of_sample

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
            the best weights kept; where there is no validation split, images of the training split are held out (see
            :mod:`methods._hold_out`). 0: it runs to the schedule's end.
    """

    optimizer: Mapping[str, Any]
    schedulers: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    accumulate: int = 1
    clip_grad: Mapping[str, Any] | None = None
    paramwise: Mapping[str, Any] | None = None
    patience: int = 0


class MMDetMethod(Method):
    """A method whose network is an MMDetection detector.

    Its ``Params`` extend ``MMDetMethod.Params``; those that do not leave the tiles to the task.

    Attributes:
        modules: modules that register the config's own types with mmdet, imported before it is built.
        coco_config: name of the stock config whose published weights ``--init coco`` takes, or None.
        seen: the task as the network sees it: its typical image is a tile where typical images are cut.
    """

    requires = ("torch", "mmengine", "mmcv", "mmdet")
    modules: ClassVar[tuple[str, ...]] = ()
    coco_config: ClassVar[str | None] = None
    compute_options: ClassVar[tuple[str, ...]] = COMPUTE_OPTIONS
    after_network: ClassVar[tuple[str, ...]] = ("tile_overlap",)
    """See :attr:`bench.api.Method.after_network`. Not ``tile``: the training crops have its size."""

    @dataclass(frozen=True)
    class Params:
        """Settings of every method of MMDetection.

        Attributes:
            tile: images with a longer side than this are predicted in tiles of this side, each an image of its own to
                the network, and trained on in crops of it, pixels; 0: never; -1: only where an image of more than
                2048 would lose half of its resolution and its small objects with it, or where a network's input,
                enlarged for small objects, would have more pixels than 2560 x 2560.
            tile_overlap: of neighbouring tiles, pixels; -1: the length of a large object of the data set.
        """

        tile: int = AUTOMATIC
        tile_overlap: int = AUTOMATIC

    def __init__(self, task: Task, params: Any = None, device: str = "cpu") -> None:
        super().__init__(task, params, device)
        self._network: Any = None
        self.seen = task
        typical = None if task.image_shape is None else self.tiling(*task.image_shape)
        if typical is not None and task.image_shape is not None:
            height, width = task.image_shape
            self.seen = replace(task, image_shape=(min(height, typical.side), min(width, typical.side)))

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
        return [self._resize(), {"type": "RandomFlip", "prob": 0.5}]

    def packing(self) -> dict[str, Any]:
        """The mmdet transform that ends the pipeline of a training example, after every augmentation."""
        return {"type": "PackDetInputs"}

    # -- the contract -------------------------------------------------------------------------------

    def fit(self, train: SampleSource, val: SampleSource | None, context: FitContext) -> Path:
        """Train through mmengine's Runner; see :func:`methods._runner.train`."""
        bench.ops.import_mmdet()
        from methods import _runner
        from methods._early_stopping import EarlyStopping
        from methods._hold_out import hold_out

        transforms = self._compose([*self.augmentations(), self.packing()])
        plain = self._compose([self._resize(), self.packing()])
        schedule = context.schedule
        init = context.init
        meta: dict[str, Any] = {"method": self.name, "init": _kind(init)}
        training = self._optimisation(len(train), schedule)
        if training.patience and not val:
            # Before the runner would do it: the schedule counts passes over what is left.
            train, val = hold_out(train, seed=context.seed, folder=context.folder, name=self.name)
            training = self._optimisation(len(train), schedule)
            meta["held_out"] = list(val.ids)

        tally = Tally(trainable_objects(self.config(_kind(init))))

        def example(sample: Sample, rng: np.random.Generator) -> Any:
            given = self._given(sample, rng, tally)
            count = int((~given["gt_ignore_flags"]).sum())
            packed = transforms(given)
            tally.packed(count, packed)
            return packed

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
            meta=meta,
            compute=self.compute,
            val=val,
            early_stopping=EarlyStopping(training.patience, lambda sample: plain(self._same_given(sample)))
            if training.patience
            else None,
            tally=tally,
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
        """Predict images in one pass, smaller ones padded to the largest, each at its original resolution.

        Images that :meth:`tiling` cuts are predicted by themselves, one tile at a time, so that memory does not grow
        with the image.
        """
        if self._network is None:
            raise MethodError(f"{self.name} has no weights yet", "train it, or give a checkpoint to --weights")
        tilings = [self.tiling(*image.shape[:2]) for image in images]
        together = [image for image, tiling in zip(images, tilings, strict=True) if tiling is None]
        whole = iter(self.predict_whole(together) if together else [])
        return [
            next(whole) if tiling is None else self._predict_in_tiles(image, tiling)
            for image, tiling in zip(images, tilings, strict=True)
        ]

    def predict_whole(self, images: Sequence[Any]) -> list[Instances]:
        """The instances of images or tiles, in one pass of the network."""
        import torch

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

    # -- large images -------------------------------------------------------------------------------

    def tiling(self, height: int, width: int) -> Tiling | None:
        """How an image of this size is cut into tiles, for training crops as for prediction; None: it is not.

        Raises:
            UsageError: settings by which no image can be cut.
        """
        tile, overlap = (getattr(self.params, name, AUTOMATIC) for name in ("tile", "tile_overlap"))
        side = self._side_by_need(height, width) if tile == AUTOMATIC else tile
        if side == 0:
            return None
        tiling = Tiling(side, default_overlap(self.task.objects, side) if overlap == AUTOMATIC else overlap)
        return tiling if tiling.cuts(height, width) else None

    def _side_by_need(self, height: int, width: int) -> int:
        """Side of the tiles that an image needs, 0 if it needs none.

        Where typical images are cut, all are, alike: into tiles seen at their own resolution if the small objects would
        vanish otherwise; into tiles of :data:`TILE_OF_LARGEST` if a method enlarges small objects so much that its
        input would be too large. Else only an image is cut that is so much larger than the typical one that its small
        objects would vanish: into tiles seen at the resolution of a typical image.
        """
        objects, typical = self.task.objects, self.task.image_shape
        if objects is None or typical is None:
            return 0
        whole = self._seeing(typical)
        short, usual = min(whole.image_scale()), whole._factor(*typical)
        if vanishes_when_whole(objects, *typical, usual):
            return short
        side = min(TILE_OF_LARGEST, int(LARGEST_INPUT / usual))
        # Where the size of the input is fixed, a tile would be enlarged to it and nothing saved.
        saves = self._seeing((side, side))._factor(side, side) < 2 * usual
        if typical[0] * typical[1] * usual**2 > LARGEST_INPUT**2 and saves:
            return side
        vanishes = vanishes_when_whole(objects, height, width, whole._factor(height, width))
        return round(short / usual) if vanishes else 0

    def _seeing(self, shape: tuple[int, int]) -> Self:
        """The same method where typical images have this shape."""
        other = copy.copy(self)
        other.seen = replace(self.task, image_shape=shape)
        return other

    def _factor(self, height: int, width: int) -> float:
        """By how much an image is enlarged before the network sees it."""
        long, short = max(self.image_scale()), min(self.image_scale())
        return min(long / max(height, width), short / min(height, width))

    def _predict_in_tiles(self, image: Any, tiling: Tiling) -> Instances:
        with self.phase("preprocess"):
            levels = to_rgb8(image)  # of the whole image: each tile by itself would have another contrast
        with self.phase("postprocess"):
            found = in_tiles(levels, lambda tile: self.predict_whole([tile])[0], tiling)
            return found.top(self.task.max_detections)

    def largest_factor(self, height: int, width: int) -> float:
        """By how much an image is enlarged in training at most, in the mean of its sides; bounds the memory."""
        return self._factor(height, width)

    def _crop(self, sample: Sample, rng: np.random.Generator, tally: Tally | None = None) -> Sample:
        """A random window of a tile's size, of an image that is predicted in tiles; else the image as it is."""
        if tally is not None:
            tally.drawn(sample)
        tiling = self.tiling(*sample.shape)
        if tiling is None:
            return sample
        # As in prediction, the grey levels are those of the whole image.
        levels = replace(sample, image=to_rgb8(sample.image))
        return window_of_sample(levels, tiling.random_window(*sample.shape, rng))

    def _given(self, sample: Sample, rng: np.random.Generator, tally: Tally | None = None) -> dict[str, Any]:
        """A sample as mmdet's pipelines take it: of a large image a tile, of a crowded one a crop at its own scale."""
        part = self._crop(sample, rng, tally)
        # Of an image that is shrunk the masks are drawn at its own resolution before.
        few = within_bound(part, max(1.0, self.largest_factor(*part.shape)), rng)
        given = to_mmdet(few)
        if few is not part:
            given["whole_shape"] = part.shape
        return given

    def _same_given(self, sample: Sample) -> dict[str, Any]:
        """As in training, but always the same window of an image."""
        return self._given(sample, np.random.default_rng(zlib.crc32(sample.id.encode())))

    # -- inside -------------------------------------------------------------------------------------

    def _optimisation(self, images: int, schedule: Schedule) -> Training:
        """How to optimise on so many images."""
        return self.optimisation(schedule.steps(images), schedule.batch_size, math.ceil(images / schedule.batch_size))

    def _batch(self, *images: Any) -> dict[str, Any]:
        pipeline = self._compose([self._resize(), {"type": "PackDetInputs"}])
        packed = [pipeline(to_mmdet(Sample("image", i, Instances.empty(*i.shape[:2])))) for i in images]
        return {"inputs": [p["inputs"] for p in packed], "data_samples": [p["data_samples"] for p in packed]}

    def _resize(self) -> dict[str, Any]:
        return {"type": "ResizeAsWhole", "scale": self.image_scale()}

    def _import_modules(self) -> None:
        for module in ("methods._resize", *self.modules):
            importlib.import_module(module)

    def _compose(self, transforms: list[dict[str, Any]]) -> Any:
        from mmengine.dataset import Compose

        self._import_modules()
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
            anew = _runner.put_weights(network, _runner.read_weights(Path(init)), name=self.name, strict=False)
            if anew:
                total = len(network.state_dict())
                say(f"{self.name}: {len(anew)} of {total} weights do not fit {init} and begin anew, such as {anew[0]}")
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
        return 1.0 if self.seen.image_shape is None else self._factor(*self.seen.image_shape)

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


def trainable_objects(config: Any) -> dict[str, int]:
    """How many objects of one image a network can learn from in one step, by what limits it.

    Args:
        config: of the network. Known are queries, samplers with a share of positives, and the limits of the methods
            here; what has none of them learns from every object.

    Returns:
        text ("100 queries") -> number of objects.
    """
    limits: dict[str, int] = {}
    if isinstance(config, Mapping):
        if config.get("num_queries"):
            limits[f"{config['num_queries']} queries"] = int(config["num_queries"])
        sampler = config.get("sampler")
        # Anchors, which have negative ones below 1, are sampled anew from every object; regions stand for objects.
        if "mask_size" in config and isinstance(sampler, Mapping) and "pos_fraction" in sampler:
            positives = int(sampler["num"] * sampler["pos_fraction"])
            limits[f"{positives} object regions sampled"] = positives
        if "foreground_share" in config and config.get("count"):
            positives = round(config["count"] * config["foreground_share"])
            limits[f"{positives} object regions sampled"] = positives
        if "rois" in config and isinstance(sampling := config.get("sampling"), Mapping):
            positives = round(config["rois"] * (1 if config.get("hard_examples") else sampling["foreground_share"]))
            limits[f"{positives} object regions sampled"] = positives
        if config.get("mask_objects"):
            limits[f"{config['mask_objects']} masks trained"] = int(config["mask_objects"])
    if isinstance(config, (Mapping, list, tuple)):
        for part in config.values() if isinstance(config, Mapping) else config:
            limits |= trainable_objects(part)
    return limits


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
    """A data preprocessor: RGB to the network, ImageNet statistics, padding to a multiple of ``divisor``."""
    return {
        "type": "DetDataPreprocessor",
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "bgr_to_rgb": False,
        "pad_mask": True,
        "pad_size_divisor": divisor,
    }


def stock_preprocessor(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """That of a stock config, for images that come as RGB, not as OpenCV reads them: what its weights expect.

    Args:
        theirs: ``model.data_preprocessor`` of the config, which is given BGR.
    """
    return {
        **preprocessor(),
        "mean": list(theirs["mean"]),
        "std": list(theirs["std"]),
        "rgb_to_bgr": not theirs["bgr_to_rgb"],
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
    x0, y0, x1, y1 = boxes.T
    outside = ((x1 <= -1) | (y1 <= -1) | (x0 >= width + 1) | (y0 >= height + 1)).tolist()
    for chunk in torch.arange(len(boxes), device=boxes.device).split(at_once):
        if on_cpu and outside[len(rles)]:  # mmdet's window around such a box ends before it begins
            rles += encode_masks(canvas)
            continue
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
