"""``bench export``: a board as text, and all of them as pages that open without a server."""

from __future__ import annotations

import csv
import io
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import pytest

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


@pytest.fixture
def stored(workplace: Path, cli) -> Path:
    """A folder with a database of three runs."""
    code, _, err = cli("run", "-m", "truth,jitter,empty", "-d", "tiny")
    assert code == 0, err
    return workplace


def test_csv_holds_every_run_and_latex_is_a_table(stored: Path, cli):
    code, out, _ = cli("export", "-d", "tiny")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["method"] for row in rows} == {"truth", "jitter", "empty"}
    assert {float(row["voc/AP@0.5"]) for row in rows} >= {0.0, 1.0}
    code, out, _ = cli("export", "--format", "latex", "--to", "table.tex")
    assert code == 0
    text = (stored / "table.tex").read_text()
    assert text.count(r"\begin{tabular}") == 1
    assert "protocol voc, version" in text


def test_bibtex_names_the_data_set(stored: Path, cli):
    code, out, _ = cli("export", "--format", "bibtex")
    assert code == 0
    assert "@misc{dataset_tiny," in out
    assert "nobody (2020)" in out


class Links(HTMLParser):
    """Links and scripts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.scripts = 0
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.scripts += tag == "script"
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]
        assert not [name for name, _ in attrs if name.startswith("on")]


def test_every_link_of_the_pages_leads_somewhere(stored: Path, cli):
    code, out, _ = cli("export", "--html", "public")
    assert code == 0
    assert "index.html" in out
    pages = list((stored / "public").rglob("*.html"))
    assert len(pages) == 5
    for page in pages:
        parser = Links()
        parser.feed(page.read_text())
        assert parser.scripts == 1
        assert parser.links
        for link in parser.links:
            assert (page.parent / link).resolve().is_file(), (page.name, link)


def test_what_a_submission_says_does_nothing(stored: Path, cli):
    with sqlite3.connect(stored / "bench.db") as connection:
        connection.execute("UPDATE method_version SET title = ?, name = '../../x' WHERE name = 'jitter'", [EVIL])
        connection.execute("UPDATE run SET note = ?, command = ?", [EVIL, EVIL])
    before = {path.name for path in stored.iterdir()}
    beside = {path.name for path in stored.parent.iterdir()}
    code, _, err = cli("export", "--html", "public")
    assert code == 0, err
    for page in (stored / "public").rglob("*.html"):
        parser = Links()
        parser.feed(page.read_text())
        assert parser.scripts == 1
        assert "img" not in parser.tags
    assert {path.name for path in stored.iterdir()} == {*before, "public"}
    assert {path.name for path in stored.parent.iterdir()} == beside


def test_a_folder_with_something_else_is_left_alone(stored: Path, cli):
    (stored / "mine").mkdir()
    (stored / "mine" / "thesis.tex").write_text("years of work")
    code, _, err = cli("export", "--html", "mine")
    assert code == 2
    assert "holds something else" in err
    assert (stored / "mine" / "thesis.tex").read_text() == "years of work"
    assert cli("export", "--html", "public")[0] == 0
    assert cli("export", "--html", "public")[0] == 0, "what was made here is replaced"


def test_an_empty_database_says_what_to_do(workplace: Path, cli):
    code, _, err = cli("export")
    assert code == 4
    assert err.startswith("error: ")


def test_what_was_submitted_is_not_said_to_be_measured(stored: Path, cli):
    def headings() -> str:
        assert cli("export", "--html", "public")[0] == 0
        return " ".join(page.read_text() for page in (stored / "public").glob("tiny-*.html"))

    assert "<h2>Measured here</h2>" in headings()
    with sqlite3.connect(stored / "bench.db") as connection:
        connection.execute("UPDATE method_version SET origin = 'submitted' WHERE name = 'jitter'")
    assert "<h2>Measured here, and submitted predictions scored here</h2>" in headings()
    with sqlite3.connect(stored / "bench.db") as connection:
        connection.execute("UPDATE method_version SET origin = 'submitted'")
    page = headings()
    assert "<h2>Submitted predictions, scored here</h2>" in page
    assert "Measured here" not in page
