"""``bench export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.api import SCHEDULES
from bench.cli import options
from bench.errors import UsageError

FORMATS = ("csv", "latex", "markdown", "json", "text", "bibtex")


@click.command("export", cls=options.Command, short_help="boards as CSV, LaTeX, Markdown, JSON, BibTeX or web pages")
@click.option("-d", "--dataset", help="The board's data set; default the only one, or the one run last.")
@click.option("--split", help="Default test where it has runs.")
@click.option("--schedule", type=click.Choice((*SCHEDULES, "submitted")), help="Only runs of it.")
@click.option("--protocol", help="The ranking one; default the first of the card.")
@click.option("--metric", help="Of that protocol.")
@click.option(
    "--stand-in/--real", "stand_in", default=None, help="Only the generated stand-in, or only the real files."
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=options.in_a_folder,
    help="A file instead of stdout.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path, file_okay=False),
    callback=options.in_a_folder,
    help="Every board as pages in this folder.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=options.in_a_folder,
    help="Speed against accuracy: FILE.svg or .png.",
)
@options.database()
def command(html: Path | None, plot: Path | None, to: Path | None, db: str | None, form: str, **asked: Any) -> None:
    """Write a board for a paper, a spreadsheet or a web page.

    \b
    bench export -d bbbc039 --format latex --to table.tex
    bench export -d bbbc039 --format bibtex
    bench export -d bbbc039 --plot speed.svg
    bench export --html public/      # every board and run, opens without a server
    """
    from bench.engine import exporting

    places = [name for name, given in (("--to", to), ("--html", html), ("--plot", plot)) if given is not None]
    if len(places) > 1:
        raise UsageError(f"{' and '.join(places)} are different exports", "ask for them one after the other")
    if html is not None:
        pages = exporting.site(db, html)
        options.tell(f"wrote {pages} pages: {html / 'index.html'}")
        return
    if plot is not None:
        exporting.plot(db, plot, **asked)
        options.tell(f"wrote {plot}")
        return
    text = exporting.board(db, form=form, **asked)
    if to is None:
        click.echo(text, nl=False)
    else:
        exporting.write(text, to)
        options.tell(f"wrote {to}")
