"""A small real store with its run folders and images, and the board opened on it."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the board's extra is not installed")

from streamlit.testing.v1 import AppTest

from bench.records import TimingRecord
from bench.store import open_store


def _page(first: str) -> None:
    from leaderboard.app import main

    main(first)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Open a page of the board: ``opened(db, "images", run=3)``."""
    import streamlit as st

    def open_(db: Path | str, page: str = "board", *, data_root: Path | None = None, **address: Any) -> AppTest:
        monkeypatch.setattr("leaderboard.state.PAINT", 0.0)
        st.cache_data.clear()
        st.cache_resource.clear()
        monkeypatch.setenv("BENCH_DB", str(db))
        if data_root is not None:
            monkeypatch.setenv("BENCH_DATA_ROOT", str(data_root))
        at = AppTest.from_function(_page, kwargs={"first": page}, default_timeout=60)
        for name, value in address.items():
            at.query_params[name] = [str(v) for v in value] if isinstance(value, list) else str(value)
        at.run()
        assert not at.exception, [e.message for e in at.exception]
        return at

    return open_


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a database and its run folders are kept once they are made: they take seconds."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def ran(workplace: Path, kept: Path) -> Path:
    """A database of four controls on the data set ``tiny``: runs 1 to 4 are truth, jitter, merge, split."""

    def make() -> None:
        from bench.engine import service

        service.run_all(["truth", "jitter", "merge", "split"], "tiny")

    return _made_once(kept / "ran", workplace, make)


def _made_once(kept: Path, workplace: Path, make: Callable[[], None]) -> Path:
    """``bench.db`` and ``runs`` in a workplace: made the first time, later copied from where they are kept."""
    database, origin = workplace / "bench.db", kept / "origin"
    if not kept.is_dir():
        make()
        kept.mkdir()
        origin.write_text(str(workplace))
        for name in ("runs", "cache"):
            shutil.copytree(workplace / name, kept / name)
        shutil.copy(database, kept)
        return database
    shutil.copytree(kept / "runs", workplace / "runs")
    shutil.copy(kept / "bench.db", database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE run SET folder = replace(folder, ?, ?)", (origin.read_text(), str(workplace)))
    return database


@pytest.fixture
def ranked(ran: Path) -> Path:
    """The same with copies of jitter, merge and split as methods that rank, timed; runs 5, 6, 7, titles A, B, C."""
    with open_store(ran) as store:
        for number, (run_id, title) in enumerate(((2, "A"), (3, "B"), (4, "C"))):
            copied(store, run_id, title, latency=10.0 * (number + 1))
    return ran


@pytest.fixture
def two_images_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons have intervals and p also on the four images of ``tiny``."""
    monkeypatch.setattr(importlib.import_module("bench.metrics.compare"), "MIN_IMAGES", 2)


def copied(store: Any, run_id: int, title: str, *, latency: float | None = None, **fields: Any) -> int:
    """A run again, as one of a method that may rank."""
    bundle = store.bundle(run_id)
    key = fields.pop("key", f"{title:x<64}"[:64] if title.isalnum() else "f" * 64)
    folder = Path(bundle.run.folder)
    copy = folder.with_name(key[:16])
    copy.mkdir(exist_ok=True)
    (copy / "predictions.jsonl").write_bytes((folder / "predictions.jsonl").read_bytes())
    (copy / "plan.json").write_text(json.dumps({"key": key}))
    method = dataclasses.replace(
        bundle.method, name=title.lower(), variant="", title=title, origin="external", n_parameters=1_500_000
    )
    run = dataclasses.replace(
        bundle.run, **{"key": key, "badge": "measured", "init": "random", "folder": str(copy), **fields}
    )
    timings = bundle.timings
    if latency is not None:
        timings = tuple(TimingRecord(image.key, "total", 0, latency) for image in bundle.images[:4])
    return store.add(dataclasses.replace(bundle, run=run, method=method, timings=timings))


def written(at: AppTest) -> str:
    """Everything that is written on a page."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "code")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(at, kind))


@pytest.fixture
def add_copy() -> Callable[..., int]:
    """:func:`copied`, for tests."""
    return copied


@pytest.fixture
def texts() -> Callable[[AppTest], str]:
    """:func:`written`, for tests."""
    return written
