"""``bench score``."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import options


@click.command("score", cls=options.Command, short_help="score prediction files against truth files")
@click.option(
    "--truth",
    required=True,
    type=click.Path(path_type=Path),
    metavar="T",
    help="COCO JSON, or a folder of label images (Cell Tracking Challenge: SEG).",
)
@click.option(
    "--pred",
    "prediction",
    required=True,
    type=click.Path(path_type=Path),
    metavar="P",
    help="COCO results JSON, a folder of label images, or a Kaggle submission CSV.",
)
@click.option(
    "--protocol", "protocols", default="all", show_default=True, metavar="all|NAME,...", help="What to score."
)
@click.option(
    "--param",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the protocols that have it, or of one: voc.strict=false.",
)
@click.option("--rle", type=click.Choice(("row", "column")), help="How a submission counts pixels.")
@click.option(
    "--min-score",
    type=float,
    metavar="S",
    help="Confidence from which predictions count in the protocols that know none; AP takes them all.",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--intervals", is_flag=True, help="95 % bootstrap intervals over the images.")
@click.option("--json", "json_file", metavar="FILE|-", help="Write JSON to a file, or print it.")
@click.option("--per-image", type=click.Path(path_type=Path), metavar="FILE.csv", help="Write each image's values.")
def command(
    truth: Path,
    prediction: Path,
    protocols: str,
    pairs: tuple[str, ...],
    rle: str | None,
    min_score: float | None,
    workers: int,
    intervals: bool,
    json_file: str | None,
    per_image: Path | None,
) -> None:
    """Score predictions in files against truth in files. Nothing is stored.

    Images are matched by id, by the same name, or by the last number in the name.

    \b
    bench score --truth annotations.json --pred results.json
    bench score --truth 01_GT/SEG --pred 01_RES --protocol ctc
    bench score --truth masks/ --pred submission.csv --rle column --protocol kaggle --json -
    """
    from bench.engine import scoring_files
    from bench.progress import reporting

    chosen = scoring_files.protocols_with(protocols, options.settings(pairs, "--param NAME=VALUE"))
    with reporting("scoring", "image") as report:
        scores = scoring_files.score_files(
            truth,
            prediction,
            chosen,
            rle=rle,
            min_score=min_score,
            workers=workers,
            intervals=intervals,
            images=per_image is not None,
            progress=report,
        )
    if per_image:
        scoring_files.write_images(per_image, scores)
    if json_file == "-":
        options.emit(scoring_files.as_plain(scores))
        return
    if json_file:
        scoring_files.write_json(Path(json_file), scores)
    click.echo(f"{scores.n_images} images, {scores.n_truth} truths, {scores.n_predictions} predictions\n")
    click.echo(options.plain_table(*scoring_files.table(scores)))
