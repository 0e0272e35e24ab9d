"""``bench submit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli import options


@click.command("submit", cls=options.Command, short_help="put predictions made elsewhere on the board")
@click.option("-d", "--dataset", required=True, metavar="NAME", help="What was predicted.")
@click.option(
    "--pred",
    "predictions",
    required=True,
    type=click.Path(path_type=Path),
    metavar="P",
    help="COCO results JSON, a folder of label images (or 01_RES), or a Kaggle submission CSV.",
)
@click.option("--name", required=True, help="How the board is to call the method.")
@click.option("--split", help="Split that was predicted; default the data set's own, usually test.")
@click.option("--who", help="Who made the predictions.")
@click.option("--how", "--note", "note", metavar="TEXT", help="How they were made.")
@click.option("--url", help="Where the method or its code is.")
@click.option("--paper", help="Its title or citation.")
@options.trained_on("Data sets, by name, that the method was trained on")
@click.option("--seconds-per-image", type=float, metavar="S", help="Stated speed; shown as such, never as measured.")
@click.option(
    "--min-score",
    type=float,
    metavar="S",
    help="Confidence from which they count in the protocols that know none; AP takes them all.",
)
@click.option("--rle", type=click.Choice(("row", "column")), help="How a Kaggle submission counts pixels.")
@click.option(
    "--images",
    "listing",
    type=click.Path(path_type=Path),
    metavar="COCO.json",
    help="The file that numbers the images, if the results use numbers and the data set has no such file.",
)
@click.option("--class", "class_name", help="Class of all predictions, for formats that hold none.")
@click.option("--partial", is_flag=True, help="Store predictions of a part of the split; such a run never ranks.")
@click.option("--missing-is-empty", is_flag=True, help="On images without predictions nothing was found.")
@options.data_root()
@click.option("--stand-in/--real", default=None, help="Only the generated stand-in, or only the real files.")
@options.database()
@click.option("--runs", type=click.Path(path_type=Path), help="Folder of all runs; default $BENCH_RUNS or ./runs.")
@click.option("--force", is_flag=True, help="Store again what is stored; the new run supersedes the old one.")
@options.as_json()
def command(
    dataset: str,
    predictions: Path,
    name: str,
    who: str | None,
    note: str | None,
    url: str | None,
    paper: str | None,
    seconds_per_image: float | None,
    trained_on: tuple[str, ...],
    as_json: bool,
    **arguments: Any,
) -> None:
    """Score predictions made elsewhere on a split of a data set, and store them as a run marked "submitted".

    Label images are named as the images' ids; COCO results name images by id, by file name, or by the numbers of the
    data set's own annotation file. The same predictions, name and person are one run, however often they come.

    \b
    bench submit -d dsb2018 --pred results.json --name "My net" --who "A. Nonymous" --how "trained on train, 3 models"
    bench submit -d dic_hela --split sequence/test --pred 02_RES --name "My tracker"
    """
    from bench.engine import submission
    from bench.engine.statement import Statement
    from bench.progress import say
    from bench.report import runs as report

    statement = Statement(name, who, note, url, paper, seconds_per_image, tuple(options.comma_separated(trained_on)))
    finished = submission.submit_files(dataset, predictions, statement, **arguments)
    for text in finished.notes:
        say(text)
    if as_json:
        options.emit({**report.as_plain(finished), "badge": "submitted", "submitted_by": who, "notes": finished.notes})
    else:
        click.echo(report.run_tables([finished], options.terminal_width()))
