"""``bench new``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from bench.cli import options


@click.group("new", cls=options.Group, short_help="begin a method of your own")
def command() -> None:
    """Begin something of your own."""


@command.command("method")
@click.argument("name")
@click.option(
    "--base",
    type=click.Choice(("plain", "mmdet", "dense", "external")),
    default="plain",
    show_default=True,
    help="What it builds on.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for it; default the first of $BENCH_METHODS, else ./my_methods.",
)
@options.as_json()
def method(name: str, base: str, folder: Path | None, as_json: bool) -> None:
    """Write an adapter called NAME and its test, which pass as they are.

    \b
    plain     a class with predict(), for anything
    mmdet     a config of MMDetection
    dense     a network that labels pixels: target encoder, loss, instance decoder
    external  a tool that is called, in an environment of its own
    """
    from bench.engine.scaffold import DEFAULT_FOLDER, new_method
    from bench.registry import FOLDERS

    known = [Path(part) for part in os.environ.get(FOLDERS, "").split(os.pathsep) if part]
    made = new_method(name, base, folder or (known[0] if known else DEFAULT_FOLDER))
    if as_json:
        options.emit({"name": made.name, "folder": made.folder, "files": made.files})
        return
    for path in made.files:
        options.tell(f"wrote {path}")
    if made.folder.resolve() not in [path.resolve() for path in known]:
        options.tell(f"export {FOLDERS}={os.pathsep.join(map(str, [made.folder.resolve(), *known]))}")
    options.tell(f"bench check {made.name}")
    options.tell(f"pytest {made.test}")
