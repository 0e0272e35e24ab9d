"""A new method's files from templates: what ``bench new method`` writes."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bench.api import OutputError, UsageError
from bench.registry import registry

BASES: Mapping[str, str] = {
    "plain": "a class with predict(), for anything",
    "mmdet": "a config of MMDetection",
    "dense": "a network that labels pixels: target encoder, loss, instance decoder",
    "external": "a tool that is called, in an environment of its own",
}
"""Base -> what it is for."""

DEFAULT_FOLDER = Path("my_methods")


@dataclass(frozen=True)
class Scaffold:
    """The files of a new method.

    Attributes:
        name: of the method.
        folder: to be named in ``BENCH_METHODS``.
        adapter: the module with its class.
        test: that it keeps the contract.
        files: everything that was written, these two among it.
    """

    name: str
    folder: Path
    adapter: Path
    test: Path
    files: tuple[Path, ...]


def new_method(name: str, base: str, folder: Path) -> Scaffold:
    """Write an adapter and its test, which pass as they are.

    Args:
        name: of the method: lower-case letters, digits and underscores, beginning with a letter.
        base: one of :data:`BASES`.
        folder: where to; made if need be.

    Raises:
        UsageError: a name that is none or is taken, or a file that is there already.
        OutputError: the folder cannot be written.
    """
    _check_name(name)
    adapter, test = folder / f"{name}.py", folder / "tests" / f"test_{name}.py"
    written = {adapter: f"{base}.py", test: "test.py"}
    if base == "external":
        written[folder / f"_{name}_tool.py"] = "external_tool.py"
    for path in written:
        if path.exists():
            raise UsageError(f"{path} is there already", "choose another name, or remove it")
    values = {
        "NAME": name,
        "CLASS": "".join(part.capitalize() for part in name.split("_")),
        "TITLE": name.replace("_", " ").capitalize(),
        "TEST": f"{test.parent.name}/{test.name}",
    }
    try:
        test.parent.mkdir(parents=True, exist_ok=True)
        for path, template in written.items():
            path.write_text(_filled(template, values), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}", "choose another folder with --to") from error
    return Scaffold(name, folder, adapter, test, tuple(written))


def _check_name(name: str) -> None:
    plain = name.replace("_", "").isalnum() and name.isascii() and name == name.lower() and name[:1].isalpha()
    if not plain or keyword.iskeyword(name):
        raise UsageError(
            f"{name!r} cannot be the name of a method",
            "lower-case letters, digits and underscores, beginning with a letter: my_net",
        )
    taken = {entry.method.name for entry in registry().methods.values()} | set(registry().methods)
    if name in taken:
        raise UsageError(f"there is a method {name!r} already", f"see it with: bench show {name}")


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = (resources.files("bench") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text
