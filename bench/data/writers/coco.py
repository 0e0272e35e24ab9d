"""COCO JSON: truth with images, categories and annotations, and predictions as a list of results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.data.system import writing
from bench.data.writers.base import Annotated
from bench.errors import DataError
from bench.instances import Instances

_ENCODER = msgspec.json.Encoder()


def write_coco(
    path: Path,
    images: Iterable[Annotated],
    classes: Sequence[str],
    info: Mapping[str, Any] | None = None,
    ids: Mapping[str, int | str] | None = None,
) -> int:
    """Truth as a COCO file, with masks as compressed RLE and areas and boxes of the masks.

    Images, categories and annotations are numbered from 1 (scorers take 0 for "no match").

    Args:
        path: of the file.
        images: one after the other.
        classes: names of the classes.
        info: the file's field of that name: what the data are and where they are from.
        ids: id of an image -> its id in the file; default its place in the list.

    Returns:
        how many annotations were written.

    Raises:
        DataError: a class id without a name.
        OutputError: the file cannot be written.
    """
    listed: list[dict[str, Any]] = []
    count = 0
    with writing(path) as file:
        file.write(b'{"info":' + _ENCODER.encode(info or {}) + b',"annotations":[')
        for place, image in enumerate(images, 1):
            number = place if ids is None else ids[image.id]
            its = image.instances
            _check_classes(image, len(classes))
            listed.append({"id": number, "file_name": image.file or image.id, "height": its.height, "width": its.width})
            for i in range(len(its)):
                annotation = {
                    "id": count + 1,
                    "image_id": number,
                    **_segment(its, i),
                    "area": int(its.areas[i]),
                    "bbox": _box(its, i),
                    "iscrowd": int(its.crowd[i]),
                }
                file.write((b"," if count else b"") + _ENCODER.encode(annotation))
                count += 1
        file.write(b'],"images":' + _ENCODER.encode(listed))
        categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
        file.write(b',"categories":' + _ENCODER.encode(categories) + b"}\n")
    return count


def write_coco_results(
    path: Path,
    images: Iterable[Annotated],
    numbers: Mapping[str, int | str] | None = None,
    boxes: bool = False,
) -> int:
    """Predictions as a list of COCO results.

    Predictions of a method that gives no scores are written without scores.

    Args:
        path: of the file.
        images: one after the other.
        numbers: id of an image -> its id in the truth; default the id itself.
        boxes: whether boxes are written, as those of a method that gives boxes of its own. Without them every program
            takes the tight box of a mask; with them some take the area of the box for that of the mask.

    Returns:
        how many results were written.

    Raises:
        DataError: an image without a number.
        OutputError: the file cannot be written.
    """
    count = 0
    with writing(path) as file:
        file.write(b"[")
        for image in images:
            if numbers is not None and image.id not in numbers:
                raise DataError(f"image {image.id} has no number in the truth")
            number = image.id if numbers is None else numbers[image.id]
            its = image.instances
            for i in range(len(its)):
                result: dict[str, Any] = {"image_id": number, **_segment(its, i)}
                if boxes:
                    result["bbox"] = _box(its, i)
                if its.scores is not None:
                    result["score"] = float(its.scores[i])
                file.write((b"," if count else b"") + _ENCODER.encode(result))
                count += 1
        file.write(b"]\n")
    return count


def _box(instances: Instances, index: int) -> list[float]:
    x0, y0, x1, y1 = instances.boxes[index].tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def _segment(instances: Instances, index: int) -> dict[str, Any]:
    return {
        "category_id": int(instances.class_ids[index]) + 1,
        "segmentation": {"size": list(instances.shape), "counts": instances.rles[index].decode("ascii")},
    }


def _check_classes(image: Annotated, classes: int) -> None:
    ids = image.instances.class_ids
    if len(ids) and int(ids.max()) >= classes:
        raise DataError(f"image {image.id} has an instance of class {int(ids.max())}, of {classes} classes")
