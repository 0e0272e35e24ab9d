"""Letters in pictures: a font that has those of most languages in Latin, Greek and Cyrillic script."""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.text import visible

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_NAME = "DejaVuSans.ttf"
_SIZE = 11
"""Pixels."""


def draw_text(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str) -> None:
    """Write one line in black, its upper left corner at ``place`` (x, y).

    Where no DejaVu Sans is on this machine, neither the system's nor matplotlib's, letters lose their marks, and what
    is no letter of English then is written as ``?``.
    """
    font, has_all = _font()
    draw.text(place, _shown(text, has_all), fill="black", font=font)


def text_width(draw: ImageDraw.ImageDraw, text: str) -> float:
    """How wide :func:`draw_text` writes it, pixels."""
    font, has_all = _font()
    return draw.textlength(_shown(text, has_all), font=font)


def _shown(text: str, has_all: bool) -> str:
    composed = unicodedata.normalize("NFC", visible(text))  # file names of macOS have letters and marks apart
    return composed if has_all else plain(composed)


def plain(text: str) -> str:
    """``text`` in ASCII: letters without their marks, every dash as ``-``, and ``?`` for what cannot be written so."""
    dashed = "".join("-" if unicodedata.category(c) == "Pd" else c for c in text)
    bare = (c for c in unicodedata.normalize("NFKD", dashed) if not unicodedata.combining(c))
    return "".join(bare).encode("ascii", "replace").decode("ascii")


@cache
def _font() -> tuple[Font, bool]:
    """The font, and whether it is one that has more than the letters of English."""
    from PIL import ImageFont

    for place in (_NAME, _of_matplotlib()):
        try:
            return ImageFont.truetype(place, _SIZE), True
        except (OSError, ImportError):  # not there, or a Pillow that was built without FreeType
            continue
    return ImageFont.load_default(), False


def _of_matplotlib() -> str:
    """Where matplotlib, if it is installed, keeps the font that it brings along."""
    found = find_spec("matplotlib")
    places = [] if found is None else [Path(p) for p in found.submodule_search_locations or ()]
    return str(next((p / "mpl-data" / "fonts" / "ttf" / _NAME for p in places), _NAME))
