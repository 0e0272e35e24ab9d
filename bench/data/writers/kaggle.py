"""A Kaggle table: one run-length encoded mask a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from bench.data import kaggle_rle
from bench.data.system import writing
from bench.data.writers.base import Annotated
from bench.errors import DataError


def write_kaggle(
    path: Path,
    images: Iterable[Annotated],
    order: kaggle_rle.Order,
    *,
    id_column: str = "id",
    mask_column: str = "predicted",
    policy: str | None = "score",
) -> int:
    """A submission, or truth, as a table. An image without an instance has one row with an empty mask.

    Args:
        path: of the file.
        images: one after the other.
        order: whether pixels are counted along ``row`` (Sartorius) or ``column`` (Data Science Bowl 2018).
        id_column: name of the column of ids.
        mask_column: name of the column of masks.
        policy: what becomes of overlaps, which a submission must not have; None leaves the masks as they are.

    Returns:
        how many rows were written.

    Raises:
        DataError: instances that overlap under the policy ``forbid``.
        OutputError: the file cannot be written.
    """
    count = 0
    with writing(path) as file:
        file.write(_row(id_column, mask_column))
        for image in images:
            try:
                its = image.instances if policy is None else image.instances.without_overlap(policy)
            except DataError as error:
                raise DataError(f"image {image.id}: {error.message}", error.hint) from None
            for text in [kaggle_rle.encode(c, its.height, its.width, order) for c in its.rles] or [""]:
                file.write(_row(image.id, text))
                count += 1
    return count


def _row(*fields: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()
