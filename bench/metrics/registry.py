"""The protocols, by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from bench.api import UnknownNameError, UsageError
from bench.metrics.protocol import Protocol

_PROTOCOLS = {
    "voc": "Voc",
    "coco": "Coco",
    "kaggle": "Kaggle",
    "ctc": "Ctc",
    "semantic": "Semantic",
    "touching": "Touching",
    "panoptic": "Panoptic",
}
"""Name (and module of this package) -> class, in the order of listing."""

Choice = Mapping[str, Mapping[str, Any]] | Sequence[str] | str
"""Which protocols: ``"all"``, names, or names with parameters."""


def protocol_names() -> tuple[str, ...]:
    """The names of all protocols."""
    return tuple(_PROTOCOLS)


def list_protocols(classes: Sequence[str] = ("cell",)) -> tuple[Protocol, ...]:
    """Every protocol, with its default parameters."""
    return tuple(make_protocols("all", classes))


def protocol(name: str) -> type[Protocol]:
    """The protocol of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in _PROTOCOLS:
        raise UnknownNameError("protocol", name, _PROTOCOLS)
    found: type[Protocol] = getattr(importlib.import_module(f"bench.metrics.{name}"), _PROTOCOLS[name])
    return found


def make_protocols(choice: Choice, classes: Sequence[str]) -> list[Protocol]:
    """The protocols asked for, with their parameters set, each once and in the order given.

    Raises:
        UnknownNameError: no such protocol.
        UsageError: none at all, a parameter that a protocol does not have, or a value that does not fit it.
    """
    if isinstance(choice, str):
        choice = protocol_names() if choice == "all" else [name.strip() for name in choice.split(",") if name.strip()]
    overrides: Mapping[str, Mapping[str, Any]] = (
        choice if isinstance(choice, Mapping) else {name: {} for name in choice}
    )
    if not overrides:
        raise UsageError("no protocol was named", f"there are {', '.join(_PROTOCOLS)}, or all of them: all")
    return [protocol(name).make(params, classes) for name, params in overrides.items()]


def where_is(metric: str) -> str | None:
    """Which protocols have a metric, as a hint to someone who asked another one for it; None if none has."""
    found = [made.name for made in list_protocols() if any(spec.name == metric for spec in made.metrics)]
    if not found:
        return None
    return f"{metric} belongs to {' and '.join(found)}: add --protocol {found[0]}"
