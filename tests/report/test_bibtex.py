"""Bibliographies, read back by parsers that are not ours."""

from __future__ import annotations

import codecs
import dataclasses
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import latexcodec  # noqa: F401 - registers the codec
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pybtex.database import BibliographyData, parse_string

from bench.data.cards import list_cards
from bench.data.reported import papers
from bench.registry import registry
from bench.report.bibtex import bibliography, submissions

HOSTILE = [
    "A {x",
    "}} @misc{evil, title = {x}",
    r"\input{/etc/passwd} 100% #1 ~^_$ \\",
    'say "x"',
    "two\nlines",
    "a and b, c and d",
    "@string{x}",
    "\x1b[31m\u202e\udcff",
    "模型 σ Sjögren",
    "",
]


def parsed(text: str) -> BibliographyData:
    """Read strictly: what BibTeX would stumble over is an error."""
    return parse_string(text, "bibtex")


def read(field: str) -> str:
    """A field as a reader sees it."""
    return codecs.decode(field, "ulatex").replace("{", "").replace("}", "")


def paper(**fields: Any) -> dict[str, Any]:
    return {"title": "A net for cells", "authors": "A. Lovelace, G. Hopper", "year": 1843, **fields}


def test_an_entry_by_hand() -> None:
    written = bibliography(
        [paper(venue="Notes & Queries", url="https://example.org/a_b?c=1%202")],
        [{"name": "tiny", "title": "A tiny set", "citation": "nobody (2020)", "url": "https://example.org"}],
    )
    assert written == (
        "@misc{lovelace1843cells,\n"
        "  title = {{A net for cells}},\n"
        "  author = {A. Lovelace and G. Hopper},\n"
        "  year = {1843},\n"
        "  howpublished = {Notes \\& Queries},\n"
        "  url = {https://example.org/a_b?c=1%202}\n"
        "}\n\n"
        "@misc{dataset_tiny,\n"
        "  title = {{A tiny set}},\n"
        "  note = {nobody (2020)},\n"
        "  url = {https://example.org}\n"
        "}\n"
    )
    entry = parsed(written).entries["lovelace1843cells"]
    assert [person.last_names for person in entry.persons["author"]] == [["Lovelace"], ["Hopper"]]


def test_nothing_to_cite() -> None:
    assert bibliography([], []) == ""
    assert bibliography([{}, {"title": "", "authors": "", "year": None}], []) == ""


@pytest.mark.parametrize("missing", ["title", "authors", "year", "venue", "url"])
def test_any_field_may_be_missing(missing: str) -> None:
    fields = paper(venue="x", url="https://example.org")
    del fields[missing]
    entries = parsed(bibliography([fields], [{"name": "tiny"}])).entries
    assert list(entries)[-1] == "dataset_tiny"
    entry = next(iter(entries.values()))
    names = {"venue": "howpublished", "authors": "author"}
    assert names.get(missing, missing) not in {*entry.fields, *entry.persons}


def test_what_an_older_version_stored_of_a_submission() -> None:
    stored = [{"title": "", "url": "https://example.org/x"}, {"title": "Somebody et al. 2020", "url": ""}]
    entries = parsed(bibliography(stored, [])).entries
    assert [sorted(entry.fields) for entry in entries.values()] == [["url"], ["title"]]


def test_a_name_that_is_given_whole_stays_whole() -> None:
    entry = next(iter(parsed(bibliography([paper(authors=["Smith, Jones and the lab", "Ada"])], [])).entries.values()))
    assert [str(person) for person in entry.persons["author"]] == ["{Smith, Jones and the lab}", "Ada"]


def test_a_paper_without_authors_has_none() -> None:
    entries = parsed(bibliography([paper(authors="", note="unpublished")], [])).entries
    assert list(entries) == ["anetforcells1843"]
    assert not entries["anetforcells1843"].persons
    assert entries["anetforcells1843"].fields["note"] == "unpublished"


def test_one_entry_for_a_work_and_one_key_for_an_entry() -> None:
    same = [paper(), paper(authors="Lovelace, Hopper", title="A Net for Cells")]
    assert len(parsed(bibliography(same, [])).entries) == 1
    other = [paper(), paper(title="Cells by a net"), paper(title="细胞"), paper(title="模型")]
    keys = list(parsed(bibliography(other, [])).entries)
    assert keys == ["lovelace1843cells", "lovelace1843cells_2", "lovelace1843paper", "lovelace1843paper_2"]
    ready = "@article{ada1843,\n  title = {A Net for {C}ells},\n  year = {1843}\n}"
    assert list(parsed(bibliography([paper()], [], [ready, ready])).entries) == ["ada1843"]


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("https://x/}", "https://x/%7D"),
        ("https://x/{a}\\b^|`", "https://x/%7Ba%7D%5Cb%5E%7C%60"),
        ("https://x/50%", "https://x/50%25"),
        ("https://x/%C3%A9", "https://x/%C3%A9"),
        ("https://x/é模", "https://x/%C3%A9%E6%A8%A1"),
    ],
)
def test_an_address_ends_no_field(address: str, written: str) -> None:
    entry = next(iter(parsed(bibliography([paper(url=address)], [])).entries.values()))
    assert entry.fields["url"] == written


fields = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=25), st.none())


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "title": fields, "authors": st.one_of(fields, st.lists(st.text(max_size=8), max_size=3)), "note": fields,
            "year": st.one_of(fields, st.integers()), "venue": fields, "url": fields,
        },
    ),
    fields,
)  # fmt: skip
def test_whatever_a_submission_says_it_stays_in_its_entry(said: dict[str, Any], text: str | None) -> None:
    written = bibliography([said, paper()], [{"name": "tiny", "title": text, "citation": text, "url": text}])
    entries = parsed(written).entries
    assert list(entries)[-1] == "dataset_tiny"
    assert len(entries) in (2, 3)
    assert "evil" not in entries
    for line in written.splitlines():
        assert line.isprintable()


@pytest.mark.parametrize("title", ["Sjögren's cells", "Łoś é à ñ ç ß æ ø", "50 % of A_b & C#"])
def test_a_title_is_read_as_it_was_given(title: str) -> None:
    entry = next(iter(parsed(bibliography([paper(title=title)], [])).entries.values()))
    assert entry.fields["title"].isascii()
    assert read(entry.fields["title"]) == title


def everything() -> str:
    methods = {entry.method for entry in registry().methods.values()}
    known = [dataclasses.asdict(m.paper) for m in sorted(methods, key=lambda m: m.__qualname__) if m.paper]
    cards = [card.plain() for card in list_cards()[0].values()]
    return bibliography(known, cards, [paper.bibtex for paper in papers()])


def test_all_methods_data_sets_and_papers() -> None:
    entries = parsed(everything()).entries
    titles = [read(entry.fields["title"]).casefold() for entry in entries.values()]
    assert len(set(titles)) == len(titles), "each work once"
    instance_unet = [entry for entry in entries.values() if "Instance-U-Net" in entry.fields["title"]]
    assert len(instance_unet) == 1
    assert not instance_unet[0].persons
    for entry in entries.values():
        for person in entry.persons.get("author", ()):
            assert person.last_names, entry
            assert not any(word in str(person).lower() for word in ("report", "lineage", "unpublished"))


@pytest.mark.skipif(shutil.which("bibtex") is None, reason="no BibTeX here")
def test_bibtex_itself_reads_it(tmp_path: Path) -> None:
    hostile = [paper(**dict.fromkeys(("title", "note", "venue", "url"), text), authors=[text]) for text in HOSTILE[:7]]
    (tmp_path / "all.bib").write_text(everything(), encoding="utf-8")
    (tmp_path / "evil.bib").write_text(bibliography(hostile, []), encoding="utf-8")
    (tmp_path / "x.aux").write_text("\\citation{*}\n\\bibstyle{plain}\n\\bibdata{all,evil}\n")
    done = subprocess.run(["bibtex", "x"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert "error" not in done.stdout.lower()


def test_a_submission_without_a_paper_is_cited_by_its_author_and_year() -> None:
    board = pd.DataFrame(
        {
            "title": ["My net", "Otsu", "My net"],
            "submitted_by": ["Ada Lovelace", None, "Ada Lovelace"],
            "started": [datetime(2026, 3, 1, tzinfo=UTC)] * 3,
        }
    )
    (entry,) = parsed(bibliography(submissions(board), [])).entries.values()
    assert (read(entry.fields["title"]), entry.fields["year"]) == ("My net", "2026")
    assert [str(person) for person in entry.persons["author"]] == ["Lovelace, Ada"]
    known = {"title": "My net", "authors": ["Ada Lovelace"], "year": 2026, "url": "https://example.org"}
    (entry,) = parsed(bibliography([known, *submissions(board)], [])).entries.values()
    assert entry.fields["url"] == "https://example.org"
