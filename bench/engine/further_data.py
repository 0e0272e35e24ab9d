"""Splits besides its own training split that a method trains on: opened before anything trains, part of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.api import DataError, Method, MethodError
from bench.data import Card, Dataset, Split, load_card
from bench.data.opening import open_visibly
from bench.registry import MethodEntry

Open = Callable[[str], Dataset]
"""Opens a data set by its name, as the run's own was opened."""


@dataclass(frozen=True)
class FurtherSplit:
    """One split that a method declares in :meth:`bench.api.Method.trains_on`.

    Attributes:
        dataset: that it belongs to.
        split: the images that are trained on, those of the evaluated split left out.
        left_out: how many images it lost because the run is evaluated on the same pixels.
    """

    dataset: Dataset
    split: Split
    left_out: int

    @property
    def address(self) -> tuple[str, str]:
        """Names of the data set and the split."""
        return self.dataset.card.name, self.split.name

    def plan(self) -> dict[str, Any]:
        """What of it decides the predictions, as plain data."""
        return {
            "dataset": self.dataset.card.name,
            "dataset_version": self.dataset.content_hash,
            "source": self.dataset.source,
            "split": self.split.name,
            "images": len(self.split),
            "left_out": self.left_out,
        }

    def note(self, method: str) -> str:
        """For the user."""
        stand_in = ", the generated stand-in" if self.dataset.source == "synthetic" else ""
        left = f"; {self.left_out} images that it is evaluated on are left out" if self.left_out else ""
        return (
            f"{method} trains on {self.dataset.card.name} too (split {self.split.name}, {len(self.split)} "
            f"images{stand_in}){left}"
        )


def said_to_train_on(names: Iterable[str], evaluated: Card) -> tuple[str, ...]:
    """Data sets that somebody says weights were trained on, to be kept with a run.

    The evaluated one is among them where its images lie in the same files as those of one that is named.

    Raises:
        UnknownNameError: there is no card of that name.
    """
    cards = [load_card(name) for name in names]
    shared = any(set(card.folders) & set(evaluated.folders) for card in cards)
    return tuple(dict.fromkeys([*(card.name for card in cards), *([evaluated.name] if shared else [])]))


def opener(data_root: Path | None, kind: str) -> Open:
    """Opens each data set once, real files only where ``kind`` is ``real``, else the stand-in only."""
    opened: dict[str, Dataset] = {}

    def open_(name: str) -> Dataset:
        if name not in opened:
            opened[name] = open_visibly(name, data_root, stand_in=kind == "synthetic")
        return opened[name]

    return open_


def further_splits(
    entry: MethodEntry, params: Any, dataset: Dataset, evaluated: str, open_: Open
) -> tuple[FurtherSplit, ...]:
    """Every split that the method declares, open and not empty.

    An image with the same pixels as one of the evaluated split is left out: no method trains on what it is judged by.

    Args:
        entry: the method.
        params: its settings.
        dataset: of the run; its own splits are taken from it, not opened again.
        evaluated: the split that the run is evaluated on.
        open_: see :func:`opener`.

    Raises:
        DataError: a data set or a split is not there, or nothing of it is left.
        UnknownNameError: no such data set or split.
    """
    declared = entry.method.trains_on(params, dataset.card.name)
    if not declared:
        return ()
    judged = _pixels(dataset, dataset.split(evaluated))
    found = []
    for name, split_name in dict.fromkeys(declared):
        try:
            other = dataset if name == dataset.card.name else open_(name)
            whole = other.split(split_name)
        except DataError as error:
            raise DataError(
                f"{entry.name} trains on the split {split_name!r} of {name} too: {error.message}",
                f"{error.hint}; `bench show {entry.name}` has the settings by which it may do without",
            ) from error
        pixels = {record.key: record.sha256 for record in other.images()}
        kept = [i for i in whole.ids if pixels[i] not in judged]
        if not kept:
            raise DataError(
                f"{entry.name} trains on the split {split_name!r} of {name} too, and is evaluated on all its images",
                "evaluate on another split, or give trained weights: --weights PATH",
            )
        found.append(FurtherSplit(other, whole.take(kept), len(whole) - len(kept)))
    return tuple(found)


def source_for(
    method: type[Method], splits: tuple[FurtherSplit, ...], limit: int | None, seed: int
) -> Callable[[str, str], Split]:
    """The function that :attr:`bench.api.FitContext.data` is: hands out what was declared, and nothing else.

    Args:
        method: for the message.
        splits: see :func:`further_splits`.
        limit: at most so many images of each, as of the training split, or None.
        seed: chooses them.
    """
    by_address: Mapping[tuple[str, str], FurtherSplit] = {further.address: further for further in splits}

    def data(dataset: str, split: str) -> Split:
        further = by_address.get((dataset, split))
        if further is None:
            raise MethodError(
                f"{method.name} opens the split {split!r} of {dataset} without having declared it",
                f"return it from {method.__name__}.trains_on()",
            )
        return further.split.limit(limit, seed)

    return data


def _pixels(dataset: Dataset, split: Split) -> set[str]:
    judged = set(split.ids)
    return {record.sha256 for record in dataset.images() if record.key in judged}
