"""What a database's own errors mean to the user: one line, and what to do about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from bench.errors import StoreError
from bench.store.target import Target

_SQLITE: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("the disk of {} is full", "free some space and run the same command again"),
    sqlite3.SQLITE_BUSY: ("{} is locked by another program", "wait for it to end, or close it, and try again"),
    sqlite3.SQLITE_LOCKED: ("{} is locked by another program", "wait for it to end, or close it, and try again"),
    sqlite3.SQLITE_READONLY: ("{} cannot be written: it is read-only", "choose another file with --db or BENCH_DB"),
    sqlite3.SQLITE_PERM: ("{} may not be opened", "check the permissions of the file and of its folder"),
    sqlite3.SQLITE_AUTH: ("{} may not be used so", "check the permissions of the file and of its folder"),
    sqlite3.SQLITE_CANTOPEN: (
        "{} cannot be opened or created",
        "check that the folder can be written, or choose another with --db or BENCH_DB",
    ),
    sqlite3.SQLITE_NOTADB: ("{} is no SQLite database", "choose another file with --db or BENCH_DB"),
    sqlite3.SQLITE_CORRUPT: (
        "{} is damaged: it is truncated or partly overwritten",
        "restore it from a backup, or choose another file; run folders can be stored again with the same commands",
    ),
    sqlite3.SQLITE_IOERR: ("{} cannot be read or written: the disk reports an error", "check the disk and its quota"),
    sqlite3.SQLITE_READONLY_ROLLBACK: (
        "{} was left in the middle of a write by a program that was killed, and cannot be mended where it is read-only",
        "open it once from where it can be written",
    ),
}
"""Result code (sqlite.org/rescode.html), extended or primary, to message and hint."""

_SQLSTATE: dict[str, tuple[str, str]] = {
    "53100": ("the disk of {} is full", "ask who runs the server to free some space"),
    "25006": ("{} cannot be written: the connection is read-only", "connect to the primary server"),
    "42501": ("{} may not be used so by this user", "ask who runs the server for the right to create and write tables"),
}
"""PostgreSQL error code (its manual, appendix A) to message and hint."""


def as_store_error(error: DBAPIError | sqlite3.Error, target: Target) -> StoreError | None:
    """The user's side of a database error, or None where it is a bug of ours."""
    original = error.orig if isinstance(error, DBAPIError) else error
    name = target.shown
    if isinstance(original, sqlite3.Error):
        code = getattr(original, "sqlite_errorcode", 0)
        found = _SQLITE.get(code) or _SQLITE.get(code & 0xFF)
        return StoreError(found[0].format(name), found[1]) if found else None
    state = str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "")
    if state in _SQLSTATE:
        message, hint = _SQLSTATE[state]
        return StoreError(message.format(name), hint)
    if type(original).__name__ == "OperationalError" or state.startswith(("08", "28", "3D", "57P")):
        return StoreError(f"{name} does not answer: {first_line(original, target)}", "check the URL and the server")
    return None


class NoDatabaseError(StoreError):
    """There is no store yet where one was to be read. Exit code 4."""


def damaged(target: Target) -> StoreError:
    """The error of a file that is cut short or overwritten."""
    message, hint = _SQLITE[sqlite3.SQLITE_CORRUPT]
    return StoreError(message.format(target.shown), hint)


@contextmanager
def translated(target: Target) -> Iterator[None]:
    """Raise :class:`StoreError` in place of the database errors that are the user's to mend."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        known = as_store_error(error, target)
        if known is None:
            raise
        raise known from error


def first_line(error: BaseException | None, target: Target) -> str:
    """The first line of what a driver says, without the password."""
    if isinstance(error, DBAPIError):
        error = error.orig
    text = " ".join(str(error).split("\n")[0].split())
    password = target.url.password
    return text.replace(str(password), "***") if password else text
