"""``bench demo-db``."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import options


@click.command("demo-db", short_help="a database of invented methods, to look at the board")
@click.option("--db", type=click.Path(path_type=Path, dir_okay=False), default="demo.db", show_default=True)
@click.option("--runs", type=click.Path(path_type=Path, file_okay=False), default="demo-runs", show_default=True)
@options.data_root()
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def command(db: Path, runs: Path, data_root: Path | None, seed: int) -> None:
    """Make a database of invented methods on generated images, plainly marked as a demonstration.

    The methods spoil the truth on purpose; their predictions are scored for real, their times are made up.

    \b
    bench demo-db
    bench leaderboard --db demo.db
    """
    from bench.engine.demo import make_demo

    count = make_demo(db, runs, data_root, seed=seed)
    options.tell(f"wrote {count} runs of invented methods to {db}; look at them: bench leaderboard --db {db}")
