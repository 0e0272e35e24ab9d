"""COCO JSON with a folder of images: polygons, compressed and uncompressed RLE, and the ways people bend the format."""

from __future__ import annotations

import filecmp
import mmap
import unicodedata
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from bench import rle
from bench.data import patterns
from bench.data.folders import files_below, nothing_in, refuse_packed
from bench.data.images import IMAGE_SUFFIXES
from bench.data.readers.base import CUT_OFF, Entry, Index, Reader, Truth
from bench.errors import DataError
from bench.instances import Instances


class _Image(msgspec.Struct, gc=False):
    id: int | str
    file_name: str
    height: int | None = None
    width: int | None = None


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class _Annotation(msgspec.Struct, gc=False):
    image_id: int | str
    category_id: int
    id: int | str | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    iscrowd: bool | int | None = 0


class _File(msgspec.Struct):
    images: list[_Image] | dict[str, _Image]
    categories: list[_Category] | dict[str, _Category]
    annotations: msgspec.Raw = msgspec.Raw(b"[]")


class _Annotations(NamedTuple):
    """An annotation file that was read."""

    path: Path
    file: _File
    annotations: list[_Annotation]


class _RunLengths(msgspec.Struct):
    size: tuple[int, int]
    counts: str | list[int]


_Polygon = list[float]
_SEGMENTATION = msgspec.json.Decoder(_RunLengths | list[_Polygon] | None)
_ALL_SEGMENTATIONS = msgspec.json.Decoder(list[_RunLengths | list[_Polygon] | None])
_FLAT_POLYGON = msgspec.json.Decoder(_Polygon)


class Coco(Reader):
    """Annotations in COCO JSON, one file a part or several.

    Polygons become masks by the COCO API's own rasteriser; several polygons of one annotation are one instance.
    ``bbox`` and ``area`` are not needed: boxes and areas are those of the masks. ``iscrowd`` marks regions that a
    scorer ignores. An annotation without a mask, or whose mask has no pixel in the image, is left out and noted.
    """

    format = "coco"

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Options of the format.

        Attributes:
            annotations: part -> paths that its file may have, relative to the data set's folder; the first that is
                there is taken. A path with a field (``{line}/train.json``) stands for all files that fit it, which
                are then the part together. Parts of which there is no file are left out; at least one must be.
            images: folders in which an image's ``file_name`` is looked for, in this order, ``{part}`` being the part;
                or part -> such folders. Where none has it, the bare name is looked for in all their folders; of
                several files of that name, the one in the folder that ``file_name`` or the image's group names.
            without_annotations: patterns (``*`` and ``?``) of files in those folders, however deep, that are images
                without any instance although no annotation file lists them.
            classes: where the class of an annotation comes from: ``card``: its category, as ``categories`` says;
                ``categories``: its category, and the classes are all categories of the files, by their number;
                ``group``: the group of its image.
            categories: class of the card -> names of the categories that become it; "*" takes all others. Where it
                is not given, a category becomes the class of its name (capitals aside).
            ignore: patterns (``*`` and ``?``, capitals aside) of categories that are left out on purpose.
            keep: the same for those that are not left out; all others are.
            id: the id of an image, made of the fields ``{stem}`` (its file name without folder and suffix),
                ``{file}`` (the whole file name), ``{id}`` (its number in the file) and ``{part}``.
            names: pattern of the bare file names, for the field ``{group}``.
        """

        annotations: dict[str, tuple[str, ...]]
        images: tuple[str, ...] | dict[str, tuple[str, ...]] = (".",)
        without_annotations: tuple[str, ...] = ()
        classes: Literal["card", "categories", "group"] = "card"
        categories: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
        ignore: tuple[str, ...] = ()
        keep: tuple[str, ...] = ("*",)
        id: str = "{stem}"
        names: str | None = None

        def __post_init__(self) -> None:
            known = {"stem", "file", "id", "part"}
            if unknown := set(patterns.fields_of(self.id)) - known:
                raise ValueError(f"{self.id!r} has the unknown field {{{min(unknown)}}}")
            if isinstance(self.images, dict) and (without := set(self.annotations) - set(self.images)):
                raise ValueError(f"images names no folder for the part {min(without)!r}")
            if self.classes == "group" and (self.names is None or "group" not in patterns.fields_of(self.names)):
                raise ValueError('classes = "group" needs names, a pattern with the field {group}')

    options: Options

    @classmethod
    def names_classes(cls, options: Any) -> bool:
        """Whether the files say which classes there are."""
        return bool(options.classes == "categories")

    def index(self) -> Index:
        """List the images; see :meth:`Reader.index`."""
        if unknown := set(self.options.categories) - set(self.classes):
            raise DataError(
                f"format.categories names the class {min(unknown)!r}, which the card's task has not",
                f"its classes: {', '.join(self.classes)}",
            )
        entries: dict[str, Entry] = {}
        notes: list[str] = []
        files = {part: [_load(path) for path in self._annotation_files(part)] for part in self.options.annotations}
        if self.options.classes == "categories":
            self.classes = self._all_categories(file.file for its in files.values() for file in its)
        for part, its in files.items():
            for entry in self._part(part, its, notes) if its else ():
                if entry.id in entries:
                    raise DataError(
                        f"{entry.truth[0]}: the image id {entry.id!r} comes twice",
                        "set id in the card's format to what tells them apart",
                    )
                entries[entry.id] = entry
        if not entries:
            expected = [names[0] for names in self.options.annotations.values() if names]
            raise nothing_in(self.root, "no annotation file with images", " and ".join(expected))
        notes += self._without_a_list({entry.image for entry in entries.values()})
        return Index(tuple(entries[i] for i in sorted(entries)), tuple(notes))

    def truth(self, entry: Entry, height: int, width: int) -> Truth:
        """Rasterise the annotations of one image; see :meth:`Reader.truth`."""
        image, annotations, class_of = entry.key
        if (image.height or height, image.width or width) != (height, width):
            raise DataError(
                f"{entry.truth[0]}: it says that {image.file_name} is {image.height} x {image.width} pixels, "
                f"the file is {height} x {width}"
            )
        wanted = [a for a in annotations if class_of[a.category_id] is not None]
        counts, notes = _masks(entry, wanted, height, width)
        areas = iter(rle.areas([mask for mask in counts if mask is not None], height, width).tolist())
        seen: list[int] = []
        for i, mask in enumerate(counts):
            if mask is None:
                continue
            if next(areas):
                seen.append(i)
            else:
                notes.append(f"{_where(entry, wanted[i])}: its mask has no pixel in the image, left out")
        instances = Instances(
            height,
            width,
            tuple(counts[i] for i in seen),  # type: ignore[misc]  # those without a mask are not seen
            self._classes(entry, class_of, [wanted[i].category_id for i in seen]),
            crowd=np.array([bool(wanted[i].iscrowd) for i in seen], np.bool_),
        )
        return Truth(instances, tuple(notes))

    def _classes(self, entry: Entry, class_of: dict[int, int | None], categories: list[int]) -> NDArray[np.int64]:
        if self.options.classes != "group":
            return np.array([class_of[c] for c in categories], np.int64)
        by_name = {c.lower(): i for i, c in enumerate(self.classes)}
        group = (entry.group or "").lower()
        if group not in by_name:
            raise DataError(
                f"{entry.image}: the group {entry.group!r} is no class of the card ({', '.join(self.classes)})",
                "its name should fit names in the card's format",
            )
        return np.full(len(categories), by_name[group], np.int64)

    # -- one part -----------------------------------------------------------------------------------

    def _annotation_files(self, part: str) -> list[Path]:
        """The first of the paths that a part's files may have, or all that fit it."""
        for name in self.options.annotations[part]:
            if patterns.fields_of(name):
                found = [path for path, _ in patterns.find(self.root, name)]
            else:
                found = [self.root / name] if (self.root / name).is_file() else []
            if found:
                return found
        refuse_packed(*(self.root / name for name in self.options.annotations[part] if not patterns.fields_of(name)))
        return []

    def _part(self, part: str, sources: list[_Annotations], notes: list[str]) -> list[Entry]:
        """The images that a part's files list, then those that no file lists."""
        entries: list[Entry] = []
        for source in sources:
            entries += self._listed(part, source, notes)
        listed = {entry.image for entry in entries}
        path = sources[0].path
        for found in self._unlisted(part):
            if found not in listed:
                image = _Image(id=f"unlisted {found.name}", file_name=found.name)
                entries.append(Entry(self._id(image, part), found, (path,), part, self._group(image), (image, [], {})))
        return entries

    def _listed(self, part: str, source: _Annotations, notes: list[str]) -> list[Entry]:
        path = source.path
        class_of = self._class_of(source.file, path)
        images = list(_values(source.file.images))
        by_image: dict[int | str, list[_Annotation]] = {}
        for image in images:
            if image.id in by_image:
                raise DataError(f"{path}: two images have the id {image.id}")
            by_image[image.id] = []
        strays: Counter[int | str] = Counter()
        for annotation in source.annotations:
            if annotation.category_id not in class_of:
                raise DataError(
                    f"{path}: annotation {annotation.id} has the category {annotation.category_id}, which is not listed"
                )
            target = by_image.get(annotation.image_id)
            if target is None:
                strays[annotation.image_id] += 1
            else:
                target.append(annotation)
        if strays:
            first = next(iter(strays))
            notes.append(
                f"{path}: {strays.total()} annotations of images that are not listed (the first: {first}), left out"
            )
        files = self._files(part, path, images)
        return [
            Entry(
                self._id(image, part),
                files[image.file_name],
                (path,),
                part,
                self._group(image),
                (image, by_image[image.id], class_of),
            )
            for image in images
        ]

    def _class_of(self, file: _File, path: Path) -> dict[int, int | None]:
        """Category id -> class id, None for those left out."""
        wanted = {name: c for c, names in self.options.categories.items() for name in names}
        by_name = {c.lower(): c for c in self.classes} if not wanted else {}
        result: dict[int, int | None] = {}
        for category in _values(file.categories):
            name = wanted.get(category.name) or by_name.get(category.name.lower())
            if name is None and not self._ignored(category):
                name = self.classes[0] if self.options.classes == "group" else wanted.get("*")
                if name is None:
                    raise DataError(
                        f"{path}: the category {category.name!r} is no class of the card ({', '.join(self.classes)})",
                        "map it by categories in the card's format, or name it in ignore",
                    )
            result[category.id] = None if name is None else self.classes.index(name)
        return result

    def _all_categories(self, files: Iterable[_File]) -> tuple[str, ...]:
        """Names of the categories of all files, those of the first file first, each file's by their number."""
        named = (c.name for file in files for c in sorted(_values(file.categories), key=lambda c: c.id)
                 if not self._ignored(c))  # fmt: skip
        return tuple(dict.fromkeys(named))

    def _ignored(self, category: _Category) -> bool:
        name = category.name.lower()
        kept = any(fnmatchcase(name, pattern.lower()) for pattern in self.options.keep)
        return not kept or any(fnmatchcase(name, pattern.lower()) for pattern in self.options.ignore)

    def _roots(self, part: str) -> list[Path]:
        images = self.options.images
        folders = images[part] if isinstance(images, dict) else images
        return [self.root / patterns.fill(folder, {"part": part}) for folder in folders]

    def _unlisted(self, part: str) -> list[Path]:
        """Images without any instance that no annotation file names; of several copies, that in the first folder."""
        found: dict[str, Path] = {}
        for root in self._roots(part):
            for path in files_below(root) if self.options.without_annotations else ():
                if path not in found.values() and any(map(path.match, self.options.without_annotations)):
                    found.setdefault(path.relative_to(root).as_posix(), path)
        return sorted(found.values())

    def _without_a_list(self, known: set[Path]) -> Iterator[str]:
        """A note for each folder of images with some that no annotation file names, copies of others aside."""
        seen = set(known)
        sizes = {(path.name, path.stat().st_size) for path in known}
        for root in dict.fromkeys(root for part in self.options.annotations for root in self._roots(part)):
            images = {path for path in files_below(root) if path.suffix.lower() in IMAGE_SUFFIXES}
            alone = (path for path in images - seen if (path.name, path.stat().st_size) not in sizes)
            if others := sorted(path.relative_to(root).as_posix() for path in alone):
                yield f"{root}: {len(others)} images that no annotation file lists (the first: {others[0]}), left out"
            seen |= images

    def _files(self, part: str, path: Path, images: list[_Image]) -> dict[str, Path]:
        """File name in the JSON -> file on disk."""
        roots = self._roots(part)
        found: dict[str, Path] = {}
        missing: list[str] = []
        anywhere: list[dict[str, list[Path]]] | None = None
        for image in images:
            direct = next((r / image.file_name for r in roots if (r / image.file_name).is_file()), None)
            if direct is None:
                if anywhere is None:
                    anywhere = [_by_name(root) for root in roots]
                name = _parts(image)[-1]
                candidates = next((by_name[_folded(name)] for by_name in anywhere if _folded(name) in by_name), None)
                if candidates is not None:
                    direct = self._only(image, [c for c in candidates if c.name == name] or candidates, path)
            if direct is None:
                missing.append(image.file_name)
            else:
                found[image.file_name] = direct
        if missing:
            raise DataError(
                f"{path}: {len(missing)} of its {len(images)} images are not there; the first: {missing[0]}",
                f"looked in {', '.join(str(r) for r in roots)}",
            )
        return found

    def _only(self, image: _Image, candidates: list[Path], path: Path) -> Path:
        """The one of several files of a name that an annotation file means.

        Raises:
            DataError: nothing tells which.
        """
        if len(candidates) == 1:
            return candidates[0]
        folders = [name.lower() for name in _parts(image)[:-1]]
        shared = [_shared_end(folders, [name.lower() for name in c.parts[:-1]]) for c in candidates]
        nearest = [c for c, length in zip(candidates, shared, strict=True) if length == max(shared)]
        group = (self._group(image) or "").lower()
        of_group = [c for c in nearest if group and c.parent.name.lower() == group]
        if len(of_group) == 1:
            return of_group[0]
        other = next((c for c in nearest[1:] if not filecmp.cmp(nearest[0], c, shallow=False)), None)
        if other is not None:
            raise DataError(
                f"{path}: its image {image.file_name} may be {nearest[0]} or {other}, which differ",
                "take away the one that is not meant, or put its folder before the file_name",
            )
        return nearest[0]

    def _id(self, image: _Image, part: str) -> str:
        name = Path(_parts(image)[-1])
        fields = {"stem": name.stem, "file": image.file_name, "id": str(image.id), "part": part}
        return patterns.fill(self.options.id, fields)

    def _group(self, image: _Image) -> str | None:
        if self.options.names is None:
            return None
        return (patterns.match(self.options.names, _parts(image)[-1]) or {}).get("group")


def _parts(image: _Image) -> tuple[str, ...]:
    """The folders and the bare name of an image's file, whichever system's separators the file name has."""
    return PurePosixPath(image.file_name.replace("\\", "/")).parts or ("",)


def _values(items: Any) -> Any:
    return items.values() if isinstance(items, dict) else items


def _by_name(root: Path) -> dict[str, list[Path]]:
    """Bare name as it is compared -> the files of that name anywhere under a folder."""
    found: dict[str, list[Path]] = {}
    for path in files_below(root):
        found.setdefault(_folded(path.name), []).append(path)
    return found


def _folded(name: str) -> str:
    """A name as it is compared: without capitals, and in one of the two ways in which systems write an umlaut."""
    return unicodedata.normalize("NFC", name).lower()


def _shared_end(wanted: list[str], parts: list[str]) -> int:
    """How many names two paths have in common, from their ends."""
    length = 0
    for one, other in zip(reversed(wanted), reversed(parts), strict=False):
        if one != other:
            break
        length += 1
    return length


def _load(path: Path) -> _Annotations:
    try:
        with path.open("rb") as opened:
            data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)  # its pages need not stay in memory
    except ValueError:
        raise DataError(f"{path}: the file is empty", "copy or download it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    content = memoryview(data)[len(BOM_UTF8) :] if data[: len(BOM_UTF8)] == BOM_UTF8 else data
    file: _File = _decoded(content, _File, path, "the file")
    is_dictionary = bytes(memoryview(file.annotations)[:1]) == b"{"
    kind: Any = dict[str, _Annotation] if is_dictionary else list[_Annotation]
    return _Annotations(path, file, list(_values(_decoded(file.annotations, kind, path, "annotations"))))


def _decoded(data: mmap.mmap | memoryview | msgspec.Raw, kind: Any, path: Path, what: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        problem = str(error).replace("`", "").replace("$", what)
        raise DataError(f"{path}: not COCO: {problem}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON: {error}", "the file may be cut off: copy or download it again") from None


def _masks(
    entry: Entry, annotations: list[_Annotation], height: int, width: int
) -> tuple[list[bytes | None], list[str]]:
    """Compressed counts of each annotation, None where it has no mask; and a note for each of those."""
    notes: list[str] = []
    masks: list[bytes | None] = []
    single: list[_Polygon] = []
    places: list[int] = []
    farthest, near = 10 * (height + width), min(height, width) + 1
    outside: list[int] = []
    lines: list[int] = []
    for i, segmentation in enumerate(_segmentations(entry, annotations)):
        if isinstance(segmentation, _RunLengths):
            masks.append(_from_run_lengths(segmentation, height, width, _where(entry, annotations[i])))
            continue
        polygons = [p for p in segmentation or () if len(p) >= 6]
        if polygons:
            lines += [i] * (len(segmentation or ()) - len(polygons))
        for polygon in polygons:
            if len(polygon) % 2:
                numbers = f"a polygon of {len(polygon)} numbers, which are not pairs of x and y"
                raise DataError(f"{_where(entry, annotations[i])}: {numbers}")
            least, most = min(polygon), max(polygon)
            if most > farthest or least < -farthest:
                far = f"a polygon reaches {max(map(abs, polygon)):g}, the image is {height} x {width} pixels"
                raise DataError(f"{_where(entry, annotations[i])}: {far}")
            # Outlines on the border itself are usual: a pixel beyond it is nothing to tell of.
            if (least < -1 or most > near) and (
                least < -1 or max(polygon[0::2]) > width + 1 or max(polygon[1::2]) > height + 1
            ):
                outside.append(i)
        masks.append(None)
        if len(polygons) == 1:
            single += polygons  # the usual case: drawn below, all in one call
            places.append(i)
        elif polygons:
            masks[i] = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))["counts"]
        else:
            notes.append(f"{_where(entry, annotations[i])}: no mask, left out")
    for i, drawn in zip(places, coco_mask.frPyObjects(single, height, width) if single else (), strict=True):
        masks[i] = drawn["counts"]
    if lines:
        first = annotations[lines[0]].id
        what = f"{len(lines)} polygons of {entry.id} (the first of annotation {first}) have fewer than 3 points"
        notes.append(f"{entry.truth[0]}: {what}, left out")
    if outside:
        first = annotations[outside[0]].id
        notes.append(f"{entry.truth[0]}: {len(set(outside))} annotations of {entry.id} (the first: {first}) {CUT_OFF}")
    return masks, notes


def _segmentations(entry: Entry, annotations: list[_Annotation]) -> list[_RunLengths | list[_Polygon] | None]:
    try:
        return _ALL_SEGMENTATIONS.decode(b"[" + b",".join(a.segmentation for a in annotations) + b"]")
    except msgspec.ValidationError:
        return [_segmentation(a.segmentation, _where(entry, a)) for a in annotations]  # slower: says which


def _segmentation(raw: msgspec.Raw, where: str) -> _RunLengths | list[_Polygon] | None:
    try:
        return _SEGMENTATION.decode(raw)
    except msgspec.ValidationError as error:
        try:
            return [_FLAT_POLYGON.decode(raw)]
        except msgspec.ValidationError:
            raise DataError(f"{where}: not a COCO segmentation: {str(error).replace('`', '')}") from None


def _where(entry: Entry, annotation: _Annotation) -> str:
    number = "without id" if annotation.id is None else annotation.id
    return f"{entry.truth[0]}: annotation {number} of {entry.id}"


def _from_run_lengths(runs: _RunLengths, height: int, width: int, where: str) -> bytes:
    if tuple(runs.size) != (height, width):
        raise DataError(
            f"{where}: its RLE is of {runs.size[0]} x {runs.size[1]} pixels, the image is {height} x {width}"
        )
    try:
        if isinstance(runs.counts, str):
            counts = runs.counts.encode("utf-8")
            rle.check(counts, height, width)
            return counts
        if any(n < 0 for n in runs.counts) or sum(runs.counts) != height * width:
            raise DataError(f"its run lengths sum to {sum(runs.counts)}, the image has {height * width} pixels")
    except DataError as error:
        raise DataError(f"{where}: {error.message}", error.hint) from None
    counts = coco_mask.frPyObjects({"size": [height, width], "counts": runs.counts}, height, width)["counts"]
    return counts
