"""Standard output is for results: what a method prints meanwhile goes to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from typing import Any


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """What is printed inside, by Python, by a library below it or by a process that is started, goes to stderr."""
    out = sys.stdout
    if out is None:  # it was closed before the program began: number 1 may be any file by now
        with redirect_stdout(sys.stderr):
            yield
        return
    _flush(out)
    with ExitStack() as after:
        with suppress(OSError):  # one of the two is closed
            kept = os.dup(1)
            after.callback(os.close, kept)
            after.callback(os.dup2, kept, 1)
            after.callback(_flush, out)  # of who had taken hold of it before
            os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield


def _flush(stream: Any) -> None:
    """Write what Python and the C library still hold for standard output."""
    stream.flush()
    if os.name == "posix":
        import ctypes

        ctypes.CDLL(None).fflush(None)
