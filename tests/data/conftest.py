"""Cards and files for the tests of the data room."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

CARD = """
name = "{name}"
title = "A small set"
description = "Made for a test."
licence = "CC0-1.0"
citation = "nobody (2020)"
url = "https://example.org"
folders = ["{name}"]
default_scheme = "seeded"

[task]
classes = {classes}
modality = "phase contrast"

{format}

[schemes.seeded]
rule = "seeded"
seed = 1
splits = {{ train = 0.5, val = 0.25, test = 0.25 }}

[[protocols]]
name = "voc"
"""

PAIRS = """
[format]
name = "label_pairs"
images = ["images/{stem}.png", "images/{stem}.tif"]
labels = ["labels/{stem}.png", "labels/{stem}.tif"]
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept between tests, nor in the user's own cache."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("BENCH_DATA_ROOT", raising=False)


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of cards that is searched besides the project's own."""
    folder = tmp_path / "cards"
    folder.mkdir()
    monkeypatch.setenv("BENCH_CARDS", str(folder))
    return folder


@pytest.fixture
def write_card(cards: Path) -> Callable[..., Path]:
    """Writes a card: ``write_card("mine", format=..., classes=[...])``, or ``text=`` for the whole of it."""

    def write(name: str, *, format: str = PAIRS, classes: list[str] | None = None, text: str | None = None) -> Path:
        path = cards / f"{name}.toml"
        names = "[" + ", ".join(f'"{c}"' for c in classes or ["cell"]) + "]"
        path.write_text(text or CARD.format(name=name, classes=names, format=textwrap.dedent(format)))
        return path

    return write


@pytest.fixture
def cells() -> NDArray[np.uint16]:
    """A label image of 40 x 50 pixels: five cells, two of them touching, one of two components, one at the border."""
    labels = np.zeros((40, 50), np.uint16)
    labels[2:10, 3:12] = 1
    labels[2:10, 12:20] = 2
    labels[20:25, 5:9] = 7
    labels[30:33, 20:24] = 7
    labels[15:30, 30:44] = 300
    labels[35:40, 44:50] = 9
    return labels


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """A gray image of 40 x 50 pixels."""
    return np.random.default_rng(3).integers(0, 256, (40, 50)).astype(np.uint8)
