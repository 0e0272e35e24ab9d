"""A validation split for a training that needs one and whose data set has none: held out of the training images.

No torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.api import Sample, SampleSource
from bench.data.splits import seeded_order
from bench.progress import say

SHARE = 0.1
"""Of the training images that are held out; one at least."""
MOST = 1.5
"""Whole groups are held out as long as they are not more than this times :data:`SHARE`."""
HELD_OUT = "held_out.json"
"""In the training folder: the seed and the images that were held out."""


class Part:
    """Some images of a source, in its order; it is a :class:`bench.api.SampleSource`.

    Args:
        source: all of them.
        indices: positions in it.
    """

    def __init__(self, source: SampleSource, indices: Sequence[int]) -> None:
        self._source, self._indices = source, tuple(indices)

    @property
    def ids(self) -> tuple[str, ...]:
        """Image ids in order."""
        ids = self._source.ids
        return tuple(ids[index] for index in self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._source[self._indices[index]]

    def __iter__(self) -> Iterator[Sample]:
        return (self[place] for place in range(len(self)))


def hold_out(
    source: SampleSource, *, seed: int, folder: Path, name: str, purpose: str = "early stopping"
) -> tuple[Part, Part]:
    """Hold a tenth of the training images out, which follow from the seed; write it down and tell the user.

    Whole groups (sequences, donors, slides), so that no held-out image has a sibling among those trained on. Where
    the groups are too large for that, as two films are, the last tenth of each in the order of the image ids: frames
    that adjoin stay together, and one border a film is all that they share.

    Args:
        source: the training images.
        seed: of the run.
        folder: of the training, where :data:`HELD_OUT` is written.
        name: of the method, for the message.
        purpose: what they serve for, for the message.

    Returns:
        what is trained on, and what is validated on: of a single image nothing, so that a training has its full length.
    """
    if len(source) < 2:
        _write(
            folder,
            {"seed": seed, "images": []},
            f"{name}: there is no validation split, and a single training image cannot be held out: it is trained on "
            f"without {purpose}",
        )
        return Part(source, range(len(source))), Part(source, ())
    chosen = set(held_out_ids(groups_of(source), seed))
    inside: tuple[list[int], list[int]] = ([], [])
    for index, image in enumerate(source.ids):
        inside[image in chosen].append(index)
    train, val = (Part(source, indices) for indices in inside)
    _write(
        folder,
        {"seed": seed, "images": list(val.ids)},
        f"{name}: there is no validation split, so {len(val)} of "
        f"the {len(source)} training images are held out for {purpose} ({HELD_OUT})",
    )
    return train, val


def _write(folder: Path, content: Mapping[str, Any], text: str) -> None:
    """Write :data:`HELD_OUT` and say so, once: not when a killed training goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    path, wanted = folder / HELD_OUT, json.dumps(content, indent=2) + "\n"
    if path.is_file() and path.read_text() == wanted:
        return
    partial = path.with_name(path.name + ".partial")
    partial.write_text(wanted)
    partial.replace(path)
    say(text)


def groups_of(source: SampleSource) -> dict[str, str | None]:
    """Image id to its group; a source that does not know without reading them is read."""
    known = getattr(source, "groups", None)
    if isinstance(known, Mapping):
        return {image: known[image] for image in source.ids}
    return {sample.id: sample.group for sample in source}


def held_out_ids(groups: Mapping[str, str | None], seed: int) -> tuple[str, ...]:
    """The images that are held out, by the rule of :func:`hold_out`.

    Args:
        groups: image id to group; an image of none is a group by itself. Two images at least.
        seed: of the run.

    Returns:
        ids, at least one and not all, sorted.
    """
    members: dict[str, list[str]] = {}
    for image, group in sorted(groups.items()):
        # What the two kinds are called must not make one of them.
        members.setdefault(f"image {image}" if group is None else f"group {group}", []).append(image)
    wanted = max(1, round(SHARE * len(groups)))
    held: list[str] = []
    for unit in seeded_order(members, seed):
        if len(held) < wanted and len(held) + len(members[unit]) <= max(wanted, MOST * SHARE * len(groups)):
            held += members[unit]
    if not held:
        order = seeded_order(members, seed)
        held = [image for unit in order for image in _end(members[unit], round(SHARE * len(members[unit])))]
        held = held or _end(max((members[unit] for unit in order), key=len), 1)
    return tuple(sorted(held))


def _end(images: list[str], count: int) -> list[str]:
    """The last ``count`` of the images."""
    return images[len(images) - count :]
