"""``coco``: average precision and recall of masks and boxes by the rules of the COCO API, with one detection cap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import DEFAULT_MAX_DETECTIONS, UsageError
from bench.metrics import curves
from bench.metrics.coco_matching import THRESHOLDS, judge, surest
from bench.metrics.curves import Curve, Ranking, nan_mean
from bench.metrics.matching import Masks, Match
from bench.metrics.protocol import NO_SCORES, Pool, Protocol, Value
from bench.metrics.types import ImageMetric, MetricSpec

_T50, _T75 = THRESHOLDS.index(0.5), THRESHOLDS.index(0.75)
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_KINDS = {"": "mask", "box_": "box"}
"""Prefix of a metric's name -> what is compared."""


@dataclass(frozen=True)
class CocoParams:
    """Parameters of :class:`Coco`.

    Attributes:
        max_detections: predictions an image (and class) may have; the surest are kept. One cap for every number.
        areas: pixels that part small from medium and medium from large truths; an object of exactly that area counts
            on both sides, as in the COCO API. LIVECell: 324, 961.
        boxes: whether boxes are scored beside masks.
        use_classes: whether a match must be of the truth's class. LIVECell: false.
        afnr: whether the average false-negative ratio is given. LIVECell: true.
    """

    max_detections: int = DEFAULT_MAX_DETECTIONS
    areas: tuple[float, ...] = (32.0**2, 96.0**2)
    boxes: bool = True
    use_classes: bool = True
    afnr: bool = False

    def __post_init__(self) -> None:
        if self.max_detections < 1:
            raise UsageError(f"protocol coco: max_detections={self.max_detections}", "at least 1")
        if len(self.areas) != 2 or not 0 <= self.areas[0] <= self.areas[1]:
            raise UsageError(f"protocol coco: areas={self.areas}", "give two areas in pixels, the smaller first")

    def ranges(self) -> NDArray[np.float64]:
        """float64 (4, 2): all, small, medium, large; both ends belong to the range."""
        small, large = self.areas
        return np.array([(0, np.inf), (0, small), (small, large), (large, np.inf)])


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Of one image: its predictions in order of score, with a bit for each IoU threshold.

    ``hit`` says: matched a truth that counts; ``ignored``: matched one that does not, or lies outside the range of
    areas unmatched. Both are (kinds, ranges of areas, predictions).
    """

    scores: NDArray[np.float64]
    classes: NDArray[np.int32]
    hit: NDArray[np.uint16]
    ignored: NDArray[np.uint16]
    truths: NDArray[np.int64]  # (ranges of areas, classes)


class Coco(Protocol):
    """AP, AP50, AP75, AP of small, medium and large objects, and AR, of masks and (``box_``) of boxes.

    In order of score each prediction takes the free truth of its class with the highest IoU of at least t; truths that
    are to be ignored (crowd regions, areas outside the range) only where no other is left. Precision at 101 recall
    levels is averaged over t = .50:.05:.95 and over the classes that have truths. AR is the recall with all
    predictions, averaged likewise; AFNR is 1 - AR. Areas are those of the
    masks, for truths from COCO JSON those that it states; a predicted box has its own. Equal
    scores rank in the order of the images, then of the predictions, as in the COCO API. Without scores nothing here is
    applicable.
    """

    name = "coco"
    version = "1"
    title = "COCO"
    source = (
        "Lin et al., ECCV 2014; cocodataset.org, detection evaluation; Edlund et al. (LIVECell), Nature Methods 18 "
        "(2021), Methods (areas, AFNR); Khalid et al. 2022 (DeepCIS)"
    )
    empties = "pooled: an image without truth adds only its false positives; no truth of a size leaves it undefined"
    overlaps: ClassVar[bool] = True
    Params = CocoParams
    params: CocoParams

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """Those of masks, then of boxes, then AP of each class where there are several."""
        small, large = (f"{a:g}" for a in self.params.areas)
        specs = []
        for prefix, kind in self.kinds():
            for name, meaning, which in (
                ("AP", "mean over IoU .50:.05:.95", ""),
                ("AP50", "IoU .50", ""),
                ("AP75", "IoU .75", ""),
                ("APs", f"truths up to {small} pixels", " of this size"),
                ("APm", f"truths of {small} to {large} pixels", " of this size"),
                ("APl", f"truths from {large} pixels", " of this size"),
            ):
                specs.append(
                    MetricSpec(
                        prefix + name,
                        True,
                        f"average precision of {kind}s, {meaning}",
                        f"undefined: there is no truth instance{which}",
                    )
                )
            no_truth = "undefined: there is no truth instance"
            specs.append(MetricSpec(prefix + "AR", True, f"average recall of {kind}s", no_truth))
            if self.params.afnr:
                specs.append(MetricSpec(prefix + "AFNR", False, f"average false-negative ratio of {kind}s", no_truth))
        if self._n_classes > 1:
            for prefix, kind in self.kinds():
                for label in self.classes:
                    specs.append(
                        MetricSpec(
                            f"{prefix}AP/{label}",
                            True,
                            f"average precision of {kind}s of class {label}",
                            f"undefined: there is no truth instance of class {label}",
                        )
                    )
        return tuple(specs)

    def kinds(self) -> list[tuple[str, str]]:
        """Prefix and name of what is compared."""
        return [item for item in _KINDS.items() if self.params.boxes or item[1] != "box"]

    @property
    def _n_classes(self) -> int:
        return len(self.classes) if self.params.use_classes else 1

    def measure(self, match: Match) -> _Evidence:
        """The verdict on every prediction, for masks and for boxes."""
        truth, prediction = match.truth, match.prediction
        truth_class = truth.class_ids if self.params.use_classes else np.zeros(len(truth), np.int64)
        predicted_class = prediction.class_ids if self.params.use_classes else np.zeros(len(prediction), np.int64)
        ranges = self.params.ranges()
        outside = (truth.sizes < ranges[:, :1]) | (truth.sizes > ranges[:, 1:]) | truth.crowd
        scores = np.zeros(len(prediction)) if prediction.scores is None else prediction.scores
        kept = surest(scores, predicted_class, self.params.max_detections)
        verdicts = []
        for _, kind in self.kinds():
            pairs = match.pairs if kind == "mask" else match.box_pairs
            near = np.flatnonzero(
                (pairs.iou >= THRESHOLDS[0]) & (truth_class[pairs.truth] == predicted_class[pairs.prediction])
            )
            areas = prediction.areas if kind == "mask" else _box_areas(prediction)
            verdicts.append(judge(pairs, near, kept, areas, outside, truth.crowd, ranges))
        truths = np.array([np.bincount(truth_class[~out], minlength=self._n_classes) for out in outside])
        hit, ignored = (np.array(bits) for bits in zip(*verdicts, strict=True))
        return _Evidence(scores[kept], predicted_class[kept].astype(np.int32), hit, ignored, truths)

    def pool(self, evidence: Sequence[_Evidence], scored: bool) -> Pool:
        """Rank the predictions of all images."""
        return _CocoPool(self, evidence, scored)


def _box_areas(masks: Masks) -> NDArray[np.float64]:
    sides = masks.boxes[:, 2:] - masks.boxes[:, :2]
    return np.asarray(sides[:, 0] * sides[:, 1])


class _CocoPool(Pool):
    def __init__(self, protocol: Coco, evidence: Sequence[_Evidence], scored: bool) -> None:
        self._protocol = protocol
        self._evidence = evidence
        self._scored = scored
        width = max(e.truths.shape[1] for e in evidence)
        # (images, ranges, classes)
        self._truths = np.array([np.pad(e.truths, ((0, 0), (0, width - e.truths.shape[1]))) for e in evidence])

    def values(self) -> dict[str, Value]:
        specs = self._protocol.metrics
        if not self._scored:
            return {spec.name: Value(None, NO_SCORES) for spec in specs}
        tables = []
        for kind in range(len(self._protocol.kinds())):
            precision, recall = self._undefined(1)
            for row, label, ranking in self._rankings(kind):
                for number, curve in enumerate(ranking.curves):
                    if curve.n_positive:
                        precision[row, number, label] = curve.levels(curves.coco_points).sum() / 101
                        recall[row, number, label] = curve.hits.size / curve.n_positive
            tables.append((precision, recall))
        found = self._summary(tables)
        values = {}
        for spec in specs:
            value = float(found[spec.name][0])
            values[spec.name] = Value(None, spec.undefined) if math.isnan(value) else Value(value)
        return values

    def resampled(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        if not self._scored:
            return {}
        tables = []
        for kind in range(len(self._protocol.kinds())):
            precision, recall = self._undefined(len(weights))
            for row, label, ranking in self._rankings(kind):
                precision[row, :, label], _ = ranking.resampled(weights, curves.coco_points)
                recall[row, :, label] = [_recall(ranking, curve, weights) for curve in ranking.curves]
            tables.append((precision, recall))
        return self._summary(tables)

    def images(self, keys: Sequence[str]) -> list[ImageMetric]:
        found = []
        for key, evidence in zip(keys, self._evidence, strict=True):
            hit, ignored = (bits[0, _ALL] >> _T50 & 1 for bits in (evidence.hit, evidence.ignored))
            tp = int(hit.sum())
            counts = tp, int(hit.size - ignored.sum()) - tp, int(evidence.truths[_ALL].sum()) - tp
            average = self._image_average(evidence) if self._scored else {}
            found.append(ImageMetric(key, "AP", average.get("AP")))
            found.append(ImageMetric(key, "AP50", average.get("AP50"), *counts))
        return found

    def _image_average(self, evidence: _Evidence) -> dict[str, float]:
        """AP and AP50 of the masks of one image by itself; empty where it has no truth."""
        of_class = []
        for label in np.flatnonzero(evidence.truths[_ALL]).tolist():
            mine = evidence.classes == label
            hit, ignored = evidence.hit[0, _ALL, mine], evidence.ignored[0, _ALL, mine]
            curves_ = _curves(hit, ignored, evidence.truths[_ALL, label : label + 1])
            of_class.append([c.levels(curves.coco_points).sum() / 101 for c in curves_])
        if not of_class:
            return {}
        table = np.array(of_class)
        return {"AP": float(table.mean()), "AP50": float(table[:, _T50].mean())}

    def _undefined(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Tables (ranges, thresholds, classes, count) in which nothing is defined yet."""
        _, n_ranges, n_classes = self._truths.shape
        shape = (n_ranges, len(THRESHOLDS), n_classes, count)
        return np.full(shape, np.nan), np.full(shape, np.nan)

    def _rankings(self, kind: int) -> Iterator[tuple[int, int, Ranking]]:
        """Of each range of areas and class that has truths, the detections with a curve for each threshold."""
        ranked = curves.order(np.concatenate([e.scores for e in self._evidence]))
        image = np.repeat(np.arange(len(self._evidence)), [e.scores.size for e in self._evidence])[ranked]
        classes = np.concatenate([e.classes for e in self._evidence])[ranked]
        for row in range(self._truths.shape[1]):
            hit, ignored = (
                np.concatenate([bits[kind, row] for bits in side])[ranked]
                for side in ([e.hit for e in self._evidence], [e.ignored for e in self._evidence])
            )
            for label in np.flatnonzero(self._truths[:, row].any(axis=0)).tolist():
                mine = classes == label
                found = _curves(hit[mine], ignored[mine], self._truths[:, row, label])
                yield row, label, Ranking(image[mine], found)

    def _summary(
        self, tables: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
    ) -> dict[str, NDArray[np.float64]]:
        """The metrics from precision and recall (ranges, thresholds, classes, R) of each kind."""
        found = {}
        for (prefix, _), (precision, recall) in zip(self._protocol.kinds(), tables, strict=True):
            found[f"{prefix}AP"] = _mean(precision[_ALL])
            found[f"{prefix}AP50"] = _mean(precision[_ALL, _T50])
            found[f"{prefix}AP75"] = _mean(precision[_ALL, _T75])
            for name, row in (("APs", _SMALL), ("APm", _MEDIUM), ("APl", _LARGE)):
                found[prefix + name] = _mean(precision[row])
            found[f"{prefix}AR"] = _mean(recall[_ALL])
            found[f"{prefix}AFNR"] = 1 - found[f"{prefix}AR"]
            for label, title in enumerate(self._protocol.classes):
                known = label < precision.shape[2]
                found[f"{prefix}AP/{title}"] = (
                    _mean(precision[_ALL, :, label]) if known else np.full(precision.shape[-1], np.nan)
                )
        return found


def _curves(hit: NDArray[np.uint16], ignored: NDArray[np.uint16], positives: NDArray[np.int64]) -> list[Curve]:
    """The curve of each IoU threshold, from the bits of ranked detections."""
    found = []
    for bit in range(len(THRESHOLDS)):
        hits = hit >> bit & 1
        left_out = ignored >> bit & 1
        if left_out.any():
            counted = np.flatnonzero(left_out == 0)
            found.append(Curve(counted, np.flatnonzero(hits[counted]), positives))
        else:
            found.append(Curve(None, np.flatnonzero(hits), positives))
    return found


def _recall(ranking: Ranking, curve: Curve, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    found = curve.hits if curve.counted is None else curve.counted[curve.hits]
    per_image = np.bincount(ranking.image[found], minlength=curve.positives.size)
    total = weights @ curve.positives
    return np.divide(weights @ per_image, total, out=np.full(len(weights), np.nan), where=total > 0)


def _mean(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over all but the last axis of what is defined."""
    return nan_mean(list(table.reshape(-1, table.shape[-1])), table.shape[-1])
