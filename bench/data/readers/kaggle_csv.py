"""A CSV table with a run-length encoded mask a row, beside a folder of images: how Kaggle publishes truth."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from bench.data import kaggle_rle, patterns
from bench.data.folders import nothing_in, refuse_packed
from bench.data.readers.base import Entry, Index, Reader, Truth
from bench.errors import DataError
from bench.instances import Instances


class KaggleCsv(Reader):
    """One table a part, one row an instance; masks may overlap.

    A row whose mask is empty says that its image has no instance. An image that no row names is left out and noted:
    nothing says whether it is empty or not annotated.
    """

    format = "kaggle_csv"

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Options of the format.

        Attributes:
            order: whether a mask's pixels are counted along ``row`` or ``column``. Competitions differ, and the wrong
                one gives masks without an error.
            images: part -> patterns of its images, with the field ``{id}``.
            tables: part -> paths that its table may have. A part without a table is not annotated. Parts of which
                there is neither are left out; at least one must be.
            id: column of the image's id.
            mask: column of the mask.
            class_column: column of the class, by a name of the card's task; where there is none all are the first.
            height: column of the image's height, checked against the image in the tables that have it; or None.
            width: the same for its width.
            group: column of the image's group, or None.
        """

        order: kaggle_rle.Order
        images: dict[str, tuple[str, ...]]
        tables: dict[str, tuple[str, ...]]
        id: str = "ImageId"
        mask: str = "EncodedPixels"
        class_column: str | None = None
        height: str | None = None
        width: str | None = None
        group: str | None = None

        def __post_init__(self) -> None:
            if unknown := set(self.tables) - set(self.images):
                raise ValueError(f"tables names the part {min(unknown)!r}, images does not")
            for pattern in (p for part in self.images.values() for p in part):
                if "id" not in patterns.fields_of(pattern):
                    raise ValueError(f"the pattern {pattern!r} has no field {{id}}")

    options: Options

    def index(self) -> Index:
        """List the images; see :meth:`Reader.index`."""
        entries: dict[str, Entry] = {}
        notes: list[str] = []
        for part, templates in self.options.images.items():
            files = {fields["id"]: path for t in reversed(templates) for path, fields in patterns.find(self.root, t)}
            table = next((p for p in map(self.root.joinpath, self.options.tables.get(part, ())) if p.is_file()), None)
            if not files and table is None:
                continue
            if part in self.options.tables and table is None:
                refuse_packed(*map(self.root.joinpath, self.options.tables[part]))
                expected = " or ".join(self.options.tables[part])
                notes.append(f"{self.root}: {len(files)} images of {part} without their table {expected}, left out")
                continue
            for entry in self._part(part, files, table, notes):
                if entry.id in entries:
                    raise DataError(f"{entry.image}: the image {entry.id} is also at {entries[entry.id].image}")
                entries[entry.id] = entry
        if not entries:
            expected = " or ".join(p for part in self.options.images.values() for p in part)
            if notes:
                raise DataError(f"{self.root}: no image with truth in it", notes[0])
            raise nothing_in(self.root, "no image with truth", expected)
        return Index(tuple(entries[i] for i in sorted(entries)), tuple(notes))

    def truth(self, entry: Entry, height: int, width: int) -> Truth:
        """Decode the masks of one image; see :meth:`Reader.truth`."""
        if not entry.truth:
            return Truth(None)
        masks: list[bytes] = []
        classes: list[int] = []
        empty: list[str] = []
        for line, row in entry.key:
            where = f"{entry.truth[0]}: line {line} ({entry.id})"
            for name, size in ((self.options.height, height), (self.options.width, width)):
                if name in row and not _is(row[name], size):
                    raise DataError(
                        f"{where}: {name} is {row[name]}, the image {entry.image.name} is {height} x {width}"
                    )
            if not row[self.options.mask].strip():
                empty.append(where)
                continue
            try:
                masks.append(kaggle_rle.decode(row[self.options.mask], height, width, self.options.order))
            except DataError as error:
                raise DataError(f"{where}: {error.message}", error.hint) from None
            classes.append(self._class(row, where))
        notes = tuple(f"{where}: an empty mask beside others of its image, left out" for where in empty if masks)
        return Truth(Instances(height, width, tuple(masks), np.array(classes, np.int64)), notes)

    def _part(self, part: str, files: dict[str, Path], table: Path | None, notes: list[str]) -> Iterator[Entry]:
        if table is None:
            yield from (Entry(i, path, (), part) for i, path in files.items())
            return
        rows: dict[str, list[tuple[int, dict[str, str]]]] = {}
        sizes = [c for c in (self.options.height, self.options.width) if c is not None]
        for line, row in _rows(table, self._columns(), sizes):
            rows.setdefault(row[self.options.id], []).append((line, row))
        if missing := sorted(set(rows) - set(files)):
            raise DataError(
                f"{table}: {len(missing)} of its {len(rows)} images are not there; the first: {missing[0]}",
                f"expected {' or '.join(self.options.images[part])} in {self.root}",
            )
        if unnamed := sorted(set(files) - set(rows)):
            notes.append(f"{table}: {len(unnamed)} images have no row (the first: {unnamed[0]}), left out")
        for image_id, its in rows.items():
            group = (its[0][1][self.options.group].strip() or None) if self.options.group else None
            yield Entry(image_id, files[image_id], (table,), part, group, tuple(its))

    def _columns(self) -> list[str]:
        o = self.options
        return [c for c in (o.id, o.mask, o.class_column, o.group) if c is not None]

    def _class(self, row: dict[str, str], where: str) -> int:
        if self.options.class_column is None:
            return 0
        name = row[self.options.class_column].strip().lower()
        by_name = {c.lower(): i for i, c in enumerate(self.classes)}
        if name not in by_name:
            raise DataError(f"{where}: the class {name!r} is none of the card's ({', '.join(self.classes)})")
        return by_name[name]


def _is(text: str, size: int) -> bool:
    """Whether a field says that size; tables that were written from numbers with gaps say 520.0."""
    try:
        return float(text) == size
    except ValueError:
        return False


def _rows(path: Path, columns: list[str], optional: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table, each with its line and the wanted columns only, the optional ones where they are there."""
    csv.field_size_limit(sys.maxsize)  # a large mask is longer than the module's default allows
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if missing := [c for c in columns if c not in header]:
                raise DataError(f"{path}: no column {missing[0]!r}", f"its columns: {', '.join(header) or 'none'}")
            if twice := [c for c in (*columns, *optional) if header.count(c) > 1]:
                raise DataError(f"{path}: two columns {twice[0]!r}", "rename the one that is not meant")
            places = {c: header.index(c) for c in (*columns, *optional) if c in header}
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}: line {reader.line_num}: {len(row)} fields where the header has {len(header)}"
                    )
                yield reader.line_num, {c: row[i] for c, i in places.items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a CSV table: {error}", "the file may be cut off: copy or download it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
