"""Numbers as people read them: which unit, how many decimals."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from bench.report.escape import visible

_SHOWN: dict[str, tuple[float, str]] = {
    "fraction": (100.0, "%"),
    "bytes": (1 / 2**20, "MiB"),
}
"""Stored unit to the factor and the unit in which it is shown; any other is shown as it is stored."""

_CONTINUOUS = {"ms", "images/s"}
"""Units of which a whole number is a coincidence."""

_DECIMALS: dict[str, int] = {"%": 1, "MiB": 0, "s": 1}


def shown_unit(unit: str) -> tuple[float, str]:
    """The factor by which values of a stored unit are multiplied to be shown, and the unit they then have."""
    return _SHOWN.get(unit, (1.0, unit))


def decimals(values: Iterable[float | None], unit: str) -> int:
    """How many decimals a column of values shows, in the unit in which it is shown.

    Percentages have one, as papers print them; counts, where all are whole, none; everything else so many that the
    smallest value keeps two digits, at least one and at most four.
    """
    if unit in _DECIMALS:
        return _DECIMALS[unit]
    known = [abs(v) for v in values if v is not None and math.isfinite(v)]
    if unit not in _CONTINUOUS and all(v == round(v) for v in known):
        return 0
    known = [v for v in known if v]
    if not known:
        return 1
    return min(4, max(1, 1 - math.floor(math.log10(min(known)))))


def number(value: float, places: int) -> str:
    """``value`` with ``places`` decimals; never a negative zero."""
    text = f"{value:.{places}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def quantity(value: float | None, unit: str) -> str | None:
    """A single value of a stored unit, with the unit in which it is shown: 0.512 of ``fraction`` is "51.2 %"."""
    if value is None or not math.isfinite(value):
        return None
    factor, shown = shown_unit(unit)
    scaled = value * factor
    return f"{number(scaled, decimals([scaled], shown))} {shown}".rstrip()


def describe_plain(facts: Mapping[str, Any], indent: int = 0) -> str:
    """Nested facts as indented ``name: value`` lines, long texts wrapped to 100 characters."""
    lines: list[str] = []
    pad = "  " * indent
    for name, value in facts.items():
        key = visible(str(name))
        if isinstance(value, Mapping):
            lines += [f"{pad}{key}:", describe_plain(value, indent + 1)] if value else []
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) or len(str(v)) > 40 for v in value):
            lines.append(f"{pad}{key}:")
            for item in value:
                if isinstance(item, Mapping):
                    inner = describe_plain(item, indent + 2).lstrip()
                    lines.append(f"{pad}  - {inner}")
                else:
                    lines += _wrapped(str(item), f"{pad}  - ", f"{pad}    ")
        elif isinstance(value, list | tuple):
            lines.append(f"{pad}{key}: {', '.join(visible(str(v)) for v in value) or 'none'}")
        elif value is not None:
            lines += _wrapped(str(value), f"{pad}{key}: ", f"{pad}  ")
    return "\n".join(lines)


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(visible(text), 100, initial_indent=first, subsequent_indent=rest) or [first.rstrip()]
