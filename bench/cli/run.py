"""``bench run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.api import SCHEDULES
from bench.cli import options


@click.command("run", cls=options.Command, short_help="train, predict, time, score and store")
@click.option("-m", "--method", "methods", multiple=True, required=True, metavar="NAME", help="Repeat, or a,b.")
@click.option("-d", "--dataset", "datasets", multiple=True, required=True, metavar="NAME", help="Repeat, or a,b.")
@click.option("--seed", "seeds", multiple=True, default=("0",), show_default=True, help="Repeat, or 0,1,2.")
@click.option("--split", help="Split to evaluate on; default the data set's own, usually test.")
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    help="How long to train; default paper on a GPU, smoke on a CPU.",
)
@click.option("--init", help="Initial weights: random, imagenet, coco or the path of a checkpoint.")
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights to use instead of training.")
@options.trained_on("Data sets, by name, that these weights were trained on")
@options.data_root()
@click.option("--stand-in/--real", default=None, help="Only the generated stand-in, or only the real files.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@options.compute()
@click.option("--limit", type=click.IntRange(min=1), help="Evaluate at most so many images; such a run never ranks.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A setting of the method; see bench show.")
@options.database()
@click.option("--runs", type=click.Path(path_type=Path), help="Folder of all runs; default $BENCH_RUNS or ./runs.")
@click.option("--dry-run", is_flag=True, help="Say what would run and why; nothing is trained, generated or stored.")
@click.option("--force", is_flag=True, help="Run again what is done; the new run supersedes the old one.")
@options.as_json()
def command(
    methods: tuple[str, ...],
    datasets: tuple[str, ...],
    seeds: tuple[str, ...],
    pairs: tuple[str, ...],
    trained_on: tuple[str, ...],
    as_json: bool,
    dry_run: bool,
    **arguments: Any,
) -> None:
    """Run every METHOD on every DATASET with every seed, and store the results.

    A run that is already stored is not run again. A run that was interrupted or killed goes on where it was. What
    cannot run here (a package, weights or files are missing) is named before work begins and at the end; the rest runs.

    \b
    bench run --method mnc --dataset neural
    bench run -m mask_rcnn,unet-bce -d bbbc039 --data-root DATA --seed 0,1,2
    """
    from bench.engine import service
    from bench.report import runs as report

    seed_list = options.integers("--seed", seeds)
    trained = options.comma_separated(trained_on)
    request = {"settings": options.settings(pairs), "trained_on": trained, **arguments}
    names = options.names("--method", methods), options.names("--dataset", datasets)
    if dry_run:
        planned, left_out = service.plan_grid(*names, seeds=seed_list, **request)
        if as_json:
            options.emit(planned)
        elif planned:
            click.echo(report.plan_table(planned))
        options.fail(left_out)
        return
    finished, left_out = service.run_grid(*names, seeds=seed_list, **request)
    if as_json:
        options.emit([report.as_plain(run) for run in finished])
    elif finished:
        click.echo(report.run_tables(finished, options.terminal_width()))
    options.fail([*(run.error for run in finished if run.error is not None), *left_out])
