"""Opening a database: made where it is absent, brought to the newest schema, refused where it is not ours.

SQLite keeps its rollback journal: a write-ahead log needs shared memory, which network drives and read-only folders
do not give, and a store is written once a run. Readers wait for a writer at most the time of one commit.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import InterfaceError, ProgrammingError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, StaticPool

from bench.errors import StoreError
from bench.store import schema
from bench.store.faults import NoDatabaseError, damaged, first_line, translated
from bench.store.target import Target

TIMEOUT = 30.0
"""Seconds that a writer waits for another before it gives up."""

_WRITING = "bench_writing"
_HEADER = b"SQLite format 3\0"
_RUN_FIRST = "run something first (bench run), or say where it is with --db or BENCH_DB"
_CHOOSE = "choose another with --db or BENCH_DB"


class Database:
    """An open database of ours, at the newest schema.

    Use :func:`open_database`; :meth:`reading` and :meth:`writing` are the only ways in.
    """

    def __init__(self, target: Target, engine: Engine, read_only: bool) -> None:
        self.target = target
        self.read_only = read_only
        self._engine = engine
        # A database in memory is one connection, which takes one transaction at a time.
        self._turn: AbstractContextManager[Any] = threading.RLock() if target.in_memory else nullcontext()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection in a transaction that only reads, and sees one state of the store."""
        with self._turn, translated(self.target), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session in a transaction that is committed as a whole, or not at all."""
        if self.read_only:
            raise StoreError(f"{self.target.shown} was opened for reading only", "open it without read_only")
        with (
            self._turn,
            translated(self.target),
            self._engine.connect().execution_options(**{_WRITING: True}) as connection,
            Session(connection) as session,
            connection.begin(),
        ):
            yield session
            session.flush()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def open_database(target: Target, *, read_only: bool, create: bool, timeout: float = TIMEOUT) -> Database:
    """Open, and where need be create or upgrade, a database.

    Raises:
        StoreError: it cannot be opened, is none of ours, is newer than this program, or cannot be written.
    """
    with translated(target):
        if target.url.get_backend_name() == "sqlite":
            return _open_sqlite(target, read_only, create, timeout)
        return _open_server(target, read_only, create)


# -- SQLite -----------------------------------------------------------------------------------------------


def _open_sqlite(target: Target, read_only: bool, create: bool, timeout: float) -> Database:
    if target.path is not None:
        _check_file(target.path, read_only, create)
    mode = "ro" if read_only else "rwc" if create else "rw"
    engine = _sqlite_engine(target.path, mode, timeout, foreign_keys=True)
    if read_only:
        with engine.connect() as connection, connection.begin():
            _require_head(connection, target)
            _check_whole(connection, target)
    elif target.path is None:
        with engine.connect() as connection, connection.begin():
            schema.upgrade(connection)
    else:
        # Rebuilding a table drops it, and a drop under foreign keys empties every table that points at it.
        migrator = _sqlite_engine(target.path, mode, timeout, foreign_keys=False)
        with migrator.connect().execution_options(**{_WRITING: True}) as connection, connection.begin():
            _check_whole(connection, target)
            _bring_to_head(connection, target, create)
    return Database(target, engine, read_only)


def _check_file(path: Path, read_only: bool, create: bool) -> None:
    """Refuse a path that can hold no store, before SQLite touches it."""
    try:
        if path.is_dir():
            raise StoreError(f"{path} is a folder", f"give a file, for instance {path / 'bench.db'}")
        if not path.parent.is_dir():
            raise StoreError(f"the folder {path.parent} does not exist", "create it, or choose another with --db")
        if not path.exists():
            if read_only or not create:
                raise NoDatabaseError(f"there is no database {path}", _RUN_FIRST)
        elif not path.is_file():
            raise StoreError(f"{path} is no file", _CHOOSE)
        else:
            with path.open("rb") as stream:
                start = stream.read(len(_HEADER))
            if start and start != _HEADER:
                raise StoreError(f"{path} is no SQLite database", _CHOOSE)
            if not start and read_only:
                raise NoDatabaseError(f"{path} is empty", _RUN_FIRST)
            if not read_only and not os.access(path, os.W_OK):
                raise StoreError(f"{path} is read-only", _CHOOSE)
        if not read_only and not os.access(path.parent, os.W_OK):
            raise StoreError(f"the folder {path.parent} is read-only", _CHOOSE)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}", _CHOOSE) from None


def _check_whole(connection: Connection, target: Target) -> None:
    """Refuse a file that ends before its last page, which SQLite notices only when it comes to read that page."""
    if target.path is None or connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal":
        return
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar() or 0
    size = connection.exec_driver_sql("PRAGMA page_size").scalar() or 0
    if 0 < target.path.stat().st_size < pages * size:
        raise damaged(target)


def _sqlite_engine(path: Path | None, mode: str, timeout: float, *, foreign_keys: bool) -> Engine:
    def connect() -> sqlite3.Connection:
        if path is not None and mode == "ro":
            _roll_back_what_was_killed(path, timeout)
        connection = _connect(path, mode, timeout)
        connection.execute(f"PRAGMA foreign_keys = {int(foreign_keys)}")
        return connection

    # A file is opened anew for each transaction: nothing stays locked, and nothing is shared with a forked worker.
    engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool if path is None else NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes its lock at once: two that start as readers and both want to write would block each other.
        writing = connection.get_execution_options().get(_WRITING, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _connect(path: Path | None, mode: str, timeout: float) -> sqlite3.Connection:
    address = ":memory:" if path is None else f"{path.as_uri()}?mode={mode}"
    return sqlite3.connect(
        address, uri=path is not None, timeout=timeout, isolation_level=None, check_same_thread=False
    )


def _roll_back_what_was_killed(path: Path, timeout: float) -> None:
    """Take back a transaction that a killed writer left half in the file, which a reader may not do itself."""
    if not path.with_name(f"{path.name}-journal").exists():
        return
    look = "SELECT count(*) FROM sqlite_master"
    with closing(_connect(path, "ro", timeout)) as reader:
        try:
            reader.execute(look).fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        else:
            return
    with closing(_connect(path, "rw", timeout)) as writer:
        writer.execute(look).fetchone()


def _back_up(path: Path, revision: str) -> Path:
    """Copy a database beside itself, whole or not at all."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    backup = path.with_name(f"{path.name}.backup-{revision}-{stamp}")
    partial = backup.with_name(f"{backup.name}.partial-{os.getpid()}")
    try:
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(partial)) as copy,
        ):
            source.backup(copy)
        shutil.copymode(path, partial)
        partial.replace(backup)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"{path} has an older schema, and the backup before its upgrade cannot be written: {reason}",
            "make room beside it; nothing has been changed",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return backup


# -- servers ----------------------------------------------------------------------------------------------


def _open_server(target: Target, read_only: bool, create: bool) -> Database:
    try:
        engine = create_engine(target.url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise StoreError(
            f"the driver of {target.shown} is not installed: no module {error.name!r}",
            "pip install 'psycopg[binary]', and begin the URL with postgresql+psycopg://",
        ) from None
    if read_only:
        engine = engine.execution_options(postgresql_readonly=True)
    try:
        connection = engine.connect()
    except (ProgrammingError, InterfaceError, TypeError) as error:  # how drivers refuse a parameter of the URL
        raise StoreError(
            f"{target.shown} cannot be connected to: {first_line(error, target)}", "check the parameters of the URL"
        ) from None
    with connection, connection.begin():
        if read_only:
            _require_head(connection, target)
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('cellseg-bench schema'))"))
            _bring_to_head(connection, target, create)
    return Database(target, engine, read_only)


# -- the schema -------------------------------------------------------------------------------------------


def _current(connection: Connection, target: Target) -> str | None:
    try:
        return schema.current(connection)
    except schema.ForeignSchemaError as error:
        some = ", ".join(error.tables[:3])
        raise StoreError(
            f"{target.shown} is not a database of this program (it holds {some})",
            _CHOOSE,
        ) from None
    except schema.NewerSchemaError as error:
        raise StoreError(
            f"{target.shown} was written by a newer version (schema {error.revision!r}, known here: {schema.head()!r})",
            "upgrade cellseg-bench, or choose another database with --db",
        ) from None


def _require_head(connection: Connection, target: Target) -> None:
    """Refuse to read a database whose schema is not the newest."""
    revision = _current(connection, target)
    if revision is None:
        raise NoDatabaseError(f"{target.shown} holds nothing yet", _RUN_FIRST)
    if revision != schema.head():
        raise StoreError(
            f"{target.shown} has the older schema {revision!r} and is opened for reading only",
            "open it once for writing: it is then upgraded, after a backup",
        )


def _bring_to_head(connection: Connection, target: Target, create: bool) -> None:
    """Create or upgrade, within the transaction of ``connection``, which holds the lock of a writer."""
    revision = _current(connection, target)
    if revision == schema.head():
        return
    if revision is None and not create:
        raise NoDatabaseError(f"{target.shown} holds nothing yet", _RUN_FIRST)
    if revision is not None and target.path is not None:
        _back_up(target.path, revision)
    schema.upgrade(connection)
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise RuntimeError(f"the upgrade of {target.shown} left {broken[0]} pointing nowhere")
