"""Predictions in a Kaggle submission: a CSV with a run-length encoded mask a row."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.api import DataError, UsageError
from bench.metrics import runs as runs_
from bench.metrics.files import read_bytes
from bench.metrics.matching import Masks

_ID_COLUMNS = ("ImageId", "id", "image_id")
_RLE_COLUMNS = {"predicted": "row", "annotation": "row", "EncodedPixels": "column"}
"""Column of the masks -> how the competition that named it so counts pixels: Sartorius, Data Science Bowl 2018."""
LONGEST_COLUMN, MOST_COLUMNS = 30, 8
"""Characters of a column's name, and columns, that an error shows."""


class KaggleSubmission:
    """Predictions in a submission: one mask a row, pixels counted from 1.

    Args:
        path: the file.
        order: ``row`` or ``column``, how pixels are counted; default by the name of the column of masks.

    Attributes:
        image_ids: of the images that have a row, be it an empty one.

    Raises:
        DataError: no such file, or columns that are missing.
        UsageError: the order is neither given nor told by the column's name.
    """

    def __init__(self, path: Path, order: str | None = None) -> None:
        self.path = path
        try:
            text = read_bytes(path).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"{path}: not a CSV file of text") from None
        csv.field_size_limit(sys.maxsize)  # a large mask is longer than the module's default allows
        reader = csv.reader(text.splitlines())
        header = next(reader, [])
        names = [name.strip() for name in header]
        id_column = next((names.index(c) for c in _ID_COLUMNS if c in names), None)
        rle_column = next((names.index(c) for c in _RLE_COLUMNS if c in names), None)
        if id_column is None or rle_column is None:
            raise DataError(
                f"{path}: its columns are {_shown(names)}",
                f"a submission has one of {', '.join(_ID_COLUMNS)} and one of {', '.join(_RLE_COLUMNS)}",
            )
        order = order or _RLE_COLUMNS[names[rle_column]]
        if order not in ("row", "column"):
            raise UsageError(f"--rle {order}: pixels are counted by row or by column")
        self.row_major = order == "row"
        self._by_image: dict[str, list[tuple[int, str]]] = {}
        for row in reader:
            if not row:
                continue
            if len(row) <= max(id_column, rle_column):
                raise DataError(f"{path}: line {reader.line_num} has {len(row)} columns, the header {len(names)}")
            masks = self._by_image.setdefault(row[id_column].strip(), [])
            if row[rle_column].strip():
                masks.append((reader.line_num, row[rle_column]))
        self.image_ids = tuple(self._by_image)

    def masks(self, image_id: str, height: int, width: int) -> Masks:
        """The predictions for an image of that size, without scores.

        Raises:
            DataError: a mask that does not describe the image; the message names the line.
        """
        owners, numbers = [], []
        rows = self._by_image[image_id]
        for number, (line, text) in enumerate(rows):
            values = self._values(line, image_id, text, height * width)
            numbers.append(values)
            owners.append(np.full(len(values), number))
        if not numbers:
            return Masks.bare(runs_.from_rles((), height, width))
        pairs = np.concatenate(numbers)
        return Masks.bare(
            runs_.from_intervals(
                np.concatenate(owners),
                pairs[:, 0] - 1,
                pairs[:, 1],
                len(rows),
                height,
                width,
                row_major=self.row_major,
            )
        )

    def _values(self, line: int, image_id: str, text: str, size: int) -> NDArray[np.int64]:
        where = f"{self.path}: line {line} (image {image_id})"
        try:
            values = np.array(text.split(), dtype=np.int64)
        except (ValueError, OverflowError):
            wrong = next((part for part in text.split() if not part.isdecimal()), text[:20])
            raise DataError(f"{where}: {wrong!r} in an RLE is not a whole number") from None
        if values.size % 2:
            raise DataError(f"{where}: an RLE of {values.size} numbers", "it is pairs of start and length")
        pairs = values.reshape(-1, 2)
        if pairs[:, 1].min() < 1 or pairs[:, 0].min() < 1:
            raise DataError(f"{where}: an RLE with a start or a length below 1", "pixels are counted from 1")
        last = int((pairs[:, 0] + pairs[:, 1] - 1).max())
        if last > size:
            raise DataError(f"{where}: an RLE reaches pixel {last}, the image has {size}")
        return pairs


def _shown(names: list[str]) -> str:
    """The columns of a table whose first line may be no header at all, but a mask of a megabyte."""
    cut = [name if len(name) <= LONGEST_COLUMN else f"{name[:LONGEST_COLUMN]}…" for name in names[:MOST_COLUMNS]]
    return ", ".join(cut) + (", …" if len(names) > MOST_COLUMNS else "") or "none"
