"""One folder an image, one mask file an instance: how the Data Science Bowl 2018 was published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench import rle
from bench.data.folders import nothing_in, unwrapped, visible
from bench.data.images import IMAGE_SUFFIXES, read_labels
from bench.data.readers.base import Entry, Index, Reader, Truth
from bench.errors import DataError
from bench.instances import Instances


class MaskFolders(Reader):
    """``<id>/images/<one file>`` and ``<id>/masks/<one file an instance>``.

    Masks may overlap and are kept as they are, in the order of their file names; what is not 0 belongs to the
    instance. A folder ``masks`` without files means that the image is empty; a part without such folders must be
    named in ``unlabelled``. Files of other kinds among the masks are left out and noted, and refused where an image
    would have none but them.
    """

    format = "mask_folders"

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        """Options of the format.

        Attributes:
            parts: part -> names that its folder may have under the data set's folder, "." being that folder itself.
                Parts that are not there are left out; at least one must be.
            unlabelled: parts whose images have no truth.
        """

        parts: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: {"": (".",)})
        unlabelled: tuple[str, ...] = ()

    options: Options

    def index(self) -> Index:
        """List the images; see :meth:`Reader.index`."""
        entries: dict[str, Entry] = {}
        notes: list[str] = []
        for part, names in self.options.parts.items():
            for folder in self._folders(names, notes):
                if not (folder / "images").is_dir():
                    notes.append(f"{folder}: masks without a folder images beside them, left out")
                    continue
                entry = self._entry(folder, part, notes)
                if entry is None:
                    notes.append(f"{folder}: no image in {folder.name}/images, left out")
                elif entry.id in entries:
                    raise DataError(f"{folder}: the image {entry.id} is also at {entries[entry.id].image}")
                else:
                    entries[entry.id] = entry
        if not entries:
            raise nothing_in(self.root, "no image folder", "<id>/images/<image> and <id>/masks/<mask> for each image")
        return Index(tuple(entries[i] for i in sorted(entries)), tuple(notes))

    def truth(self, entry: Entry, height: int, width: int) -> Truth:
        """Read the masks of one image; see :meth:`Reader.truth`."""
        if entry.part in self.options.unlabelled:
            return Truth(None)
        masks, notes = [], []
        for path in entry.truth:
            mask = _read_mask(path)
            if mask.shape != (height, width):
                raise DataError(
                    f"{path}: the mask is {mask.shape[0]} x {mask.shape[1]} pixels, "
                    f"its image {entry.image.name} is {height} x {width}"
                )
            if mask.any():
                masks.extend(rle.encode_masks(mask[None]))
            else:
                notes.append(f"{path}: the mask is empty, left out")
        return Truth(Instances(height, width, tuple(masks)), tuple(notes))

    def _folders(self, names: tuple[str, ...], notes: list[str]) -> list[Path]:
        """Folders that hold ``images`` or ``masks``, in the first of ``names`` that has any with ``images``."""
        chosen: list[Path] = []
        for name in names:
            root = self.root if name == "." else unwrapped(self.root / name, ())
            held = [p for p in visible(root) if p.is_dir()] if root.is_dir() else []
            folders = [p for p in held if (p / "images").is_dir() or (p / "masks").is_dir()]
            if not any((p / "images").is_dir() for p in folders):
                continue
            if chosen:
                notes.append(f"{root}: {len(folders)} image folders beside those of {chosen[0].parent}, left out")
                continue
            chosen = folders
            if others := [p for p in held if p not in folders]:
                notes.append(f"{root}: {len(others)} folders without images (the first: {others[0].name}), left out")
        return chosen

    def _entry(self, folder: Path, part: str, notes: list[str]) -> Entry | None:
        images = _files(folder / "images")
        if not images:
            return None
        if len(images) > 1:
            raise DataError(f"{folder / 'images'}: {len(images)} images where one is expected")
        masks = folder / "masks"
        if part not in self.options.unlabelled and not masks.is_dir():
            raise DataError(f"{masks}: no such folder", "an image without any instance has an empty folder of masks")
        return Entry(folder.name, images[0], _masks(masks, notes) if masks.is_dir() else (), part)


def _files(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def _masks(folder: Path, notes: list[str]) -> tuple[Path, ...]:
    """The mask files in a folder.

    Raises:
        DataError: files, but none of them of a kind that is read: the image would seem to be empty.
    """
    masks = _files(folder)
    if others := [path for path in visible(folder) if path not in masks]:
        if not masks:
            raise DataError(
                f"{folder}: none of its {len(others)} files is a mask image; the first: {others[0].name}",
                f"masks are {', '.join(IMAGE_SUFFIXES)}; an image without any instance has an empty folder of masks",
            )
        notes.append(f"{folder}: {len(others)} files that are no mask images (the first: {others[0].name}), left out")
    return tuple(masks)


def _read_mask(path: Path) -> NDArray[np.bool_]:
    array: NDArray[Any] = read_labels(path)
    if array.ndim == 3:
        colours = 1 if array.shape[2] == 2 else min(array.shape[2], 3)  # the rest is alpha
        array = array[..., :colours].max(axis=2)
    return np.asarray(array != 0)
