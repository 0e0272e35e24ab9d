"""``bench data``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.cli import options
from bench.errors import DataError, UsageError

PATH = click.Path(path_type=Path)


def _source() -> Callable[..., Any]:
    return click.option(
        "--stand-in/--real", "stand_in", default=None, help="Only the generated stand-in, or only the real files."
    )


@click.group(
    "data", cls=options.Group, short_help="what data are here; check, prepare, download, imitate, look at, export them"
)
def command() -> None:
    """Data sets on disk: list, check, prepare, download, synth, show, export."""


@command.command("list")
@options.data_root()
@options.as_json()
def list_(data_root: Path | None, as_json: bool) -> None:
    """Which data sets are here, really or as a stand-in, and how many images they have.

    Images and instances of real files are those counted when they were last read; bench data check reads them.
    """
    from bench.data import overview

    found = overview.examine(options.existing_folder(data_root))
    if as_json:
        options.emit(overview.as_plain(found))
        return
    options.tell(f"data root: {found.root}")
    click.echo()
    click.echo(options.plain_table(*overview.table(found)))
    for name, problem in found.broken.items():
        options.tell(f"warning: {name} is left out: {problem}", err=True)


@command.command("check")
@click.argument("dataset")
@options.data_root()
@_source()
@click.option(
    "--html",
    "page",
    type=PATH,
    metavar="FILE.html",
    callback=options.in_a_folder,
    help="Write the report as a page, with a contact sheet.",
)
@options.as_json()
def check(dataset: str, data_root: Path | None, stand_in: bool | None, page: Path | None, as_json: bool) -> None:
    """Open every image of DATASET and compare it with its card.

    Counts, sizes, bit depths, empty and doubled images, leaks between splits, overlaps, objects outside the image
    or in pieces. Ends with status 3 if there is a problem; notes alone are none.

    \b
    bench data check livecell
    bench data check dsb2018 --html report.html --json
    """
    from bench.data import check as checking
    from bench.data import load_card
    from bench.data.opening import announce
    from bench.data.system import write_whole
    from bench.engine.scoring import made_protocols
    from bench.progress import reporting

    made_protocols(load_card(dataset))
    announce(dataset, data_root, stand_in=stand_in)
    with reporting("checking", "image") as progress:
        opened, report = checking.open_and_check(dataset, data_root, stand_in=stand_in, progress=progress)
    if page is not None:
        write_whole(page, checking.to_html(report, opened).encode())
    if as_json:
        options.emit(checking.as_plain(report))
    else:
        options.tell_lines(checking.to_text(report))
    if report.problems:
        count = len(report.problems)
        raise DataError(
            f"{dataset}: {count} {'problem' if count == 1 else 'problems'}; the first: {report.problems[0]}",
            f"all of it is above{'' if page is None else f', and in {page}'}",
        )


@command.command("prepare")
@click.argument("dataset")
@click.option(
    "--from", "source", type=PATH, metavar="PATH", help="Folder of the download; default where list finds it."
)
@options.data_root()
@click.option("--drop-duplicates", is_flag=True, help="Keep one of several images with the same pixels.")
@click.option("--again", is_flag=True, help="Make it anew even if it is there.")
def prepare(dataset: str, source: Path | None, data_root: Path | None, drop_duplicates: bool, again: bool) -> None:
    """Read the official download of DATASET once, and keep it in a compact form that opens at once.

    Every image is decoded and every mask checked. Images are linked, not copied, where the disk allows it.

    \b
    bench data prepare livecell --from ~/Downloads/LIVECell_dataset_2021 --drop-duplicates
    """
    from bench.data import dataset as datasets
    from bench.data.cards import load_card
    from bench.data.opening import say_left_out, say_outdated
    from bench.data.prepare import is_prepared
    from bench.data.prepare import prepare as make
    from bench.progress import reporting

    card, root = load_card(dataset), datasets.data_root(data_root)
    source = source.expanduser() if source else datasets.expected_folder(card, root)
    what = "already prepared (--again makes it anew)" if is_prepared(card, root) and not again else "prepared"
    with reporting("preparing", "image") as progress:
        folder = make(card, source, root, progress, again=again, drop_duplicates=drop_duplicates)
    opened = datasets.open_dataset(dataset, root)
    options.tell(f"{what}: {folder}, {len(opened)} images, {opened.version.n_instances} instances")
    say_left_out(opened)
    say_outdated(opened)


@command.command("download")
@click.argument("dataset")
@options.data_root()
@click.option("--accept-licence", is_flag=True, help="You read the data set's licence and accept it.")
def download(dataset: str, data_root: Path | None, accept_licence: bool) -> None:
    """Fetch DATASET from where its owners publish it, if they allow that; else say what you must do.

    A download that was interrupted goes on where it was.
    """
    from bench.data import download as downloads
    from bench.data.cards import load_card
    from bench.data.dataset import data_root as root_of
    from bench.progress import reporting

    card = load_card(dataset)
    with reporting("downloading", "byte") as progress:
        folder = downloads.download(card, root_of(data_root), accept_licence=accept_licence, progress=progress)
    options.tell(f"{card.title}, {card.licence}: {folder}")
    for line in downloads.told(card, folder):
        options.tell(line)
    options.tell(f"next: bench data check {dataset}, or bench data prepare {dataset}")


@command.command("synth")
@click.argument("dataset")
@options.data_root()
@click.option("--to", "target", type=PATH, metavar="DIR", help="Folder for it; default where runs look for it.")
@click.option("--seed", type=click.IntRange(min=0), help="Another one than the card's; runs use the card's.")
def synth(dataset: str, data_root: Path | None, target: Path | None, seed: int | None) -> None:
    """Generate the stand-in of DATASET: the same bytes from the same seed, on any machine."""
    from bench.data import synthetic
    from bench.data.cards import load_card
    from bench.data.dataset import data_root as root_of
    from bench.progress import reporting

    root = target.expanduser() if target else root_of(data_root) / "synthetic"
    with reporting("generating", "image") as progress:
        folder, images = synthetic.generate(load_card(dataset), root, seed, progress)
    options.tell(f"{folder}: {images} images")


@command.command("show")
@click.argument("dataset")
@click.option("--split", help="Default: all images.")
@click.option("--images", type=click.IntRange(min=1), default=12, show_default=True, help="How many.")
@click.option(
    "--picture",
    type=PATH,
    metavar="FILE.png",
    required=True,
    callback=options.in_a_folder,
    help="Where to write the sheet.",
)
@click.option("--columns", type=click.IntRange(min=1), default=4, show_default=True, help="Images in a row.")
@click.option("--outlines/--no-outlines", default=True, show_default=True, help="Draw the outlines of the truth.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which images are drawn.")
@options.data_root()
@_source()
def show(
    dataset: str,
    split: str | None,
    images: int,
    picture: Path,
    columns: int,
    outlines: bool,
    seed: int,
    data_root: Path | None,
    stand_in: bool | None,
) -> None:
    """Write a sheet of some images of DATASET with the outlines of their truth, a colour for each class."""
    from bench.data import sheet
    from bench.data.opening import open_visibly

    if picture.suffix.lower() != ".png" and not picture.is_char_device():
        raise UsageError(
            f"--picture {picture}: a sheet is written as PNG", f"name it {picture.with_suffix('.png').name}"
        )
    opened = open_visibly(dataset, data_root, stand_in=stand_in)
    chosen = (opened.split(split) if split else opened.everything()).limit(images, seed)
    sheet.write_sheet(picture, chosen, columns=columns, outlines=outlines)
    options.tell(f"{picture}: {len(chosen)} images of {opened.card.title} ({opened.source})")


@command.command("export")
@click.argument("dataset", required=False)
@click.option("--run", metavar="RUN", help="Export a run's predictions instead: its number, or the start of its key.")
@click.option("--format", "form", required=True, type=click.Choice(("coco", "label-tiffs", "ctc", "kaggle")))
@click.option("--to", "target", required=True, type=PATH, metavar="DIR", help="Folder to make.")
@click.option("--split", help="Default: the one that runs are evaluated on.")
@click.option(
    "--overlap",
    metavar="POLICY",
    help="Where a format holds no overlaps (label-tiffs, ctc; predictions also kaggle): forbid, the default, or who "
    "gets the pixels.",
)
@click.option(
    "--rle",
    type=click.Choice(("row", "column")),
    help="How a Kaggle table counts pixels; default as DATASET reads its own.",
)
@options.data_root()
@_source()
@options.database()
def export(
    dataset: str | None,
    run: str | None,
    form: Any,
    target: Path,
    split: str | None,
    overlap: str | None,
    rle: Any,
    data_root: Path | None,
    stand_in: bool | None,
    db: str | None,
) -> None:
    """Write the truth of a split of DATASET, or a run's predictions, in a format that other tools read.

    No pixel is lost unsaid. Predictions can be scored and submitted again: coco keeps their scores, in results.json,
    and has the truth of the same images beside them.

    \b
    bench data export bbbc039 --format coco --to bbbc039-coco
    bench data export sartorius --format label-tiffs --overlap smallest --to sartorius-labels
    bench data export --run 3 --format coco --to run3
    bench score --truth run3/annotations.json --pred run3/results.json
    """
    from bench.data.export import refuse_unused

    refuse_unused(form, overlap, rle, predictions=run is not None)
    policy = overlap or "forbid"
    if run is None:
        _export_truth(dataset, form, target, split, policy, rle, data_root, stand_in)
        return
    from bench.engine.exporting_predictions import export_run

    if dataset is not None or split is not None or stand_in is not None:
        raise UsageError("--run says the data set and the split itself", "leave out DATASET, --split and --real")
    (reference,) = options.references((run,))
    done = export_run(reference, form, target.expanduser(), db=db, data_root=data_root, overlap=policy, order=rle)
    options.tell(f"{done.folder}: predictions of run {run} for {done.images} images, {done.instances} instances")
    for note in done.notes:
        options.tell(f"note: {note}", err=True)


def _export_truth(
    dataset: str | None,
    form: Any,
    target: Path,
    split: str | None,
    overlap: str,
    rle: Any,
    data_root: Path | None,
    stand_in: bool | None,
) -> None:
    from bench.data import export as exporting
    from bench.data.opening import open_visibly, say_left_out
    from bench.progress import reporting

    if dataset is None:
        raise UsageError("nothing to export is named", "name a data set, or a run by --run")
    opened = open_visibly(dataset, data_root, stand_in=stand_in)
    say_left_out(opened)
    with reporting("exporting", "image") as progress:
        done = exporting.export(
            opened,
            opened.split(split),
            form,
            target.expanduser(),
            overlap=overlap,
            order=rle,
            progress=progress,
        )
    mark = " of the generated stand-in" if opened.source == "synthetic" else ""
    options.tell(f"{done.folder}: {done.images} images{mark}, {done.instances} instances")
    if mark:
        options.tell("note: these are generated images, and the exported files say so", err=True)
    for note in done.notes:
        options.tell(f"note: {note}", err=True)
