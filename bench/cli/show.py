"""``bench show``."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import options
from bench.errors import UsageError


@click.command("show", cls=options.Command, short_help="everything about a method, a data set, a protocol or a run")
@click.argument("name")
@options.database()
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    callback=options.in_a_folder,
    metavar="FILE.png",
    help="Of a run: outlines on images.",
)
@click.option("--images", type=click.IntRange(min=1), help="Of a picture: how many, worst first; default 3.")
@options.data_root()
@options.as_json()
def command(
    name: str, db: str | None, picture: Path | None, images: int | None, data_root: Path | None, as_json: bool
) -> None:
    """Everything about NAME: a method, a data set, a protocol, or a run by its number or key.

    \b
    bench show mnc
    bench show neural
    bench show 3 --picture overlay.png
    """
    from bench.engine import describe
    from bench.report.numbers import describe_plain
    from bench.report.runs import for_people

    if picture is not None:
        shown = describe.picture(name, db=db, path=picture, count=images or 3, data_root=data_root)
        if as_json:
            options.emit({"picture": str(picture), "images": shown})
        else:
            options.tell(f"{picture}: {', '.join(shown)}")
        return
    if images is not None:
        raise UsageError("--images says how many images a picture has", "say where to write it: --picture FILE.png")
    facts = describe.describe(name, db=db)
    options.emit(facts) if as_json else click.echo(describe_plain(for_people(facts)))
