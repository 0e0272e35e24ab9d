"""A store on every backend, and runs to put into it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from bench.records import (
    ArtifactRecord,
    DatasetVersionRecord,
    EnvironmentRecord,
    ImageRecord,
    ImageResultRecord,
    MachineRecord,
    MethodVersionRecord,
    ResultRecord,
    RunBundle,
    RunRecord,
    TimingRecord,
)
from bench.store import Store, open_store

TEST_URL = "BENCH_TEST_DB_URL"
"""Environment variable: a PostgreSQL URL (psycopg) under which the tests may make and drop schemas of their own."""

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

Make = Callable[..., RunBundle]


def key_of(name: object) -> str:
    """A key as the engine makes it."""
    return hashlib.sha256(repr(name).encode()).hexdigest()


def bundle_of(
    name: object = 0,
    *,
    value: float | None = 0.5,
    dataset: dict[str, Any] | None = None,
    method: dict[str, Any] | None = None,
    machine: dict[str, Any] | None = None,
    results: tuple[ResultRecord, ...] | None = None,
    **run: Any,
) -> RunBundle:
    """A run with two images; ``name`` makes its key, ``value`` is its AP@0.5, the rest replaces fields."""
    record = RunRecord(
        key=key_of(name),
        split="test",
        seed=0,
        schedule="paper",
        init="random",
        device="cpu",
        status="ok",
        badge="measured",
        started=START,
        finished=START + timedelta(minutes=5),
        attempt=1,
        folder="runs/d/unet-bce/0",
        command="bench run --method unet-bce --dataset cells",
        n_images=2,
        complete=True,
        commit="0123abcd",
        dirty=False,
        train_seconds=281.5,
        predict_seconds=3.25,
        peak_memory_bytes=3 * 2**30,
        arguments={"method": "unet-bce", "seed": 0, "nested": {"list": [1, 2.5, None, True]}},
        note="a note",
    )
    if results is None:
        results = (
            ResultRecord("voc", "1", "AP@0.5", value, "fraction", True, None if value is not None else "no scores"),
            ResultRecord("voc", "1", "IoU@0.5", 0.8, "fraction", True, low=0.7, high=0.9, n=2),
            ResultRecord("voc", "1", "AP@0.7", None, "fraction", True, reason="undefined: no prediction"),
            ResultRecord("semantic", "1", "rmse", 0.25, "fraction", False, n=2, params={"threshold": 0.5}),
        )
    return RunBundle(
        run=dataclasses.replace(record, **run),
        dataset=dataclasses.replace(
            DatasetVersionRecord(
                name="cells",
                content_hash="c0ffee" * 8,
                source="real",
                title="Cells",
                licence="CC0-1.0",
                n_images=2,
                n_instances=7,
                classes=("cell", "nucleus"),
                protocols=("voc", "semantic"),
                card={"name": "cells", "splits": {"test": ["a", "b"]}},
            ),
            **(dataset or {}),
        ),
        method=dataclasses.replace(
            MethodVersionRecord(
                name="unet",
                variant="bce",
                title="U-Net (BCE)",
                origin="reimplementation",
                code_hash="beef" * 16,
                params={"width": 64, "rates": [0.1, 0.2]},
                params_hash="feed" * 16,
                paper={"title": "U-Net", "year": 2015},
                n_parameters=31_000_000,
            ),
            **(method or {}),
        ),
        environment=EnvironmentRecord(
            "e" * 64, "3.11.7", "linux", "2.13.0", "2.3.6", "torchvision", None, {"numpy": "2.2.6"}
        ),
        machine=dataclasses.replace(
            MachineRecord("m" * 64, "desk", "a processor", 8, 2**34, "Linux 6.1"), **(machine or {})
        ),
        images=(ImageRecord("a", "a" * 64, 512, 640, 3, "donor 1"), ImageRecord("b", "b" * 64, 512, 640, 4, None)),
        results=results,
        image_results=(
            ImageResultRecord("a", "voc", "1", "AP@0.5", 0.5, 2, 1, 0),
            ImageResultRecord("b", "voc", "1", "AP@0.5", None, 0, 0, 4),
            ImageResultRecord("a", "kaggle", "1", "precision@0.5", 0.25),
        ),
        timings=tuple(
            TimingRecord(image, phase, round_, milliseconds)
            for round_ in (0, 1)
            for image, base in (("a", 10.0), ("b", 20.0))
            for phase, milliseconds in (("network", base), ("total", base + 2.0 + round_))
        ),
        artifacts=(ArtifactRecord("predictions.jsonl", "d" * 64, 1234), ArtifactRecord("train/log.json", "e" * 64, 0)),
    )


@pytest.fixture(scope="session")
def make() -> Make:
    """Makes a run: see :func:`bundle_of`."""
    return bundle_of


@pytest.fixture(scope="session")
def key() -> Callable[[object], str]:
    """The key of the run that ``make`` makes under a name."""
    return key_of


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where a test may have a database."""
    return tmp_path / "bench.db"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, to be copied: quicker than making one."""
    path = tmp_path_factory.mktemp("template") / "bench.db"
    open_store(path).close()
    return path


@pytest.fixture
def board(database: Path, template: Path) -> Iterator[Store]:
    """An empty store in a file."""
    with open_store(shutil.copy(template, database)) as opened:
        yield opened


@pytest.fixture(params=["memory", "file", *(["server"] if os.environ.get(TEST_URL) else [])])
def target(request: pytest.FixtureRequest, database: Path, template: Path) -> str | Path:
    """An empty database of every kind."""
    if request.param == "memory":
        return ":memory:"
    if request.param == "file":
        return shutil.copy(template, database)
    return request.getfixturevalue("server_schema")


@pytest.fixture
def store(target: str | Path) -> Iterator[Store]:
    """An empty store on every kind of database."""
    with open_store(target) as opened:
        yield opened


@pytest.fixture
def server_schema() -> Iterator[str]:
    """A schema of its own on the server under test, dropped afterwards; nothing else there is touched."""
    url = make_url(os.environ[TEST_URL])
    name = f"bench_test_{uuid.uuid4().hex[:12]}"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    try:
        own = url.update_query_dict({"options": f"-csearch_path={name}"})
        yield own.render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
        engine.dispose()
