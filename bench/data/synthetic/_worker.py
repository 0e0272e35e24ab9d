"""One of several processes that generate a stand-in: every so many-th image of the plan.

Called by :mod:`bench.data.synthetic` as ``python -m bench.data.synthetic._worker CARD FOLDER WORKER WORKERS``. It
writes a line for each image made, and on an error that is the user's to mend its message and hint as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.data.cards import read_card
from bench.data.synthetic import make_generator
from bench.data.synthetic._base import write_item
from bench.errors import OutputError


def main(card_file: str, folder: str, worker: str, workers: str) -> int:
    """Generate images ``worker``, ``worker + workers``, and so on; the exit status of the process."""
    card = read_card(Path(card_file))
    assert card.stand_in is not None
    generator = make_generator(card.stand_in.generator, card.stand_in.seed, card.stand_in.params, card.path)
    try:
        for item in generator.plan()[int(worker) :: int(workers)]:
            if write_item(generator, item, Path(folder)):
                sys.stdout.write(f"{item.stem}\n")
                sys.stdout.flush()
    except OutputError as error:
        sys.stderr.write(json.dumps([error.message, error.hint]) + "\n")
        return error.exit_code
    except BrokenPipeError:  # who asked for the images is gone
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
