"""What a board asks often must not read whole tables: a million image results are meant to be served."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from sqlalchemy import event

from bench.store import Store

GROWING = ("run", "result", "image_result", "timing_sample", "artifact", "image")

QUESTIONS: dict[str, Callable[[Store, str], object]] = {
    "finished": lambda store, key: store.finished(key),
    "attempts": lambda store, key: store.attempts(key),
    "run": lambda store, _: store.run(1),
    "bundle": lambda store, _: store.bundle(1),
    "latency": lambda store, _: store.latency(1),
    "timings": lambda store, _: store.timings(1),
    "image results": lambda store, _: store.image_results(1),
    "image results of a metric": lambda store, _: store.image_results(1, protocol="voc", metric="AP@0.5"),
    "results of a run": lambda store, _: store.results(run_ids=[1]),
    "runs of a data set": lambda store, _: store.runs(dataset="cells", split="test", status="ok"),
    "leaderboard": lambda store, _: store.leaderboard("cells"),
    "delete": lambda store, _: store.delete(1),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_growing_table_is_read_whole(board: Store, make, key, question: str) -> None:
    for name in range(3):
        board.add(make(name))
    asked: list[tuple[str, object]] = []
    engine = board._database._engine
    event.listen(engine, "before_cursor_execute", lambda c, cursor, sql, values, *_: asked.append((sql, values)))
    QUESTIONS[question](board, key(0))
    statements = [(sql, values) for sql, values in asked if sql.startswith(("SELECT", "DELETE"))]
    assert statements
    with board._database.reading() as connection:
        for sql, values in statements:
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
            whole = [step for step in plan if re.match(rf"SCAN ({'|'.join(GROWING)})\b", step)]
            assert whole == [], f"{sql}\n{plan}"
