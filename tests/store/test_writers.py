"""Several writers at once, a kill in the middle, a full disk: nothing is lost, nothing is half there."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from bench.errors import StoreError
from bench.store import Store, open_store
from bench.store import database as opening

WRITER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("runs", sys.argv[2])
runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runs)
from bench.store import open_store
sys.stdin.readline()  # so that all begin together
with open_store(sys.argv[1]) as store:
    for number in range(int(sys.argv[4])):
        store.add(runs.bundle_of((sys.argv[3], number)))
        store.add(runs.bundle_of(("both", number)))
"""


def write_together(target: str, writers: int, each: int) -> None:
    """Let several processes add runs of their own and runs that all of them have."""
    conftest = str(Path(__file__).with_name("conftest.py"))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, target, conftest, f"writer {w}", str(each)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for w in range(writers)
    ]
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def everything_of(target: str | Path, writers: int, each: int, key) -> None:
    """Every run is there, whole, and once."""
    expected = {key((f"writer {w}", n)) for w in range(writers) for n in range(each)}
    expected |= {key(("both", n)) for n in range(each)}
    with open_store(target, read_only=True) as store:
        runs = store.runs(include_superseded=True)
        assert len(runs) == len(expected)
        assert {run.key for run in runs} == expected
        assert all(run.status == "ok" and not run.superseded for run in runs)
        for run in runs:
            bundle = store.bundle(run.id)
            assert (len(bundle.results), len(bundle.image_results), len(bundle.timings)) == (4, 3, 8)
        assert len(store.datasets()) == 1


def test_two_processes_lose_nothing(database: Path, key) -> None:
    """They also make the database together."""
    write_together(str(database), 2, 8)
    everything_of(database, 2, 8, key)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.skipif("not __import__('os').environ.get('BENCH_TEST_DB_URL')", reason="no server to test on")
def test_two_processes_lose_nothing_on_a_server(request: pytest.FixtureRequest, key) -> None:
    url = request.getfixturevalue("server_schema")
    write_together(url, 2, 8)
    everything_of(url, 2, 8, key)


def test_threads_share_a_store(target: str | Path, make, key) -> None:
    errors: list[BaseException] = []
    with open_store(target) as store:

        def write(name: int) -> None:
            try:
                for number in range(4):
                    store.add(make((name, number)))
                    store.add(make(("both", number)))
                    store.runs()
            except BaseException as error:  # noqa: BLE001 - shown below
                errors.append(error)

        threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(store.runs()) == 16
        assert all(store.finished(key((name, number))) for name in (0, 1, 2, "both") for number in range(4))


KILLED = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("runs", sys.argv[2])
runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runs)
from bench.store import open_store
from sqlalchemy import event
store = open_store(sys.argv[1])
before = int(sys.argv[3])

@event.listens_for(store._database._engine, "connect")
def little_memory(connection, *rest):
    # SQLite then writes to the file before the end, as it does when a transaction outgrows its memory.
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("PRAGMA cache_spill = 1")

@event.listens_for(store._database._engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    global before
    if statement.startswith(("INSERT", "UPDATE", "DELETE")):
        before -= 1
        if before == 0:
            os.kill(os.getpid(), signal.SIGKILL)

store.add(runs.bundle_of("new"), supersede=True)
store.add(runs.bundle_of("old", value=0.9), supersede=True)
print("not killed")
"""


@pytest.mark.parametrize("statements", [1, 3, 6, 9])
def test_a_kill_in_the_middle_leaves_nothing_half(database: Path, make, key, statements: int) -> None:
    with open_store(database) as store:
        store.add(make("old", value=0.5))
        standing = store.bundle(1)
    conftest = str(Path(__file__).with_name("conftest.py"))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(database), conftest, str(statements)], capture_output=True, text=True
    )
    assert done.returncode == -9, done.stdout + done.stderr
    if statements == 9:
        assert database.with_name("bench.db-journal").exists(), "the kill left half of a transaction in the file"
    with open_store(database, read_only=True) as store:
        assert store.bundle(1) == standing, "also for who only reads"
    with open_store(database) as store:
        for run in store.runs(include_superseded=True):
            assert len(store.bundle(run.id).timings) == 8
        assert store.finished(key("old")).id == 1
        assert store.bundle(1) == standing
        new = store.finished(key("new"))
        assert (new is None) == (store.attempts(key("new")) == 0)
        store.add(make("new"))
        assert store.finished(key("new")) is not None
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on no database can grow."""
    connect = sqlite3.connect

    def connected(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {max(pages, 1)}")
        return connection

    monkeypatch.setattr(opening.sqlite3, "connect", connected)


def test_a_full_disk(database: Path, make, key, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(database) as store:
        store.add(make("old"))
        before = database.read_bytes()
        with monkeypatch.context() as full:
            fill_disk(full)
            with pytest.raises(StoreError, match=r"the disk of .* is full") as caught:
                store.add(make(0, note="x" * 100_000))
            assert caught.value.hint
            assert len(store.runs()) == 1
        assert database.read_bytes()[100:] == before[100:]
        assert store.finished(key("old")).id == 1
        assert store.add(make(0)) == 2, "with room again, the same run is stored"


def test_a_full_disk_when_the_database_is_made(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        fill_disk(full)
        with pytest.raises(StoreError, match=r"the disk of .* is full"):
            open_store(database)
    with open_store(database) as store:
        assert store.runs() == []


def test_an_error_in_the_middle_rolls_back(store: Store, make, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.store import writing

    first = store.add(make("x"))

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(writing, "add_results", fail)
        with pytest.raises(KeyboardInterrupt):
            store.add(make("x", value=0.9), supersede=True)
    assert [run.id for run in store.runs(include_superseded=True)] == [first]
    assert not store.run(first).superseded
