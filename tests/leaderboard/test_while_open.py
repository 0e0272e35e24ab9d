"""The board goes on while others write, replace and delete what it shows."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bench.store import open_store
from leaderboard import data, state


def gone(database: Path) -> None:
    database.unlink()


def without_a_byte(database: Path) -> None:
    database.write_bytes(b"")


def emptied(database: Path) -> None:
    database.unlink()
    open_store(database).close()


def of_something_else(database: Path) -> None:
    database.write_text("hello, this is no database")


def cut_off(database: Path) -> None:
    database.write_bytes(database.read_bytes()[:40_000])


def of_a_later_program(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("ALTER TABLE run RENAME COLUMN key TO clef")


@pytest.mark.parametrize(
    ("happens", "title", "warning"),
    [
        (gone, "Nothing is stored yet", None),
        (without_a_byte, "Nothing is stored yet", None),
        (emptied, "Nothing is stored yet", None),
        (of_something_else, "The database cannot be read", "is no SQLite database"),
        (cut_off, "The database cannot be read", "is damaged"),
        (of_a_later_program, "The database cannot be read", "9999"),
    ],
)
@pytest.mark.parametrize("page", ["board", "run"])
def test_a_database_that_is_no_longer_what_it_was(
    opened, ran: Path, tmp_path: Path, page: str, happens: Callable[[Path], None], title: str, warning: str | None
) -> None:
    kept = tmp_path / "kept.db"
    shutil.copy(ran, kept)
    at = opened(ran, page)
    before = at.title[0].value
    happens(ran)
    at.run()
    assert not at.exception, [error.message for error in at.exception]
    assert at.title[0].value == title
    assert not warning or warning in at.warning[0].value
    shutil.copy(kept, ran)
    at.run()
    assert not at.exception
    assert at.title[0].value == before, "and it comes back"


def test_a_run_that_is_stored_meanwhile_is_shown(opened, add_copy, ran: Path) -> None:
    at = opened(ran)
    with open_store(ran) as store:
        add_copy(store, 2, "Newcomer")
    at.run()
    assert "Newcomer" in list(at.dataframe[0].value["title"])


def test_who_reads_waits_for_a_writer_not_for_ever(opened, ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PATIENCE", 0.1)
    at = opened(ran)
    with closing(sqlite3.connect(ran, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        at.query_params["schedule"] = "paper"
        at.run()
        assert not at.exception
        assert "is locked by another program" in at.warning[0].value
        writer.execute("ROLLBACK")
    at.run()
    assert not at.warning


def test_a_file_that_may_not_be_read_is_named(opened, ranked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def refused(self: Path, *args: object, **more: object) -> object:
        if self.name == "predictions.jsonl":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **more)

    monkeypatch.setattr(Path, "open", refused)
    at = opened(ranked, "images", data_root=ranked.parent / "data", run=5)
    assert len(at.dataframe[0].value) == 4, "the rest of the page stands"
    assert "predictions.jsonl cannot be read&#58; Permission denied" in at.warning[0].value


# -- what a link may ask for ------------------------------------------------------------------------------


def test_more_runs_than_are_compared(opened, add_copy, ran: Path) -> None:
    with open_store(ran) as store:
        ids = [add_copy(store, 2, f"M{i}") for i in range(10)]
    at = opened(ran, "compare", run=ids)
    assert "At most 8 runs" in at.warning[0].value
    assert at.multiselect[0].value == ids[:8]
    assert at.query_params["run"] == [str(i) for i in ids[:8]]
    button = next(b for b in opened(ran, tick=ids).button if b.label.startswith("Compare"))
    assert (button.label, button.disabled) == ("Compare 10 runs", True)
    button = next(b for b in opened(ran, tick=ids[:8]).button if b.label.startswith("Compare"))
    assert (button.label, button.disabled) == ("Compare 8 runs", False)


@pytest.fixture
def failed(ranked: Path) -> int:
    """A run that failed; its number."""
    with open_store(ranked) as store:
        bundle = store.bundle(5)
        run = dataclasses.replace(
            bundle.run,
            key="e" * 64,
            status="failed",
            failure_kind="error",
            failure="ValueError: <b>no</b>\nin line 2",
            complete=False,
        )
        return store.add(dataclasses.replace(bundle, run=run, results=(), image_results=(), timings=()))


def test_a_failed_run_is_neither_compared_nor_looked_at(opened, ranked: Path, failed: int) -> None:
    at = opened(ranked, "compare", run=[5, 6, failed, 99])
    assert at.warning[0].value == f"There is no finished run {failed}, 99 in this database."
    assert at.multiselect[0].value == [5, 6]
    at = opened(ranked, "images", data_root=ranked.parent / "data", run=5, other=failed)
    assert at.selectbox(key="images/other").options[at.selectbox(key="images/other").index] == "none"


def test_a_reason_of_several_lines_stands_on_as_many(opened, ranked: Path, failed: int) -> None:
    said = opened(ranked, "run", run=failed).error[0].value
    first, second, *_ = said.splitlines()
    assert first.endswith("  "), "Markdown's way to end a line"
    assert second.startswith("in line 2")
    assert "<b>" not in said


# -- how runs are called ----------------------------------------------------------------------------------


def test_runs_that_differ_in_a_setting_are_called_differently(opened, add_copy, ran: Path) -> None:
    with open_store(ran) as store:
        first = add_copy(store, 2, "Net", key="1" * 64, arguments={"changed": {"min_score": 0.9}})
        second = add_copy(store, 2, "Net", key="2" * 64, arguments={"changed": {"min_score": 0.99}})
        labels = data.run_labels(store, store.runs_by_id([first, second]))
    assert labels == {first: f"{first}: Net, seed 0, min_score=0.9", second: f"{second}: Net, seed 0, min_score=0.99"}
    assert set(labels.values()) < set(opened(ran, "compare", run=[first, second]).multiselect[0].options)


def test_of_runs_of_one_rank_the_better_stands_first(opened, ranked: Path, two_images_suffice) -> None:
    """Run 5 holds the predictions of run 2: they share the first rank, and run 6 is worse."""
    at = opened(
        ranked, "compare", data_root=ranked.parent / "data", run=[6, 5, 2], protocol="voc", metric="AP@0.5",
        part="differences",
    )  # fmt: skip
    shown = at.dataframe[0].value
    assert shown["rank"].tolist() == [1, 1, 3]
    assert shown.iloc[:, 2].is_monotonic_decreasing


def test_without_a_second_run_it_says_none(opened, ranked: Path) -> None:
    at = opened(ranked, "images", data_root=ranked.parent / "data", run=5)
    other = at.selectbox(key="images/other")
    assert other.options[0] == "none"
    assert other.index == 0
    other.set_value(6).run()
    assert at.query_params["other"] == "6"
    at.selectbox(key="images/other").set_value(0).run()
    assert "other" not in at.query_params


def test_a_number_that_no_image_has(opened, ranked: Path) -> None:
    with open_store(ranked) as store:
        bundle = store.bundle(5)
        without = tuple(dataclasses.replace(number, value=None) for number in bundle.image_results)
        run = dataclasses.replace(bundle.run, key="d" * 64)
        run_id = store.add(dataclasses.replace(bundle, run=run, image_results=without))
    at = opened(ranked, "compare", run=[5, run_id], number="voc IoU@0.7")
    assert "There is no image on which both runs have voc IoU@0.7." in [info.value for info in at.info]
    assert not at.get("vega_lite_chart"), "no bars of nothing"


def test_every_chart_says_in_words_what_it_shows(opened, ranked: Path, two_images_suffice) -> None:
    pages = [
        ("speed", {}),
        *(("compare", {"run": [5, 6], "part": p}) for p in ("images", "differences", "curves", "cells")),
    ]
    for page, address in pages:
        charts = opened(ranked, page, data_root=ranked.parent / "data", **address).get("vega_lite_chart")
        assert charts
        assert all(chart.proto.alt for chart in charts), (page, address)
