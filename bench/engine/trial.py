"""What ``bench check`` tries a method with: generated images, a place apart, and how two answers are compared."""

from __future__ import annotations

import math
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench import rle
from bench.api import Instances, Sample
from bench.data.synthetic._probes import probe

COMPARED = 64
"""Instances of a prediction, the surest, that :func:`likeness` looks for in another."""
FOLDERS = ("BENCH_CACHE", "BENCH_CARDS", "BENCH_DATA_ROOT", "BENCH_METHODS", "BENCH_RUNS")
"""Environment variables that name folders, which may be relative to the working folder."""


# -- images -----------------------------------------------------------------------------------------------


class Generated(Sequence[Sample]):
    """Samples held in memory: a :class:`bench.task.SampleSource`."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = tuple(samples)

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids in order."""
        return tuple(sample.id for sample in self._samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        return self._samples[index]


def generated(
    name: str, shape: tuple[int, int] = (96, 128), cells: int = 7, radius: tuple[int, int] = (6, 9)
) -> Sample:
    """A generated image; see :func:`bench.data.synthetic._probes.probe`."""
    image, labels = probe(name, shape, cells, radius)
    return Sample(name, image, Instances.from_label_map(labels))


def crowded(cells: int) -> Sample:
    """A generated image of many small cells, as dense whatever their number; its sides are multiples of 16."""
    side = 16 * math.ceil(26 * (cells / 300) ** 0.5)
    return generated(f"{cells} cells", (side, side), cells, (4, 6))


def black() -> Sample:
    """An image without a single photon."""
    return Sample("black", np.zeros((96, 96), np.uint8), Instances.empty(96, 96))


def repainted(sample: Sample, name: str, image: NDArray[Any]) -> Sample:
    """The same cells with other pixels."""
    return Sample(name, np.ascontiguousarray(image), sample.instances)


# -- a place apart ----------------------------------------------------------------------------------------


def stir(seed: int) -> None:
    """Leave every global generator in another state: nobody may lean on it."""
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """These environment variables inside, and what was there before afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Another working folder inside; what the environment names relative to this one stays found."""
    named = {name: os.environ[name] for name in FOLDERS if os.environ.get(name)}
    absolute = {n: os.pathsep.join(str(Path(p).absolute()) for p in v.split(os.pathsep) if p) for n, v in named.items()}
    before = Path.cwd()
    with environment(**absolute):
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


# -- comparisons ------------------------------------------------------------------------------------------


def likeness(first: Instances, second: Instances) -> float:
    """How much of two predictions of one image is in the other, from 0 to 1.

    The mean over the instances of one of the best mask IoU with any of the other; the lower of both directions. Two
    predictions of the same network that differ by rounding alone are near 1.
    """
    if not len(first) or not len(second) or first.shape != second.shape:
        return float(first == second)
    return min(_found_in(first, second), _found_in(second, first))


def _found_in(those: Instances, other: Instances) -> float:
    surest = those.top(COMPARED)
    masks = [rle.objects(part.rles, part.height, part.width) for part in (surest, other)]
    overlaps = np.asarray(coco_mask.iou(*masks, [0] * len(other)))
    return float(overlaps.max(axis=1).mean())


def same_weights(first: Path, second: Path) -> bool | None:
    """Whether two files hold the same weights; None where only predictions can tell."""
    if first.read_bytes() == second.read_bytes():
        return True
    if "torch" not in sys.modules:
        return None
    import pickle
    import zipfile

    import torch

    try:
        contents = [torch.load(path, map_location="cpu", weights_only=True) for path in (first, second)]
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, ValueError, EOFError):
        return None  # not torch's
    found = [dict(_tensors(content)) for content in contents]
    if not found[0]:
        return None
    return found[0].keys() == found[1].keys() and all(torch.equal(t, found[1][k]) for k, t in found[0].items())


def _tensors(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{name}/{key}")
    elif hasattr(content, "is_floating_point"):
        yield name, content
