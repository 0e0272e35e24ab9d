"""The errors a user can cause, each with one line that says what is wrong and one that says what to do.

The command line prints them without a traceback (unless ``--debug``) and exits with ``exit_code``.
Anything else that is raised is a bug of ours and is reported as one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """Base of every error that is the user's to mend.

    Args:
        message: what is wrong, one line, with the file or the name in it.
        hint: what to do about it, one line; printed after the message.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[type, tuple[str, str | None]]:
        return type(self), (self.message, self.hint)


class UsageError(BenchError):
    """An argument that cannot be used as it is. Exit code 2."""

    exit_code = 2


MOST_NAMES = 20
"""Names that an error lists."""


class UnknownNameError(UsageError):
    """A name that is not registered; the message carries the nearest ones. Exit code 2.

    Args:
        kind: what was looked for, singular ("method", "data set", "protocol").
        name: what the user wrote.
        known: every name that would have been right.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        shown = ", ".join(known[:MOST_NAMES]) + (f" and {len(known) - MOST_NAMES} more" * (len(known) > MOST_NAMES))
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {shown or 'none'}"
        super().__init__(f"unknown {kind} {name!r}", hint)
        self.kind, self.name, self.known = kind, name, known

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str]]]:  # type: ignore[override]
        return type(self), (self.kind, self.name, self.known)


class DataError(BenchError):
    """A file of a data set or of predictions that is missing, broken or contradicts itself. Exit code 3."""

    exit_code = 3


class StoreError(BenchError):
    """The database cannot be opened, is no database of ours, or cannot be written. Exit code 4."""

    exit_code = 4


class MethodError(BenchError):
    """A method failed to train or to predict, or breaks the contract of :mod:`bench.api`. Exit code 5."""

    exit_code = 5


class MissingDependencyError(BenchError):
    """A package or a device that the request needs is not here. Exit code 6."""

    exit_code = 6


class OutputError(BenchError):
    """What was computed cannot be written: the disk is full or the folder is read-only. Exit code 7."""

    exit_code = 7
