"""BibTeX of what a table shows: the methods' papers, the data set, the papers whose numbers stand beside.

What goes in comes from submissions and older databases as well: every field may be missing, and may hold anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.report import escape

if TYPE_CHECKING:
    import pandas as pd

_URL_KEPT = "/:?#@!$&'()*+,;=-._~%[]"
"""Of an address; everything else is percent-encoded, braces and backslashes above all."""


def bibliography(
    papers: Iterable[Mapping[str, Any]], datasets: Iterable[Mapping[str, Any]], ready: Sequence[str] = ()
) -> str:
    """One entry for each work. What says nothing has none.

    Args:
        papers: of methods, as :class:`bench.api.Paper` in plain data: title, authors (names separated by commas, or a
            list of them), year, venue, note, url.
        datasets: cards in plain data: name, title, citation, url.
        ready: entries that are written already, each with a title on a line of its own.
    """
    made = _Entries()
    for entry in ready:
        made.keep(entry.strip())
    for paper in papers:
        authors = _names(paper.get("authors"))
        title, url = _said(paper.get("title")), _url(paper.get("url"))
        made.add(
            title,
            authors[0] if authors else "",
            _key(authors, paper.get("year"), title or url),
            {
                "title": f"{{{escape.latex(title)}}}" if title else "",
                "author": " and ".join(_name(name) for name in authors),
                "year": _letters(_said(paper.get("year"))),
                "howpublished": escape.latex(_said(paper.get("venue"))),
                "note": escape.latex(_said(paper.get("note"))),
                "url": url,
            },
        )
    for card in datasets:
        name = _said(card.get("name"))
        title = _said(card.get("title")) or name
        made.add(
            f"data set {name}",
            "",
            f"dataset_{_letters(name) or 'unnamed'}",
            {
                "title": f"{{{escape.latex(title)}}}" if title else "",
                "note": escape.latex(_said(card.get("citation"))),
                "url": _url(card.get("url")),
            },
        )
    return made.text()


def submissions(board: pd.DataFrame) -> list[dict[str, Any]]:
    """What a board's submissions are cited by where they name no paper: their author and year.

    One that does name a paper or an address has an entry of its own, of the same title and author; a
    :func:`bibliography` of both keeps the first.

    Args:
        board: of :meth:`bench.store.Store.leaderboard`.
    """
    by_whom = board[board["submitted_by"].notna() & (board["submitted_by"] != "")]
    return [
        {
            "title": row["title"],
            "authors": [row["submitted_by"]],
            "year": row["started"].year,
            "venue": "predictions submitted to cellseg-bench",
        }
        for row in by_whom.to_dict("records")
    ]


class _Entries:
    """Entries by key, one a work."""

    def __init__(self) -> None:
        self._entries: dict[str, str] = {}
        self._works: set[tuple[str, str]] = set()
        self._titles: set[str] = set()

    def keep(self, entry: str) -> None:
        """An entry as it is written."""
        key = re.search(r"@\w+\{\s*([^,\s]+)", entry)
        title = re.search(r"^\s*title\s*=\s*[{\"](.*)[}\"],?\s*$", entry, re.MULTILINE)
        if key is None or key[1].lower() in self._entries:
            return
        self._entries[key[1].lower()] = entry
        if title is not None:
            self._titles.add(_identity(title[1]))

    def add(self, title: str, author: str, key: str, fields: Mapping[str, str]) -> None:
        """An entry of these fields, unless the work has one, or says nothing."""
        work = (_identity(title) or fields.get("url", ""), _identity(_surname(author)))
        if not any(fields.values()) or work in self._works or work[0] in self._titles:
            return
        self._works.add(work)
        chosen, number = key, 1
        while chosen in self._entries:
            number += 1
            chosen = f"{key}_{number}"
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        self._entries[chosen] = f"@misc{{{chosen},\n{body}\n}}"

    def text(self) -> str:
        """All of them, after what they ask of the document."""
        if not self._entries:
            return ""
        written = "\n\n".join(self._entries.values())
        needs = [f"% {need}" for need in escape.latex_needs(written)]
        return "\n".join([*needs, written]) + "\n"


def _said(value: Any) -> str:
    """A value on one line; nothing for what is missing."""
    return "" if value is None else " ".join(str(value).split())


def _names(authors: Any) -> list[str]:
    if isinstance(authors, str):
        authors = re.split(r",\s*(?:and\s+)?|\s+and\s+", authors)
    return [name for name in map(_said, authors or ()) if name]


def _name(name: str) -> str:
    """A name as BibTeX takes it for one: what it would take apart stands in braces."""
    written = escape.latex(name)
    return f"{{{written}}}" if "," in written or re.search(r"\band\b", written, re.IGNORECASE) else written


def _surname(name: str) -> str:
    words = name.split()
    return words[-1] if words else ""


def _url(address: Any) -> str:
    """An address that ends no field: what a URL may not hold is percent-encoded."""
    text = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", _said(address))
    return quote(text, safe=_URL_KEPT, errors="replace")


def _key(authors: Sequence[str], year: Any, title: str) -> str:
    words = re.findall(r"[a-z]+", _ascii(title).lower())
    if not authors:
        return "".join(words)[:40] + _letters(_said(year)) or "anonymous"
    word = next((w for w in words if len(w) > 3), "paper")
    return f"{_letters(_surname(authors[0])) or 'anonymous'}{_letters(_said(year))}{word}"


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def _identity(text: str) -> str:
    """A title or a name without what two ways of writing it differ in: case, accents, TeX's commands for them."""
    return "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if c.isalnum())


def _letters(text: str) -> str:
    """Letters and digits of ASCII, in lower case."""
    return re.sub(r"[^a-z0-9]+", "", _ascii(text).lower())
