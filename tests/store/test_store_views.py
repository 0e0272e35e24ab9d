"""What the pages of the board ask of the store, on runs that are known."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import event

from bench.errors import UnknownNameError
from bench.store import Store


def test_provenance_is_the_bundle_without_images(board: Store, make) -> None:
    run_id = board.add(make(0))
    bundle, found = board.bundle(run_id), board.provenance(run_id)
    assert (found.method, found.environment, found.machine) == (bundle.method, bundle.environment, bundle.machine)
    assert (found.results, found.artifacts) == (bundle.results, bundle.artifacts)
    assert (found.arguments, found.card) == (bundle.run.arguments, bundle.dataset.card)
    with pytest.raises(UnknownNameError, match="unknown run '99'"):
        board.provenance(99)


def test_runs_by_id_keep_the_order_asked_for(board: Store, make) -> None:
    first, second = board.add(make(0)), board.add(make(1))
    board.supersede(first)
    assert [run.id for run in board.runs_by_id([second, 99, first, second])] == [second, first]
    many = range(second + 1, second + 300_000)  # more than any database takes as parameters of one statement
    assert [run.id for run in board.runs_by_id([second, *many, first])] == [second, first]


def test_image_values_and_metrics(board: Store, make) -> None:
    first, second = board.add(make(0)), board.add(make(1))
    found = board.image_values([first, second], "voc", "AP@0.5")
    assert found[["run_id", "image", "tp"]].values.tolist() == [
        [first, "a", 2], [second, "a", 2], [first, "b", 0], [second, "b", 0],
    ]  # fmt: skip
    assert board.image_metrics(first) == [("voc", "AP@0.5", True)]
    assert board.image_values([first], "voc", "nope").empty


def test_marks_are_only_of_those_that_have_any(board: Store, make) -> None:
    plain = board.add(make(0))
    demo = board.add(make(1, arguments={"demo": True, "trained_on": ["cells"], "further_data": []}))
    assert board.marks([plain, demo]) == {demo: {"demo": True, "trained_on": ["cells"]}}
    assert board.marks([]) == {}
    default = board.add(make(2, arguments={"changed": {}}))
    other = board.add(make(3, arguments={"changed": {"crop": 160}}))
    assert board.marks([plain, default, other]) == {default: {"changed": {}}, other: {"changed": {"crop": 160}}}


def test_every_badge_of_a_run(board: Store, make) -> None:
    further = [{"dataset": "cells", "split": "more"}, {"dataset": "livecell", "split": "train"}]
    runs = {
        ("measured",): {"arguments": {"trained_on": ["nuclei"], "further_data": further[1:]}},
        ("measured", "trained-on-this"): {"arguments": {"further_data": further}},
        ("submitted", "short", "incomplete", "trained-on-this", "demo"): {
            "badge": "submitted", "schedule": "short", "complete": False,
            "arguments": {"demo": True, "trained_on": ["nuclei", "cells"]},
        },
    }  # fmt: skip
    ids = [board.add(make(i, **fields)) for i, fields in enumerate(runs.values())]
    assert list(board.badges(board.runs_by_id(ids)).values()) == [list(badges) for badges in runs]


def test_ranking_values_leave_out_what_does_not_rank(board: Store, make) -> None:
    run_id = board.add(make(0, value=0.5))
    board.add(make(1, complete=False))
    board.add(make(2, schedule="smoke"))
    board.add(make(3, badge="control"))
    board.add(make(4, status="failed", failure_kind="error", results=()))
    board.add(make(5, value=None, seed=2))
    last = board.add(make(6, value=0.7, seed=1))
    found = board.ranking_values()
    assert found["run_id"].tolist() == [run_id, last]
    assert found[["method", "metric", "value"]].iloc[0].tolist() == ["unet-bce", "AP@0.5", 0.5]
    assert board.ranking_values("short").empty


def test_ranking_values_are_of_the_runs_that_the_board_shows(board: Store, make) -> None:
    def of_both() -> tuple[list[int], list[int]]:
        shown = board.leaderboard("cells")
        shown = shown[shown["voc/AP@0.5"].notna() & shown["complete"]]
        return sorted(shown["run_id"]), sorted(board.ranking_values()["run_id"])

    first = board.add(make("old", value=0.1, seed=1))
    for number, fields in enumerate(
        (
            {"seed": 1},  # takes the place of the first
            {"seed": 2, "init": "weights", "weights_sha256": "a", "arguments": {"changed": {"weights": "a"}}},
            {"seed": 2, "init": "weights", "weights_sha256": "b", "arguments": {"changed": {"weights": "b"}}},
            {"seed": 2, "complete": False},
        )
    ):
        board.add(make(number, **fields))
    assert of_both() == ([2, 3, 4], [2, 3, 4])
    undefined = board.add(make("undefined", value=None, seed=1))
    assert undefined in set(board.leaderboard("cells")["run_id"])
    assert of_both() == ([3, 4], [3, 4]), "an older number does not stand in for one that is undefined"
    board.supersede(undefined)
    board.supersede(2)
    assert of_both() == ([first, 3, 4], [first, 3, 4])


def test_ranking_values_hold_submissions_and_flag_who_knows_the_data(board: Store, make) -> None:
    fields = {"badge": "submitted", "schedule": "submitted", "submitted_by": "Ada"}
    measured = board.add(make(0, arguments={"changed": {}}))
    submitted = board.add(make(1, **fields))
    knows = board.add(make(2, arguments={"trained_on": ["cells"], "changed": {"weights": "x"}}))
    found = board.ranking_values().set_index("run_id")
    assert list(found.index) == [measured, submitted, knows]
    assert found["may_rank"].tolist() == [True, True, False]
    assert found["changed"].tolist() == [{}, None, {"weights": "x"}]
    assert found["submitted_by"].tolist() == [None, "Ada", None]
    assert board.ranking_values("short").empty


def test_what_is_cited(board: Store, make) -> None:
    ids = [board.add(make(0)), board.add(make(1, method={"paper": None, "code_hash": "x"}))]
    papers, cards = board.cited(ids)
    assert papers == [{"title": "U-Net", "year": 2015}]
    assert [card["name"] for card in cards] == ["cells"]
    assert board.cited([]) == ([], [])


QUESTIONS = {
    "provenance": lambda store: store.provenance(1),
    "image metrics": lambda store: store.image_metrics(1),
    "image values": lambda store: store.image_values([1, 2], "voc", "AP@0.5"),
    "marks": lambda store: store.marks([1, 2]),
    "cited": lambda store: store.cited([1, 2]),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_growing_table_is_read_whole(board: Store, make, question: str) -> None:
    for name in range(3):
        board.add(make(name))
    asked: list[tuple[str, object]] = []
    event.listen(
        board._database._engine, "before_cursor_execute", lambda c, cursor, sql, values, *_: asked.append((sql, values))
    )
    QUESTIONS[question](board)
    with board._database.reading() as connection:
        for sql, values in [(s, v) for s, v in asked if s.startswith("SELECT")]:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
            growing = "run|result|image_result|timing_sample|artifact|image"
            assert not [step for step in plan if re.match(rf"SCAN ({growing})\b", step)], f"{sql}\n{plan}"
