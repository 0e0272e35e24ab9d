"""``bench demo-db``."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import options


@click.command("demo-db", cls=options.Command, short_help="a database of invented methods, to look at the board")
@click.option("--db", type=click.Path(path_type=Path, dir_okay=False), default="demo.db", show_default=True)
@click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    help="New folder for the predictions; default beside the database: demo-runs for demo.db.",
)
@options.data_root()
@click.option("--seed", type=click.IntRange(0, options.LARGEST_SEED), default=0, show_default=True)
def command(db: Path, runs: Path | None, data_root: Path | None, seed: int) -> None:
    """Make a database of invented methods on generated images, plainly marked as a demonstration.

    The methods spoil the truth on purpose; their predictions are scored for real, their times are made up. It takes
    some minutes: the first time, the stand-ins of three data sets are generated as well (progress on stderr).

    \b
    bench demo-db
    bench leaderboard --db demo.db
    """
    from bench.engine.demo import make_demo

    runs = runs or db.with_name(f"{db.stem}-runs")
    count = make_demo(db, runs, data_root, seed=seed)
    options.tell(
        f"wrote {count} runs of invented methods to {db}, their files to {runs}; "
        f"look at them: bench leaderboard --db {db}"
    )
