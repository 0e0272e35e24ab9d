"""The papers' numbers: every one of them is printed in its paper, and points at something that exists here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.api import DataError
from bench.data import reported
from bench.data.cards import CARDS_VARIABLE, load_card
from bench.engine import timing
from bench.metrics import make_protocols
from bench.registry import registry

TEXTS = {
    "Yi et al. 2018": "yi2018-neural-cells-ssd.txt",
    "Guo 2022": "guo2022-cascade-mask-rcnn-sartorius.txt",
    "Lin and Norouzi 2022": "lin2022-shape-aware-loss.txt",
    "Instance-U-Net": "instance-unet-watershed.txt",
    "Khalid et al. 2022": "khalid2022-deepcis.txt",
}


def test_every_paper_is_there():
    assert {paper.paper for paper in reported.papers()} == set(TEXTS)
    assert all(paper.bibtex.strip().startswith("@") for paper in reported.papers())


@pytest.mark.parametrize("paper", reported.papers(), ids=lambda paper: paper.paper)
def test_every_row_is_printed_in_its_paper(paper: reported.PaperFile, shared_data: Path):
    """The numbers of a row stand in the text one after another."""
    text = (shared_data.parent / "papers" / TEXTS[paper.paper]).read_text()
    numbers = re.findall(r"\d+\.\d+", text)
    whole = " ".join(numbers)
    for table in paper.tables:
        for row in table.rows:
            assert " ".join(row.values) in whole, (table.name, row.method)


@pytest.mark.parametrize("paper", reported.papers(), ids=lambda paper: paper.paper)
def test_the_protocol_is_quoted(paper: reported.PaperFile, shared_data: Path):
    """What stands between the ellipses are the paper's own words, in their order."""
    text = _plain((shared_data.parent / "papers" / TEXTS[paper.paper]).read_text())
    for table in paper.tables:
        place = 0
        for part in table.wording.split(" [...] "):
            place = text.find(_plain(part), place)
            assert place >= 0, (table.name, part)
        assert len(table.wording.split()) < 60, "a short quotation"


def _plain(text: str) -> str:
    return " ".join(text.replace("$", "").split()).casefold()


def test_every_number_can_stand_beside_a_measured_one_or_says_why_not():
    """Its card, split, protocol, metric and counterpart exist here, so that a run of that name matches it."""
    methods = registry().methods
    alone = set()
    for record in reported.reported_results():
        card = load_card(record.dataset)
        assert record.split in card.split_names, record
        if record.protocol == timing.PROTOCOL:
            units = {result.metric: result.unit for result in timing.summary([1.0], None)}
        else:
            assert record.protocol in [protocol.name for protocol in card.protocols], record
            (protocol,) = make_protocols([record.protocol], card.task.classes or ("a", "b"))
            units = {spec.name: spec.unit for spec in protocol.metrics}
        assert units[record.metric] == record.unit, record
        if record.unit == "fraction":
            assert 0 <= record.value <= 1
        if record.counterpart:
            assert record.counterpart in methods, record
            assert "paper" in methods[record.counterpart].method.schedules, record
        else:
            alone.add(record.method)
        assert record.comparable or record.note, record
    assert alone == {"Cascade Mask R-CNN, without pseudo-labels"}


def test_what_is_comparable():
    found: dict[str, list[bool]] = {}
    for record in reported.reported_results():
        found.setdefault(record.paper, []).append(record.comparable)
    counts = {paper: (sum(comparable), len(comparable)) for paper, comparable in found.items()}
    assert counts == {
        "Yi et al. 2018": (8, 20),
        "Guo 2022": (0, 2),
        "Lin and Norouzi 2022": (0, 15),
        "Instance-U-Net": (18, 24),
        "Khalid et al. 2022": (108, 108),
    }


def test_percent_and_seconds_become_fractions_and_milliseconds():
    found = {(r.method, r.metric): r for r in reported.reported_results() if r.paper == "Yi et al. 2018"}
    assert found["MNC", "AP@0.5"].value == pytest.approx(0.4872)
    assert found["Ours", "latency_median"].value == pytest.approx(192.0)
    assert not found["Ours", "latency_median"].comparable
    assert found["Ours", "IoU@0.7"].comparable


@pytest.mark.parametrize(
    ("values", "problem"), [('["1.0"]', "1 numbers for 2 columns"), ('["1.0", "n/a"]', "'n/a' is no number")]
)
def test_a_broken_file_is_named(tmp_path: Path, monkeypatch, values: str, problem: str):
    (tmp_path / "reported").mkdir()
    file = tmp_path / "reported" / "mine.toml"
    column = '{ printed = "AP", protocol = "coco", metric = "AP", unit = "percent", note = "mine" }'
    file.write_text(
        f'paper = "Mine"\nbibtex = ""\n[[tables]]\nname = "1"\ndataset = "neural"\nwording = ""\n'
        f'columns = [{column}, {column}]\nrows = [{{ method = "m", values = {values} }}]\n'
    )
    monkeypatch.setenv(CARDS_VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match=problem) as caught:
        reported.reported_results()
    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "row", "split", "problem"),
    [
        ("comparable = true", 'counterpart = "mnc"', "", "comparable, but there is no split"),
        ("comparable = true", "", 'split = "test"', "comparable, but there is no counterpart"),
        ("comparable = false", 'counterpart = "mnc"', 'split = "test"', "not comparable"),
    ],
)
def test_a_number_that_cannot_be_compared_says_why(
    tmp_path: Path, monkeypatch, column: str, row: str, split: str, problem: str
):
    (tmp_path / "reported").mkdir()
    (tmp_path / "reported" / "mine.toml").write_text(
        f'paper = "Mine"\nbibtex = ""\n[[tables]]\nname = "1"\ndataset = "neural"\nwording = ""\n{split}\n'
        f'columns = [{{ printed = "AP", protocol = "coco", metric = "AP", unit = "percent", {column} }}]\n'
        f'rows = [{{ method = "m", values = ["1.0"]{", " if row else ""}{row} }}]\n'
    )
    monkeypatch.setenv(CARDS_VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match=problem):
        reported.reported_results()
