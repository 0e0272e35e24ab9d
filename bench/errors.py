"""The errors a user can cause, each with one line that says what is wrong and one that says what to do.

The command line prints them without a traceback (unless ``--debug``) and exits with ``exit_code``.
Anything else that is raised is a bug of ours and is reported as one.
"""

from __future__ import annotations

import difflib
import errno
import re
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
"""Names that an error lists where none is near."""
MOST_NEAR = 5
"""Near names that an error asks about."""


class UnknownNameError(UsageError):
    """A name that is not registered; the message carries the nearest ones. Exit code 2.

    Args:
        kind: what was looked for, singular ("method", "data set", "protocol").
        name: what the user wrote.
        known: every name that would have been right.
        reason: why a right name may be unknown here, said before the rest; empty where nothing is known of it.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], reason: str = "") -> None:
        known = sorted(known)
        *others, last = nearest(name, known) or [""]
        near = f"{', '.join(others)} or {last}" if others else last
        shown = ", ".join(known[:MOST_NAMES]) + (f" and {len(known) - MOST_NAMES} more" * (len(known) > MOST_NAMES))
        hint = f"did you mean {near}?" if near else f"known: {shown or 'none'}"
        super().__init__(f"{reason}; unknown {kind} {name!r}" if reason else f"unknown {kind} {name!r}", hint)
        self.kind, self.name, self.known, self.reason = kind, name, known, reason

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str], str]]:  # type: ignore[override]
        return type(self), (self.kind, self.name, self.known, self.reason)


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The names that somebody who wrote ``name`` may have meant, the likeliest first, :data:`MOST_NEAR` at most.

    Those that begin with it or hold it; else those with a part that begins with each of its parts; else those that are
    spelt alike, as a whole or in a part. Case does not count, nor does which sign parts are joined by.

    Args:
        name: what the user wrote.
        known: what there is.
    """
    wanted = _parts(name)
    if not wanted:
        return []
    whole = "_".join(wanted)
    parts = {one: _parts(one) for one in sorted(known, key=lambda one: (len(one), one))}
    begun = [one for one, own in parts.items() if "_".join(own).startswith(whole)]
    held = [one for one, own in parts.items() if len(whole) > 1 and whole in "_".join(own) and one not in begun]
    if begun or held:
        return [*begun, *held][:MOST_NEAR]
    if len(wanted) > 1:
        turned = [one for one, own in parts.items() if all(any(o.startswith(w) for o in own) for w in wanted)]
        if turned:
            return turned[:MOST_NEAR]
    spelt: dict[str, str] = {}
    for one, own in parts.items():
        spelt.setdefault("_".join(own), one)
    alike = [spelt[found] for found in difflib.get_close_matches(whole, spelt, n=3, cutoff=0.5)]
    in_part = [one for one, own in parts.items() if difflib.get_close_matches(whole, own, n=1, cutoff=0.75)]
    return list(dict.fromkeys([*alike, *in_part]))[:MOST_NEAR]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[-_\s]+", name.lower()) if part]


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


def writing_hint(error: OSError, elsewhere: str = "name another folder") -> str:
    """What to do about a file that cannot be written: free space where there is none, and in any case ``elsewhere``."""
    return f"free some space, or {elsewhere}" if error.errno in (errno.ENOSPC, errno.EDQUOT) else elsewhere
