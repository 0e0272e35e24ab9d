"""Path patterns with named fields, such as ``{part}/images/{group}_{frame}.png``.

A field stands for one or more characters other than "/"; from left to right each takes as much as it can. The same
field may come again and then stands for the same text. Capitals do not matter in a pattern's ending (``.tif``).

Where nothing fits a pattern that begins with a folder, that folder may be there twice: ``images/images/1.tif`` is what
some programs make of an archive ``images.zip`` with the folder ``images`` in it.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.data.folders import is_litter

_FIELD = re.compile(r"\{([a-z]+)\}")
_ENDING = re.compile(r"\.[A-Za-z0-9]+$")


def fields_of(pattern: str) -> tuple[str, ...]:
    """Names of the fields, each once, in order."""
    return tuple(dict.fromkeys(_FIELD.findall(pattern)))


def match(pattern: str, text: str) -> dict[str, str] | None:
    """What each field stands for if the whole of ``text`` fits ``pattern``, else None."""
    found = _regex(pattern).fullmatch(text)
    return found.groupdict() if found else None


def fill(pattern: str, fields: dict[str, str]) -> str:
    """``pattern`` with every field replaced by its text."""
    return _FIELD.sub(lambda found: fields[found[1]], pattern)


def find(root: Path, pattern: str) -> list[tuple[Path, dict[str, str]]]:
    """Files under ``root`` whose relative path fits ``pattern``, sorted, with the text of their fields.

    Litter (:mod:`bench.data.folders`) is passed over.
    """
    return next((found for p in _places(pattern) if (found := _find(root, p))), [])


def existing(root: Path, pattern: str, fields: dict[str, str]) -> Path | None:
    """The file under ``root`` that ``pattern`` names with these fields, or None where there is none."""
    for place in _places(fill(pattern, fields)):
        ending = _ENDING.search(place)
        endings = (ending[0], ending[0].lower(), ending[0].upper(), ending[0].title()) if ending else ("",)
        bare = place.removesuffix(endings[0])
        found = next((p for e in endings if (p := root / f"{bare}{e}").is_file()), None)
        if found is not None:
            return found
    return None


def _places(pattern: str) -> tuple[str, ...]:
    """A pattern, and the same with its first folder twice if that has no field."""
    first, slash, rest = pattern.partition("/")
    return (pattern, f"{first}/{first}/{rest}") if slash and not _FIELD.search(first) else (pattern,)


def _find(root: Path, pattern: str) -> list[tuple[Path, dict[str, str]]]:
    regex = _regex(pattern)
    ending = _ENDING.search(pattern)
    pieces = [re.sub(r"([*?\[])", r"[\1]", piece) for piece in _FIELD.split(pattern)[::2]]
    if ending:
        pieces[-1] = pieces[-1].removesuffix(ending[0]) + "".join(
            f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in ending[0]
        )
    found = []
    for path in sorted(root.glob("*".join(pieces))):
        inside = path.relative_to(root)
        fits = regex.fullmatch(inside.as_posix())
        if fits and not any(map(is_litter, inside.parts)) and path.is_file():
            found.append((path, fits.groupdict()))
    if not found and (place := root / pattern.split("{")[0].rpartition("/")[0]).is_dir():
        next(place.iterdir(), None)  # where it may not be read, this raises, and a glob does not
    return found


def _regex(pattern: str) -> re.Pattern[str]:
    expression, seen = "", set()
    ending = _ENDING.search(pattern)
    for i, piece in enumerate(_FIELD.split(pattern.removesuffix(ending[0]) if ending else pattern)):
        if i % 2 == 0:
            expression += re.escape(piece)
        elif piece in seen:
            expression += f"(?P={piece})"
        else:
            expression += f"(?P<{piece}>[^/]+)"
            seen.add(piece)
    return re.compile(expression + (f"(?i:{re.escape(ending[0])})" if ending else ""))
