"""The store, as everything else sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import delete, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from bench.records import (
    ImageResultRecord,
    MachineRecord,
    ReportedResultRecord,
    ResultRecord,
    RunBundle,
    Source,
    TimingRecord,
)
from bench.store import queries, writing
from bench.store.database import TIMEOUT, Database, open_database
from bench.store.faults import NoDatabaseError
from bench.store.latency import LatencySummary
from bench.store.models import Run
from bench.store.queries import RunFilter, Status, StoredDataset, StoredRun
from bench.store.target import Target

if TYPE_CHECKING:
    import pandas as pd

    from bench.store.views import Provenance

T = TypeVar("T")

_ATTEMPTS = 5
"""Of a transaction that met another one's: a shared row that both made, or a deadlock."""


def open_store(
    target: str | Path | None = None,
    *,
    read_only: bool = False,
    create: bool = True,
    timeout: float = TIMEOUT,
) -> Store:
    """Open a store.

    Args:
        target: the path of an SQLite file, ``:memory:``, or an SQLAlchemy URL (SQLite or PostgreSQL); default
            ``$BENCH_DB``, or ``bench.db`` in the current folder.
        read_only: write nothing, not even the schema.
        create: make a database where there is none.
        timeout: seconds to wait for another writer of an SQLite file.

    A database with an older schema is upgraded; of an SQLite file a copy is first laid beside it
    (``bench.db.backup-<schema>-<UTC time>``).

    Raises:
        StoreError: it cannot be opened, is no store, has a newer schema, or cannot be written.
    """
    return Store(open_database(Target.parse(target), read_only=read_only, create=create, timeout=timeout))


def store_if_there(target: str | Path | None = None) -> AbstractContextManager[Store | None]:
    """A store to read from, or None where there is none yet; for ``with``.

    Raises:
        StoreError: what lies there cannot be opened or is no store.
    """
    try:
        return open_store(target, read_only=True)
    except NoDatabaseError:
        return nullcontext()


class Store:
    """Every run with its numbers. Made by :func:`open_store`; safe to use from several threads and processes.

    Every method raises :class:`bench.errors.StoreError` where the database is damaged, locked, full or read-only.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    @property
    def location(self) -> str:
        """Where the store lies, fit to be printed: the path, or the URL without its password."""
        return self._database.target.shown

    # -- writing ----------------------------------------------------------------------------------------

    def add(self, bundle: RunBundle, *, supersede: bool = False) -> int:
        """Store a run with everything of it, in one transaction, and return its number.

        A finished run whose key already stands is not stored again: the standing run's number is returned. With
        ``supersede`` it is, and the old one is marked superseded. A failed run is always stored, and never
        supersedes one that finished.

        Raises:
            StoreError: the bundle contradicts itself (an undefined number without a reason, an image that its data
                set does not have), or the database cannot be written. Nothing is stored then.
        """
        return self._write(lambda session: writing.add(session, bundle, supersede))

    def rescore(
        self, run_id: int, results: Sequence[ResultRecord], image_results: Sequence[ImageResultRecord] = ()
    ) -> None:
        """Give a stored run the numbers of another protocol, or of a newer version of one.

        Numbers of the same protocol, version and parameters are replaced; all others stay.

        Raises:
            UnknownNameError: no such run.
            StoreError: numbers that contradict themselves, or of an image that the data set does not have.
        """
        self.run(run_id)
        self._write(lambda session: writing.replace_results(session, run_id, results, image_results))

    def add_timings(self, run_id: int, timings: Sequence[TimingRecord]) -> None:
        """Give a stored run timing samples taken later, as rounds that come after those that it has.

        The medians and results of the run stay those of its own predictions; :meth:`latency` is over every round.

        Raises:
            UnknownNameError: no such run.
            StoreError: samples that contradict themselves, or of an image that the data set does not have.
        """
        self.run(run_id)
        self._write(lambda session: writing.add_timings(session, run_id, timings))

    def supersede(self, run_id: int) -> None:
        """Mark a run as superseded: it is kept, and no longer shown or taken as finished.

        Raises:
            UnknownNameError: no such run.
        """
        self.run(run_id)
        self._write(lambda session: session.execute(update(Run).where(Run.id == run_id).values(superseded=True)))

    def delete(self, run_id: int) -> None:
        """Remove a run with all its numbers. Its number is not given to another run.

        Raises:
            UnknownNameError: no such run.
        """
        self.run(run_id)
        self._write(lambda session: session.execute(delete(Run).where(Run.id == run_id)))

    def add_reported(self, records: Iterable[ReportedResultRecord], *, whole: bool = False) -> int:
        """Store numbers of papers, and return how many; one that is already there takes the new value.

        With ``whole`` they are all that these papers report: what else is stored of the same papers is removed.

        Raises:
            StoreError: the same number given twice with different values.
        """
        kept = list(records)
        return self._write(lambda session: writing.add_reported(session, kept, whole))

    # -- reading, in plain records ----------------------------------------------------------------------

    def finished(self, key: str) -> StoredRun | None:
        """The run that stands for ``key``: it ended well and is not superseded."""
        with self._database.reading() as connection:
            return queries.finished(connection, key)

    def attempts(self, key: str) -> int:
        """How many runs of ``key`` are stored, finished, failed or superseded."""
        with self._database.reading() as connection:
            return queries.attempts(connection, key)

    def runs(
        self,
        *,
        dataset: str | None = None,
        content_hash: str | None = None,
        method: str | None = None,
        status: Status | None = None,
        schedule: str | None = None,
        split: str | None = None,
        seed: int | None = None,
        include_superseded: bool = False,
        limit: int | None = None,
    ) -> list[StoredRun]:
        """The runs that fit every filter given, newest first.

        Args:
            dataset: name of a data set.
            content_hash: of one version of it.
            method: a family ("unet": all its variants) or a variant's full name ("unet-bce").
            status: ``ok`` or ``failed``.
            schedule: ``paper``, ``short`` or ``smoke``.
            split: name of a split.
            seed: of the run.
            include_superseded: also runs that others have replaced.
            limit: at most so many.
        """
        wanted = RunFilter(
            dataset=dataset,
            content_hash=content_hash,
            method=method,
            status=status,
            schedule=schedule,
            split=split,
            seed=seed,
            include_superseded=include_superseded,
        )
        with self._database.reading() as connection:
            return queries.runs(connection, wanted, limit)

    def run(self, reference: int | str) -> StoredRun:
        """One run, by its number or by the beginning of its key.

        Of several runs with one key it is the one that stands, else the last.

        Raises:
            UnknownNameError: no such run.
            UsageError: runs with different keys begin so.
        """
        with self._database.reading() as connection:
            return queries.run(connection, reference)

    def bundle(self, run_id: int) -> RunBundle:
        """A run with everything of it; ``images`` are all that are known of its data set version.

        Raises:
            UnknownNameError: no such run.
        """
        with self._database.reading() as connection:
            return queries.bundle(connection, run_id)

    def datasets(self, name: str | None = None) -> list[StoredDataset]:
        """The data set versions of which there are runs, the one run last first."""
        with self._database.reading() as connection:
            return queries.datasets(connection, name)

    def latency(self, run_id: int) -> dict[str, LatencySummary]:
        """Phase to its summary; empty where nothing was timed."""
        with self._database.reading() as connection:
            return queries.latency(connection, run_id)

    def reported(
        self, *, dataset: str | None = None, paper: str | None = None, protocol: str | None = None
    ) -> list[ReportedResultRecord]:
        """Numbers of papers that fit every filter given."""
        with self._database.reading() as connection:
            return queries.reported(connection, dataset=dataset, paper=paper, protocol=protocol)

    # -- reading, for the pages of the board --------------------------------------------------------------

    def provenance(self, run_id: int) -> Provenance:
        """Where a run's numbers come from, without those of single images: see :class:`bench.store.views.Provenance`.

        Raises:
            UnknownNameError: no such run.
        """
        from bench.store import views

        with self._database.reading() as connection:
            return views.provenance(connection, run_id)

    def runs_by_id(self, run_ids: Sequence[int]) -> list[StoredRun]:
        """The runs with these numbers, superseded ones too, in that order; numbers of no run are passed over."""
        by_id: dict[int, StoredRun] = {}
        with self._database.reading() as connection:
            for chosen in queries.chunks(run_ids):
                found = queries.runs(connection, RunFilter(run_ids=chosen, include_superseded=True))
                by_id |= {run.id: run for run in found}
        return [by_id[i] for i in dict.fromkeys(run_ids) if i in by_id]

    def machines(self) -> dict[str, MachineRecord]:
        """Hash to machine, of all that ran something."""
        from bench.store import views

        with self._database.reading() as connection:
            return views.machines(connection)

    def marks(self, run_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Run to what its plan says a reader must know: see :func:`bench.store.views.marks`."""
        from bench.store import views

        with self._database.reading() as connection:
            return views.marks(connection, run_ids)

    def badges(self, runs: Sequence[StoredRun]) -> dict[int, list[str]]:
        """Run to everything that a reader must know before its numbers: see :func:`bench.store.badges.badges`."""
        from bench.store.badges import badges

        marks = self.marks([run.id for run in runs])
        return {run.id: badges(run, marks.get(run.id, {})) for run in runs}

    def cited(self, run_ids: Sequence[int]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Papers and data set cards that a table of these runs cites: see :func:`bench.store.views.cited`."""
        from bench.store import views

        with self._database.reading() as connection:
            return views.cited(connection, run_ids)

    def image_metrics(self, run_id: int) -> list[tuple[str, str, bool | None]]:
        """Protocol, metric and direction of what a run has image by image."""
        from bench.store import views

        with self._database.reading() as connection:
            return views.image_metrics(connection, run_id)

    def image_values(self, run_ids: Sequence[int], protocol: str, metric: str) -> pd.DataFrame:
        """A number of several runs on each image: see :func:`bench.store.views.image_values`."""
        from bench.store import views

        with self._database.reading() as connection:
            return views.image_values(connection, run_ids, protocol, metric)

    def ranking_values(self, schedule: str = "paper") -> pd.DataFrame:
        """What every data set ranks by, of every run: see :func:`bench.store.views.ranking_values`."""
        from bench.store import views

        with self._database.reading() as connection:
            return views.ranking_values(connection, schedule)

    # -- reading, in pandas frames ----------------------------------------------------------------------

    def results(
        self,
        *,
        dataset: str | None = None,
        content_hash: str | None = None,
        method: str | None = None,
        protocol: str | None = None,
        metric: str | None = None,
        split: str | None = None,
        schedule: str | None = None,
        run_ids: Sequence[int] | None = None,
        include_superseded: bool = False,
    ) -> pd.DataFrame:
        """The numbers of finished runs, tidy: one row a run and number.

        The filters are those of :meth:`runs`. An undefined value is NaN and has a ``reason``.
        """
        from bench.store import frames

        wanted = RunFilter(
            dataset=dataset,
            content_hash=content_hash,
            method=method,
            status="ok",
            schedule=schedule,
            split=split,
            run_ids=run_ids,
            include_superseded=include_superseded,
        )
        with self._database.reading() as connection:
            return frames.results(connection, wanted, protocol=protocol, metric=metric)

    def image_results(self, run_id: int, *, protocol: str | None = None, metric: str | None = None) -> pd.DataFrame:
        """The numbers of a run on single images, one row an image and number."""
        from bench.store import frames

        with self._database.reading() as connection:
            return frames.image_results(connection, run_id, protocol=protocol, metric=metric)

    def timings(self, run_id: int) -> pd.DataFrame:
        """Every timing sample of a run: image, phase, round, milliseconds."""
        from bench.store import frames

        with self._database.reading() as connection:
            return frames.timings(connection, run_id)

    def leaderboard(
        self,
        dataset: str,
        *,
        split: str | None = None,
        schedule: str | None = None,
        protocol: str | None = None,
        metric: str | None = None,
        source: Source | None = None,
        content_hash: str | None = None,
        include_superseded: bool = False,
    ) -> pd.DataFrame:
        """The board of one data set version and split: one row a run, best first.

        See :func:`bench.store.leaderboard.leaderboard` for the columns and the rules.
        """
        from bench.store import leaderboard

        with self._database.reading() as connection:
            return leaderboard.leaderboard(
                connection,
                dataset,
                split=split,
                schedule=schedule,
                protocol=protocol,
                metric=metric,
                source=source,
                content_hash=content_hash,
                include_superseded=include_superseded,
            )

    # -- transactions -----------------------------------------------------------------------------------

    def _write(self, work: Callable[[Session], T]) -> T:
        """Do ``work`` in one transaction; again where it met another writer's, which it then sees."""
        for left in reversed(range(_ATTEMPTS)):
            try:
                with self._database.writing() as session:
                    return work(session)
            except DBAPIError as error:
                if not left or not _met_another(error):
                    raise
        raise AssertionError("the last attempt returns or raises")


def _met_another(error: DBAPIError) -> bool:
    """Whether a transaction failed because of another at the same time (PostgreSQL: 40001, 40P01)."""
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return isinstance(error, IntegrityError) or state in ("40001", "40P01")
