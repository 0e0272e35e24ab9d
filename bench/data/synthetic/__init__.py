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

import msgspec

from bench.data.cards import Card, convert
from bench.data.synthetic._base import Generator, Planned, is_written, write_item
from bench.data.system import processors, writable, write_whole
from bench.data.workers import run
from bench.errors import DataError, UnknownNameError, UsageError

__all__ = [
    "Generator",
    "Planned",
    "ensure",
    "folder_name",
    "format_of",
    "generate",
    "generator_names",
    "made",
    "make_generator",
    "planned",
]

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
    generator = _generator(card)
    folder = made(card, root, fallback)
    if folder is None:
        name = folder_name(card, generator)
        folder = writable(root / name, fallback / name)
        _generate(card, generator, folder, progress)
    return folder, format_of(card)


def format_of(card: Card) -> dict[str, Any]:
    """The ``[format]`` table by which the stand-in of a card is read."""
    assert card.stand_in is not None
    return dict(card.stand_in.format or _generator(card).format or card.format)


def generate(card: Card, root: Path, seed: int | None = None, progress: Progress | None = None) -> tuple[Path, int]:
    """Make the stand-in of a card below a folder of the user's; what is there already is gone on with.

    Args:
        card: of the data set.
        root: the stand-in gets a folder of its own in it, named by generator, version and seed.
        seed: None for the card's own, which is the one that runs use.
        progress: called as ``progress(done, total, text)``.

    Returns:
        the stand-in's folder, and how many images it has.

    Raises:
        UsageError: the card has no stand-in.
        OutputError: it cannot be written.
    """
    if card.stand_in is None:
        raise UsageError(f"{card.name} has no stand-in", f"get the real files from {card.url}")
    if seed is not None:
        card = msgspec.structs.replace(card, stand_in=msgspec.structs.replace(card.stand_in, seed=seed))
    folder, _ = ensure(card, root, root, progress)
    return folder, planned(card)


def planned(card: Card) -> int:
    """Images that the stand-in of a card has."""
    return len(_generator(card).plan())


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


def _as_words(generator: Generator) -> tuple[str, str, str]:
    """Name, seed and parameters of a generator, for the command line of another process."""
    return generator.name, str(generator.seed), msgspec.json.encode(generator.params).decode()


def _generate(card: Card, generator: Generator, folder: Path, progress: Progress | None) -> None:
    plan = generator.plan()
    text = f"generating the stand-in of {card.name}"
    done = sum(is_written(generator, item, folder) for item in plan)
    workers = min(processors(), (len(plan) - done) // _WORTH_A_PROCESS)
    if workers > 1:
        made: Iterator[Any] = run(f"{__name__}._worker", [*_as_words(generator), str(card.path), str(folder)], workers)
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
