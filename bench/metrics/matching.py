"""One image's truth beside its prediction, measured once; every protocol reads from here.

:class:`Match` computes what it is asked for and keeps it: the protocols that allow overlaps read :attr:`Match.pairs`
(masks as they are), those that do not read :meth:`Match.flat` (two label images, made by an overlap policy).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.api import DataError, Instances, overlap_policy
from bench.metrics import runs as runs_
from bench.metrics.flatten import flatten
from bench.metrics.runs import Runs
from bench.metrics.segments import NOBODY, Cover, Segments, expand

BOX_IOU_FLOOR = 0.5
"""Pairs of boxes that overlap less are not listed: no protocol matches below."""


class SideError(DataError):
    """Something is wrong with the truth, or with the prediction, of an image.

    Attributes:
        side: ``truth`` or ``prediction``.
        index: the mask it is about, or None where it is about the whole side.
    """

    def __init__(self, message: str, hint: str | None, side: str, index: int | None) -> None:
        super().__init__(message, hint)
        self.side = side
        self.index = index

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.hint, self.side, self.index)


@dataclass(frozen=True, eq=False)
class Masks:
    """The instances of one side of an image.

    Attributes:
        runs: N masks.
        class_ids: int64 (N,).
        scores: float64 (N,), or None where there is no confidence.
        boxes: float64 (N, 4), x0, y0, x1, y1 in pixels.
        crowd: bool (N,), regions to ignore.
        sizes: float64 (N,), the area by which a truth counts as small, medium or large: that of its mask unless its
            annotation says otherwise.
    """

    runs: Runs
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float64] | None
    boxes: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    sizes: NDArray[np.float64] | NDArray[np.int64]

    @classmethod
    def of(cls, source: Source) -> Masks:
        """From instances, or from a label image (H, W).

        Raises:
            DataError: RLEs that do not describe the image, or an array that is no label image.
        """
        if isinstance(source, Masks):
            return source
        if isinstance(source, Instances):
            runs = runs_.from_rles(source.rles, source.height, source.width)
            return cls(runs, source.class_ids, source.scores, source.boxes, source.crowd, runs.areas)
        runs, _ = runs_.from_labels(np.asarray(source))
        return cls.bare(runs)

    @classmethod
    def bare(cls, runs: Runs) -> Masks:
        """Of one class, without scores."""
        count = len(runs)
        return cls(runs, np.zeros(count, np.int64), None, runs.boxes, np.zeros(count, np.bool_), runs.areas)

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def areas(self) -> NDArray[np.int64]:
        """int64 (N,), pixels."""
        return self.runs.areas

    def of_one_class(self) -> Masks:
        """The same without classes."""
        return replace(self, class_ids=np.zeros_like(self.class_ids))

    def instances(self) -> Instances:
        """The same, encoded."""
        runs = self.runs
        return Instances(
            runs.height,
            runs.width,
            tuple(runs_.to_rles(runs)),
            self.class_ids,
            self.scores,
            self.boxes,
            self.crowd,
        )


Source = Instances | NDArray[Any] | Masks
"""What can be scored: instances, or a label image (H, W) of integers with 0 for background."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of a truth and a prediction that share pixels, ordered by truth, then by prediction.

    Attributes:
        truth: int64 (K,), index of the truth.
        prediction: int64 (K,), index of the prediction.
        shared: int64 (K,), pixels in both.
        iou: float64 (K,), intersection over union.
    """

    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]
    shared: NDArray[np.int64]
    iou: NDArray[np.float64]

    @classmethod
    def measure(
        cls,
        table: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        truth_areas: NDArray[np.int64],
        prediction_areas: NDArray[np.int64],
    ) -> Pairs:
        """From truth index, prediction index and shared pixels."""
        truth, prediction, shared = table
        return cls(truth, prediction, shared, shared / (truth_areas[truth] + prediction_areas[prediction] - shared))


@dataclass(frozen=True, eq=False)
class Flat:
    """Truth and prediction as two label images: no pixel belongs to two instances.

    Indices count the instances that are left: truths without crowd regions, predictions that lie in none and are sure
    enough, and of both what the overlap policy did not drop.

    Attributes:
        segments: the image cut along all masks.
        truth_owner: int64 (S,), the truth that each segment belongs to, or -1.
        truth_areas: int64 (T,), pixels.
        prediction_owner: int64 (S,).
        prediction_areas: int64 (P,), pixels.
    """

    segments: Segments
    truth_owner: NDArray[np.int64]
    truth_areas: NDArray[np.int64]
    prediction_owner: NDArray[np.int64]
    prediction_areas: NDArray[np.int64]

    @property
    def n_truth(self) -> int:
        """Number of truths."""
        return len(self.truth_areas)

    @property
    def n_prediction(self) -> int:
        """Number of predictions."""
        return len(self.prediction_areas)

    @cached_property
    def pairs(self) -> Pairs:
        """What overlaps what."""
        table = self.segments.shared(self.truth_owner, self.n_truth, self.prediction_owner, self.n_prediction)
        return Pairs.measure(table, self.truth_areas, self.prediction_areas)

    @cached_property
    def first_segment(self) -> NDArray[np.int64]:
        """int64 (P,), the first segment of each prediction, which tells apart those that are equal otherwise."""
        inside = np.flatnonzero(self.prediction_owner != NOBODY)[::-1]
        first = np.zeros(self.n_prediction, np.int64)
        first[self.prediction_owner[inside]] = inside
        return first

    @cached_property
    def majority(self) -> NDArray[np.int64]:
        """int64 (T,), the prediction that covers more than half of each truth, or -1. There is at most one."""
        best = np.full(self.n_truth, NOBODY)
        most = 2 * self.pairs.shared > self.truth_areas[self.pairs.truth]
        best[self.pairs.truth[most]] = self.pairs.prediction[most]
        return best

    @cached_property
    def majority_count(self) -> NDArray[np.int64]:
        """int64 (P,), of how many truths each prediction covers more than half."""
        return np.bincount(self.majority[self.majority != NOBODY], minlength=self.n_prediction)

    @cached_property
    def truth_labels(self) -> NDArray[np.unsignedinteger]:
        """The truth as a label image, transposed: (width, height), truth i has label i + 1."""
        return self.segments.label_image(self.truth_owner, self.n_truth)

    @cached_property
    def prediction_labels(self) -> NDArray[np.unsignedinteger]:
        """The same of the prediction."""
        return self.segments.label_image(self.prediction_owner, self.n_prediction)


class Match:
    """Truth and prediction of one image.

    Args:
        truth: instances, or a label image (H, W).
        prediction: instances, or a label image (H, W), of the same size.
        min_score: predictions with a lower confidence are in no label image, see :meth:`flat`; they stay where
            confidence orders them, in :attr:`pairs` and :attr:`box_pairs`.

    Raises:
        SideError: broken masks, or an array that is no label image.
        DataError: sizes that differ.
    """

    def __init__(self, truth: Source, prediction: Source, min_score: float | None = None) -> None:
        self._min_score = min_score
        self.truth = _side(truth, "truth")
        self.prediction = _side(prediction, "prediction")
        there, here = self.truth.runs, self.prediction.runs
        if (there.height, there.width) != (here.height, here.width):
            raise DataError(
                f"the prediction has {here.height} x {here.width} pixels, the truth {there.height} x {there.width}",
                "predictions are scored at the resolution of the image",
            )
        self._flat: dict[str, Flat] = {}

    @cached_property
    def segments(self) -> Segments:
        """The image cut along all masks."""
        return Segments.of(self.truth.runs, self.prediction.runs)

    @cached_property
    def pairs(self) -> Pairs:
        """What overlaps what, masks as they are. For a crowd region ``iou`` is the share of the prediction in it."""
        truth, prediction, shared = self.segments.intersections()
        area = self.prediction.areas[prediction]
        union = np.where(self.truth.crowd[truth], area, area + self.truth.areas[truth] - shared)
        return Pairs(truth, prediction, shared, shared / union)

    @cached_property
    def box_pairs(self) -> Pairs:
        """The same for boxes, without ``shared``; only pairs with an IoU of at least :data:`BOX_IOU_FLOOR`."""
        if not len(self.truth) or not len(self.prediction):
            none = np.zeros(0, np.int64)
            return Pairs(none, none, none, np.zeros(0))
        truth, prediction = _near_boxes(self.truth.boxes, self.prediction.boxes)
        iou = _box_iou(self.truth.boxes[truth], self.prediction.boxes[prediction], self.truth.crowd[truth])
        enough = np.flatnonzero(iou >= BOX_IOU_FLOOR)
        return Pairs(truth[enough], prediction[enough], np.zeros(enough.size, np.int64), iou[enough])

    @cached_property
    def in_crowd(self) -> NDArray[np.bool_]:
        """bool (P,), predictions of which more than half lies in crowd regions: they count neither for nor against."""
        if not self.truth.crowd.any():
            return np.zeros(len(self.prediction), np.bool_)
        truth, prediction = self.segments.truth, self.segments.prediction
        is_crowd = np.zeros(len(self.segments), np.bool_)
        is_crowd[truth.segments[self.truth.crowd[truth.masks]]] = True
        pixels = self.segments.lengths[prediction.segments] * is_crowd[prediction.segments]
        return 2 * np.bincount(prediction.masks, weights=pixels, minlength=len(self.prediction)) > self.prediction.areas

    @cached_property
    def excluded(self) -> NDArray[np.bool_]:
        """bool (P,), predictions that are in no label image: those in crowd regions and those of too low a score."""
        scores = self.prediction.scores
        if self._min_score is None or scores is None:
            return self.in_crowd
        return self.in_crowd | (scores < self._min_score)

    def flat(self, policy: str = "score") -> Flat:
        """Both sides as label images, by an overlap policy.

        Args:
            policy: a name in :data:`bench.api.OVERLAP_POLICIES`.

        Raises:
            UnknownNameError: no such policy.
            DataError: policy ``forbid`` and two instances that overlap.
        """
        if policy not in self._flat:
            segments, truth, prediction = self._resolved(policy, keep_truth=False)
            self._flat[policy] = Flat(segments, *truth, *prediction)
        return self._flat[policy]

    def flat_prediction(self, policy: str = "score") -> tuple[NDArray[np.int64], NDArray[np.int64], Pairs]:
        """The prediction as a label image against truths that may overlap.

        Returns:
            pixels of each truth (crowd regions aside), pixels of each prediction left, and what overlaps what.
        """
        segments, (_, truth_areas), (owner, prediction_areas) = self._resolved(policy, keep_truth=True)
        kept = ~self.truth.crowd
        number = np.cumsum(kept) - 1
        cover = segments.truth.where(kept)
        table = segments.covered(cover, number, len(truth_areas), owner, len(prediction_areas))
        return truth_areas, prediction_areas, Pairs.measure(table, truth_areas, prediction_areas)

    def _resolved(self, policy: str, *, keep_truth: bool) -> tuple[Segments, _Side, _Side]:
        """Segments, and the owners and areas of both sides; of a kept truth only the areas are meant."""
        resolve = overlap_policy(policy)
        truth, prediction = self.truth, self.prediction
        truth_excluded, prediction_excluded = truth.crowd, self.excluded
        segments = self.segments
        if policy != "score":
            if not keep_truth:
                truth, truth_excluded = _relabelled(truth, truth_excluded, resolve)
            prediction, prediction_excluded = _relabelled(prediction, prediction_excluded, resolve)
            segments = Segments.of(truth.runs, prediction.runs)
        owned = _label(segments, segments.prediction, prediction, prediction_excluded)
        if keep_truth:
            return segments, (np.zeros(0, np.int64), truth.areas[~truth_excluded]), owned
        return segments, _label(segments, segments.truth, truth, truth_excluded), owned


_Side = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The owner of each segment, numbered without gaps, and the pixels of each owner."""


def _side(source: Source, name: str) -> Masks:
    try:
        return Masks.of(source)
    except DataError as error:
        index = error.index if isinstance(error, runs_.MaskError) else None
        raise SideError(error.message, error.hint, name, index) from None


def _label(segments: Segments, cover: Cover, masks: Masks, excluded: NDArray[np.bool_]) -> _Side:
    if excluded.any():
        cover = cover.where(~excluded)
    owner = flatten(segments, cover, masks.runs, masks.scores)
    apart = len(cover.segments) == np.count_nonzero(owner != NOBODY)
    areas = masks.areas if apart and not excluded.any() else segments.pixels(owner, len(masks))
    if areas.size == 0 or areas.min() > 0:
        return owner, areas
    left = np.flatnonzero(areas)
    number = np.full(len(masks) + 1, NOBODY)  # the last is where NOBODY looks itself up
    number[left] = np.arange(left.size)
    return number[owner], areas[left]


def _relabelled(masks: Masks, excluded: NDArray[np.bool_], resolve: Any) -> tuple[Masks, NDArray[np.bool_]]:
    """The masks that an overlap policy leaves of those that are not excluded."""
    left = Masks.of(resolve(masks.instances().take(~excluded)))
    return left, left.crowd


def _near_boxes(
    truth: NDArray[np.float64], prediction: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of boxes among which are all with an IoU of at least :data:`BOX_IOU_FLOOR`, ordered by truth.

    Such a pair shares at least half of either side of the prediction, so the prediction's centre lies in the truth.
    """
    slack = 1e-6 * (1 + np.abs(truth).max())
    centre_x = (prediction[:, 0] + prediction[:, 2]) / 2
    centre_y = (prediction[:, 1] + prediction[:, 3]) / 2
    by_x = np.argsort(centre_x, kind="stable")
    sorted_x = centre_x[by_x]
    first = np.searchsorted(sorted_x, truth[:, 0] - slack)
    count = np.maximum(np.searchsorted(sorted_x, truth[:, 2] + slack, side="right") - first, 0)
    of_truth = np.repeat(np.arange(len(truth)), count)
    of_prediction = by_x[expand(first, count)]
    y = centre_y[of_prediction]
    inside = np.flatnonzero((y >= truth[of_truth, 1] - slack) & (y <= truth[of_truth, 3] + slack))
    return of_truth[inside], of_prediction[inside]


def _box_iou(
    truth: NDArray[np.float64], prediction: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """IoU of boxes row by row, in the COCO API's arithmetic, which knows x, y, width and height only."""
    sides_t, sides_p = truth[:, 2:] - truth[:, :2], prediction[:, 2:] - prediction[:, :2]
    low = np.maximum(truth[:, :2], prediction[:, :2])
    high = np.minimum(sides_t + truth[:, :2], sides_p + prediction[:, :2])
    shared = np.maximum(high - low, 0).prod(axis=1)
    area = sides_p.prod(axis=1)
    union = np.where(crowd, area, area + sides_t.prod(axis=1) - shared)
    return np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0)
