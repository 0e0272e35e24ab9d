"""What an external method and its tool exchange: images out, instances in. Whatever comes in is checked."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.api import DataError, Instances, MethodError, OutputError

IMAGE_FORMATS = (".tif", ".png", ".npy")
"""What an image can be written as."""
ANSWER_FORMATS = (".npz", ".npy", ".tif", ".png", ".json")
"""What an answer can be read from: arrays, a label image, or COCO results."""


def write_image(path: Path, image: NDArray[Any]) -> None:
    """Write an image as ``path`` says: TIFF, PNG or NPY, its pixels unchanged.

    Raises:
        MethodError: another suffix, or a PNG of an image that PNG cannot hold.
        OutputError: the disk is full or the folder read-only.
    """
    try:
        _write(path, image)
    except OSError as error:
        raise OutputError(
            f"cannot write to {path.parent}: {error.strerror or error}", "set TMPDIR to another folder"
        ) from error


def _write(path: Path, image: NDArray[Any]) -> None:
    if path.suffix == ".npy":
        np.save(path, image, allow_pickle=False)
    elif path.suffix == ".tif":
        import tifffile

        tifffile.imwrite(path, image, photometric="rgb" if image.ndim == 3 and image.shape[2] >= 3 else "minisblack")
    elif path.suffix == ".png":
        from PIL import Image

        if image.dtype != np.uint8 and image.ndim == 3:
            raise MethodError("a colour image of 16 bit cannot be written as PNG", "declare image_format = '.tif'")
        Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image).save(path)
    else:
        raise MethodError(f"images cannot be written as {path.suffix!r}", f"one of {', '.join(IMAGE_FORMATS)}")


def read_answer(path: Path, height: int, width: int, classes: int = 1) -> Instances:
    """The instances that a tool has written, checked against the image.

    Args:
        path: ``.npz`` with ``found``, a label image (H, W) of integers or masks (N, H, W) of bool, and if there are
            scores ``scores`` (N,), those of labels in ascending order; ``.npy``, ``.tif`` or ``.png`` with either
            alone; ``.json`` with COCO results: a list of ``{"segmentation": {"size", "counts"}, "score",
            "category_id"}``, of which score (all or none) and category (1 is the first class) may be left out.
        height: of the image, pixels.
        width: of the image, pixels.
        classes: how many classes there are.

    Raises:
        DataError: no file, not what its name says, another size, negative labels, illegal RLE, NaN scores.
    """
    if not path.is_file():
        raise DataError("it has written no answer")
    if path.suffix == ".json":
        instances = _from_coco(_json(path), height, width, classes)
    else:
        found, scores = _arrays(path)
        instances = _from_array(found, scores)
    if instances.shape != (height, width):
        raise DataError(
            f"its answer is {instances.height} x {instances.width} pixels, the image is {height} x {width}",
            "the tool must answer at the image's own resolution",
        )
    return instances.checked()


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return archive["found"], archive.get("scores")
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False), None
        if path.suffix == ".tif":
            import tifffile

            return tifffile.imread(path), None
        if path.suffix == ".png":
            from PIL import Image

            with Image.open(path) as picture:
                return np.asarray(picture), None
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"its answer cannot be read as {path.suffix}: {reason}") from error
    raise DataError(f"an answer cannot be a {path.suffix!r} file", f"one of {', '.join(ANSWER_FORMATS)}")


def _from_array(found: NDArray[Any], scores: NDArray[np.float64] | None) -> Instances:
    if found.ndim == 3:
        return Instances.from_masks(found, scores=scores)
    instances = Instances.from_label_map(found)
    if scores is None:
        return instances
    return Instances(instances.height, instances.width, instances.rles, scores=scores)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"its answer is no JSON: {error}") from error


def _from_coco(results: Any, height: int, width: int, classes: int) -> Instances:
    if not isinstance(results, list):
        raise DataError(f"its answer is a JSON {type(results).__name__}, not a list of COCO results")
    rles, labels, scores = [], [], []
    for index, result in enumerate(results):
        try:
            size, counts = result["segmentation"]["size"], result["segmentation"]["counts"]
            label = int(result.get("category_id", 1)) - 1
            if "score" in result:
                scores.append(float(result["score"]))
            if list(size) != [height, width]:
                raise DataError(
                    f"its mask {index} is of an image of {size[0]} x {size[1]} pixels, not {height} x {width}"
                )
            rles.append(counts.encode("ascii"))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise DataError(f"its result {index} is no COCO result with a compressed RLE: {error!r}") from error
        if not 0 <= label < classes:
            raise DataError(f"its result {index} has category_id {label + 1}", f"there are {classes}, from 1")
        labels.append(label)
    if scores and len(scores) != len(rles):
        raise DataError(f"{len(scores)} of its {len(rles)} results have a score", "give all of them one, or none")
    return Instances(height, width, tuple(rles), labels, scores if scores else None)  # type: ignore[arg-type]
