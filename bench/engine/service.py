"""What the command line and a notebook call: names in, stored runs out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api import BenchError
from bench.data import Dataset, load_card
from bench.data.dataset import UnmadeStandIn, unmade_stand_in
from bench.data.opening import open_visibly
from bench.engine.execution import Outcome, execute
from bench.engine.folder import RunHeldError
from bench.engine.further_data import opener
from bench.engine.plan import Choices, Job, Request, choose, make_job, make_jobs
from bench.engine.reported import store_reported
from bench.progress import say
from bench.records import ResultRecord
from bench.registry import find_method
from bench.store import NoDatabaseError, Store, StoredRun, open_store

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


def run_all(
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
) -> list[FinishedRun]:
    """Run every method on every data set with every seed.

    Everything that can be known before is checked before: an unknown name, a missing package or a database that
    cannot be written stops the call before anything is trained. After that, a failure of one run does not stop the
    others; it is stored and comes back as :attr:`FinishedRun.error`.

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
    """
    entries = [find_method(name) for name in _listed(methods)]
    with open_store(db) as store:
        store_reported(store)
        opened = _open(datasets, data_root, stand_in)
        jobs = make_jobs(entries, opened, seeds, _request(request, data_root))
        _say_notes(jobs)
        folder = runs_folder(Path(runs) if runs else None)
        finished, held = [], []
        for job in jobs:
            try:
                finished.append(_finished(store, execute(job, store, folder, force=force)))
            except RunHeldError as error:  # the others can go on meanwhile
                say(f"left out: {error.message}")
                held.append(error)
        if held:
            raise held[0]
        return finished


def plan(
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
) -> list[dict[str, Any]]:
    """What :func:`run_all` would do, job by job, as plain data.

    Nothing is trained, generated or stored. A run that needs a stand-in which is not there yet is planned from the
    card: its key, its folder and the version of its data set follow from the images, and are None.
    """
    entries = [find_method(name) for name in _listed(methods)]
    asked = _request(request, data_root)
    folder = runs_folder(Path(runs) if runs else None)
    store = _store_if_there(db)
    planned, jobs, waiting = [], [], []
    for name in _listed(datasets):
        card, unmade = load_card(name), unmade_stand_in(name, asked.data_root, stand_in=stand_in)
        dataset = None if unmade else _open_one(name, data_root, stand_in)
        open_ = opener(asked.data_root, dataset.source if dataset else "synthetic")
        for entry, seed in product(entries, seeds):
            choices = choose(entry, card, seed, asked)
            missing = [*([unmade] if unmade else []), *_unmade_further(choices, name, asked, dataset)]
            if dataset is None or missing:
                planned.append(_awaiting(choices, name, missing))
                waiting.append(choices)
            else:
                job = make_job(entry, dataset, seed, asked, open_)
                planned.append(_planned(job, folder, store, force))
                jobs.append(job)
    _say_notes([*waiting, *jobs])
    return planned


def run(methods: Names, datasets: Names, **arguments: Any) -> pd.DataFrame:
    """Run methods on data sets, and return their numbers, one row each; for notebooks.

    Args:
        methods: a name, or several.
        datasets: a name, or several.
        arguments: as of :func:`run_all`: ``seeds``, ``data_root``, ``schedule``, ``limit``, ``db``, ...

    Raises:
        BenchError: of the first run that failed, after all others have run.
    """
    finished = run_all(methods, datasets, **arguments)
    failed = [one.error for one in finished if one.error is not None]
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
    return Request(**fields, data_root=Path(data_root) if data_root else None)


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _open(datasets: Names, data_root: Path | str | None, stand_in: bool | None) -> list[Dataset]:
    return [_open_one(name, data_root, stand_in) for name in _listed(datasets)]


def _open_one(name: str, data_root: Path | str | None, stand_in: bool | None) -> Dataset:
    dataset = open_visibly(name, Path(data_root) if data_root else None, stand_in=stand_in)
    for note in dataset.notes:
        say(f"{name}: {note}")
    return dataset


def _say_notes(chosen: Sequence[Choices]) -> None:
    for note in dict.fromkeys(note for one in chosen for note in one.notes):
        say(note)
    for dataset in {id(job.dataset): job.dataset for job in chosen if isinstance(job, Job)}.values():
        if dataset.source == "synthetic":
            say(
                f"{dataset.card.name}: the real files are not there, so the generated stand-in is used; its results "
                "are marked synthetic and never share a table with real ones"
            )


def _store_if_there(db: str | Path | None) -> Store | None:
    try:
        return open_store(db, read_only=True)
    except NoDatabaseError:
        return None


def _planned(job: Job, runs: Path, store: Store | None, force: bool) -> dict[str, Any]:
    standing = store.finished(job.key) if store else None
    folder = job.folder(runs)
    if standing is not None and not force:
        action, why = "skip", f"stored as run {standing.id}"
    elif standing is not None:
        action, why = "run", f"--force: supersedes run {standing.id}"
    elif (folder / "predictions.jsonl").exists() or (folder / "training").exists():
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
