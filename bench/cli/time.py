"""``bench time``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from bench.cli import options


@click.command("time", cls=options.Command, short_help="time methods side by side on this machine")
@click.argument("methods", nargs=-1, required=True)
@click.option("-d", "--dataset", required=True, metavar="NAME", help="Whose images.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Predictions of each image.")
@click.option("--images", type=click.IntRange(min=1), default=8, show_default=True, help="How many images.")
@click.option("--batch", type=click.IntRange(min=1), help="Also time so many images in one pass, for throughput.")
@click.option("--weights", "pairs", multiple=True, metavar="METHOD=PATH", help="Trained weights of a method.")
@click.option("--fresh", is_flag=True, help="Random weights, even where there is a stored run.")
@click.option(
    "--seed",
    type=click.IntRange(0, options.LARGEST_SEED),
    default=0,
    show_default=True,
    help="Of images, order and weights.",
)
@click.option("--split", help="Split the images are of; default the data set's own, usually test.")
@options.data_root()
@click.option("--stand-in/--real", default=None, help="Only the generated stand-in, or only the real files.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@options.compute()
@options.database()
@options.as_json()
def command(methods: tuple[str, ...], dataset: str, pairs: tuple[str, ...], as_json: bool, **arguments: Any) -> None:
    """Time METHODS on the same images, one after the other in random order, round by round.

    Weights are those of each method's newest stored run on the data set, else random ones, which is said. With a run's
    own weights, on the machine that it was made on, the samples are stored as further rounds of its timing.

    \b
    bench time mask_rcnn rtmdet_ins unet-bce --dataset bbbc039
    bench time mask_rcnn -d neural --batch 8 --weights mask_rcnn=weights.pth --json
    """
    from bench.engine.time_methods import time_methods
    from bench.report.timings import timing_text

    weights = {name: Path(path) for name, path in options.settings(pairs, "--weights METHOD=PATH").items()}
    session = time_methods(options.names("METHODS", methods), dataset, weights=weights, **arguments)
    if as_json:
        options.emit(dataclasses.asdict(session))
    else:
        click.echo(timing_text(session))
