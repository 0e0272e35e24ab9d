"""What the operating system is asked for: processors, whole files, folders that may be written to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bench.errors import OutputError, writing_hint


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whatever happens and whoever else writes it.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(path) as file:
        file.write(content)


def writable(*folders: Path) -> Path:
    """The first of ``folders`` that can be made and written to. It exists afterwards.

    A folder whose permissions let nobody write is passed over even for an administrator.

    Raises:
        OutputError: none can.
    """
    problem = ""
    for folder in folders:
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        if existing.stat().st_mode & 0o222 == 0:
            problem = problem or "the folder is read-only"
            continue
        probe = folder / f".probe-{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            problem = problem or str(error.strerror)
        else:
            return folder
    raise OutputError(
        f"{folders[0]}: cannot be written: {problem}", "name another folder by --data-root or BENCH_DATA_ROOT"
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` at the end and leaves nothing behind if that fails.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe: nothing may take its place
            with path.open("wb") as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}", writing_hint(error)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
