"""One of several processes that generate a stand-in: every so many-th image of the plan.

Run by :mod:`bench.data.synthetic` with a card, a folder and a seed; says a line for each image made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from bench.data.cards import read_card
from bench.data.synthetic import make_generator
from bench.data.synthetic._base import write_item
from bench.data.workers import be_worker


def work(arguments: list[str], worker: int, workers: int, say: Callable[[str], None]) -> None:
    """Generate images ``worker``, ``worker + workers``, and so on."""
    card = read_card(Path(arguments[0]))
    assert card.stand_in is not None
    generator = make_generator(card.stand_in.generator, int(arguments[2]), card.stand_in.params, card.path)
    for item in generator.plan()[worker::workers]:
        if write_item(generator, item, Path(arguments[1])):
            say(item.stem)


if __name__ == "__main__":
    sys.exit(be_worker(work))
