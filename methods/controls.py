"""Control methods: they are given the truth, and so bound what any score can mean.

``truth`` must score 1 and ``empty`` 0 under every protocol; ``jitter``, ``merge`` and ``split`` show what a protocol
makes of masks that are a little off, of cells melted together and of cells cut in two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.api import ControlMethod, Instances, Sample
from bench.rle import encode_masks


def _rng(sample: Sample, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, *sample.id.encode()])


def _truth(sample: Sample) -> Instances:
    if sample.instances is None:
        return Instances.empty(*sample.shape, scored=True)
    return sample.instances.take(~sample.instances.crowd)


def _encoded(mask: NDArray[np.bool_]) -> bytes:
    """The RLE of one mask: of thousands only one is held as pixels at a time."""
    (counts,) = encode_masks(mask[None])
    return counts


class Truth(ControlMethod):
    """The truth itself, with score 1: every protocol must give its best value."""

    name = "truth"
    title = "Truth (control)"
    summary = "Answers with the truth; every score must be perfect."

    def answer(self, sample: Sample, seed: int) -> Instances:
        """The truth, crowd regions aside."""
        truth = _truth(sample)
        return Instances(
            *truth.shape, truth.rles, class_ids=truth.class_ids, scores=np.ones(len(truth)), boxes=truth.boxes
        )


class Empty(ControlMethod):
    """No prediction at all: every score must be 0, and every error total."""

    name = "empty"
    title = "Empty (control)"
    summary = "Answers with nothing; every score must be zero."

    def answer(self, sample: Sample, seed: int) -> Instances:
        """Nothing."""
        return Instances.empty(*sample.shape, scored=True)


class Jitter(ControlMethod):
    """The truth moved by a few pixels, with random scores: how a protocol punishes masks that are a little off."""

    name = "jitter"
    title = "Jitter (control)"
    summary = "Moves every instance by up to a tenth of its size."

    @dataclass(frozen=True)
    class Params:
        """Settings.

        Attributes:
            shift: largest move in each direction, as a fraction of the instance's box side.
        """

        shift: float = 0.1

    params: Params

    def answer(self, sample: Sample, seed: int) -> Instances:
        """Every mask shifted; what leaves the image is cut off."""
        truth, rng = _truth(sample), _rng(sample, seed)
        rles = []
        for index in range(len(truth)):
            x0, y0, x1, y1 = truth.boxes[index]
            dy, dx = np.rint(rng.uniform(-self.params.shift, self.params.shift, 2) * (y1 - y0, x1 - x0)).astype(int)
            rles.append(_encoded(_shifted(truth.mask(index), int(dy), int(dx))))
        return Instances(*truth.shape, tuple(rles), truth.class_ids, rng.uniform(0.5, 1, len(rles)))


class Merge(ControlMethod):
    """Neighbours melted into one: what a protocol makes of under-segmentation."""

    name = "merge"
    title = "Merge (control)"
    summary = "Joins every instance with its nearest free neighbour."

    def answer(self, sample: Sample, seed: int) -> Instances:
        """Pairs of nearest centres, greedily; an instance left over stays as it is."""
        truth, rng = _truth(sample), _rng(sample, seed)
        centres = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2
        free = list(range(len(truth)))
        rles, classes = [], []
        while free:
            first = free.pop(0)
            mask = truth.mask(first)
            if free:
                distances = np.linalg.norm(centres[free] - centres[first], axis=1)
                mask = mask | truth.mask(free.pop(int(distances.argmin())))
            rles.append(_encoded(mask))
            classes.append(int(truth.class_ids[first]))
        return Instances(*truth.shape, tuple(rles), np.array(classes, np.int64), rng.uniform(0.5, 1, len(rles)))


class Split(ControlMethod):
    """Every cell cut in two: what a protocol makes of over-segmentation."""

    name = "split"
    title = "Split (control)"
    summary = "Cuts every instance in two across its longer side."

    def answer(self, sample: Sample, seed: int) -> Instances:
        """Each mask in two halves, at the middle of the longer side of its box."""
        truth, rng = _truth(sample), _rng(sample, seed)
        rles, classes = [], []
        for index in range(len(truth)):
            x0, y0, x1, y1 = truth.boxes[index].astype(int)
            mask = truth.mask(index)
            half = np.zeros_like(mask)
            if x1 - x0 >= y1 - y0:
                half[:, : (x0 + x1) // 2] = True
            else:
                half[: (y0 + y1) // 2] = True
            for part in (mask & half, mask & ~half):
                if part.any():
                    rles.append(_encoded(part))
                    classes.append(int(truth.class_ids[index]))
        return Instances(*truth.shape, tuple(rles), np.array(classes, np.int64), rng.uniform(0.5, 1, len(rles)))


def _shifted(mask: NDArray[np.bool_], down: int, right: int) -> NDArray[np.bool_]:
    height, width = mask.shape
    moved = np.zeros_like(mask)
    if abs(down) < height and abs(right) < width:
        moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = mask[
            max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
        ]
    return moved
