"""Stand-ins: generated images with known truth, for data sets whose files a user may not have.

A generator is a module of this package with the generator's name, and in it a class that derives from
:class:`~bench.data.synthetic._base.Generator`. A stand-in is made once, in a folder of its own, image by image;
what a kill leaves half made is gone on with.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bench
from bench.data.cards import Card, convert
from bench.data.synthetic._base import Generator, Planned, is_written, write_item
from bench.data.system import processors, writable, write_whole
from bench.errors import DataError, OutputError, UnknownNameError

__all__ = ["Generator", "Planned", "ensure", "folder_name", "generator_names", "make_generator"]

MARKER = "stand_in.json"
"""Written last, into the folder of a stand-in that is complete."""

_WORTH_A_PROCESS = 8
"""Images for which it pays to start one."""

Progress = Callable[[int, int, str], None]


def generator_names() -> tuple[str, ...]:
    """Names of all generators, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")))


def make_generator(name: str, seed: int, params: dict[str, Any], path: Path) -> Generator:
    """A generator by its name.

    Args:
        name: of its module.
        seed: every pixel follows from it, the generator's version and the parameters.
        params: of this generator.
        path: the card, for errors.

    Raises:
        DataError: no such generator, or a parameter it does not have.
    """
    if name not in generator_names():
        error = UnknownNameError("generator", name, generator_names())
        raise DataError(f"{path}: stand_in.generator: {error.message}", error.hint)
    module = importlib.import_module(f"{__name__}.{name}")
    kinds = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Generator) and getattr(c, "name", None) == name
    ]
    return kinds[0](seed, convert(params, kinds[0].Params, path, "stand_in.params"))


def ensure(card: Card, root: Path, fallback: Path, progress: Progress | None = None) -> tuple[Path, dict[str, Any]]:
    """The stand-in of a card, generated if it is not there yet.

    Args:
        card: one with a stand-in.
        root: the folder of stand-ins.
        fallback: the one to use where ``root`` cannot be written.
        progress: called as ``progress(done, total, text)``.

    Returns:
        its folder, and the ``[format]`` table by which it is read.

    Raises:
        OutputError: it cannot be written anywhere.
    """
    assert card.stand_in is not None
    generator = make_generator(card.stand_in.generator, card.stand_in.seed, card.stand_in.params, card.path)
    name = folder_name(card, generator)
    format_table = dict(card.stand_in.format or generator.format or card.format)
    for folder in (root / name, fallback / name):
        if _complete(folder, generator):
            return folder, format_table
    folder = writable(root / name, fallback / name)
    _generate(card, generator, folder, progress)
    return folder, format_table


def folder_name(card: Card, generator: Generator) -> str:
    """A stand-in's folder: generator, its version, seed, and a hash of the parameters if any. Cards may share one."""
    assert card.stand_in is not None
    name = f"{generator.name}-{generator.version}-{generator.seed}"
    if card.stand_in.params:
        name += "-" + hashlib.sha256(json.dumps(card.stand_in.params, sort_keys=True).encode()).hexdigest()[:8]
    return name


def _complete(folder: Path, generator: Generator) -> bool:
    return (folder / MARKER).is_file() and all(is_written(generator, i, folder) for i in generator.plan())


def _generate(card: Card, generator: Generator, folder: Path, progress: Progress | None) -> None:
    plan = generator.plan()
    text = f"generating the stand-in of {card.name}"
    done = sum(is_written(generator, item, folder) for item in plan)
    workers = min(processors(), (len(plan) - done) // _WORTH_A_PROCESS)
    finished = _in_processes(card, folder, workers) if workers > 1 else _here(generator, folder)
    for _ in finished:
        done += 1
        if progress:
            progress(done, len(plan), text)
    for path, content in generator.closing_files(folder).items():
        write_whole(folder / path, content)
    marker = {"generator": generator.name, "version": generator.version, "seed": generator.seed, "images": len(plan)}
    write_whole(folder / MARKER, (json.dumps(marker) + "\n").encode())


def _here(generator: Generator, folder: Path) -> Iterator[None]:
    for item in generator.plan():
        if write_item(generator, item, folder):
            yield


def _in_processes(card: Card, folder: Path, workers: int) -> Iterator[None]:
    """Share the images out over processes of their own; yields once for each image written.

    They are started as programs, not forked: the caller may hold threads, a GPU, or a notebook.
    """
    environment = {**os.environ, "PYTHONPATH": _python_path(), "OMP_NUM_THREADS": "1"}
    read_end, write_end = os.pipe()
    running: list[subprocess.Popen[str]] = []
    try:
        try:
            for worker in range(workers):
                command = [sys.executable, "-m", f"{__name__}._worker", str(card.path), str(folder)]
                command += [str(worker), str(workers)]
                running.append(
                    subprocess.Popen(command, stdout=write_end, stderr=subprocess.PIPE, text=True, env=environment)
                )
        finally:
            os.close(write_end)
        with os.fdopen(read_end, closefd=False) as lines:
            for _ in lines:
                yield
        for process in running:
            _, complaint = process.communicate()
            if process.returncode == OutputError.exit_code:
                raise OutputError(*json.loads(complaint.splitlines()[-1]))
            if process.returncode:
                raise RuntimeError(f"a process that generates images failed:\n{complaint}")
    finally:
        os.close(read_end)
        for process in running:
            if process.poll() is None:
                process.terminate()
                process.wait()
            if process.stderr:
                process.stderr.close()


def _python_path() -> str:
    """Where a new interpreter finds the package that runs now."""
    here = str(Path(bench.__file__).resolve().parents[1])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
