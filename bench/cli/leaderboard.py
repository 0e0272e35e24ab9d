"""``bench leaderboard``."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import options


@click.command("leaderboard", cls=options.Command, short_help="the board, in the browser")
@options.database()
@options.data_root()
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535), help="On which it answers.")
@click.option(
    "--address",
    default="localhost",
    show_default=True,
    help="Of the network card on which it answers; 0.0.0.0 lets everybody on the network in.",
)
def command(db: str | None, data_root: Path | None, port: int, address: str) -> None:
    """Show the board in the browser, at http://localhost:8501, until it is stopped by Ctrl-C.

    It reads the database and writes nothing. The images behind the numbers come from the data root.

    \b
    bench leaderboard
    bench leaderboard --db results.db --data-root DATA --port 8600
    """
    from bench.report.board_server import serve

    raise SystemExit(
        serve(db, data_root=data_root, port=port, address=address, say=lambda text: options.tell(text, err=True))
    )
