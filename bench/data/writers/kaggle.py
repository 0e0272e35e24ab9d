"""A Kaggle table: one run-length encoded mask a row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
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
    class_column: str | None = None,
    height_column: str | None = None,
    width_column: str | None = None,
    group_column: str | None = None,
    classes: Sequence[str] = (),
    policy: str | None = "score",
) -> int:
    """A submission, or truth, as a table. An image without an instance has one row with an empty mask.

    Args:
        path: of the file.
        images: one after the other.
        order: whether pixels are counted along ``row`` (Sartorius) or ``column`` (Data Science Bowl 2018).
        id_column: name of the column of ids.
        mask_column: name of the column of masks.
        class_column: name of a column for the class of each mask; None writes none. The same for the next three.
        height_column: for the height of the image, pixels.
        width_column: for its width.
        group_column: for its group.
        classes: names of the classes, for ``class_column``.
        policy: what becomes of overlaps, which a submission must not have; None leaves the masks as they are.

    Returns:
        how many rows were written.

    Raises:
        DataError: instances that overlap under the policy ``forbid``.
        OutputError: the file cannot be written.
    """
    count = 0
    further = [c for c in (width_column, height_column, class_column, group_column) if c is not None]
    with writing(path) as file:
        file.write(_row(id_column, mask_column, *further))
        for image in images:
            try:
                its = image.instances if policy is None else image.instances.without_overlap(policy)
            except DataError as error:
                raise DataError(f"image {image.id}: {error.message}", error.hint) from None
            texts = [kaggle_rle.encode(c, its.height, its.width, order) for c in its.rles]
            names = [classes[c] for c in its.class_ids.tolist()] if class_column is not None else [""] * len(its)
            for text, name in zip(texts, names, strict=True) if texts else [("", "")]:
                values = (
                    (width_column, str(its.width)),
                    (height_column, str(its.height)),
                    (class_column, name),
                    (group_column, image.group or ""),
                )
                file.write(_row(image.id, text, *(value for column, value in values if column is not None)))
                count += 1
    return count


def _row(*fields: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()
