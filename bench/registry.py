"""Finds the methods: in the ``methods`` package, in folders of the user's, and in installed packages.

A method's module is imported to list it, and must therefore be light; whatever goes wrong in one is reported beside
the others instead of stopping them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType

from bench.api import Method, UnknownNameError, UsageError

ENTRY_POINTS = "cellseg_bench.methods"
"""Entry point group of packages that bring methods: each names a module or a Method class."""
FOLDERS = "BENCH_METHODS"
"""Environment variable: folders of Python files that hold methods, separated as in PATH."""


@dataclass(frozen=True)
class MethodEntry:
    """A method as it is addressed: a family's class and one of its variants."""

    name: str
    method: type[Method]
    variant: str

    @property
    def title(self) -> str:
        """How it is written in a table."""
        return self.method.variant_title(self.variant)


@dataclass(frozen=True)
class Registry:
    """Everything found: methods by full name, and for each module that failed what went wrong."""

    methods: dict[str, MethodEntry]
    broken: dict[str, str]


@lru_cache(maxsize=1)
def registry() -> Registry:
    """Find every method, once a process."""
    methods: dict[str, MethodEntry] = {}
    broken: dict[str, str] = {}
    for source, load in _sources():
        try:
            found = _classes(load())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's module may raise anything
            broken[source] = f"{type(error).__name__}: {error}"
            continue
        for method in found:
            problem = _problem(method)
            if problem:
                broken[f"{source}:{method.__name__}"] = problem
                continue
            for variant in method.variants:
                name = method.full_name(variant)
                other = methods.get(name)
                if other and other.method is not method:
                    broken[f"{source}:{method.__name__}"] = f"{name!r} is already {other.method.__module__}"
                else:
                    methods[name] = MethodEntry(name, method, variant)
    return Registry(dict(sorted(methods.items())), broken)


def find_method(name: str) -> MethodEntry:
    """The method of that name.

    Raises:
        UnknownNameError: there is none; the message names the nearest, and first the folders that are not there.
        UsageError: its module is there but broken.
    """
    found = registry()
    entry = found.methods.get(name) or found.methods.get(name.replace("-", "_")) or found.methods.get(name.lower())
    if entry:
        return entry
    for source, problem in found.broken.items():
        place = source.rpartition(":")[0] if ":" in source else source
        stem = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
        if stem in (name, name.partition("-")[0]):
            raise UsageError(f"method {name!r} cannot be loaded: {problem}", f"mend {source}")
    gone = [folder for folder in _folders() if not Path(folder).is_dir()]
    raise UnknownNameError("method", name, found.methods, _not_there(gone) if gone else "")


def methods_in(file: Path) -> tuple[MethodEntry, ...]:
    """The methods that a Python file defines, whether or not it is in a folder of the registry.

    Raises:
        UsageError: a class whose declaration is wrong.
    """
    entries = []
    for method in _classes(_import_file(file)):
        if problem := _problem(method):
            raise UsageError(f"{file}: {method.__name__}: {problem}")
        entries += [MethodEntry(method.full_name(variant), method, variant) for variant in method.variants]
    return tuple(entries)


def _sources() -> Iterator[tuple[str, Callable[[], object]]]:
    package = importlib.util.find_spec("methods")
    for folder in package.submodule_search_locations or () if package else ():
        for path in sorted(Path(folder).iterdir()):
            is_module = path.suffix == ".py" or (path / "__init__.py").is_file()
            if is_module and not path.name.startswith("_"):
                yield f"methods.{path.stem}", partial(importlib.import_module, f"methods.{path.stem}")
    for folder in _folders():
        if not Path(folder).is_dir():
            yield folder, partial(_no_folder, folder)
            continue
        for path in sorted(Path(folder).glob("*.py")):
            if not path.name.startswith("_"):
                yield str(path), partial(_import_file, path)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        yield f"{point.value}", point.load


def _folders() -> list[str]:
    """The user's folders, whether or not they are there."""
    return [folder for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if folder]


def _no_folder(folder: str) -> ModuleType:
    raise FileNotFoundError(_not_there([folder]))


def _not_there(folders: list[str]) -> str:
    what = "a folder that is" if len(folders) == 1 else "folders that are"
    return f"{FOLDERS} names {what} not there: {', '.join(folders)}"


def _import_file(path: Path) -> ModuleType:
    name = f"_bench_methods_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _classes(loaded: object) -> list[type[Method]]:
    """The methods that a module defines itself (not those it imports), or the class that an entry point names."""
    if inspect.isclass(loaded):
        return [loaded] if issubclass(loaded, Method) else []
    if not isinstance(loaded, ModuleType):
        return []
    own = loaded.__name__
    return [
        value
        for value in vars(loaded).values()
        if inspect.isclass(value)
        and issubclass(value, Method)
        and (value.__module__ == own or value.__module__.startswith(own + "."))
        and not inspect.isabstract(value)
        and "name" in vars(value)
    ]


def _problem(method: type[Method]) -> str | None:
    if not isinstance(method.name, str) or not method.name.replace("_", "").isalnum() or not method.name.islower():
        return f"its name {method.name!r} must be lower-case letters, digits and underscores"
    if not method.variants:
        return "it declares no variant"
    for schedule in method.schedules:
        if schedule not in ("paper", "short", "smoke"):
            return f"unknown schedule {schedule!r}; there are paper, short and smoke"
    for variant in method.variants:
        try:
            method.make_params(variant)
        except TypeError as error:
            return f"variant {variant!r}: {error}"
    return None
