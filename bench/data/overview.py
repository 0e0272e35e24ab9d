"""What is here: for each card whether real files, a prepared form or a stand-in are under a data root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.data import synthetic
from bench.data.cards import Card, list_cards
from bench.data.dataset import real_folder
from bench.data.prepare import is_prepared, prepared_folder
from bench.data.scan import default_cache
from bench.errors import BenchError

State = Literal["prepared", "real", "stand-in", "stand-in can be made", "missing"]


@dataclass(frozen=True)
class Row:
    """A data set and what there is of it.

    Attributes:
        card: of the data set.
        state: what :func:`bench.data.open_dataset` would open.
        folder: where that lies, or None.
        advice: how to get the real files, where they are not here.
    """

    card: Card
    state: State
    folder: Path | None
    advice: str = ""


def overview(root: Path, cache: Path | None = None) -> tuple[tuple[Row, ...], dict[str, BenchError]]:
    """One row for each card that can be read, and what is wrong with the others.

    Args:
        root: the data root.
        cache: where stand-ins lie if the data root cannot be written; default the user's cache.
    """
    cards, broken = list_cards()
    return tuple(_row(card, root, cache or default_cache()) for card in cards.values()), broken


def _row(card: Card, root: Path, cache: Path) -> Row:
    if is_prepared(card, root):
        return Row(card, "prepared", prepared_folder(card, root))
    if (found := real_folder(card, root)) is not None:
        return Row(card, "real", found)
    if card.downloads:
        advice = f"bench data download {card.name}"
    else:
        advice = card.obtain or f"get them from {card.url}, into {root / card.folders[0]}"
    if card.stand_in is None:
        return Row(card, "missing", None, advice)
    folder = synthetic.made(card, root / "synthetic", cache / "synthetic")
    return Row(card, "stand-in" if folder else "stand-in can be made", folder, advice)
