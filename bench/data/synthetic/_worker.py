"""One of several processes that generate a stand-in: every so many-th image of the plan.

Run by :mod:`bench.data.synthetic` with a generator's name, seed and parameters (JSON), the card that they come from and
a folder; says a line for each image made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from bench.data.synthetic import make_generator
from bench.data.synthetic._base import write_item
from bench.data.workers import be_worker


def work(arguments: list[str], worker: int, workers: int, say: Callable[[str], None]) -> None:
    """Generate images ``worker``, ``worker + workers``, and so on."""
    name, seed, params, card, folder = arguments
    generator = make_generator(name, int(seed), json.loads(params), Path(card))
    for item in generator.plan()[worker::workers]:
        if write_item(generator, item, Path(folder)):
            say(item.stem)


if __name__ == "__main__":
    sys.exit(be_worker(work))
