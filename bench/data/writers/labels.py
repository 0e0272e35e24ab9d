"""Label images: one 16-bit TIFF an image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from bench.data import tiff
from bench.data.system import write_whole
from bench.data.writers.base import MOST_LABELS, Annotated
from bench.errors import DataError
from bench.instances import Instances


def write_label_images(folder: Path, images: Iterable[Annotated], policy: str = "forbid") -> list[Path]:
    """One label image an image, ``<folder>/<id>.tif``; label ``i + 1`` is instance ``i``.

    Args:
        folder: made if need be; an id with slashes goes into folders below it.
        images: one after the other.
        policy: what becomes of overlaps, a name in :data:`bench.instances.OVERLAP_POLICIES`; ``forbid`` loses no
            pixel.

    Returns:
        the files, in the order of the images.

    Raises:
        DataError: instances that overlap under the policy ``forbid``, more than 65,535 of them, or an id that is no
            file name.
        OutputError: a file cannot be written.
    """
    written = []
    for image in images:
        name = PurePosixPath(image.id)
        if name.is_absolute() or ".." in name.parts or not name.name:
            raise DataError(f"the image id {image.id!r} cannot be a file name")
        path = folder / f"{name}.tif"
        write_whole(path, tiff.encode(label_image(image, policy)))
        written.append(path)
    return written


def label_image(image: Annotated, policy: str) -> NDArray[np.uint16]:
    """The instances of an image as (H, W) uint16; see :func:`write_label_images`."""
    instances: Instances = image.instances
    if len(instances) > MOST_LABELS:
        raise DataError(f"image {image.id} has {len(instances)} instances, a 16-bit label image holds {MOST_LABELS}")
    try:
        return instances.to_label_map(policy).astype(np.uint16)
    except DataError as error:
        raise DataError(f"image {image.id}: {error.message}", error.hint) from None
