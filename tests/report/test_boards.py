"""The store's frames as tables that people read."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from bench.records import (
    DatasetVersionRecord,
    EnvironmentRecord,
    ImageRecord,
    MachineRecord,
    MethodVersionRecord,
    ResultRecord,
    RunBundle,
    RunRecord,
    TimingRecord,
)
from bench.report.boards import leaderboard_table, results_table, runs_table
from bench.report.tables import FORMATS, Cell, Table, render, to_text
from bench.store import Store, open_store

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def bundle(title: str, ap: float | None, *, machine: str = "desk", **run: object) -> RunBundle:
    """A run of the method called ``title``."""
    record = RunRecord(
        key=f"{title}{sorted(run.items())}".encode().hex(),
        split="test",
        seed=0,
        schedule="paper",
        init="random",
        device="cpu",
        status="ok",
        badge="measured",
        started=START,
        finished=START,
        attempt=1,
        folder="runs",
        command="bench run",
        n_images=1,
        complete=True,
        train_seconds=100.25,
    )
    reason = None if ap is not None else "the method gives no scores"
    return RunBundle(
        run=dataclasses.replace(record, **run),
        dataset=DatasetVersionRecord("cells", "c0ffee", "real", "Cells", "CC0", 1, 3, ("cell",), ("voc", "semantic")),
        method=MethodVersionRecord(title.lower(), "", title, "stock", title, {}, "p", n_parameters=31_000_000),
        environment=EnvironmentRecord("e", "3.11", "linux", None, None, None, None),
        machine=MachineRecord(machine, machine, "cpu", 2, 1, "linux"),
        images=(ImageRecord("a", "a", 4, 4, 3),),
        results=(
            ResultRecord("voc", "1", "AP@0.5", ap, "fraction", True, reason, ap and ap - 0.1, ap and ap + 0.1, 1),
            ResultRecord("voc", "1", "count error", 3.0, "instances", False),
            ResultRecord("semantic", "1", "rmse", 0.25, "fraction", False),
        ),
        timings=(TimingRecord("a", "total", 0, 12.5),),
    )


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(":memory:") as opened:
        yield opened


def lines_of(text: str) -> list[list[str]]:
    """Cells of each line: columns are two spaces apart."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.split("\n")]


def test_a_board_as_text(store: Store) -> None:
    for title, ap in (("Second", 0.5), ("First", 0.61), ("Third", 0.3), ("Unscored", None)):
        store.add(bundle(title, ap))
    lines = lines_of(to_text(leaderboard_table(store.leaderboard("cells"))))
    assert lines[0] == ["Cells: split test, ranked by voc AP@0.5"]
    assert lines[2] == [
        "rank",
        "method",
        "AP@0.5 [%] ↑",
        "count error [instances] ↓",
        "latency, median [ms] ↓",
        "latency, 95th percentile [ms] ↓",
        "parameters",
        "training [s] ↓",
    ]
    assert lines[4] == ["1", "First", "61.0 [51.0, 71.0]", "3", "12.5", "12.5", "31,000,000", "100.2"]
    assert lines[5][:3] == ["1", "Second", "50.0 [40.0, 60.0]"], "the intervals overlap"
    assert lines[6][:3] == ["3", "Third", "30.0 [20.0, 40.0]"]
    assert lines[7][:2] == ["Unscored", "– (a)"]
    assert ["(a) the method gives no scores"] in lines
    assert ["data set cells, version c0ffee (real); protocol voc, version 1"] in lines


def test_a_board_shows_what_tells_rows_apart(store: Store) -> None:
    store.add(bundle("A", 0.5, seed=0))
    store.add(bundle("A", 0.5, seed=1))
    store.add(bundle("B", 0.5, schedule="smoke"))
    store.add(bundle("C", 0.5, machine="laptop"))
    table = leaderboard_table(store.leaderboard("cells"))
    shown = {column.header for column in table.columns if column.shown}
    assert {"seed", "schedule", "badges", "machine"} <= shown
    assert not {"init", "version"} & shown
    assert any("different machines" in note for note in table.notes)
    assert any(note.startswith("without a rank: ") for note in table.notes)


def test_a_board_tells_versions_of_a_method_apart(store: Store) -> None:
    one = bundle("A", 0.5)
    two = bundle("A", 0.6, note="new code")
    store.add(one)
    store.add(dataclasses.replace(two, method=dataclasses.replace(two.method, code_hash="0123456789abcdef")))
    table = leaderboard_table(store.leaderboard("cells"))
    at = next(i for i, column in enumerate(table.columns) if column.header == "version")
    assert table.columns[at].shown
    assert [row[at].text for row in table.rows] == ["01234567", "A"]


def test_a_stand_in_and_other_versions_are_named(store: Store) -> None:
    real, made = bundle("A", 0.5), bundle("A", 0.6, note="stand-in")
    store.add(real)
    dataset = dataclasses.replace(made.dataset, source="synthetic", content_hash="5eed")
    store.add(dataclasses.replace(made, dataset=dataset))
    text = to_text(leaderboard_table(store.leaderboard("cells")))
    assert "Cells, generated stand-in: split test" in text
    assert "measured, synthetic" in text
    assert "other versions of the data set have boards of their own: c0ffee (real)" in text


def test_the_best_of_the_ranked_is_bold(store: Store) -> None:
    store.add(bundle("A", 0.5))
    store.add(bundle("B", 0.4))
    store.add(bundle("truth", 1.0, badge="control"))
    written = render(leaderboard_table(store.leaderboard("cells")), "markdown")
    assert "**50.0 \\[40.0, 60.0\\]**" in written
    assert "**40.0" not in written
    assert "**100.0" not in written, "a control is never the best"


def column(table: Table, key: str) -> list[Cell]:
    at = next(i for i, column in enumerate(table.columns) if column.key == key)
    return [row[at] for row in table.rows]


def test_the_fastest_is_marked_within_one_machine_only(store: Store) -> None:
    for title, ap, seconds in (("A", 0.5, 50.0), ("B", 0.4, 70.0)):
        store.add(bundle(title, ap, train_seconds=seconds))
    table = leaderboard_table(store.leaderboard("cells"))
    assert [cell.best for cell in column(table, "train_seconds")] == [True, False]
    store.add(bundle("C", 0.3, machine="laptop", train_seconds=1.0))
    table = leaderboard_table(store.leaderboard("cells"), columns=["latency_median_ms"])
    for key in ("latency_median_ms", "latency_p95_ms", "train_seconds", "predict_seconds", "peak_memory_bytes"):
        assert not any(cell.best for cell in column(table, key)), key
    assert sum(cell.best for cell in column(table, "voc/AP@0.5")) == 1, "what no machine changes keeps its best"
    assert "machine" in {column.key for column in table.columns if column.shown}
    assert any("compared only within one, and have no best" in note for note in table.notes)


def test_an_unranked_machine_takes_no_best_away(store: Store) -> None:
    store.add(bundle("A", 0.5))
    store.add(bundle("B", 0.4, machine="laptop", schedule="smoke", train_seconds=1.0))
    table = leaderboard_table(store.leaderboard("cells"))
    assert [cell.best for cell in column(table, "train_seconds")] == [True, False]


def test_ties_are_with_the_best_that_ranks(store: Store) -> None:
    """A control with the same value and a narrow interval must not decide who is tied."""
    control = bundle("truth", 0.6, badge="control")
    narrow = [dataclasses.replace(r, low=r.value, high=r.value) for r in control.results[:1]]
    store.add(dataclasses.replace(control, results=(*narrow, *control.results[1:])))
    for title, ap in (("A", 0.6), ("B", 0.45), ("C", 0.2)):
        store.add(bundle(title, ap))
    frame = store.leaderboard("cells")
    frame = frame.sort_values("title", key=lambda titles: titles != "truth", kind="stable")
    frame.attrs = store.leaderboard("cells").attrs
    table = leaderboard_table(frame)
    marks = {
        row.text: (cell.best, cell.tied)
        for row, cell in zip(column(table, "title"), column(table, "voc/AP@0.5"), strict=True)
    }
    assert marks == {"truth": (False, False), "A": (True, False), "B": (False, True), "C": (False, False)}


@pytest.mark.parametrize("to", ["csv", "markdown", "latex", "json", "text"])
def test_every_badge_is_in_every_format(store: Store, to: str) -> None:
    store.add(bundle("A", 0.5))
    store.add(bundle("B", 0.6, arguments={"trained_on": ["cells"]}))
    store.add(bundle("C", 0.9, arguments={"demo": True, "further_data": [{"dataset": "cells", "split": "more"}]}))
    frame = store.leaderboard("cells")
    written = render(leaderboard_table(frame), to)
    for badge in ("measured, trained-on-this", "measured, trained-on-this, demo"):
        assert badge in written.replace("\\", "")
    assert dict(zip(frame["title"], frame["rank"].astype(object).where(frame["rank"].notna(), None), strict=True)) == {
        "A": 2,
        "B": None,
        "C": 1,
    }
    if to != "csv":
        assert "beyond its training split" in written


def test_exports_hold_every_column_and_stored_values(store: Store) -> None:
    store.add(bundle("A", 0.61))
    store.add(bundle("B", None))
    table = leaderboard_table(store.leaderboard("cells"))
    header, first, second = csv.reader(io.StringIO(render(table, "csv"), newline=""))
    a, b = dict(zip(header, first, strict=True)), dict(zip(header, second, strict=True))
    assert (a["voc/AP@0.5"], a["voc/AP@0.5:low"], a["semantic/rmse"]) == ("0.61", "0.51", "0.25")
    assert (b["voc/AP@0.5"], b["voc/AP@0.5:reason"], b["rank"]) == ("", "the method gives no scores", "")
    content = json.loads(render(table, "json"))
    assert content["about"]["columns"]["voc/AP@0.5"]["protocol_version"] == "1"
    units = {column["key"]: column["unit"] for column in content["columns"]}
    assert (units["voc/AP@0.5"], units["voc/AP@0.5:low"], units["latency_median_ms"]) == ("fraction", "fraction", "ms")
    assert content["rows"][0]["rank"] == 1
    assert content["rows"][1]["voc/AP@0.5"] is None


def test_every_protocol_on_request(store: Store) -> None:
    store.add(bundle("A", 0.61))
    frame = store.leaderboard("cells")
    assert "semantic rmse [%] ↓" not in to_text(leaderboard_table(frame))
    assert "semantic rmse [%] ↓" in to_text(leaderboard_table(frame, all_protocols=True))


@pytest.mark.parametrize("to", sorted(FORMATS))
def test_an_empty_board_is_a_table(store: Store, to: str) -> None:
    store.add(bundle("A", 0.61))
    assert render(leaderboard_table(store.leaderboard("cells", schedule="short")), to)


def test_a_frame_that_lost_its_attrs_is_a_bug(store: Store) -> None:
    store.add(bundle("A", 0.61))
    frame = store.leaderboard("cells")
    frame.attrs = {}
    with pytest.raises(ValueError, match="attrs"):
        leaderboard_table(frame)


def test_numbers_of_one_run(store: Store) -> None:
    store.add(bundle("A", 0.61))
    table = results_table(store.results(), title="run 1")
    assert lines_of(to_text(table)) == [
        ["run 1"],
        [],
        ["protocol", "metric", "value", "95 % interval", "unit", "better", "images"],
        ["────────", "───────────", "─────", "─────────────", "─────────", "──────", "──────"],
        ["semantic", "rmse", "25.0", "%", "lower"],
        ["voc", "AP@0.5", "61.0", "51.0 to 71.0", "%", "higher", "1"],
        ["voc", "count error", "3", "instances", "lower"],
        [],
    ]


def test_numbers_of_several_runs(store: Store) -> None:
    store.add(bundle("A", 0.61))
    store.add(bundle("B", None))
    text = to_text(results_table(store.results()))
    assert lines_of(text)[0][:3] == ["run", "method", "protocol"]
    assert "(a) the method gives no scores" in text


def test_numbers_exported(store: Store) -> None:
    store.add(bundle("A", 0.61))
    store.add(bundle("B", None))
    rows = list(csv.DictReader(io.StringIO(render(results_table(store.results()), "csv"), newline="")))
    ap = [row for row in rows if row["metric"] == "AP@0.5"]
    assert [(row["value"], row["low"], row["high"], row["unit"]) for row in ap] == [
        ("0.61", "0.51", "0.71", "fraction"),
        ("", "", "", "fraction"),
    ]
    assert ap[1]["reason"] == "the method gives no scores"
    assert "interval" not in rows[0]


def test_a_list_of_runs(store: Store) -> None:
    store.add(bundle("A", 0.61))
    store.add(bundle("B", 0.5, complete=False))
    failed = bundle("C", 0.5, status="failed", failure_kind="out_of_memory", failure="full\nat line 3")
    store.add(dataclasses.replace(failed, timings=()))
    store.supersede(1)
    lines = lines_of(to_text(runs_table(store.runs(include_superseded=True))))
    assert lines[2][:8] == ["3", "c", "cells", "real", "test", "paper", "0", "failed: out of memory"]
    assert lines[2][-1] == "full"
    assert lines[3][7] == "ok, incomplete"
    assert lines[4][7] == "ok, superseded"
    assert "2026-03-01 12:00" in lines[4]
    listed = store.runs()
    assert "measured, incomplete" in to_text(runs_table(listed, badges=store.badges(listed)))
    assert to_text(runs_table([])).endswith("(nothing)\n")
