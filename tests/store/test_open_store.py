"""Every way in which a database cannot be opened: one clear line, and the file as it was."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from bench.errors import StoreError
from bench.store import NoDatabaseError, open_store


def refused(target: object, words: str, **options: object) -> StoreError:
    """Open, and return the error: one line, with a hint."""
    with pytest.raises(StoreError, match=words) as caught:
        open_store(target, **options)
    error = caught.value
    assert "\n" not in str(error)
    assert error.hint
    assert error.exit_code == 4
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    return error


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def untouched(path: Path, words: str, **options: object) -> None:
    """Refused, and neither the file nor its folder has changed."""
    before, names = path.read_bytes(), names_in(path.parent)
    refused(path, words, **options)
    assert path.read_bytes() == before
    assert names_in(path.parent) == names


# -- where ------------------------------------------------------------------------------------------------


def test_a_database_is_made_where_there_is_none(database: Path) -> None:
    with open_store(database) as store:
        assert store.runs() == []
        assert store.location == str(database)
    assert database.read_bytes().startswith(b"SQLite format 3\0")
    assert names_in(database.parent) == ["bench.db"]


def test_where_it_lies_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BENCH_DB", raising=False)
    open_store().close()
    assert (tmp_path / "bench.db").exists()
    monkeypatch.setenv("BENCH_DB", str(tmp_path / "other.db"))
    open_store().close()
    assert (tmp_path / "other.db").exists()
    monkeypatch.setenv("BENCH_DB", "")
    assert open_store().location == str(tmp_path / "bench.db")


def test_a_relative_path_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("a.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.add(make())
    assert open_store(tmp_path / "a.db").runs()
    assert names_in(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("name", ["with space.db", "a?b#c%20d.db", "100% ü 細胞.db", "file:x.db", "no-suffix", "a&b=c"])
def test_odd_file_names(tmp_path: Path, name: str, make) -> None:
    path = tmp_path / name
    with open_store(path) as store:
        store.add(make())
    assert names_in(tmp_path) == [name]
    with open_store(path, read_only=True) as store:
        assert len(store.runs()) == 1


def test_urls_of_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    assert open_store(f"sqlite:///{path}").location == str(path)
    assert open_store(f"sqlite+pysqlite:///{path}").location == str(path)
    for memory in (":memory:", "sqlite://", "sqlite:///:memory:"):
        assert open_store(memory).runs() == []
    refused(f"sqlite:///{path}?mode=ro", "parameters")
    refused(f"sqlite:///file:{path}?uri=true", "parameters")


def test_a_closed_store_opens_again(database: Path, make) -> None:
    store = open_store(database)
    store.add(make())
    store.close()
    assert len(open_store(database).runs()) == 1


# -- what is no store ---------------------------------------------------------------------------------------


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")
    refused(tmp_path / "absent" / "bench.db", "the folder .*absent does not exist")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "bench.db", "the folder .*file does not exist")


def test_no_database(database: Path) -> None:
    for options in ({"read_only": True}, {"create": False}):
        assert isinstance(refused(database, "there is no database", **options), NoDatabaseError)
    assert not database.exists()


def test_an_empty_file_is_filled_and_not_read(database: Path) -> None:
    database.touch()
    assert isinstance(refused(database, "is empty", read_only=True), NoDatabaseError)
    assert isinstance(refused(database, "holds nothing yet", create=False), NoDatabaseError)
    assert database.read_bytes() == b""
    open_store(database).close()
    assert open_store(database, read_only=True).runs() == []


@pytest.mark.parametrize("content", [b"label,x,y\n1,2,3\n", b"SQLite", b"\x89PNG\r\n\x1a\n" + bytes(5000), b"\0"])
def test_a_file_that_is_no_database(database: Path, content: bytes) -> None:
    database.write_bytes(content)
    for read_only in (False, True):
        untouched(database, "is no SQLite database", read_only=read_only)


def test_a_header_and_nothing_behind_it(database: Path) -> None:
    database.write_bytes(b"SQLite format 3\0" + bytes(200))
    for read_only in (False, True):
        untouched(database, "is no SQLite database|is damaged", read_only=read_only)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no such files on this system")
def test_what_is_neither_file_nor_folder(tmp_path: Path) -> None:
    refused("/dev/null", "is no file")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    refused(fifo, "is no file")


@pytest.mark.parametrize("name", ["", "   ", "a" * 5000, "a\0b"])
def test_names_that_no_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    refused(name, "is empty|cannot be opened|cannot be the name of a file")
    assert names_in(tmp_path) == []


@pytest.fixture(scope="module")
def full(template: Path, make) -> Path:
    """A database with some runs, to be copied."""
    path = shutil.copy(template, template.with_name("full.db"))
    with open_store(path) as store:
        for name in range(20):
            store.add(make(name))
    return path


@pytest.fixture
def filled(database: Path, full: Path) -> Path:
    """A database with some runs."""
    return shutil.copy(full, database)


@pytest.mark.parametrize("kept", [100, 4096, 20_000, -50_000, -4096, -1])
def test_a_truncated_database(filled: Path, kept: int) -> None:
    filled.write_bytes(filled.read_bytes()[:kept])
    for read_only in (False, True):
        untouched(filled, "is damaged|is no SQLite database", read_only=read_only)


def test_a_database_that_is_damaged_inside(filled: Path, make) -> None:
    content = bytearray(filled.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    filled.write_bytes(content)
    before = filled.read_bytes()

    def use() -> None:
        with open_store(filled) as store:
            store.runs()
            store.results()
            store.add(make("new"))

    with pytest.raises(StoreError, match="is damaged") as caught:
        use()
    assert caught.value.hint
    assert filled.read_bytes() == before


def test_somebody_else_s_database(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript("CREATE TABLE cells (area REAL); INSERT INTO cells VALUES (1.5)")
    for read_only in (False, True):
        untouched(database, r"is not a database of this program .it holds cells", read_only=read_only)


def test_another_program_that_counts_its_schemas_as_we_do(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('0001');"
            "CREATE TABLE run (id INTEGER); CREATE TABLE studies (id INTEGER)"
        )
    for read_only in (False, True):
        untouched(database, "is not a database of this program", read_only=read_only)


def test_a_newer_schema(filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    for read_only in (False, True):
        untouched(filled, "was written by a newer version .schema '9999'", read_only=read_only)


# -- what may not be written --------------------------------------------------------------------------------


@pytest.fixture
def public(template: Path, make) -> Iterator[Path]:
    """A folder that everybody can enter, with a database that holds one run."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    with open_store(shutil.copy(template, folder / "bench.db")) as store:
        store.add(make())
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def as_nobody(function: Callable[[], object]) -> str:
    """What ``function`` ends with, without the rights of root.

    Root writes whatever the permissions say, so it runs in a forked process that has laid its rights down.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            answer = f"ended with {function()}"
        except StoreError as error:
            answer = str(error)
        except BaseException as error:  # noqa: BLE001 - the child must not return into pytest
            answer = f"raised {error!r}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as stream:
        return stream.read().decode()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
def test_a_folder_that_is_read_only(public: Path) -> None:
    (public / "bench.db").chmod(0o666)
    public.chmod(0o555)
    assert f"the folder {public} is read-only" in as_nobody(lambda: open_store(public / "new.db"))
    assert f"the folder {public} is read-only" in as_nobody(lambda: open_store(public / "bench.db"))
    assert as_nobody(lambda: len(open_store(public / "bench.db", read_only=True).runs())) == "ended with 1"
    assert names_in(public) == ["bench.db"]


@needs_fork
def test_a_file_that_is_read_only(public: Path) -> None:
    public.chmod(0o777)
    (public / "bench.db").chmod(0o444)
    assert f"{public / 'bench.db'} is read-only" in as_nobody(lambda: open_store(public / "bench.db"))
    assert as_nobody(lambda: len(open_store(public / "bench.db", read_only=True).runs())) == "ended with 1"


@needs_fork
def test_a_file_that_may_not_be_read(public: Path) -> None:
    (public / "bench.db").chmod(0o000)
    assert "Permission denied" in as_nobody(lambda: open_store(public / "bench.db", read_only=True))
    public.chmod(0o000)
    assert "Permission denied" in as_nobody(lambda: open_store(public / "bench.db", read_only=True))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc on this system")
def test_a_place_where_nobody_can_write() -> None:
    refused("/proc/bench.db", "cannot be opened or created|is read-only")


def test_a_store_that_was_opened_for_reading_refuses_to_write(filled: Path, make) -> None:
    before = filled.read_bytes()
    with open_store(filled, read_only=True) as store:
        assert len(store.runs()) == 20
        for write in (lambda: store.add(make("new")), lambda: store.delete(1), lambda: store.supersede(1)):
            with pytest.raises(StoreError, match="was opened for reading only"):
                write()
    assert filled.read_bytes() == before


def test_sqlite_itself_refuses_to_write_what_was_opened_for_reading(filled: Path, make) -> None:
    with open_store(filled, read_only=True) as store:
        store._database.read_only = False
        with pytest.raises(StoreError, match="cannot be written: it is read-only"):
            store.add(make("new"))


# -- what others hold ---------------------------------------------------------------------------------------


def test_a_database_that_another_program_has_locked(filled: Path, make) -> None:
    with closing(sqlite3.connect(filled, isolation_level=None)) as other, open_store(filled, timeout=0.05) as store:
        other.execute("BEGIN IMMEDIATE")
        assert len(store.runs()) == 20, "a writer that has not yet committed keeps nobody from reading"
        with pytest.raises(StoreError, match="is locked by another program"):
            store.add(make("new"))
        refused(filled, "is locked by another program", timeout=0.05)
        other.execute("ROLLBACK")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="is locked by another program"):
            store.runs()
        refused(filled, "is locked by another program", timeout=0.05, read_only=True)
        other.execute("ROLLBACK")
        store.add(make("new"))


# -- servers ------------------------------------------------------------------------------------------------

SECRET = "s3cret-of-mine"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgresql+psycopg2cffi://me:{SECRET}@host/name", "the driver of .* is not installed"),
        (f"postgresql+asyncpg://me:{SECRET}@host/name", "asynchronous"),
        (f"sqlite+aiosqlite://me:{SECRET}@host/name", "asynchronous"),
        (f"mysql://me:{SECRET}@host/name", "of the kind 'mysql' cannot hold a store"),
        (f"oracle://me:{SECRET}@host/name", "of the kind 'oracle' cannot hold a store"),
        (f"postgers://me:{SECRET}@host/name", "no kind of database is called 'postgers'"),
        (f"https://me:{SECRET}@host/name", "no kind of database is called 'https'"),
        (f"postgresql://me:{SECRET}@host:port/name", "the URL of the database cannot be read"),
        (f"postgresql:me:{SECRET}@host", "the URL of the database cannot be read"),
    ],
)
def test_urls_that_lead_nowhere_never_show_their_password(url: str, words: str) -> None:
    error = refused(url, words)
    assert SECRET not in str(error)
    assert error.__cause__ is None
    assert SECRET not in repr(error.__context__) or error.__suppress_context__


def test_a_server_that_does_not_answer() -> None:
    pytest.importorskip("psycopg")
    error = refused(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/name?connect_timeout=2", "does not answer")
    assert SECRET not in str(error)
    assert "connect_timeout" not in str(error)
    refused(f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/name?colour=red", "cannot be connected to")


@pytest.mark.skipif(not os.environ.get("BENCH_TEST_DB_URL"), reason="no server to test on (BENCH_TEST_DB_URL)")
class TestServer:
    """The same refusals on a server."""

    @pytest.fixture
    def url(self, server_schema: str) -> str:
        return server_schema

    def test_absent_until_it_is_made(self, url: str) -> None:
        for options in ({"read_only": True}, {"create": False}):
            assert isinstance(refused(url, "holds nothing yet", **options), NoDatabaseError)
        open_store(url).close()
        assert open_store(url, read_only=True).runs() == []

    def test_read_only(self, url: str, make) -> None:
        open_store(url).close()
        with open_store(url, read_only=True) as store:
            with pytest.raises(StoreError, match="was opened for reading only"):
                store.add(make())
            store._database.read_only = False
            with pytest.raises(StoreError, match="cannot be written: the connection is read-only"):
                store.add(make())

    def test_newer_and_foreign(self, url: str) -> None:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE cells (area REAL)"))
        refused(url, "is not a database of this program")
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE cells"))
        open_store(url).close()
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        refused(url, "was written by a newer version")
        engine.dispose()


# -- what it costs ------------------------------------------------------------------------------------------


def test_importing_and_listing_load_nothing_heavy(filled: Path) -> None:
    code = (
        "import sys, bench.store, bench.records\n"
        "assert not {'sqlalchemy', 'alembic', 'pandas', 'numpy'} & set(sys.modules), 'import'\n"
        "store = bench.store.open_store(sys.argv[1])\n"
        "assert len(store.runs()) == 20 and store.datasets() and store.bundle(1) and store.latency(1)\n"
        "assert not {'alembic', 'pandas', 'numpy', 'torch'} & set(sys.modules), 'list'\n"
        "assert len(store.results()) == 80"
    )
    done = subprocess.run([sys.executable, "-c", code, str(filled)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_name_that_is_offered_is_there() -> None:
    import bench.store

    for name in bench.store.__all__:
        assert getattr(bench.store, name).__name__ == name
    with pytest.raises(AttributeError):
        bench.store.nothing  # noqa: B018
