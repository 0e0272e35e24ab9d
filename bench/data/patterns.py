"""Path patterns with named fields, such as ``{part}/images/{group}_{frame}.png``.

A field stands for one or more characters other than "/"; from left to right each takes as much as it can. The same
field may come again and then stands for the same text.
"""

from __future__ import annotations

import re
from pathlib import Path

_FIELD = re.compile(r"\{([a-z]+)\}")


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

    Hidden files are passed over.
    """
    regex = _regex(pattern)
    pieces = _FIELD.split(pattern)
    glob = "*".join(re.sub(r"([*?\[])", r"[\1]", piece) for piece in pieces[::2])
    found = []
    for path in sorted(root.glob(glob)):
        fits = regex.fullmatch(path.relative_to(root).as_posix())
        if fits and not path.name.startswith(".") and path.is_file():
            found.append((path, fits.groupdict()))
    return found


def _regex(pattern: str) -> re.Pattern[str]:
    expression, seen = "", set()
    for i, piece in enumerate(_FIELD.split(pattern)):
        if i % 2 == 0:
            expression += re.escape(piece)
        elif piece in seen:
            expression += f"(?P={piece})"
        else:
            expression += f"(?P<{piece}>[^/]+)"
            seen.add(piece)
    return re.compile(expression)
