"""The predictions of a stored run as files for other tools: what ``bench data export --run`` does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.api import UsageError
from bench.data.export import Exported, Format, export_predictions
from bench.data.kaggle_rle import Order
from bench.engine.stored import files_of, run_of
from bench.progress import reporting
from bench.report.stored_runs import opened
from bench.store import open_store


def export_run(
    reference: int | str,
    form: Format,
    folder: Path,
    *,
    db: str | Path | None = None,
    data_root: Path | None = None,
    overlap: str = "forbid",
    order: Order | None = None,
) -> Exported:
    """Write the predictions of a stored run on its images; see :func:`bench.data.export.export_predictions`.

    Formats without confidence hold the predictions from the run's operating point on, as protocols without confidence
    count them. COCO results hold all of them; the point is noted, and in ``provenance.json``.

    Args:
        reference: the run, by number or by the beginning of its key.
        form: one of :data:`bench.data.export.FORMATS`.
        folder: made; must not be there, or be empty.
        db: path or URL of the store.
        data_root: folder in which the run's data set lies.
        overlap: what becomes of overlaps in the formats that cannot hold them.
        order: how a Kaggle table counts pixels.

    Raises:
        UsageError: no such run, one that failed and has no predictions, or what ``export_predictions`` raises.
        DataError: the predictions or the data set are gone, damaged or of another version.
        OutputError: a file cannot be written.
    """
    with open_store(db, read_only=True) as store:
        run = run_of(store, reference)
        if run.status != "ok":
            raise UsageError(f"run {run.id} failed: it has no predictions to export", "see `bench list runs`")
        files = files_of(store, run)
    found = files.predictions()
    dataset = opened(run, data_root)
    split = dataset.split(run.split).take(list(found))
    generated = ", generated images and no microscopy" if dataset.source == "synthetic" else ""
    made_by: dict[str, Any] = {
        "description": f"Predictions of {run.title} for {dataset.card.title}, split {split.name}{generated}.",
        "method": run.method,
        "run": run.key,
        "badge": run.badge,
        "submitted_by": run.submitted_by,
    }
    point = files.operating_point()
    if point is not None:
        made_by["counted_from_confidence"] = point.min_score
    if point is not None and form != "coco":
        found = {image: prediction.at_least(point.min_score) for image, prediction in found.items()}
    with reporting("exporting", "image") as progress:
        exported = export_predictions(
            dataset, split, found, form, folder, made_by=made_by, overlap=overlap, order=order, progress=progress
        )
    if point is None:
        return exported
    if form == "coco":
        note = f"where a protocol knows no confidence, the run counts from {point.min_score:g} on: score and submit "
        note += f"results.json with --min-score {point.min_score:g}"
    else:
        note = f"predictions below confidence {point.min_score:g} are left out, as in the run's own scores"
    return replace(exported, notes=(*exported.notes, note))
