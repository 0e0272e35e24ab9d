"""Work shared out over processes that are started as programs, not forked: the caller may hold threads, a GPU, a
notebook.

A worker is a module that is run as ``python -m <module> <arguments> <worker> <workers>`` and hands its function to
:func:`be_worker`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import bench
from bench import errors
from bench.errors import BenchError

_STRANGER = 70
"""Exit status of a worker that failed in a way that is no user's to mend (EX_SOFTWARE of sysexits.h)."""


def run(module: str, arguments: Sequence[str], workers: int) -> Iterator[str]:
    """Start workers and wait for all of them.

    Args:
        module: what they run.
        arguments: the same for all; each is also given its number, from 0, and how many there are.
        workers: how many.

    Returns:
        the lines that they say, as they come, without the end of the line.

    Raises:
        BenchError: the error of the first worker that had one.
        RuntimeError: a worker failed otherwise.
    """
    environment = {**os.environ, "PYTHONPATH": _python_path(), "OMP_NUM_THREADS": "1"}
    read_end, write_end = os.pipe()
    running: list[subprocess.Popen[str]] = []
    try:
        try:
            for number in range(workers):
                command = [sys.executable, "-m", module, *arguments, str(number), str(workers)]
                running.append(
                    subprocess.Popen(command, stdout=write_end, stderr=subprocess.PIPE, text=True, env=environment)
                )
        finally:
            os.close(write_end)
        with os.fdopen(read_end, closefd=False) as lines:
            for line in lines:
                yield line.rstrip("\n")
        for process in running:
            _, complaint = process.communicate()
            if process.returncode:
                raise _error(process.returncode, complaint)
    finally:
        os.close(read_end)
        for process in running:
            if process.poll() is None:
                process.terminate()
                process.wait()
            if process.stderr:
                process.stderr.close()


def be_worker(work: Callable[[list[str], int, int, Callable[[str], None]], None]) -> int:
    """Run ``work(arguments, worker, workers, say)`` with what the command line holds; the exit status.

    ``say`` sends a line to who started the workers. If nobody listens any more the worker ends.
    """

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    *arguments, worker, workers = sys.argv[1:]
    try:
        work(arguments, int(worker), int(workers), say)
    except BenchError as error:
        sys.stderr.write("\n" + json.dumps([type(error).__name__, error.message, error.hint]) + "\n")
        return error.exit_code
    except BrokenPipeError:
        return _STRANGER
    return 0


def _error(status: int, complaint: str) -> Exception:
    """What a worker's exit status and the end of its stderr say."""
    try:
        name, message, hint = json.loads(complaint.splitlines()[-1])
    except (ValueError, IndexError):
        return RuntimeError(f"a worker process ended with status {status}:\n{complaint}")
    kind = getattr(errors, name, BenchError)
    return BenchError(message, hint) if kind is errors.UnknownNameError else kind(message, hint)


def _python_path() -> str:
    """Where a new interpreter finds the package that runs now."""
    here = str(Path(bench.__file__).resolve().parents[1])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
