"""Text made harmless: names come from submissions, method files and data, and may hold anything."""

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


JOINERS = "\u200c\u200d"
"""Zero width non-joiner and joiner: some scripts, and emoji, are not written without them."""

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""What Unicode counts as letters and marks, and nobody sees."""

_VARIANTS = frozenset(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
"""Variation selectors: they choose between pictures of the character before them."""


def hidden(text: str) -> str | None:
    """The first character that nobody sees and that is not needed where it stands, or None.

    Such are Unicode's formatting characters (category Cf: zero width space, soft hyphen, marks of direction, tags) and
    blank letters. Joiners are needed after a virama (Indic scripts; RFC 5892, A.1 and A.2), the non-joiner between
    Arabic letters (Persian), the joiner between the parts of an emoji.
    """
    for place, character in enumerate(text):
        if character in _BLANK or (unicodedata.category(character) == "Cf" and not _joins(text, place)):
            return character
    return None


def _joins(text: str, place: int) -> bool:
    """Whether a joiner stands there that is needed."""
    if text[place] not in JOINERS or not 0 < place < len(text) - 1:
        return False
    if unicodedata.combining(text[place - 1]) == _VIRAMA:
        return True
    before = next((c for c in reversed(text[:place]) if not _modifies(c)), "")
    after = next((c for c in text[place + 1 :] if not _modifies(c)), "")
    if not before or not after:
        return False
    if text[place] == JOINERS[0]:
        return {unicodedata.bidirectional(c) for c in (before, after)} == {"AL"}
    return {unicodedata.category(c) for c in (before, after)} == {"So"}


_VIRAMA = 9
"""Canonical combining class of the marks that take a consonant's vowel away."""


def _modifies(character: str) -> bool:
    """Whether it changes the look of the one before it: combining marks, variation selectors, skin colours."""
    return unicodedata.category(character) in ("Mn", "Me", "Sk")


def as_seen(text: str) -> str:
    """``text`` for asking whether two names look alike: equal where only case, width, dashes or blanks differ.

    Unicode's compatibility form (NFKC), case folded, without characters that nobody sees, every dash as ``-``, each
    stretch of blanks as one space. Letters of different scripts that look alike stay apart.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    shown = (c for c in folded if not (unicodedata.category(c) == "Cf" or c in _BLANK or c in _VARIANTS))
    plain = "".join("-" if unicodedata.category(c) == "Pd" or c == "\u2212" else c for c in shown)
    return " ".join(plain.replace("\u2800", " ").split())
