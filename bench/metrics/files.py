"""Truths and predictions in COCO JSON, for scoring without a data set.

A file is read once and split by image; an image's masks are decoded where it is scored. What is wrong with a mask is
said with the file and the annotation. (Submissions: :mod:`bench.metrics.submission`. Label images need nothing but
their pixels and are read by the engine.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench.api import DataError
from bench.decoding import not_json, wrong_content
from bench.metrics import runs as runs_
from bench.metrics.matching import Masks
from bench.metrics.runs import Runs


class _Image(msgspec.Struct, gc=False):
    id: int | str
    file_name: str = ""
    height: int = 0
    width: int = 0


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str = ""


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int | None = None
    id: int | str | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    bbox: msgspec.Raw = msgspec.Raw(b"null")
    area: float | None = None
    iscrowd: int | bool = 0
    score: float | None = None


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: msgspec.Raw
    categories: list[_Category] = []


class _RunLengths(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


_SEGMENTATION = msgspec.json.Decoder(_RunLengths | list[list[float]] | None)
_BOX = msgspec.json.Decoder(tuple[float, float, float, float] | None)
_LIST = msgspec.json.Decoder(list[_Annotation])
_MAP = msgspec.json.Decoder(dict[str, _Annotation])


FARTHEST = 10
"""How far a polygon or a box may reach, in the height and width of its image together."""


@dataclass(frozen=True, eq=False)
class CocoImage:
    """An image of a COCO JSON file, with its annotations, not yet decoded."""

    id: int | str
    file_name: str
    height: int
    width: int
    annotations: tuple[tuple[int, Any], ...]  # position in the file, annotation


class CocoTruth:
    """The truth of a COCO JSON file.

    Args:
        path: the file.

    Attributes:
        images: in the order of the file.
        classes: names of its categories, ordered by their ids.
        class_of: category id -> class id.

    Raises:
        DataError: no such file, not COCO JSON, ids that come twice or are not listed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        data = read_bytes(path)
        file = _decoded(path, msgspec.json.Decoder(_File), data)
        annotations = _annotations(path, file.annotations)
        categories = sorted(file.categories, key=lambda category: category.id)
        if len({c.id for c in categories}) < len(categories):
            raise DataError(f"{path}: two categories have the same id")
        self.classes = tuple(c.name or str(c.id) for c in categories) or ("cell",)
        self.class_of: dict[int | None, int] = {c.id: i for i, c in enumerate(categories)} or {None: 0}
        by_image: dict[int | str, list[tuple[int, _Annotation]]] = {}
        for image in file.images:
            if image.id in by_image:
                raise DataError(f"{path}: two images have the id {image.id}")
            if image.height < 1 or image.width < 1:
                raise DataError(f"{path}: image {image.id} has no height and width")
            by_image[image.id] = []
        seen: set[int | str] = set()
        for position, annotation in enumerate(annotations):
            name = f"annotation {annotation.id if annotation.id is not None else position}"
            if annotation.id is not None:
                if annotation.id in seen:
                    raise DataError(f"{path}: two annotations have the id {annotation.id}")
                seen.add(annotation.id)
            if annotation.image_id not in by_image:
                raise DataError(f"{path}: {name} is of image {annotation.image_id}, which is not listed")
            if categories and annotation.category_id not in self.class_of:
                raise DataError(f"{path}: {name} has the category {annotation.category_id}, which is not listed")
            by_image[annotation.image_id].append((position, annotation))
        self.images = tuple(CocoImage(i.id, i.file_name, i.height, i.width, tuple(by_image[i.id])) for i in file.images)
        if not self.images:
            raise DataError(f"{path}: it lists no image", "its field images names every image that was annotated")

    def masks(self, index: int) -> Masks:
        """The truth of an image; annotations without a pixel are left out, as nothing could match them.

        Raises:
            DataError: a mask that does not describe the image.
        """
        image = self.images[index]

        def name(position: int, annotation: _Annotation) -> str:
            return f"{self.path}: annotation {annotation.id if annotation.id is not None else position}"

        masks = _masks(image, image.annotations, self.class_of, name, scored=False)
        filled = masks.areas > 0
        if filled.all():
            return masks
        kept = np.flatnonzero(filled)
        return Masks(
            masks.runs.take(kept),
            masks.class_ids[kept],
            None,
            masks.boxes[kept],
            masks.crowd[kept],
            masks.sizes[kept],
        )


class CocoResults:
    """The predictions of a COCO results file: a list of results, or a COCO JSON whose annotations are predictions.

    Args:
        path: the file.

    Attributes:
        image_ids: of the images that have predictions.
        scored: whether the results carry scores.
        categories: ids of the categories that occur.

    Raises:
        DataError: no such file, not COCO results, a score that is not a number, or scores in some results only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        data = read_bytes(path)
        if data.lstrip()[:1] == b"{":
            results = _annotations(path, _decoded(path, msgspec.json.Decoder(_File), data).annotations)
        else:
            results = _annotations(path, msgspec.Raw(data))
        self._by_image: dict[int | str, list[tuple[int, _Annotation]]] = {}
        self.categories: set[int] = set()
        seen: set[int | str] = set()
        n_scored = 0
        for position, result in enumerate(results):
            if result.score is not None:
                n_scored += 1
                if not math.isfinite(result.score):
                    raise _bad_score(path, position, result.image_id, result.score)
            if result.id is not None:
                if result.id in seen:
                    raise DataError(f"{path}: two results have the id {result.id}")
                seen.add(result.id)
            if result.category_id is not None:
                self.categories.add(result.category_id)
            self._by_image.setdefault(result.image_id, []).append((position, result))
        if 0 < n_scored < len(results):
            without = next(i for i, r in enumerate(results) if r.score is None)
            raise DataError(f"{path}: result {without} has no score", "give every result a score, or none")
        self.scored = n_scored > 0
        self.image_ids = tuple(self._by_image)
        self._count = len(results)

    def masks(
        self, image_id: int | str | None, height: int, width: int, class_of: dict[int | None, int] | None
    ) -> Masks:
        """The predictions for an image.

        Args:
            image_id: of the file, or None for one without predictions.
            height: of the image.
            width: of the image.
            class_of: category id -> class id, or None where classes do not matter.

        Raises:
            DataError: a mask that does not describe the image, or a category that the truth does not have.
        """
        results = () if image_id is None else tuple(self._by_image[image_id])
        image = CocoImage(image_id or "", "", height, width, results)

        def name(position: int, _: _Annotation) -> str:
            return f"{self.path}: result {position} (image {image_id})"

        if class_of is not None:
            for position, result in results:
                if result.category_id not in class_of:
                    raise DataError(
                        f"{name(position, result)}: the truth does not list its category {result.category_id}",
                        f"it lists: {', '.join(str(c) for c in class_of)}",
                    )
        return _masks(image, results, class_of, name, scored=self.scored or not self._count)


def _masks(
    image: CocoImage,
    annotations: Sequence[tuple[int, _Annotation]],
    class_of: dict[int | None, int] | None,
    name: Callable[[int, _Annotation], str],
    *,
    scored: bool,
) -> Masks:
    rles = [_rle(annotation, image, partial(name, position, annotation)) for position, annotation in annotations]
    try:
        runs = runs_.from_rles(rles, image.height, image.width)
    except runs_.MaskError as error:
        message = error.message.partition(": ")[2]
        raise DataError(f"{name(*annotations[error.index])}: {message}", error.hint) from None
    found = [annotation for _, annotation in annotations]
    boxes = _boxes(found, runs, lambda i: name(*annotations[i]))
    areas = [annotation.area for annotation in found]
    return Masks(
        runs,
        np.array([class_of[a.category_id] if class_of and a.category_id in class_of else 0 for a in found], np.int64),
        np.array([a.score for a in found], np.float64) if scored else None,
        boxes,
        np.array([bool(a.iscrowd) for a in found], np.bool_),
        runs.areas if not areas or None in areas else np.array(areas, np.float64),
    )


def _rle(annotation: _Annotation, image: CocoImage, name: Callable[[], str]) -> bytes:
    """A segmentation as compressed counts, whole or not."""
    try:
        segmentation = _SEGMENTATION.decode(annotation.segmentation)
    except msgspec.DecodeError as error:
        raise DataError(
            f"{name()}: not a COCO segmentation: {wrong_content(error)}", "RLE with size and counts, or polygons"
        ) from None
    height, width = image.height, image.width
    if isinstance(segmentation, _RunLengths):
        if segmentation.size != (height, width):
            raise DataError(
                f"{name()}: its RLE is of {segmentation.size[0]} x {segmentation.size[1]} pixels, "
                f"image {image.id} of {height} x {width}"
            )
        if isinstance(segmentation.counts, str):
            return segmentation.counts.encode()
        if sum(segmentation.counts) != height * width or min(segmentation.counts, default=0) < 0:
            raise DataError(
                f"{name()}: an RLE covers {sum(segmentation.counts)} pixels where its image has "
                f"{height} x {width} = {height * width}"
            )
        counts: bytes = coco_mask.frPyObjects({"size": [height, width], "counts": segmentation.counts}, height, width)[
            "counts"
        ]
        return counts
    polygons = [polygon for polygon in segmentation or () if len(polygon) >= 6]
    if any(len(polygon) % 2 for polygon in polygons):
        raise DataError(f"{name()}: a polygon with an odd number of coordinates")
    farthest = max((abs(number) for polygon in polygons for number in polygon), default=0.0)
    if farthest > FARTHEST * (height + width):  # the COCO API's rasteriser follows every outline to its end
        raise DataError(
            f"{name()}: a polygon reaches {farthest:g}, image {image.id} is {height} x {width} pixels",
            "coordinates are pixels of the image",
        )
    if not polygons:
        if annotation.score is not None:
            raise DataError(f"{name()} has no mask", "predictions are scored by their masks: give a segmentation")
        counts = coco_mask.encode(np.zeros((height, width), np.uint8, order="F"))["counts"]
        return counts
    parts = coco_mask.frPyObjects(polygons, height, width)
    counts = coco_mask.merge(parts)["counts"] if len(parts) > 1 else parts[0]["counts"]
    return counts


def _boxes(found: Sequence[_Annotation], runs: Runs, name: Callable[[int], str]) -> NDArray[np.float64]:
    """The boxes that the file gives, where it gives all; else the tight ones."""
    if not found or bytes(found[0].bbox) == b"null":
        return runs.boxes
    given = []
    for index, annotation in enumerate(found):
        try:
            box = _BOX.decode(annotation.bbox)
        except msgspec.DecodeError as error:
            raise DataError(f"{name(index)}: not a COCO box: {wrong_content(error)}", "x, y, width, height") from None
        if box is None:
            return runs.boxes
        given.append(box)
    boxes = np.array(given)
    far = np.flatnonzero((np.abs(boxes) > FARTHEST * (runs.height + runs.width)).any(axis=1))
    if far.size:
        reach = np.abs(boxes[far[0]]).max()
        raise DataError(
            f"{name(int(far[0]))}: a box reaches {reach:g}, its image is {runs.height} x {runs.width} pixels",
            "x, y, width, height in pixels of the image",
        )
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _annotations(path: Path, raw: msgspec.Raw) -> list[_Annotation]:
    data = bytes(memoryview(raw)[:64]).lstrip()
    if data[:1] == b"{":  # as some LIVECell files have it
        return list(_decoded(path, _MAP, raw).values())
    found: list[_Annotation] = _decoded(path, _LIST, raw)
    return found


def read_bytes(path: Path) -> bytes:
    """A file, whole.

    Raises:
        DataError: it is not there or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _decoded(path: Path, decoder: Any, data: Any) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        start = bytes(memoryview(data)[:64]).lstrip()[:1]
        hint = "a list is COCO results, which are predictions" if decoder.type is _File and start == b"[" else None
        raise DataError(f"{path}: not COCO: {wrong_content(error)}", hint) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(path, bytes(data), error) from None


def _not_json(path: Path, data: bytes, error: Exception) -> DataError:
    """Python's writers put NaN and Infinity into JSON, which has neither: find the score it is about."""
    try:
        found = json.loads(data.decode())
    except ValueError:
        why, hint = not_json(error, data)
        return DataError(f"{path}: not JSON: {why}", hint)
    results = found.get("annotations", []) if isinstance(found, dict) else found
    for position, result in enumerate(results if isinstance(results, list) else []):
        value = result.get("score") if isinstance(result, dict) else None
        if isinstance(value, float) and not math.isfinite(value):
            return _bad_score(path, position, result.get("image_id"), value)
    return DataError(f"{path}: not JSON: it holds NaN or Infinity", "write finite numbers, or null")


def _bad_score(path: Path, position: int, image_id: Any, value: float) -> DataError:
    return DataError(f"{path}: result {position} (image {image_id}): its score is {value}", "scores are finite numbers")
