"""The papers' numbers: every one of them is printed in its paper, and points at something that exists here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.api import DataError
from bench.data import reported
from bench.data.cards import CARDS_VARIABLE, load_card
from bench.metrics import make_protocols

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


def test_every_number_points_at_a_metric_a_card_and_a_split():
    for record in reported.reported_results():
        card = load_card(record.dataset)
        assert not record.split or record.split in card.split_names
        if record.protocol != "timing":
            metrics = {m.name: m for m in make_protocols([record.protocol], card.task.classes or ("a", "b"))[0].metrics}
            assert record.metric in metrics, record
            assert metrics[record.metric].unit == record.unit
        if record.unit == "fraction":
            assert 0 <= record.value <= 1


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
    column = '{ printed = "AP", protocol = "coco", metric = "AP", unit = "percent" }'
    file.write_text(
        f'paper = "Mine"\nbibtex = ""\n[[tables]]\nname = "1"\ndataset = "neural"\nwording = ""\n'
        f'columns = [{column}, {column}]\nrows = [{{ method = "m", values = {values} }}]\n'
    )
    monkeypatch.setenv(CARDS_VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match=problem) as caught:
        reported.reported_results()
    assert "mine.toml" in str(caught.value)
