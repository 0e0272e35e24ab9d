"""What the command line and a notebook call: names in, stored runs out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api import BenchError, UnknownNameError
from bench.data import Dataset
from bench.data.dataset import UnmadeStandIn, unmade_stand_in
from bench.data.opening import open_visibly, say_left_out
from bench.engine import folder as files
from bench.engine import grid
from bench.engine.execution import Outcome, execute
from bench.engine.folder import RunHeldError
from bench.engine.further_data import opener
from bench.engine.grid import Obstacles
from bench.engine.plan import Choices, Job, Request, job_on
from bench.engine.reported import store_reported
from bench.progress import say
from bench.records import ResultRecord
from bench.registry import find_method
from bench.store import Store, StoredRun, open_store, store_if_there

if TYPE_CHECKING:
    import pandas as pd

RUNS_VARIABLE = "BENCH_RUNS"
DEFAULT_RUNS = Path("runs")

Names = str | Sequence[str]


@dataclass(frozen=True)
class FinishedRun:
    """A run as it stands in the store after ``bench run``.

    Attributes:
        stored: its row.
        results: its numbers, empty for a failed one.
        database: where it is stored.
        new: whether this call made it, rather than found it.
        error: what went wrong, for a failed one.
        notes: what the user should know of how it was run.
    """

    stored: StoredRun
    results: tuple[ResultRecord, ...]
    database: str
    new: bool
    error: BenchError | None
    notes: tuple[str, ...]


def runs_folder(given: Path | None = None) -> Path:
    """The folder of all runs: ``given``, else ``$BENCH_RUNS``, else ``./runs``."""
    return Path(given or os.environ.get(RUNS_VARIABLE) or DEFAULT_RUNS).expanduser()


def run_grid(
    methods: Names,
    datasets: Names,
    *,
    seeds: Iterable[int] = (0,),
    data_root: Path | str | None = None,
    stand_in: bool | None = None,
    db: str | Path | None = None,
    runs: Path | str | None = None,
    force: bool = False,
    **request: Any,
) -> tuple[list[FinishedRun], tuple[BenchError, ...]]:
    """Run every method on every data set with every seed.

    Everything that can be known before is checked before. A mistake in what was asked for, or a database that cannot
    be written, stops the call before anything is trained. What keeps single runs from being made here (a package,
    weights or files that are not there, another process at work on the same run) is said, and the others are made. A
    failure of one run does not stop the others; it is stored and comes back as :attr:`FinishedRun.error`.

    Args:
        methods: names of methods.
        datasets: names of data sets.
        seeds: one run each.
        data_root: folder in which data sets lie.
        stand_in: only the generated stand-in (True) or only real files (False).
        db: path or URL of the store.
        runs: folder of all runs.
        force: run again what is done.
        request: the fields of :class:`bench.engine.plan.Request`.

    Returns:
        the runs that were made or found, and why others were left out, each reason once.

    Raises:
        UsageError, UnknownNameError: of what was asked for.
        StoreError: the database cannot be opened or written.
        OutputError: the folder of a run cannot be written.
    """
    entries = [find_method(name) for name in _listed(methods)]
    asked, obstacles = _request(request, data_root), Obstacles()
    chosen = grid.chosen(entries, _listed(datasets), seeds, asked, obstacles)
    if not any(chosen.values()):
        return [], obstacles.errors
    with open_store(db) as store:
        store_reported(store)
        jobs: list[Job] = []
        for name, choices in chosen.items():
            if not choices:
                continue
            with obstacles.noted():
                dataset = _open_one(name, data_root, stand_in)
                open_ = opener(asked.data_root, dataset.source)
                for one in choices:
                    with obstacles.noted():
                        jobs.append(job_on(one, dataset, open_))
        if jobs:
            _say_left_out(obstacles.errors)
        _say_notes(jobs)
        folder = runs_folder(Path(runs) if runs else None)
        finished, held = [], []
        for job in jobs:
            try:
                finished.append(_finished(store, execute(job, store, folder, force=force)))
            except RunHeldError as error:  # the others can go on meanwhile
                _say_left_out([error])
                held.append(error)
        return finished, (*obstacles.errors, *held)


def run_all(methods: Names, datasets: Names, **arguments: Any) -> list[FinishedRun]:
    """The runs of :func:`run_grid`, where all of them can be made.

    Raises:
        BenchError: as :func:`run_grid`; and, after all others have run, why one could not be made.
    """
    finished, left_out = run_grid(methods, datasets, **arguments)
    if left_out:
        raise left_out[0]
    return finished


def plan_grid(
    methods: Names,
    datasets: Names,
    *,
    seeds: Iterable[int] = (0,),
    data_root: Path | str | None = None,
    stand_in: bool | None = None,
    db: str | Path | None = None,
    runs: Path | str | None = None,
    force: bool = False,
    **request: Any,
) -> tuple[list[dict[str, Any]], tuple[BenchError, ...]]:
    """What :func:`run_grid` would do, run by run, as plain data, and why it would leave others out.

    Nothing is trained, generated or stored. A run that needs a stand-in which is not there yet is planned from the
    card: its key, its folder and the version of its data set follow from the images, and are None.
    """
    entries = [find_method(name) for name in _listed(methods)]
    asked, obstacles = _request(request, data_root), Obstacles()
    folder = runs_folder(Path(runs) if runs else None)
    planned: list[dict[str, Any]] = []
    noted: list[Choices] = []
    with store_if_there(db) as store:
        for name, choices in grid.chosen(entries, _listed(datasets), seeds, asked, obstacles).items():
            if not choices:
                continue
            with obstacles.noted():
                unmade = unmade_stand_in(name, asked.data_root, stand_in=stand_in)
                dataset = None if unmade else _open_one(name, data_root, stand_in)
                open_ = opener(asked.data_root, dataset.source if dataset else "synthetic")
                for one in choices:
                    with obstacles.noted():
                        missing = [*([unmade] if unmade else []), *_unmade_further(one, name, asked, dataset)]
                        if dataset is None or missing:
                            planned.append(_awaiting(one, name, missing))
                            noted.append(one)
                        else:
                            job = job_on(one, dataset, open_)
                            planned.append(_planned(job, folder, store, force))
                            noted.append(job)
    _say_notes(noted)
    return planned, obstacles.errors


def plan(methods: Names, datasets: Names, **arguments: Any) -> list[dict[str, Any]]:
    """The plans of :func:`plan_grid`, where all runs can be made.

    Raises:
        BenchError: as :func:`run_grid`; and why one could not be made.
    """
    planned, left_out = plan_grid(methods, datasets, **arguments)
    if left_out:
        raise left_out[0]
    return planned


def run(methods: Names, datasets: Names, **arguments: Any) -> pd.DataFrame:
    """Run methods on data sets, and return their numbers, one row each; for notebooks.

    Args:
        methods: a name, or several.
        datasets: a name, or several.
        arguments: as of :func:`run_grid`: ``seeds``, ``data_root``, ``schedule``, ``limit``, ``db``, ...

    Raises:
        BenchError: of the first run that failed or could not be made, after all others have run.
    """
    finished, left_out = run_grid(methods, datasets, **arguments)
    failed = [*(one.error for one in finished if one.error is not None), *left_out]
    if failed:
        raise failed[0]
    return results(run_ids=[one.stored.id for one in finished], db=arguments.get("db"))


def results(*, db: str | Path | None = None, **filters: Any) -> pd.DataFrame:
    """Every stored number, tidy: one row a run and number. ``filters``: see :meth:`bench.store.Store.results`."""
    with open_store(db, read_only=True) as store:
        return store.results(**filters)


def leaderboard(dataset: str, *, db: str | Path | None = None, **options: Any) -> pd.DataFrame:
    """The board of a data set, best first. ``options``: see :meth:`bench.store.Store.leaderboard`."""
    with open_store(db, read_only=True) as store:
        return store.leaderboard(dataset, **options)


# -- inside -----------------------------------------------------------------------------------------


def _request(fields: dict[str, Any], data_root: Path | str | None) -> Request:
    known = tuple(field.name for field in dataclasses.fields(Request))
    for name in fields:
        if name not in known:
            raise UnknownNameError("option of a run", name, known)
    return Request(**fields, data_root=Path(data_root) if data_root else None)


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _open_one(name: str, data_root: Path | str | None, stand_in: bool | None) -> Dataset:
    dataset = open_visibly(name, Path(data_root) if data_root else None, stand_in=stand_in)
    say_left_out(dataset)
    return dataset


def _say_left_out(errors: Iterable[BenchError]) -> None:
    for error in errors:
        say(f"left out: {error}")


def _say_notes(chosen: Sequence[Choices]) -> None:
    for note in dict.fromkeys(note for one in chosen for note in one.notes):
        say(note)
    for dataset in {id(job.dataset): job.dataset for job in chosen if isinstance(job, Job)}.values():
        if dataset.source == "synthetic":
            say(
                f"{dataset.card.name}: the real files are not there, so the generated stand-in is used; its results "
                "are marked synthetic and never share a table with real ones"
            )
    trained = {(job.dataset.card.name, job.split): job for job in chosen if isinstance(job, Job) and job.trains}
    for (name, split), job in trained.items():
        train, _ = job.dataset.training_names(split)
        if leaked := job.dataset.shared(split, train) if train else ():
            few = f"{leaked[0]}{f' and {len(leaked) - 1} more' if leaked[1:] else ''}"
            say(f"note: {name}: trained on what is evaluated: {few} of {split}; see `bench data check {name}`")


def _planned(job: Job, runs: Path, store: Store | None, force: bool) -> dict[str, Any]:
    standing = store.finished(job.key) if store else None
    folder = job.folder(runs)
    if standing is not None and not force:
        action, why = "skip", f"stored as run {standing.id}"
    elif standing is not None:
        action, why = "run", f"--force: supersedes run {standing.id}"
    elif (folder / files.PREDICTIONS).exists() or (folder / files.TRAINING).exists():
        action, why = "resume", f"begun in {folder}"
    else:
        action, why = "run", "not run yet"
    return {**job.plan, "key": job.key, "device": job.device, "folder": str(folder), "action": action, "why": why}


def _unmade_further(choices: Choices, name: str, asked: Request, dataset: Dataset | None) -> list[UnmadeStandIn]:
    """The stand-ins of further data sets that a method trains on, where they are not made yet."""
    synthetic = dataset is None or dataset.source == "synthetic"
    if not choices.trains or not synthetic:
        return []
    declared = choices.entry.method.trains_on(choices.params, name)
    others = [other for other in dict.fromkeys(other for other, _ in declared) if other != name]
    unmade = [unmade_stand_in(other, asked.data_root, stand_in=True) for other in others]
    return [one for one in unmade if one is not None]


def _awaiting(choices: Choices, dataset: str, missing: Sequence[UnmadeStandIn]) -> dict[str, Any]:
    """The plan of a run before whose stand-ins are made nobody knows its key."""
    first = "; ".join(one.said if one.card.name == dataset else f"{one.card.name}: {one.said}" for one in missing)
    plan = choices.plan_on(dataset, None, "synthetic")
    return {**plan, "key": None, "device": choices.device, "folder": None, "action": "run", "why": first}


def _finished(store: Store, outcome: Outcome) -> FinishedRun:
    bundle = store.bundle(outcome.run_id)
    return FinishedRun(
        stored=store.run(outcome.run_id),
        results=bundle.results,
        database=store.location,
        new=outcome.status != "stored",
        error=outcome.error,
        notes=outcome.job.notes,
    )
