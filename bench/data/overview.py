"""What is here: for each card whether real files, a prepared form or a stand-in are under a data root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.data import synthetic
from bench.data.cards import Card, list_cards
from bench.data.dataset import SYNTHETIC, Source, data_root, facts_file, real_source
from bench.data.folders import readable
from bench.data.prepare import PREPARED
from bench.data.scan import default_cache, kept_facts
from bench.errors import BenchError

State = Literal["prepared", "real", "stand-in", "stand-in can be made", "missing"]


@dataclass(frozen=True)
class Row:
    """A data set and what there is of it.

    Attributes:
        card: of the data set.
        state: what :func:`bench.data.open_dataset` would open.
        folder: where that lies, or None.
        images: how many it has, where that is known without reading it: of a stand-in, or when it was read before.
        instances: the same.
        advice: how to get the real files, where they are not here.
    """

    card: Card
    state: State
    folder: Path | None
    images: int | None = None
    instances: int | None = None
    advice: str = ""


@dataclass(frozen=True)
class Overview:
    """What is under a data root: a row for each card, and what is wrong with the cards that cannot be read."""

    root: Path
    rows: tuple[Row, ...]
    broken: dict[str, BenchError]


def is_partial(images: int | None, expected: int | None) -> bool:
    """Whether a data set has another number of images than the complete one; False where either is not known."""
    return images is not None and expected is not None and images != expected


def images_of_expected(images: int | None, expected: int | None) -> str:
    """As "80 of 200", or "200" where all are here or nobody knows how many there should be; "-" if not counted."""
    if images is None:
        return "-" if expected is None else f"? of {expected}"
    return f"{images} of {expected}" if is_partial(images, expected) else str(images)


@readable()
def examine(given: Path | None = None) -> Overview:
    """What is under the data root: the one given, else that of the environment, else ``./data``."""
    root = data_root(given).absolute()
    return Overview(root, *overview(root))


def table(found: Overview) -> tuple[tuple[str, ...], list[list[str]]]:
    """Columns and rows for a terminal; "-" or "?" where nothing was counted yet."""

    def shown(number: int | None) -> str:
        return "-" if number is None else str(number)

    rows = [
        [
            row.card.name,
            row.state,
            images_of_expected(row.images, row.card.expected.images if row.state in ("prepared", "real") else None),
            shown(row.instances),
            str(row.folder) if row.state in ("prepared", "real") else f"bench data download {row.card.name}",
        ]
        for row in found.rows
    ]
    return ("name", "here", "images", "instances", "where, or how to get the real files"), rows


def as_plain(found: Overview) -> dict[str, Any]:
    """The same as plain data."""
    items = [
        {
            "name": row.card.name,
            "title": row.card.title,
            "state": row.state,
            "folder": None if row.folder is None else str(row.folder),
            "images": row.images,
            "instances": row.instances,
            "expected": {
                "images": row.card.expected.images,
                "instances": row.card.expected.instances,
                "splits": row.card.expected.splits,
            },
            "licence": row.card.licence,
            "advice": row.advice,
        }
        for row in found.rows
    ]
    return {"data_root": str(found.root), "items": items, "broken": {n: str(e) for n, e in found.broken.items()}}


def overview(root: Path, cache: Path | None = None) -> tuple[tuple[Row, ...], dict[str, BenchError]]:
    """One row for each card that can be read, and what is wrong with the others.

    Args:
        root: the data root.
        cache: where stand-ins lie if the data root cannot be written; default the user's cache.
    """
    cards, broken = list_cards()
    return tuple(_row(card, root, cache or default_cache()) for card in cards.values()), broken


def _row(card: Card, root: Path, cache: Path) -> Row:
    real = real_source(card, root)
    if real is not None:
        state: State = "prepared" if real.format["name"] == PREPARED else "real"
        return Row(card, state, real.folder, *_counts(card, real, cache))
    if card.downloads:
        advice = f"bench data download {card.name}"
    else:
        advice = card.obtain or f"get them from {card.url}, into {root / card.folders[0]}"
    if card.stand_in is None:
        return Row(card, "missing", None, advice=advice)
    folder = synthetic.made(card, root / SYNTHETIC, cache / SYNTHETIC)
    if folder is None:
        return Row(card, "stand-in can be made", None, synthetic.planned(card), advice=advice)
    source = Source("synthetic", folder, synthetic.format_of(card))
    _, instances = _counts(card, source, cache)
    return Row(card, "stand-in", folder, synthetic.planned(card), instances, advice)


def _counts(card: Card, source: Source, cache: Path) -> tuple[int | None, int | None]:
    """Images and instances, as they were when the files were last read."""
    facts = kept_facts(facts_file(card, source, cache))
    return (None, None) if facts is None else (len(facts), sum(fact.instances or 0 for fact in facts))
