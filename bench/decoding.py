"""What is wrong with a JSON file, in words: the decoder's own messages speak to programmers."""

from __future__ import annotations

import re

_KINDS = {
    "object": "an object {…}",
    "array": "a list […]",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
}
_PLACE = r"(?: - at `?(?P<place>[^`]*)`?)?$"
_EXPECTED = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`" + _PLACE)
_LENGTH = re.compile(r"Expected `array` of length (?P<length>\d+)(?:, got \d+)?" + _PLACE)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`" + _PLACE)
_BYTE = re.compile(r"\(byte (\d+)\)")


def wrong_content(error: Exception) -> str:
    """What is wrong with JSON whose content is not as it should be.

    Args:
        error: a ``msgspec.ValidationError``.

    Returns:
        for instance ``[0].score is text where a number or null belongs``; ``[...]`` is some key of an object.
    """
    text = str(error)
    if found := _MISSING.fullmatch(text):
        return f"{_place(found['place']) or 'it'} has no {found['field']!r}"
    if found := _EXPECTED.fullmatch(text):
        wanted = " or ".join(_KINDS.get(kind, kind) for kind in found["wanted"].split(" | "))
        got = _KINDS.get(found["got"], found["got"])
        return f"{_place(found['place']) or 'it'} is {got} where {wanted} belongs"
    if found := _LENGTH.fullmatch(text):
        return f"{_place(found['place']) or 'it'} is not a list of {found['length']}"
    return text.replace("`", "").replace("$", "").strip()


def not_json(error: Exception, data: bytes) -> tuple[str, str]:
    """Why bytes are no JSON, and what to do about it.

    Args:
        error: a ``msgspec.DecodeError`` that is no ``ValidationError``, or a ``UnicodeDecodeError``.
        data: what was decoded.
    """
    if not data.strip():
        return "the file is empty", "copy or download it again"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        return "it is not text in UTF-8", "save it as UTF-8, if it is text at all"
    if "truncated" in str(error):
        return "it ends in the middle", "the file may be cut off: copy or download it again"
    found = _BYTE.search(str(error))
    where = f"at byte {found[1]}" if found else "in it"
    return (
        f"an unexpected character {where}",
        "the file may be damaged or of another format: write or download it again",
    )


def _place(path: str | None) -> str:
    """``$[0].score`` as ``[0].score``; the top is nothing."""
    return (path or "").removeprefix("$").removeprefix(".")
