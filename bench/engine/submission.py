"""Predictions made elsewhere as a run: what ``bench submit`` does.

A submission lands in a run folder like a measured run's, with its predictions in the same journal, so that it can be
scored again, compared and drawn. Everything its author says (the name, who they are, how it was made, how fast it
was) is kept as said, is marked ``submitted``, and is never mixed with what this program measured.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.api import DataError, UsageError
from bench.data import Dataset, Split
from bench.data.opening import open_visibly
from bench.engine import folder as files
from bench.engine import provenance, scoring
from bench.engine.folder import Journal, RunFolder, writing
from bench.engine.further_data import said_to_train_on
from bench.engine.service import FinishedRun, runs_folder
from bench.engine.statement import Statement
from bench.engine.submission_files import SubmittedPredictions
from bench.progress import reporting
from bench.records import (
    ArtifactRecord,
    EnvironmentRecord,
    MachineRecord,
    MethodVersionRecord,
    RunBundle,
    RunRecord,
)
from bench.store import Store, open_store
from bench.store.files import OperatingPoint
from bench.store.identity import SUBMITTED

UNKNOWN = "unknown"
"""What a submission does not tell: the machine, the device, the software."""
SAID = ("statement", "trained_on")
"""What of a plan its author says, and nothing of what was predicted follows from: no part of the run's key."""

_NO_ENVIRONMENT = EnvironmentRecord(
    hash=UNKNOWN, python=UNKNOWN, platform=UNKNOWN, torch=None, mmcv=None, ops=None, cuda=None
)
_NO_MACHINE = MachineRecord(hash=UNKNOWN, hostname=UNKNOWN, cpu=UNKNOWN, cores=0, memory_bytes=0, os=UNKNOWN)


def submit_files(
    dataset: str,
    predictions: Path,
    statement: Statement,
    *,
    data_root: Path | None = None,
    stand_in: bool | None = None,
    db: str | Path | None = None,
    runs: Path | None = None,
    **options: Any,
) -> FinishedRun:
    """:func:`submit`, with everything by its name.

    Args:
        dataset: name of the data set.
        predictions: the file or folder.
        statement: what their author says of them.
        data_root: folder in which data sets lie.
        stand_in: only the generated stand-in (True) or only real files (False).
        db: path or URL of the store.
        runs: folder of all runs.
        options: those of :func:`submit`.
    """
    opened = open_visibly(dataset, data_root, stand_in=stand_in)
    with open_store(db) as store:
        return submit(store, opened, predictions, statement, runs_folder(runs), **options)


def submit(
    store: Store,
    dataset: Dataset,
    predictions: Path,
    statement: Statement,
    runs: Path,
    *,
    split: str | None = None,
    partial: bool = False,
    missing_is_empty: bool = False,
    min_score: float | None = None,
    force: bool = False,
    **reading: Any,
) -> FinishedRun:
    """Score predictions made elsewhere on a split, and store them as a run with the badge ``submitted``.

    The same predictions under the same name by the same person on the same split are one run: a second call finds it,
    or, where its statement is another, takes its place.

    Args:
        store: where the row goes.
        dataset: what was predicted.
        predictions: the file or folder; see :class:`bench.engine.submission_files.SubmittedPredictions`.
        statement: what their author says of them.
        runs: folder of all runs.
        split: that was predicted; None is the card's.
        partial: store predictions of a part of the split, as incomplete; such a run never ranks.
        missing_is_empty: on images without predictions nothing was found.
        min_score: the confidence from which they count in protocols that know none; None: all count.
        force: store again what is stored, and supersede it.
        reading: ``rle``, ``listing`` and ``class_name`` of ``SubmittedPredictions``.

    Raises:
        DataError: broken files, masks of another size, unknown or missing images, too many instances in an image.
        UnknownNameError: a data set to train on that has no card.
        UsageError: options that do not fit the files.
        OutputError: the run's folder cannot be written.
        StoreError: the store cannot be written.
    """
    started = datetime.now(UTC)
    said_to_train_on(statement.trained_on, dataset.card)  # an unknown name is refused before anything is read
    chosen = dataset.split(split)
    given = SubmittedPredictions(predictions, dataset, chosen, **reading)
    scored_images = _scored_images(given, chosen, partial, missing_is_empty)
    home = runs / dataset.card.name / SUBMITTED / statement.folder
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
        incoming = tempfile.TemporaryDirectory(prefix=".incoming-", dir=home)
    with incoming as folder:
        journal = Path(folder) / files.PREDICTIONS
        digest = _write(given, scored_images, journal, dataset.task.max_detections)
        plan = _plan(statement, dataset, chosen, digest, partial=len(scored_images) < len(chosen))
        point = _stated_point(given, min_score)
        if point is not None:
            plan |= {"operating_point": asdict(point)}
        key = provenance.sha256_of({k: v for k, v in plan.items() if k not in SAID})
        standing = store.finished(key)
        restated = standing is not None and _said(store.provenance(standing.id).arguments) != _said(plan)
        replace = force or restated
        if standing is not None and not replace and Path(standing.folder, files.PREDICTIONS).is_file():
            return _finished(store, standing.id, new=False)
        run = RunFolder(home / key[:16])
        with run.locked():
            plan |= {"file": predictions.name, "command": provenance.command_line()}
            run.write_plan({**plan, "key": key})
            with writing(run.path):
                journal.replace(run.path / files.PREDICTIONS)
            if point is not None:
                run.write_operating_point(point)
            if standing is not None and not replace:  # its folder was lost, and is whole again
                return _finished(store, standing.id, new=False)
            parts = scoring.parts_of(dataset, chosen.name)
            scores, image_scores = scoring.score_run(
                statement.name, dataset.card, scored_images, run.predicted(), min_score, parts
            )
            record = _record(
                statement, dataset, chosen, scored_images, plan, key, run, started, store.attempts(key) + 1
            )
            bundle = RunBundle(
                run=record,
                dataset=dataset.version,
                method=_method(statement, given.scored, started.year),
                environment=_NO_ENVIRONMENT,
                machine=_NO_MACHINE,
                images=dataset.images(),
                results=scores,
                image_results=image_scores,
                artifacts=_artifacts(run),
            )
            notes = _notes(given, scored_images)
            if standing is not None:
                why = ", of which something else was said" if restated else ""
                notes = (f"it takes the place of run {standing.id}{why}", *notes)
            return _finished(store, store.add(bundle, supersede=replace), new=True, notes=notes)


def _stated_point(given: SubmittedPredictions, min_score: float | None) -> OperatingPoint | None:
    """The operating point that the author of the predictions names.

    Raises:
        UsageError: it is no confidence, or the predictions have none.
    """
    if min_score is None:
        return None
    if not math.isfinite(min_score):
        raise UsageError(f"--min-score {min_score} is no confidence", "such as 0.5")
    if not given.scored:
        raise UsageError(f"{given.path}: --min-score is for confidences, and it has no confidences", "leave it out")
    return OperatingPoint(min_score, "their author's choice", 0, "", None)


def _scored_images(given: SubmittedPredictions, split: Split, partial: bool, missing_is_empty: bool) -> Split:
    """The images of the split that are scored.

    Raises:
        DataError: images without a prediction, and nobody said what that means.
    """
    if not given.missing or missing_is_empty:
        return split
    if not partial or len(given) == 0:
        raise DataError(
            f"{given.path}: no prediction for {len(given.missing)} of the {len(split)} images of the split "
            f"{split.name}, such as {given.missing[0]}",
            "say --missing-is-empty if nothing was found on them, or --partial to store an incomplete run",
        )
    missing = set(given.missing)
    return split.take([id_ for id_ in split.ids if id_ not in missing])


def _write(given: SubmittedPredictions, images: Split, path: Path, most: int) -> str:
    """Write the journal of predictions, and return the hash of their content, whatever files they came in.

    Raises:
        DataError: a prediction that does not describe its image, or too many in one.
    """
    digest = hashlib.sha256()
    journal = Journal(path)
    with reporting("reading predictions", "image") as report:
        for count, image_id in enumerate(images.ids, start=1):
            found = given.read(image_id)
            if len(found) > most:
                raise DataError(
                    f"{given.path}: {len(found)} predictions for image {image_id}, where at most {most} count",
                    f"keep the {most} best",
                )
            record = files.to_record(image_id, found)
            digest.update(json.dumps(record, sort_keys=True).encode())
            journal.append(record)
            report(count, len(images), "")
    return digest.hexdigest()


def _plan(statement: Statement, dataset: Dataset, split: Split, digest: str, *, partial: bool) -> dict[str, Any]:
    """What the run is: its key follows from all of it but what its author says besides name and person."""
    return {
        "method": statement.name,
        "submitted_by": statement.who,
        "dataset": dataset.card.name,
        "dataset_version": dataset.content_hash,
        "source": dataset.source,
        "split": split.name,
        "predictions": digest,
        "partial": partial,
        **({"trained_on": list(trained)} if (trained := said_to_train_on(statement.trained_on, dataset.card)) else {}),
        "statement": {
            "note": statement.note,
            "url": statement.url,
            "paper": statement.paper,
            "seconds_per_image": statement.seconds_per_image,
        },
    }


def _said(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Of a plan what its author says, without what is left unsaid."""
    statement: Mapping[str, Any] = plan.get("statement") or {}
    said = {**statement, "trained_on": plan.get("trained_on")}
    return {name: value for name, value in said.items() if value}


def _record(
    statement: Statement,
    dataset: Dataset,
    split: Split,
    scored: Split,
    plan: dict[str, Any],
    key: str,
    run: RunFolder,
    started: datetime,
    attempt: int,
) -> RunRecord:
    commit, dirty = provenance.commit()
    return RunRecord(
        key=key,
        split=split.name,
        seed=0,
        schedule=SUBMITTED,
        init=UNKNOWN,
        device=UNKNOWN,
        status="ok",
        badge=SUBMITTED,
        started=started,
        finished=datetime.now(UTC),
        attempt=attempt,
        folder=str(run.path.resolve()),
        command=str(plan["command"]),
        n_images=len(scored),
        complete=len(scored) == len(split),
        commit=commit,
        dirty=dirty,
        arguments=plan,
        submitted_by=statement.who,
        note=statement.whole_note,
    )


def _method(statement: Statement, scored: bool, year: int) -> MethodVersionRecord:
    """A method of which nothing but the name is known; two people's of one name are two.

    What is cited is the submission, of whom and when; the paper that it names stands in a note, since nobody can say
    that it is by the same people.
    """
    published = {
        "title": statement.name,
        "authors": [statement.who] if statement.who else [],
        "year": year,
        "venue": "predictions submitted to cellseg-bench",
        "url": statement.url or "",
        "note": statement.paper or "",
    }
    return MethodVersionRecord(
        name=statement.name,
        variant="",
        title=statement.name,
        origin=SUBMITTED,
        code_hash=provenance.sha256_of([SUBMITTED, statement.name, statement.who]),
        params={},
        params_hash=provenance.sha256_of({}),
        scored=scored,
        paper=published if statement.paper or statement.url else None,
    )


def _artifacts(run: RunFolder) -> tuple[ArtifactRecord, ...]:
    return tuple(
        ArtifactRecord(name, provenance.sha256_file(run.path / name), (run.path / name).stat().st_size)
        for name in (files.PLAN, files.PREDICTIONS)
    )


def _notes(given: SubmittedPredictions, scored: Split) -> tuple[str, ...]:
    notes = []
    if given.missing:
        what = "counted as images on which nothing was found"
        if not set(given.missing) & set(scored.ids):
            what = "left out: the run is incomplete and does not rank"
        notes.append(f"images without predictions, {what}: {len(given.missing)}")
    if given.elsewhere:
        notes.append(f"predictions for images outside the split {scored.name} are left out: {given.elsewhere}")
    if not given.scored:
        notes.append("the predictions carry no scores, so average precision is not applicable")
    return tuple(notes)


def _finished(store: Store, run_id: int, *, new: bool, notes: tuple[str, ...] = ()) -> FinishedRun:
    return FinishedRun(store.run(run_id), store.bundle(run_id).results, store.location, new, None, notes)
