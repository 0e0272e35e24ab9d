"""``bench rescore``."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import options


@click.command("rescore", cls=options.Command, short_help="score stored predictions again with today's metrics")
@click.argument("runs", nargs=-1)
@options.database()
@options.data_root()
@options.as_json()
def command(runs: tuple[str, ...], db: str | None, data_root: Path | None, as_json: bool) -> None:
    """Score the stored predictions of RUNS again (of every finished run, if none is named).

    Neither torch nor the method is needed. Numbers of another protocol version stay beside the new ones. A run whose
    images or predictions are gone is named at the end, and the others are scored; nothing is generated or downloaded.

    \b
    bench rescore
    bench rescore 3 7 --data-root DATA
    """
    from bench.engine.stored import rescore
    from bench.report.runs import listing
    from bench.store import open_store

    with open_store(db, create=False) as store:
        done = []
        for one in rescore(store, options.references(runs), data_root):
            done.append(one)
            if one.error is None and not as_json:
                options.tell(f"run {one.run.id} ({one.run.method} on {one.run.dataset}) scored again")
    if as_json:
        options.emit([listing(one.run) for one in done if one.error is None])
    options.fail([one.error for one in done if one.error is not None])
