"""``bench rescore``."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import options


@click.command("rescore", short_help="score stored predictions again with today's metrics")
@click.argument("runs", nargs=-1)
@options.database()
@options.data_root()
@options.as_json()
def command(runs: tuple[str, ...], db: str | None, data_root: Path | None, as_json: bool) -> None:
    """Score the stored predictions of RUNS again (of every finished run, if none is named).

    Neither torch nor the method is needed. Numbers of another protocol version stay beside the new ones.
    """
    from bench.engine.stored import rescore
    from bench.report.runs import listing
    from bench.store import open_store

    with open_store(db, create=False) as store:
        done = rescore(store, options.references(runs), data_root)
    if as_json:
        options.emit([listing(run) for run in done])
    else:
        click.echo("\n".join(f"run {run.id} ({run.method} on {run.dataset}) scored again" for run in done))
