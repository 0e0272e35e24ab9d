"""What somebody says of predictions that they bring: kept as said where it harms nobody, and refused where it would.

All of it is untrusted text that stands on a board beside the names of this program's own methods.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from dataclasses import dataclass

from bench.api import UsageError
from bench.engine.lookalikes import as_read, mixed_scripts
from bench.registry import registry
from bench.text import as_seen, hidden, visible

LONGEST_NAME = 100
LONGEST_NOTE = 4000
_ADDRESS = re.compile(r"https?://[^\s]+", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """What somebody says of the predictions they bring. Nothing of it can be checked, all of it is untrusted text.

    Attributes:
        name: of the method, as it is to be written on the board.
        who: made the predictions.
        note: how they were made.
        url: where the method or its code is.
        paper: its title or citation.
        seconds_per_image: how long an image took them.
        trained_on: data sets, by card, that they were trained on, the evaluated one only where its images beyond the
            training split were.

    Raises:
        UsageError: an empty or overlong text, one with characters that nobody sees, a name of method or person with
            letters of several scripts in one word, a name that looks like the name or title of one of this program's
            own methods, an address that is no web address, or seconds that are not a positive number.
    """

    name: str
    who: str | None = None
    note: str | None = None
    url: str | None = None
    paper: str | None = None
    seconds_per_image: float | None = None
    trained_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("name", "who", "note", "url", "paper"):
            value = getattr(self, field)
            object.__setattr__(self, field, value.strip() or None if value is not None else None)
        if not self.name or not as_seen(self.name):
            raise UsageError("a submission needs a name", "say by --name how the board is to call it")
        for field in ("name", "who", "note", "url", "paper"):
            _refuse_control(field, getattr(self, field) or "", allowed="\n\t" if field == "note" else "")
        for field, most in (("name", LONGEST_NAME), ("who", LONGEST_NAME), ("url", 2000), ("paper", 1000)):
            if len(getattr(self, field) or "") > most:
                raise UsageError(f"--{field} is longer than {most} characters", "put the rest into --note")
        if len(self.note or "") > LONGEST_NOTE:
            raise UsageError(f"--note is longer than {LONGEST_NOTE} characters", "put it on a page and give its --url")
        if self.url is not None and not _ADDRESS.fullmatch(self.url):
            raise UsageError(f"--url {self.url!r} is no web address", "it begins with http:// or https://")
        if self.seconds_per_image is not None and not 0 < self.seconds_per_image < math.inf:
            raise UsageError(f"--seconds-per-image {self.seconds_per_image:g} is not above 0")
        for field in ("name", "who"):
            _refuse_mixed(field, getattr(self, field) or "")
        _refuse_own(self.name)

    @property
    def whole_note(self) -> str | None:
        """The note with the speed that its author states, which is no timing of ours."""
        stated = self.seconds_per_image
        parts = [self.note, None if stated is None else f"stated speed, not measured here: {stated:g} s an image"]
        return "; ".join(part for part in parts if part) or None

    @property
    def folder(self) -> str:
        """A name for its folder: letters, digits, ``-`` and ``_`` of its own name, and a hash of it."""
        ascii_ = unicodedata.normalize("NFKD", self.name).encode("ascii", "ignore").decode()
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", ascii_).strip("-")[:40]
        digest = hashlib.sha256(self.name.encode("utf-8", "backslashreplace")).hexdigest()[:8]
        return f"{readable}-{digest}" if readable else digest


def _refuse_own(name: str) -> None:
    """Refuse what looks like a name or title of this program's methods and their families."""
    entries = registry().methods.values()
    own = {as_seen(n) for e in entries for n in (e.name, e.title, e.method.name, e.method.title)}
    read = as_read(name)
    if as_seen(name) in own or as_seen(read) in own:
        looks = "is" if as_seen(name) in own else f"looks like {read!r}, which is"
        raise UsageError(
            f"--name {name!r} {looks} a method of this program",
            f"call the submission otherwise, such as '{read} by me'",
        )


def _refuse_mixed(field: str, text: str) -> None:
    """Refuse a word that letters of several scripts spell."""
    found = mixed_scripts(text)
    if found is not None:
        word, letter = found
        raise UsageError(
            f"--{field} {text[:60]!r} mixes letters of several scripts in the word {word!r}, "
            f"where {letter} is {_by_number(letter)}",
            "write each word in one script",
        )


_UNFIT = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories of characters that end a line, steer a terminal, or are no characters."""


def _refuse_control(field: str, text: str, allowed: str) -> None:
    """Refuse a text that would do something to a terminal or a table, or to a reader, instead of being shown there."""
    wrong = next((c for c in text if c not in allowed and unicodedata.category(c) in _UNFIT), hidden(text))
    if wrong:
        where = "line breaks, control characters" if not allowed else "control characters"
        raise UsageError(
            f"--{field} '{visible(text[:60])}' holds the character {_by_number(wrong)}",
            f"leave out {where}, marks of direction and other characters that nobody sees",
        )


def _by_number(character: str) -> str:
    """A character that cannot be shown."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '').lower()}".strip()
