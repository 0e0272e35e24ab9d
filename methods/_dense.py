"""DenseMapMethod: network + target encoder + pixel loss + instance decoder.

A method that predicts maps over the whole image and reads the instances off them gives five small functions:
:meth:`~DenseMapMethod.network`, :meth:`~DenseMapMethod.encode`, :meth:`~DenseMapMethod.loss`,
:meth:`~DenseMapMethod.activate` and :meth:`~DenseMapMethod.decode`. Crops, augmentation, the training loop, resuming,
tiles, devices and the cap on detections are here.

This module imports no torch, so a method's module may import it at its top.
"""

from __future__ import annotations

import os
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import (
    COMPUTE_OPTIONS,
    DataError,
    FitContext,
    Instances,
    Method,
    MethodError,
    Sample,
    SampleSource,
    UsageError,
    to_gray,
)
from methods._augmentation import Augmentation
from methods._feeding import DROPPED, ImageTally
from methods._targets import TargetCache

if TYPE_CHECKING:
    from torch import Tensor, nn

LOADER_PROCESSES = 4
"""Processes that cut training crops while a GPU computes. On the CPU they would take the cores of the training."""


class DenseMapMethod(Method):
    """A method whose network maps an image to maps of the same size.

    A subclass gives :meth:`network`, :meth:`encode`, :meth:`loss` and :meth:`decode`; where they differ from the
    defaults also :meth:`prepare`, :meth:`activate`, :attr:`augmentation`, :meth:`optimizer` and :meth:`schedulers`.
    Its ``Params`` extend ``DenseMapMethod.Params``.
    """

    requires: ClassVar[tuple[str, ...]] = ("torch", "mmengine", "monai")
    compute_options: ClassVar[tuple[str, ...]] = COMPUTE_OPTIONS

    @dataclass(frozen=True)
    class Params:
        """Settings of every dense method.

        Attributes:
            crop: side of a training crop, pixels.
            tile: images of more than ``tile * tile`` pixels are predicted in tiles of this side, pixels.
            tile_overlap: of neighbouring tiles, pixels.
            optimizer: name of a torch optimiser.
            learning_rate: of the optimiser.
            weight_decay: of the optimiser.
        """

        crop: int = 256
        tile: int = 1024
        tile_overlap: int = 128
        optimizer: str = "Adam"
        learning_rate: float = 1e-3
        weight_decay: float = 0.0

        def __post_init__(self) -> None:
            for name in ("crop", "tile"):
                if getattr(self, name) < 1:
                    raise UsageError(f"setting {name} must be at least 1, not {getattr(self, name)}")
            if self.tile_overlap < 0:
                raise UsageError(f"setting tile_overlap must be at least 0, not {self.tile_overlap}")

    augmentation: ClassVar[Augmentation] = Augmentation(flip_horizontal=True, flip_vertical=True, right_angles=True)
    """How training crops may differ from the image; :mod:`methods._crops` has MONAI do it."""
    after_network: ClassVar[tuple[str, ...]] = ("tile", "tile_overlap")
    """See :attr:`bench.api.Method.after_network`."""
    reductions: Mapping[str, int] = MappingProxyType({})
    """Maps of lower resolution than the image: name -> by which factor, at most the network's stride."""

    patience: int = 0
    """Passes over the images without a lower validation loss after which a training ends; 0: it has its full length."""
    least_box: int = 0
    """Pixels from which an instance is an object to a network that learns boxes besides maps."""

    _network: nn.Module | None = None

    # -- what a subclass gives ----------------------------------------------------------------------

    @abstractmethod
    def network(self) -> nn.Module:
        """The network with its initial weights.

        It takes a float tensor (N, C, H, W) of any size and returns a dictionary of outputs by name, maps
        (N, K, H, W). ``network().stride`` is the factor by which it reduces the resolution at most.
        """

    @abstractmethod
    def encode(self, sample: Sample) -> dict[str, NDArray[Any]]:
        """What the network is to learn from an image: arrays by name, each (H, W) or (K, H, W).

        Computed once an image, from the whole of it; crops and flips follow. Floating point arrays (weights,
        distances) are interpolated where an augmentation needs it, integer and bool ones (labels) take the nearest
        pixel. ``sample.instances`` is given; its crowd regions are not to be learned.
        """

    @abstractmethod
    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch; those with "loss" in their name are summed.

        Args:
            outputs: of the network.
            targets: the arrays of :meth:`encode` by name, stacked, of their own dtype.
        """

    @abstractmethod
    def decode(self, maps: Mapping[str, NDArray[np.float32]], image: NDArray[Any]) -> Instances:
        """The instances of an image.

        Args:
            maps: what :meth:`activate` makes of the outputs, name -> float32 (K, H, W).
            image: as it was given to :meth:`predict`.
        """

    def encode_crop(self, crop: dict[str, NDArray[Any]], rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """What a training crop is to teach beyond maps (anchors of boxes, for instance); by default nothing more.

        Args:
            crop: ``image`` and the arrays of :meth:`encode`, cut and augmented; may be changed.
            rng: every random choice comes from it.

        Returns:
            ``image`` and arrays of the same shape for every crop.
        """
        return crop

    def prepare(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """The network's input, (C, H, W): by default one gray channel of zero mean and unit deviation."""
        return to_gray(image)[None]

    def activate(self, outputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """From outputs (1, K, H, W) to maps: by default a sigmoid each. Where tiles overlap, maps are blended."""
        return {name: logits.sigmoid() for name, logits in outputs.items()}

    def optimizer(self) -> dict[str, Any]:
        """mmengine's configuration of the optimiser."""
        p = self.params
        return {"type": p.optimizer, "lr": p.learning_rate, "weight_decay": p.weight_decay}

    def schedulers(self, steps: int) -> Sequence[Mapping[str, Any]]:
        """mmengine's parameter schedulers by step, for a training of ``steps``; by default none."""
        return ()

    # -- what the harness calls ---------------------------------------------------------------------

    def fit(self, train: SampleSource, val: SampleSource | None, context: FitContext) -> Path:
        """Train on random crops; see :func:`methods._runner.train`."""
        from methods import _dense_model, _runner
        from methods._crops import random_crop
        from methods._early_stopping import EarlyStopping

        tally = ImageTally(context.folder / "counted")

        def learnable(sample: Sample) -> dict[str, NDArray[Any]]:
            arrays = self._learnable(sample)
            tally.count(sample, len(self.task.classes), self.least_box)
            return arrays

        targets = TargetCache(context.folder / "targets", learnable)
        validation_targets = TargetCache(context.folder / "validation_targets", self._learnable)

        def example(sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
            crop = random_crop(targets[sample], self.params.crop, self.augmentation, rng)
            return self.encode_crop(crop, rng)

        def held_back(sample: Sample) -> dict[str, Any]:
            rng = np.random.default_rng(zlib.crc32(sample.id.encode()))  # the same place of an image every time
            crop = random_crop(validation_targets[sample], self.params.crop, Augmentation(), rng)
            return self.encode_crop(crop, rng)

        def build() -> Any:
            model = _dense_model.DenseModel(self.network(), self.loss)
            if context.init != "random":
                _runner.put_weights(model, _runner.read_weights(Path(context.init)), name=self.name)
            return model

        weights = _runner.train(
            build,
            train,
            example,
            context=context,
            device=self.device,
            optimizer=self.optimizer(),
            schedulers=self.schedulers(context.schedule.steps(len(train))),
            collate=_dense_model.collate,
            workers=min(LOADER_PROCESSES, os.cpu_count() or 1) if self.device.startswith("cuda") else 0,
            meta={"method": self.name},
            scope="mmengine",
            compute=self.compute,
            val=val,
            early_stopping=EarlyStopping(self.patience, held_back) if self.patience else None,
        )
        targets.clear()
        validation_targets.clear()
        total = tally.total()
        if total.examples and not (context.folder / DROPPED).is_file():
            total.finish(context.folder, self.name)
        tally.clear()
        return weights

    def load(self, weights: Path) -> None:
        """Load trained weights onto the device."""
        from methods import _dense_model, _runner

        model = _dense_model.DenseModel(self.network(), self.loss)
        _runner.put_weights(model, _runner.read_weights(weights), name=self.name)
        self._ready(model.network)

    def load_fresh(self, seed: int) -> None:
        """Load random weights."""
        from methods import _runner

        _runner.seed_everything(seed, 3)
        self._ready(self.network())

    def _ready(self, network: nn.Module) -> None:
        from methods._compute import accelerate

        self._network = network.to(self.device).eval()
        accelerate(self._network, self.compute, self.device)

    def predict(self, image: NDArray[Any]) -> Instances:
        """The instances of one image, predicted in tiles where it is larger than ``params.tile`` squared."""
        with self.phase("preprocess"):
            prepared = np.ascontiguousarray(self.prepare(image), dtype=np.float32)
        with self.phase("network"):
            maps = self.infer(prepared)
        with self.phase("postprocess"):
            return self._decoded(maps, image)

    def predict_batch(self, images: Sequence[NDArray[Any]]) -> list[Instances]:
        """The instances of several images, those of equal size computed together.

        Images that are predicted in tiles, and those of a method with an :meth:`infer` of its own, go one by one.
        """
        with self.phase("preprocess"):
            prepared = [np.ascontiguousarray(self.prepare(image), dtype=np.float32) for image in images]
        alike: dict[tuple[int, ...], list[int]] = {}
        for index, one in enumerate(prepared):
            alike.setdefault(one.shape, []).append(index)
        found: dict[int, Instances] = {}
        for (*_, height, width), members in alike.items():
            if type(self).infer is DenseMapMethod.infer and height * width <= self.params.tile**2:
                with self.phase("network"):
                    maps = self._infer_together([prepared[i] for i in members])
            else:
                with self.phase("network"):
                    maps = [self.infer(prepared[i]) for i in members]
            with self.phase("postprocess"):
                found.update((i, self._decoded(one, images[i])) for i, one in zip(members, maps, strict=True))
        return [found[index] for index in range(len(images))]

    def n_parameters(self) -> int | None:
        """Trainable parameters of the loaded network."""
        if self._network is None:
            return None
        return sum(p.numel() for p in self._network.parameters() if p.requires_grad)

    def infer(self, prepared: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
        """The maps of a prepared image (C, H, W); override it where the network gives more than maps.

        Raises:
            MethodError: no weights were loaded.
        """
        from methods import _dense_model
        from methods._tiles import in_tiles

        network = self._loaded()
        return in_tiles(
            prepared,
            lambda piece: _dense_model.infer(network, self.activate, [piece], self.device)[0],
            tile=self.params.tile,
            overlap=self.params.tile_overlap,
            stride=network.stride,
            reductions=self.reductions,
        )

    def _infer_together(self, prepared: Sequence[NDArray[np.float32]]) -> list[dict[str, NDArray[np.float32]]]:
        from methods import _dense_model

        return _dense_model.infer(self._loaded(), self.activate, prepared, self.device)

    def _loaded(self) -> Any:
        if self._network is None:
            raise MethodError(f"{self.name} has no weights yet", "train it, or give a checkpoint to --weights")
        return self._network

    def _decoded(self, maps: Mapping[str, NDArray[np.float32]], image: NDArray[Any]) -> Instances:
        from methods._decoders import at_most

        return at_most(self.decode(maps, image), self.task.max_detections)

    def _learnable(self, sample: Sample) -> dict[str, NDArray[Any]]:
        if sample.instances is None:
            raise DataError(f"image {sample.id} has no truth to learn from", "train on a split with annotations")
        return {"image": np.ascontiguousarray(self.prepare(sample.image), np.float32), **self.encode(sample)}
