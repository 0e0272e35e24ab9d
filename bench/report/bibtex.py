"""BibTeX of what a table shows: the methods' papers, the data set, the papers whose numbers stand beside."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\~{}",
    "^": r"\^{}",
}


def bibliography(
    papers: Iterable[Mapping[str, Any]], datasets: Iterable[Mapping[str, Any]], ready: Sequence[str] = ()
) -> str:
    """One entry each, without doubles.

    Args:
        papers: of methods, as :class:`bench.api.Paper` in plain data: title, authors, year, venue, url.
        datasets: cards in plain data: name, title, citation, url.
        ready: entries that are written already.
    """
    entries: dict[str, str] = {}
    for entry in ready:
        entries.setdefault(_key_of(entry), entry.strip())
    for paper in papers:
        key = _key(str(paper["authors"]), paper["year"], str(paper["title"]))
        fields = {
            "title": f"{{{_tex(paper['title'])}}}",
            "author": _authors(str(paper["authors"])),
            "year": str(paper["year"]),
            "howpublished": _tex(paper.get("venue") or ""),
            "url": str(paper.get("url") or ""),
        }
        entries.setdefault(key, _entry(key, fields))
    for card in datasets:
        key = f"dataset_{_letters(str(card['name']))}"
        fields = {
            "title": f"{{{_tex(card['title'])}}}",
            "note": _tex(card.get("citation") or ""),
            "url": str(card.get("url") or ""),
        }
        entries.setdefault(key, _entry(key, fields))
    return "\n\n".join(entries.values()) + "\n" if entries else ""


def _entry(key: str, fields: Mapping[str, str]) -> str:
    body = ",\n".join(f"  {name} = {{{_one_line(value)}}}" for name, value in fields.items() if value)
    return f"@misc{{{key},\n{body}\n}}"


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _authors(names: str) -> str:
    return " and ".join(_tex(name.strip()) for name in re.split(r",\s*(?:and\s+)?|\s+and\s+", names) if name.strip())


def _key(authors: str, year: Any, title: str) -> str:
    first = re.split(r",|\s+and\s+", authors)[0].split()
    word = next((w for w in re.findall(r"[A-Za-z]+", title) if len(w) > 3), "paper")
    return f"{_letters(first[-1] if first else 'anonymous')}{year}{_letters(word)}"


def _key_of(entry: str) -> str:
    found = re.search(r"@\w+\{\s*([^,\s]+)", entry)
    return found.group(1) if found else entry


def _letters(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "", plain.lower()) or "x"


def _tex(text: Any) -> str:
    return "".join(_SPECIAL.get(character, character) for character in str(text))
