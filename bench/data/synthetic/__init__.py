"""Stand-ins: generated images with known truth, for data sets whose files a user may not have.

A generator is a module of this package with the generator's name, and in it a class that derives from
:class:`~bench.data.synthetic._base.Generator`. A stand-in is made once, in a folder of its own, image by image;
what a kill leaves half made is gone on with.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.data.cards import Card, convert
from bench.data.synthetic._base import Generator, Planned, is_written, write_item
from bench.data.system import processors, writable, write_whole
from bench.data.workers import run
from bench.errors import DataError, UnknownNameError

__all__ = ["Generator", "Planned", "ensure", "folder_name", "generator_names", "made", "make_generator"]

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
    generator = _generator(card)
    format_table = dict(card.stand_in.format or generator.format or card.format)
    folder = made(card, root, fallback)
    if folder is None:
        name = folder_name(card, generator)
        folder = writable(root / name, fallback / name)
        _generate(card, generator, folder, progress)
    return folder, format_table


def made(card: Card, *roots: Path) -> Path | None:
    """The first folder in which the complete stand-in of a card lies, or None."""
    generator = _generator(card)
    name = folder_name(card, generator)
    return next((root / name for root in roots if _complete(root / name, generator)), None)


def _generator(card: Card) -> Generator:
    assert card.stand_in is not None
    return make_generator(card.stand_in.generator, card.stand_in.seed, card.stand_in.params, card.path)


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
    if workers > 1:
        made: Iterator[Any] = run(f"{__name__}._worker", [str(card.path), str(folder)], workers)
    else:
        made = (None for item in plan if write_item(generator, item, folder))
    for _ in made:
        done += 1
        if progress:
            progress(done, len(plan), text)
    for path, content in generator.closing_files(folder).items():
        write_whole(folder / path, content)
    marker = {"generator": generator.name, "version": generator.version, "seed": generator.seed, "images": len(plan)}
    write_whole(folder / MARKER, (json.dumps(marker) + "\n").encode())
