"""Names made harmless for where they are shown: they come from submissions, and may hold anything."""

from __future__ import annotations

import re
import unicodedata


def visible(text: str) -> str:
    """``text`` on one line, with every control and formatting character written as an escape.

    Line breaks, terminal sequences, and marks that turn the direction of writing become ``\\n``, ``\\x1b``,
    ``\\u202e``; every kind of space becomes a plain one.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode("ascii")


def width(text: str) -> int:
    """Columns that ``text`` takes in a terminal: two for East Asian wide characters, none for combining marks."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


_LINKS = re.compile(r":(?=//)|\bwww\.|(?<!\w)@(?=\w)", re.IGNORECASE)
_MARKDOWN = {c: f"\\{c}" for c in "\\`*_{}[]|~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after a line break, a bracket would open its option
    "]": "{]}",
    "–": "--",
    "—": "---",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
} | {c: f"\\{c}" for c in "{}$&#_%"}


def markdown(text: str) -> str:
    """``text`` for a cell of a Markdown table: no markup, no HTML, and nothing that turns into a link or a mention."""
    escaped = "".join(_MARKDOWN.get(c, c) for c in visible(text))
    return _LINKS.sub(lambda found: "".join(f"&#{ord(c)};" if c in ":.@" else c for c in found[0]), escaped)


def latex(text: str) -> str:
    """``text`` for a cell of a LaTeX table."""
    return "".join(_LATEX.get(c, c) for c in visible(text))


def spreadsheet(text: str) -> str:
    """``text`` for a CSV cell: one that a spreadsheet would run as a formula is led by an apostrophe."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
