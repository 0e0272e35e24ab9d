"""An image file and a label image for each image, found by patterns that the card gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.data import patterns, splits
from bench.data.folders import files_below, nothing_in, visible
from bench.data.images import IMAGE_SUFFIXES, read_labels
from bench.data.readers.base import Entry, Index, Reader, Truth
from bench.errors import DataError
from bench.instances import Instances

_IMAGE_LIKE = frozenset((*IMAGE_SUFFIXES, ".gif", ".webp", ".jp2", ".ppm", ".pgm"))
"""Suffixes of files that a person would take for images, lower case."""


class LabelPairs(Reader):
    """Pairs of an image and a label image. Image files that fit a pattern but for their suffix are left out and noted.

    The patterns are paths relative to the data set's folder, with the fields of :mod:`bench.data.patterns`:
    ``{part}/images/{group}_{frame}.png``. The label image of an image is the path that the same fields give. The
    fields ``part`` and ``group`` say what their names say.
    """

    format = "label_pairs"

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Options of the format.

        Attributes:
            images: patterns of the images; a file that matches several goes with the first.
            labels: patterns of the label images; the first that names a file that is there. With several classes:
                class -> such patterns, each class having a label image of its own; the name of a class may have
                fields too.
            decode: what an instance is: ``ids``: each number but 0, whatever its connectivity;
                ``components-of-first-channel``: each 8-connected region of one value of the first channel, but 0;
                ``colours``: each colour that is not gray.
            id: the id of an image, a text with fields; default all fields but ``part``, joined by "/".
            lists: part -> paths that a text file in the data set's folder may have, which lists the images of the part,
                a file name a line, of whatever ending; for patterns without the field ``part``.
            unlabelled: parts whose images have no truth.
            min_side: instances whose box has a side of fewer pixels are left out, and that is noted.
        """

        images: tuple[str, ...]
        labels: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
        decode: Literal["ids", "components-of-first-channel", "colours"] = "ids"
        id: str | None = None
        lists: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
        unlabelled: tuple[str, ...] = ()
        min_side: int = 1

        def __post_init__(self) -> None:
            for pattern in self.images:
                fields = set(patterns.fields_of(pattern))
                if not fields - {"part"}:
                    raise ValueError(f"the pattern {pattern!r} has no field, such as {{stem}}")
                if self.lists and "part" in fields:
                    raise ValueError(f"the pattern {pattern!r} says the part, and so do lists")
                by_class = self.labels if isinstance(self.labels, dict) else {"": self.labels}
                templates = [t for kind, its in by_class.items() for t in (kind, *its)]
                for template in (*templates, self.id or ""):
                    if unknown := set(patterns.fields_of(template)) - fields:
                        raise ValueError(f"{template!r} has a field that {pattern!r} has not: {{{min(unknown)}}}")

    options: Options

    def index(self) -> Index:
        """List the images; see :meth:`Reader.index`."""
        entries: dict[str, Entry] = {}
        notes: list[str] = []
        part_of = self._listed(notes)
        seen: set[Path] = set()
        used: set[Path] = set()
        for pattern in self.options.images:
            for path, fields in patterns.find(self.root, pattern):
                if path in seen:
                    continue
                seen.add(path)
                entry = self._entry(path, fields if part_of is None else fields | {"part": part_of.get(path.stem, "")})
                if entry.id in entries:
                    raise DataError(f"{path}: the image {entry.id} is also at {entries[entry.id].image}")
                entries[entry.id] = entry
                used.update(entry.truth)
        if not entries:
            raise nothing_in(self.root, "no image", " or ".join(self.options.images))
        labels = {
            path: fields.get("part", "")
            for its in self._labels().values()
            for pattern in its
            for path, fields in patterns.find(self.root, pattern)
        }
        lonely = {p for p, part in labels.items() if part not in self.options.unlabelled} - used.union(seen)
        notes += [f"{path}: a label image without an image, left out" for path in sorted(lonely)]
        if absent := set(part_of or ()) - {path.stem for path in seen}:
            notes.append(f"{self.root}: {len(absent)} images that lists name are not there (the first: {min(absent)})")
        if part_of and (unlisted := {path.stem for path in seen} - set(part_of)):
            notes.append(f"{self.root}: {len(unlisted)} images are in none of the lists (the first: {min(unlisted)})")
        notes += self._other_suffixes(seen.union(used, labels))
        notes += _deeper(seen, seen.union(used, labels))
        return Index(tuple(entries[i] for i in sorted(entries)), tuple(notes))

    def truth(self, entry: Entry, height: int, width: int) -> Truth:
        """Read the label image of one image; see :meth:`Reader.truth`."""
        if not entry.truth:
            return Truth(None)
        found: list[Instances] = []
        notes: list[str] = []
        for kind, path in zip(entry.key, entry.truth, strict=True):
            labels = _DECODERS[self.options.decode](read_labels(path), path)
            if labels.shape != (height, width):
                raise DataError(
                    f"{path}: the label image is {labels.shape[0]} x {labels.shape[1]} pixels, "
                    f"its image {entry.image.name} is {height} x {width}"
                )
            found.append(self._kept(Instances.from_label_map(labels), path, notes))
            found[-1].class_ids[:] = self._class_id(kind, path)
        if len(found) == 1:
            return Truth(found[0], tuple(notes))
        rles = tuple(counts for instances in found for counts in instances.rles)
        return Truth(Instances(height, width, rles, np.concatenate([i.class_ids for i in found])), tuple(notes))

    def _listed(self, notes: list[str]) -> dict[str, str] | None:
        """Stem of an image's file -> the part that a list says, or None where there is no list.

        Raises:
            DataError: a list cannot be read, or an image is in two.
        """
        places = {
            part: next((p for name in names if (p := patterns.existing(self.root, name, {}))), None)
            for part, names in self.options.lists.items()
        }
        if not any(places.values()):
            return None
        part_of: dict[str, str] = {}
        for part, path in places.items():
            if path is None:
                notes.append(f"{self.root}: no list {' or '.join(self.options.lists[part])}: the part {part} is empty")
                continue
            for name in splits.read_list(path):
                file = PurePosixPath(name.replace("\\", "/"))
                stem = file.stem if file.suffix.lower() in IMAGE_SUFFIXES else file.name
                if part_of.setdefault(stem, part) != part:
                    raise DataError(f"{path}: the image {name} is also in the list of {part_of[stem]}")
        return part_of

    def _other_suffixes(self, known: set[Path]) -> Iterator[str]:
        """A note for each folder with image files that only their suffix keeps from being images of the data set."""
        labels = (pattern for its in self._labels().values() for pattern in its)
        bare = {pattern.removesuffix(Path(pattern).suffix) for pattern in (*self.options.images, *labels)}
        found = {path for pattern in bare for path, _ in patterns.find(self.root, f"{pattern}.{{suffix}}")}
        by_folder: dict[Path, list[str]] = {}
        for path in sorted(found - known):
            if path.suffix.lower() in _IMAGE_LIKE:
                by_folder.setdefault(path.parent, []).append(path.name)
        for folder, names in by_folder.items():
            yield f"{folder}: {len(names)} image files with a suffix that the card does not name ({names[0]}), left out"

    def _kept(self, instances: Instances, path: Path, notes: list[str]) -> Instances:
        """The instances that are not too thin."""
        sides = (instances.boxes[:, 2:] - instances.boxes[:, :2]).min(axis=1, initial=np.inf)
        kept = sides >= self.options.min_side
        if kept.all():
            return instances
        notes.append(f"{path}: {int((~kept).sum())} instances thinner than {self.options.min_side} pixels, left out")
        return instances.take(kept)

    def _class_id(self, name: str, path: Path) -> int:
        if not name:
            return 0
        by_name = {c.lower(): i for i, c in enumerate(self.classes)}
        if name.lower() not in by_name:
            raise DataError(f"{path}: the class {name!r} is none of the card's ({', '.join(self.classes)})")
        return by_name[name.lower()]

    def _labels(self) -> dict[str, tuple[str, ...]]:
        """Class -> patterns; the class is "" where there is one only."""
        labels = self.options.labels
        return labels if isinstance(labels, dict) else {"": labels} if labels else {}

    def _entry(self, path: Path, fields: dict[str, str]) -> Entry:
        rest = {name: text for name, text in fields.items() if name != "part"}
        image_id = patterns.fill(self.options.id, fields) if self.options.id else "/".join(rest.values())
        part = fields.get("part", "")
        truth: dict[str, Path] = {}
        for kind, its in self._labels().items() if part not in self.options.unlabelled else ():
            found = next((p for pattern in its if (p := patterns.existing(self.root, pattern, fields))), None)
            if found is None:
                self._refuse_no_folder(its, fields, path)
                raise DataError(
                    f"{self.root / patterns.fill(its[0], fields)}: no such label image, for the image {path}",
                    "an image without any instance has a label image of zeros",
                )
            truth[patterns.fill(kind, fields)] = found
        return Entry(image_id, path, tuple(truth.values()), part, fields.get("group"), tuple(truth))

    def _refuse_no_folder(self, its: tuple[str, ...], fields: dict[str, str], image: Path) -> None:
        """Raise where not the label image only but the folder it should lie in is not there.

        Raises:
            DataError: so it is; the message names the folder.
        """
        folders = [(self.root / patterns.fill(pattern, fields)).parent for pattern in its]
        if any(folder.is_dir() for folder in folders):
            return
        above = next(folder for folder in folders[0].parents if folder.is_dir())
        held = ", ".join(path.name for path in visible(above) if path.is_dir())
        raise DataError(
            f"{folders[0]}: no such folder, expected the label image of {image} in it",
            f"rename the folder, or correct labels in the card; {above} has the folders {held}",
        )


def _deeper(images: set[Path], known: set[Path]) -> Iterator[str]:
    """A note for each folder of images with image files in folders below it."""
    for folder in sorted({path.parent for path in images}):
        below = [p for p in files_below(folder) if p.parent != folder and p.suffix.lower() in IMAGE_SUFFIXES]
        if left := [path.relative_to(folder).as_posix() for path in below if path not in known]:
            yield f"{folder}: {len(left)} image files in folders below it (the first: {left[0]}), left out"


# -- from the array in the file to one number an instance -----------------------------------------------


def _ids(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.ndim == 2:
        return array
    colours = 1 if array.shape[2] == 2 else min(array.shape[2], 3)  # the rest is alpha
    first = array[..., 0]
    if any(not np.array_equal(first, array[..., c]) for c in range(1, colours)):
        raise DataError(
            f"{path}: a label image in colour", "set decode in the card's format to say what the colours mean"
        )
    return np.ascontiguousarray(first)


def _components_of_first_channel(array: NDArray[Any], path: Path) -> NDArray[Any]:
    from skimage.measure import label

    labels: NDArray[Any] = label(array if array.ndim == 2 else array[..., 0], background=0)
    return labels


def _colours(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.ndim != 3 or array.shape[2] < 3:
        raise DataError(f"{path}: not a colour image", 'decode = "colours" needs one colour an instance')
    rgb = array[..., :3].astype(np.int64)
    codes = (rgb[..., 0] << 32) | (rgb[..., 1] << 16) | rgb[..., 2]
    gray = (rgb[..., 0] == rgb[..., 1]) & (rgb[..., 1] == rgb[..., 2])
    codes[gray] = 0
    return codes


_DECODERS: dict[str, Callable[[NDArray[Any], Path], NDArray[Any]]] = {
    "ids": _ids,
    "components-of-first-channel": _components_of_first_channel,
    "colours": _colours,
}
