"""Runs that are stored already: their predictions scored again, and held against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.api import BenchError, DataError, UnknownNameError, UsageError
from bench.data import card_names
from bench.engine import scoring
from bench.metrics import Comparison, compare
from bench.registry import registry
from bench.report.naming import run_names
from bench.report.stored_runs import opened, scored
from bench.store import Store, StoredRun
from bench.store.files import RunFiles


def files_of(store: Store, run: StoredRun) -> RunFiles:
    """The files of a finished run, known to be those that its numbers were made from.

    Raises:
        DataError: see :meth:`bench.store.files.RunFiles.verified`.
    """
    return RunFiles(run).verified(store.provenance(run.id).artifacts)


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
        files = files_of(store, run)
        found, min_score = files.predictions(), files.min_score()
        dataset = opened(run, data_root)
        split = dataset.split(run.split).take(list(found))
        parts = scoring.parts_of(dataset, split.name)
        results, images = scoring.score_run(f"run {run.id}", dataset.card, split, found, min_score, parts)
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
    files = {run.id: files_of(store, run) for run in runs}
    found = {id_: its.predictions() for id_, its in files.items()}
    shared = set.intersection(*(set(images) for images in found.values()))
    if not shared:
        raise DataError("these runs have no image in common")
    split = dataset.split(runs[0].split).take(sorted(shared))
    protocols = scoring.protocols_of(dataset.card)
    name = protocol or next(iter(protocols))
    names = run_names(runs, store.marks([run.id for run in runs]))
    scores = {
        names[run.id]: scored(
            names[run.id], dataset, split, found[run.id], {name: protocols.get(name, {})}, files[run.id].min_score()
        )
        for run in runs
    }
    return compare(scores, name, metric)
