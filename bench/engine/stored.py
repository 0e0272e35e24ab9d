"""Runs that are stored already: their predictions scored again, and held against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.api import BenchError, DataError, Instances, UnknownNameError, UsageError
from bench.data import Dataset, Split, card_names
from bench.engine import scoring
from bench.engine.folder import PREDICTIONS, RunFolder, from_record
from bench.metrics import Comparison, compare
from bench.records import ImageResultRecord, ResultRecord
from bench.registry import registry
from bench.report.stored_runs import opened, run_names, scored
from bench.store import Store, StoredRun
from bench.store.files import RunFiles


def predictions(run: StoredRun) -> dict[str, Instances]:
    """The predictions of a run, by image.

    Raises:
        DataError: its folder is gone, or damaged.
    """
    folder = Path(run.folder)
    if not (folder / PREDICTIONS).is_file():
        raise DataError(f"the predictions of run {run.id} are gone: {folder}", "run it again with --force")
    return dict(from_record(record) for record in RunFolder(folder).predictions().read())


def run_of(store: Store, reference: int | str) -> StoredRun:
    """A run by its number or the beginning of its key.

    Raises:
        UsageError: no such run; the error says how runs are named.
    """
    try:
        return store.run(reference)
    except UnknownNameError:
        which = f" --method {reference}" if reference in registry().methods else ""
        raise UsageError(
            f"there is no run {reference} in this database",
            f"a run is named by its number: see `bench list runs{which}`",
        ) from None


def listed(
    store: Store, *, dataset: str | None = None, method: str | None = None, superseded: bool = False
) -> list[StoredRun]:
    """Stored runs, the newest first.

    Args:
        store: where they are.
        dataset: only of this one.
        method: only of this one.
        superseded: superseded ones as well.

    Raises:
        UnknownNameError: no run is of such a data set or method, and none of that name is known either.
    """
    found = store.runs(dataset=dataset, method=method, include_superseded=superseded)
    if not found:
        every = store.runs(include_superseded=True)
        for kind, name, known in (
            ("data set", dataset, {*card_names(), *(run.dataset for run in every)}),
            ("method", method, {*registry().methods, *(run.method for run in every)}),
        ):
            if name is not None and name not in known:
                raise UnknownNameError(kind, name, known)
    return list(found)


@dataclass(frozen=True)
class Rescored:
    """A run that was scored again, or the reason why it could not be."""

    run: StoredRun
    error: BenchError | None = None


def rescore(store: Store, references: Sequence[int | str], data_root: Path | None) -> Iterator[Rescored]:
    """Score the predictions of stored runs with today's protocols, and store the numbers beside the older ones.

    Numbers of the same protocol, version and parameters are replaced. Needs neither torch nor the method. Each run is
    stored before the next is begun, and one whose data or predictions are gone does not stop the others.

    Args:
        store: where the runs are.
        references: runs by number or key; none means every finished run.
        data_root: folder in which data sets lie.

    Returns:
        each run as it is done; the error of a run is a DataError: its data or its predictions are gone, damaged or of
        another version, or an UnknownNameError: its data set has no card here any more.

    Raises:
        UsageError: no such run, a run that failed has nothing to score, or there is no finished run.
    """
    runs = [run_of(store, r) for r in references] or store.runs(status="ok")
    if not runs:
        raise UsageError("there is no finished run to score", "see `bench list runs`")
    failed = [run for run in runs if run.status != "ok"]
    if failed:
        raise UsageError(f"run {failed[0].id} failed: it has no predictions to score", "leave it out")
    return (_rescored(store, run, data_root) for run in runs)


def _rescored(store: Store, run: StoredRun, data_root: Path | None) -> Rescored:
    try:
        found = predictions(run)
        dataset = opened(run, data_root)
        split = dataset.split(run.split).take(list(found))
        results, images = _records(f"run {run.id}", dataset, split, Path(run.folder))
    except (DataError, UnknownNameError) as error:
        return Rescored(run, error)
    store.rescore(run.id, results, images)
    return Rescored(store.run(run.id))


def compared(
    store: Store,
    references: Sequence[int | str],
    *,
    protocol: str | None = None,
    metric: str | None = None,
    data_root: Path | None = None,
) -> Comparison:
    """Two runs or more on the same images: differences with intervals, and ranks with ties.

    Args:
        store: where the runs are.
        references: runs by number or key.
        protocol: default the one that ranks the data set.
        metric: default the protocol's first.
        data_root: folder in which the data set lies.

    Raises:
        UsageError: no such run, fewer than two, or runs of different data set versions or splits.
        DataError: the data or the predictions of a run are gone or of another version.
    """
    runs = [run_of(store, r) for r in references]
    if len({run.id for run in runs}) < 2:
        raise UsageError("a comparison needs two different runs or more", "see `bench list runs`")
    failed = [run for run in runs if run.status != "ok"]
    if failed:
        raise UsageError(f"run {failed[0].id} failed, and has no numbers to compare", "see `bench list runs`")
    kinds = {(run.dataset, run.content_hash, run.split) for run in runs}
    if len(kinds) > 1:
        shown = ", ".join(f"run {r.id}: {r.dataset} {r.split} {r.content_hash[:12]}" for r in runs)
        raise UsageError(f"these runs are not of the same images ({shown})", "compare runs of one data set version")
    dataset = opened(runs[0], data_root)
    found = {run.id: predictions(run) for run in runs}
    shared = set.intersection(*(set(images) for images in found.values()))
    if not shared:
        raise DataError("these runs have no image in common")
    split = dataset.split(runs[0].split).take(sorted(shared))
    protocols = scoring.protocols_of(dataset.card)
    name = protocol or next(iter(protocols))
    names = run_names(runs)
    scores = {
        names[run.id]: scored(
            names[run.id], dataset, split, found[run.id], {name: protocols.get(name, {})}, RunFiles(run).min_score()
        )
        for run in runs
    }
    return compare(scores, name, metric)


def _records(
    label: str, dataset: Dataset, split: Split, folder: Path
) -> tuple[tuple[ResultRecord, ...], tuple[ImageResultRecord, ...]]:
    parts = scoring.parts_of(dataset, split.name)
    return scoring.score_run(label, dataset.card, split, RunFolder(folder), parts)
