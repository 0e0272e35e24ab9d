"""What every view gives to take away, and what is made only when it is asked for."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bench.records import ReportedResultRecord
from bench.store import open_store
from leaderboard.views import picking

pytest.importorskip("vl_convert", reason="the board's extra is not installed")

TABLES = {"CSV", "Markdown", "LaTeX", "BibTeX"}
BOTH = {"PNG", "SVG"}

VIEWS = [
    ("board", {}, TABLES | {"ZIP"}),
    ("speed", {}, TABLES | BOTH),
    ("compare", {"run": [5, 6], "part": "images"}, TABLES | BOTH),
    ("compare", {"run": [5, 6, 7], "part": "differences", "protocol": "voc", "metric": "AP@0.5"}, TABLES | BOTH),
    ("compare", {"run": [5, 6], "part": "curves"}, TABLES | BOTH),
    ("compare", {"run": [5, 6], "part": "cells"}, TABLES | BOTH),
    ("images", {"run": 5, "other": 6}, TABLES | BOTH),
    ("datasets", {}, TABLES),
    ("papers", {}, TABLES | BOTH),
    ("run", {}, TABLES),
    ("run", {"run": 5, "part": "numbers"}, TABLES),
    ("run", {"run": 5, "part": "training"}, TABLES | BOTH),
    ("run", {"run": 5, "part": "provenance"}, TABLES),
]


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Callable[[], str | bytes]]]:
    """Every file that a page offers: label, name and what makes it."""
    found: list[tuple[str, str, Callable[[], str | bytes]]] = []
    real = picking._file

    def recorded(where, label, make, name, key, **more) -> None:
        found.append((label, name, make))
        real(where, label, make, name, key, **more)

    monkeypatch.setattr(picking, "_file", recorded)
    return found


@pytest.fixture
def complete(ranked: Path) -> Path:
    """A database with something on every view: a printed number beside a measured one, and training curves."""
    with open_store(ranked) as store:
        row = ReportedResultRecord(
            *("Somebody 2018", "Table 1", "Theirs", "tiny", "voc", "AP@0.5", 0.25, "fraction", True),
            split="test",
            counterpart="a",
        )
        store.add_reported([row])
        folder = Path(store.run(5).folder) / "training"
    folder.mkdir()
    curve = [{"step": i, "loss": 1 / (i + 1)} for i in range(5)]
    (folder / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve))
    return ranked


@pytest.mark.parametrize(("page", "address", "labels"), VIEWS)
def test_every_view_can_be_taken_away(
    opened, complete: Path, offered, page, address, labels, two_images_suffice
) -> None:
    opened(complete, page, data_root=complete.parent / "data", **address)
    assert {label for label, _, _ in offered} == labels
    assert len({name for _, name, _ in offered}) == len(offered), "names tell files apart"
    for label, name, make in offered:
        content = make()
        assert content, (label, name)
        if label == "CSV":
            lines = list(csv.reader(io.StringIO(content)))
            assert len(lines) > 1
            assert len({len(line) for line in lines}) == 1
        elif label == "LaTeX":
            assert r"\toprule" in content
        elif label == "Markdown":
            assert "| ---" in content.replace(":", " ") or "|" in content
        elif label == "BibTeX":
            assert content.startswith("@")
        elif label == "PNG":
            assert Image.open(io.BytesIO(content)).size > (200, 50)
        elif label == "SVG":
            assert ET.fromstring(content).tag.endswith("svg")


def test_nothing_is_made_before_it_is_asked_for(opened, complete: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object, **__: object) -> str:
        raise AssertionError("made too early")

    for name in ("render", "bibliography", "leaderboard_table"):
        monkeypatch.setattr(picking, name, made)
    monkeypatch.setattr(picking.charts, "picture", made)
    for page in ("board", "speed", "papers"):
        opened(complete, page)


def test_a_table_has_the_rows_the_order_and_the_columns_that_are_shown(opened, complete: Path, offered) -> None:
    at = opened(complete, filter="measured", sort="title", reversed=1, column=["voc/AP@0.5", "seed"])
    assert at.dataframe[0].value["title"].tolist() == ["C", "B", "A"]
    made = {label: make() for label, _, make in offered if label in TABLES}
    rows = list(csv.DictReader(io.StringIO(made["CSV"])))
    assert [row["title"] for row in rows] == ["C", "B", "A"]
    assert "kaggle/mAP@.5:.95" in rows[0], "CSV has every number"
    head = next(line for line in made["Markdown"].splitlines() if line.startswith("|"))
    assert "AP@0.5" in head
    assert "seed" in head
    assert "AP@0.7" not in head


def test_the_whole_board_as_web_pages(opened, complete: Path, offered) -> None:
    opened(complete)
    (make,) = [make for label, _, make in offered if label == "ZIP"]
    with zipfile.ZipFile(io.BytesIO(make())) as packed:
        names = packed.namelist()
        assert packed.testzip() is None
    assert "board/index.html" in names
    assert sum(name.startswith("board/runs/") for name in names) == 7
    assert all(name.startswith("board/") and ".." not in name for name in names)


def test_of_a_big_store_it_says_what_to_type(opened, complete: Path, offered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picking, "MOST_RUNS", 6)
    at = opened(complete)
    assert not [label for label, _, _ in offered if label == "ZIP"]
    assert "bench export --html DIR" in [code.value for code in at.code]
    assert "7 runs; up to 6" in "".join(element.value for element in at.markdown)


def test_without_what_draws_files_the_buttons_say_so(opened, complete: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "vl_convert" else real(name, *a))
    buttons = [b for b in opened(complete, "speed").download_button if b.label in BOTH]
    assert len(buttons) == 2
    assert all(button.disabled for button in buttons)


def test_reported_numbers_cite_their_papers(opened, complete: Path, offered) -> None:
    from bench.data.reported import papers

    first, second, *_ = papers()
    opened(complete, "papers", paper=first.paper)
    (make,) = [make for label, _, make in offered if label == "BibTeX"]
    content = make()
    assert first.bibtex.strip() in content
    assert second.bibtex.strip() not in content
