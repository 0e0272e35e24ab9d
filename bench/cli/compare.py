"""``bench compare``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from bench.cli import options


@click.command("compare", cls=options.Command, short_help="two or more runs, with the interval of their difference")
@click.argument("runs", nargs=-1, required=True)
@click.option("--protocol", help="Default: the one that ranks the data set.")
@click.option("--metric", help="Default: the protocol's first.")
@options.database()
@options.data_root()
@options.as_json()
def command(
    runs: tuple[str, ...],
    protocol: str | None,
    metric: str | None,
    db: str | None,
    data_root: Path | None,
    as_json: bool,
) -> None:
    """Compare RUNS of one data set on the images that all of them have.

    The difference comes with its 95 % interval and p from a paired bootstrap over the images, corrected for the
    number of comparisons (Holm). Runs that cannot be told apart share a rank.

    \b
    bench compare 3 7
    bench compare 3 7 9 --protocol kaggle --json
    """
    from bench.engine.stored import compared
    from bench.report.comparisons import comparison_text
    from bench.store import open_store

    with open_store(db, read_only=True) as store:
        found = compared(store, options.references(runs), protocol=protocol, metric=metric, data_root=data_root)
    if as_json:
        options.emit(dataclasses.asdict(found))
    else:
        click.echo(comparison_text(found))
