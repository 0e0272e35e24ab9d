"""What is predicted for, or true of, one image: its instances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_mask

from bench import rle
from bench.errors import DataError, UnknownNameError


@dataclass(frozen=True, eq=False)
class Instances:
    """The instances of one image, as masks that may overlap.

    Attributes:
        height: rows of the image, pixels.
        width: columns of the image, pixels.
        rles: N masks, each the compressed counts of a COCO RLE (column-major) over the whole image.
        class_ids: int64 (N,), indices into ``Task.classes``.
        scores: float64 (N,), higher is surer; ``None`` where a method has no confidence, which is never
            replaced by an invented one.
        boxes: float64 (N, 4), x0, y0, x1, y1 in pixels, x1 and y1 exclusive; the tight box of each mask
            unless the method says otherwise.
        crowd: bool (N,), regions that a scorer ignores (COCO ``iscrowd``); only in truth.

    Raises:
        DataError: lengths that differ, NaN scores, negative classes.
    """

    height: int
    width: int
    rles: tuple[bytes, ...] = ()
    class_ids: NDArray[np.int64] = None  # type: ignore[assignment]
    scores: NDArray[np.float64] | None = None
    boxes: NDArray[np.float64] = None  # type: ignore[assignment]
    crowd: NDArray[np.bool_] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        n = len(self.rles)
        set_(self, "rles", tuple(self.rles))
        set_(self, "class_ids", _column(self.class_ids, n, np.int64, 0, "class_ids"))
        set_(self, "crowd", _column(self.crowd, n, np.bool_, False, "crowd"))
        if self.scores is not None:
            set_(self, "scores", _column(self.scores, n, np.float64, 0, "scores"))
            if not np.isfinite(self.scores).all():
                raise DataError(f"score {int(np.flatnonzero(~np.isfinite(self.scores))[0])} is not a finite number")
        if n and self.class_ids.min() < 0:
            raise DataError("class ids must be 0 or more", "they index Task.classes")
        if self.boxes is None:
            set_(self, "boxes", rle.boxes(self.rles, self.height, self.width))
        else:
            boxes = np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4)
            if len(boxes) != n:
                raise DataError(f"{len(boxes)} boxes for {n} masks")
            set_(self, "boxes", boxes)

    def __len__(self) -> int:
        return len(self.rles)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Instances):
            return NotImplemented
        same_scores = (self.scores is None) == (other.scores is None) and (
            self.scores is None or np.array_equal(self.scores, other.scores)  # type: ignore[arg-type]
        )
        return (
            self.shape == other.shape
            and self.rles == other.rles
            and np.array_equal(self.class_ids, other.class_ids)
            and np.array_equal(self.boxes, other.boxes)
            and np.array_equal(self.crowd, other.crowd)
            and same_scores
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each mask, int64 (N,)."""
        return rle.areas(self.rles, self.height, self.width)

    # -- made from ------------------------------------------------------------------------------

    @classmethod
    def empty(cls, height: int, width: int, scored: bool = False) -> Instances:
        """No instance. With ``scored``, of a method that gives scores."""
        return cls(height, width, scores=np.zeros(0) if scored else None)

    @classmethod
    def from_masks(
        cls,
        masks: ArrayLike,
        *,
        class_ids: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        crowd: ArrayLike | None = None,
    ) -> Instances:
        """Instances from a stack of masks.

        Args:
            masks: (N, H, W), bool or {0, 1}; N may be 0 but H and W must be given by the shape.
            class_ids: (N,), default all 0.
            scores: (N,) or None.
            boxes: (N, 4) x0, y0, x1, y1; default the tight boxes.
            crowd: (N,), default all False.

        Raises:
            DataError: not three-dimensional, or not a mask.
        """
        stack = np.asarray(masks)
        if stack.ndim != 3:
            raise DataError(f"masks must be (N, H, W), not {stack.shape}")
        if stack.dtype != np.bool_:
            if stack.size and not np.isin(stack, (0, 1)).all():
                raise DataError("masks must be bool or {0, 1}", "use from_label_map for label images")
            stack = stack.astype(np.bool_)
        _, height, width = stack.shape
        return cls(height, width, tuple(rle.encode_masks(stack)), class_ids, scores, boxes, crowd)  # type: ignore[arg-type]

    @classmethod
    def from_label_map(
        cls,
        labels: ArrayLike,
        *,
        class_of: Mapping[int, int] | None = None,
        scores: Mapping[int, float] | None = None,
    ) -> Instances:
        """Instances from a label image: one per positive label, ascending, whatever its connectivity.

        Args:
            labels: (H, W) integers, 0 is background. An id with several components stays one instance.
            class_of: label -> class id; default all 0.
            scores: label -> score; default no scores.

        Raises:
            DataError: not a two-dimensional integer array, or negative labels.
        """
        array = np.asarray(labels)
        if array.ndim != 2:
            raise DataError(f"a label image must be (H, W), not {array.shape}")
        if array.dtype == np.bool_:
            array = array.astype(np.uint8)
        if not np.issubdtype(array.dtype, np.integer):
            raise DataError(f"a label image must hold integers, not {array.dtype}")
        if array.size and array.min() < 0:
            raise DataError(f"a label image holds the negative label {array.min()}")
        ids = np.unique(array)
        ids = ids[ids != 0]
        height, width = array.shape
        return cls(
            height,
            width,
            tuple(rle.encode_label_map(array, ids)),
            class_ids=None if class_of is None else np.array([class_of[int(i)] for i in ids], np.int64),  # type: ignore[arg-type]
            scores=None if scores is None else np.array([scores[int(i)] for i in ids], np.float64),
        )

    # -- turned into ----------------------------------------------------------------------------

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Mask ``index`` as bool (H, W)."""
        return rle.decode(self.rles[index], self.height, self.width)

    def to_masks(self) -> NDArray[np.bool_]:
        """All masks as bool (N, H, W). One image of 2,000 instances can need gigabytes: prefer :meth:`mask`."""
        if not self.rles:
            return np.zeros((0, self.height, self.width), np.bool_)
        stack = coco_mask.decode(rle.objects(self.rles, self.height, self.width))
        return np.ascontiguousarray(np.moveaxis(stack, -1, 0)).view(np.bool_)

    def to_label_map(self, policy: str = "score", **options: Any) -> NDArray[np.int32]:
        """A label image in which no two instances overlap.

        Label ``i + 1`` is instance ``i``; an instance that the policy drops leaves a gap in the labels.

        Args:
            policy: a name in :data:`OVERLAP_POLICIES`.
            options: parameters of the policy.

        Returns:
            int32 (H, W).

        Raises:
            UnknownNameError: no such policy.
            DataError: policy ``"forbid"`` and two instances that overlap.
        """
        return overlap_policy(policy)(self, **options)

    def without_overlap(self, policy: str = "score", **options: Any) -> Instances:
        """The same instances as :meth:`to_label_map` leaves them; class, score and crowd go along."""
        labels = self.to_label_map(policy, **options)
        kept = np.unique(labels)
        kept = kept[kept != 0]
        return self.take(kept - 1, rles=rle.encode_label_map(labels, kept))

    def take(self, index: ArrayLike, *, rles: Sequence[bytes] | None = None) -> Instances:
        """The instances at ``index`` (integers or a bool mask), in that order; ``rles`` replaces their masks."""
        rows = np.asarray(index)
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
        return Instances(
            self.height,
            self.width,
            tuple(self.rles[int(i)] for i in rows) if rles is None else tuple(rles),
            self.class_ids[rows],
            None if self.scores is None else self.scores[rows],
            self.boxes[rows] if rles is None else None,  # type: ignore[arg-type]
            self.crowd[rows],
        )

    def top(self, count: int) -> Instances:
        """The ``count`` instances of highest score (ties by order), or the first ones where there are no scores."""
        if len(self) <= count:
            return self
        if self.scores is None:
            return self.take(np.arange(count))
        return self.take(np.sort(np.argsort(-self.scores, kind="stable")[:count]))

    def at_least(self, score: float | None) -> Instances:
        """The instances of at least that score; all where they have none, or None is asked for."""
        if score is None or self.scores is None:
            return self
        return self.take(self.scores >= score)

    def checked(self) -> Instances:
        """Itself, once every mask is known to describe exactly this image.

        Raises:
            DataError: a mask of another size or with illegal characters, with its index.
        """
        for index, counts in enumerate(self.rles):
            try:
                rle.check(counts, self.height, self.width)
            except DataError as error:
                raise DataError(f"mask {index}: {error.message}", error.hint) from None
        return self


def _column(values: Any, n: int, dtype: Any, default: Any, name: str) -> NDArray[Any]:
    if values is None:
        return np.full(n, default, dtype)
    column = np.asarray(values, dtype=dtype).reshape(-1)
    if len(column) != n:
        raise DataError(f"{len(column)} {name} for {n} masks")
    return column


# -- overlap policies -------------------------------------------------------------------------------

OverlapPolicy = Callable[..., NDArray[np.int32]]
_POLICIES: dict[str, OverlapPolicy] = {}
OVERLAP_POLICIES: Mapping[str, OverlapPolicy] = MappingProxyType(_POLICIES)
"""Every way to turn overlapping masks into a label image, by name."""


def overlap_policy(name: str) -> OverlapPolicy:
    """The policy of that name.

    Raises:
        UnknownNameError: there is none.
    """
    try:
        return _POLICIES[name]
    except KeyError:
        raise UnknownNameError("overlap policy", name, _POLICIES) from None


def _policy(name: str) -> Callable[[OverlapPolicy], OverlapPolicy]:
    def register(function: OverlapPolicy) -> OverlapPolicy:
        _POLICIES[name] = function
        return function

    return register


def _tight(instances: Instances) -> NDArray[np.float64]:
    # Boxes given by a method need not contain its mask: ask the mask.
    return rle.boxes(instances.rles, instances.height, instances.width)


def _rank(instances: Instances, tight: NDArray[np.integer]) -> NDArray[np.int64]:
    """Highest score first; ties, and methods without scores, by larger area, then by place, then by index."""
    scores = np.zeros(len(instances)) if instances.scores is None else instances.scores
    x0, y0, x1, y1 = tight.T
    return np.lexsort((np.arange(len(instances)), y1, x1, y0, x0, -instances.areas, -scores))


@_policy("score")
def _by_score(
    instances: Instances, *, min_remaining: float = 0.5, min_area: int = 1, largest_component: bool = True
) -> NDArray[np.int32]:
    """The surest instance keeps its pixels; what a later one has left must be most of it.

    In order of score (ties by area, then from left to right, then by index) each instance takes its pixels that no
    earlier one has. It is dropped if less than ``min_remaining`` of its own area, or fewer than ``min_area`` pixels,
    remain; of the rest it keeps the largest 8-connected component, if it lost any pixel.
    """
    labels = np.zeros(instances.shape, np.int32)
    tight = _tight(instances).astype(np.int64)
    for index in _rank(instances, tight):
        area = int(instances.areas[index])
        if area == 0:
            continue
        x0, y0, x1, y1 = tight[index]
        window = labels[y0:y1, x0:x1]
        free = instances.mask(index)[y0:y1, x0:x1] & (window == 0)
        left = int(free.sum())
        if left < max(min_area, 1) or left < min_remaining * area:
            continue
        if largest_component and left < area:
            free = _largest_component(free)
        window[free] = index + 1
    return labels


@_policy("index")
def _by_index(instances: Instances) -> NDArray[np.int32]:
    """The earlier instance keeps the shared pixels; nothing else is changed. For truth that overlaps a little."""
    labels = np.zeros(instances.shape, np.int32)
    for index in range(len(instances) - 1, -1, -1):
        labels[instances.mask(index)] = index + 1
    return labels


@_policy("smallest")
def _smallest_on_top(instances: Instances) -> NDArray[np.int32]:
    """The smaller instance keeps the shared pixels, so that none is hidden under a larger one."""
    labels = np.zeros(instances.shape, np.int32)
    for index in np.lexsort((np.arange(len(instances)), -instances.areas)):
        labels[instances.mask(int(index))] = index + 1
    return labels


@_policy("forbid")
def _forbid(instances: Instances) -> NDArray[np.int32]:
    """Two instances that share a pixel are an error."""
    labels = np.zeros(instances.shape, np.int32)
    for index in range(len(instances)):
        mask = instances.mask(index)
        if (shared := labels[mask]).any():
            raise DataError(f"instances {int(shared.max()) - 1} and {index} overlap", "choose an overlap policy")
        labels[mask] = index + 1
    return labels


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    from scipy import ndimage  # slow to import, and seldom needed

    components, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count < 2:
        return mask
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.asarray(components == sizes.argmax())


# -- a sample ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of a data set with its truth.

    Attributes:
        id: key of the image, unique in its data set version.
        image: (H, W) gray or (H, W, C) colour, uint8 or uint16, rows first.
        instances: the truth, or None where there is none (unlabelled images, or a test whose truth is withheld).
        group: what bootstrap intervals resample together (a sequence, a donor, a slide), or None.
    """

    id: str
    image: NDArray[Any]
    instances: Instances | None = None
    group: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image.ndim not in (2, 3) or self.image.dtype not in (np.uint8, np.uint16):
            raise DataError(
                f"image {self.id}: {self.image.dtype} {self.image.shape} is not a gray or colour image of 8 or 16 bit"
            )
        if self.instances is not None and self.instances.shape != self.image.shape[:2]:
            raise DataError(
                f"image {self.id}: its masks are {self.instances.height} x {self.instances.width} pixels, "
                f"the image is {self.image.shape[0]} x {self.image.shape[1]}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[0], self.image.shape[1]
