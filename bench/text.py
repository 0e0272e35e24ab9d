"""Text made harmless for a terminal: names come from submissions, method files and data, and may hold anything."""

from __future__ import annotations

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
