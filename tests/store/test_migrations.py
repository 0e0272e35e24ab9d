"""From every schema there has been to the newest one, with a copy beside it, and nothing lost on the way."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from bench.errors import StoreError
from bench.store import database as opening
from bench.store import open_store, schema
from bench.store.models import Base

DUMPS = Path(__file__).parent / "schemas"


def restore(dump: Path, database: Path) -> None:
    """Make the database that a dump is of."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))


def backups(database: Path) -> list[Path]:
    return sorted(database.parent.glob(f"{database.name}.backup-*"))


# -- models and migrations ----------------------------------------------------------------------------------


def test_the_known_schemas_are_those_of_the_migrations() -> None:
    with create_engine("sqlite://").connect() as connection:
        script = ScriptDirectory.from_config(schema.config(connection))
    assert tuple(s.revision for s in reversed(list(script.walk_revisions()))) == schema.REVISIONS


def test_there_is_a_dump_of_every_schema() -> None:
    assert {dump.stem for dump in DUMPS.glob("*.sql")} == set(schema.REVISIONS)


def difference(url: str) -> list[object]:
    """What the models have and the migrations do not make, or the other way round."""
    with create_engine(url).connect() as connection:
        schema.upgrade(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, Base.metadata)


def test_models_and_migrations_agree() -> None:
    assert difference("sqlite://") == []


@pytest.fixture
def server_url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("server_schema")


@pytest.mark.skipif("not __import__('os').environ.get('BENCH_TEST_DB_URL')", reason="no server to test on")
def test_models_and_migrations_agree_on_a_server(server_url: str) -> None:
    assert difference(server_url) == []


def definitions(connection: sqlite3.Connection) -> dict[str, str]:
    """Name to definition of every table and index, in one way of writing."""
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'")
    return {name: " ".join(sql.replace("(", " ( ").replace(")", " ) ").split()) for name, sql in rows}


def test_models_and_migrations_agree_in_constraints_too() -> None:
    """Alembic compares neither CHECKs nor the condition of an index; on SQLite the text of both can be compared."""
    made, migrated = create_engine("sqlite://"), create_engine("sqlite://")
    with made.connect() as connection:
        Base.metadata.create_all(connection)
        by_models = definitions(connection.connection.dbapi_connection)
    with migrated.connect() as connection:
        schema.upgrade(connection)
        by_migrations = definitions(connection.connection.dbapi_connection)

    def parts(sql: str) -> set[str]:
        if not sql.startswith("CREATE TABLE"):
            return {sql}
        head, _, rest = sql.partition("(")
        body, _, options = rest.rpartition(")")
        return {head, options, *(part.strip() for part in re.split(r",(?![^()]*\))", body))}

    assert by_models.keys() == by_migrations.keys()
    for name, sql in by_models.items():
        assert parts(sql) == parts(by_migrations[name]), name


def test_the_newest_dump_is_what_the_migrations_make_today(database: Path) -> None:
    """A migration that is changed after its dump was written is one that users' databases have not seen."""
    restore(DUMPS / f"{schema.head()}.sql", database)
    with create_engine("sqlite://").connect() as connection:
        schema.upgrade(connection)
        today = definitions(connection.connection.dbapi_connection)
    with closing(sqlite3.connect(database)) as connection:
        assert definitions(connection) == today


# -- old databases ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", schema.REVISIONS)
def test_an_old_database_is_upgraded_with_everything_in_it(database: Path, revision: str, make, key) -> None:
    restore(DUMPS / f"{revision}.sql", database)
    with open_store(database) as store:
        assert [(run.id, run.status, run.superseded) for run in store.runs(include_superseded=True)] == [
            (3, "failed", False),
            (2, "ok", False),
            (1, "ok", True),
        ]
        assert store.bundle(2).run.started == datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        assert store.bundle(2).results[0].value == 0.6
        assert len(store.bundle(1).timings) == 8
        assert store.bundle(3).run.failure == "it was full"
        assert len(store.image_results(2)) == 3
        assert store.finished(key("first")).id == 2
        assert store.reported()[0].value == 0.61
        assert store.leaderboard("cells")["voc/AP@0.5"].tolist() == [0.6]
        assert store.add(make("first")) == 2
        assert store.add(make("new")) == 4
    assert len(backups(database)) == (0 if revision == schema.head() else 1)


# -- the way up, with a migration that only the tests have --------------------------------------------------

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Rebuilds the table to which almost all others point.
    with op.batch_alter_table("run", recreate="always", table_kwargs={"sqlite_autoincrement": True}) as run:
        run.add_column(sa.Column("mood", sa.Text(), nullable=False, server_default="calm"))
    MORE
"""


@pytest.fixture
def old(database: Path) -> Path:
    """A database at schema 0001."""
    restore(DUMPS / "0001.sql", database)
    return database


def know_a_newer_schema(monkeypatch: pytest.MonkeyPatch, folder: Path, more: str = "") -> None:
    """As if this were the next version of the program."""
    scripts = folder / "100% migrations"
    shutil.copytree(schema.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    for later in (scripts / "versions").glob("*.py"):
        if not later.name.startswith("0001"):
            later.unlink()
    (scripts / "versions" / "0002_mood.py").write_text(NEXT.replace("MORE", more))
    monkeypatch.setattr(schema, "SCRIPTS", scripts)
    monkeypatch.setattr(schema, "REVISIONS", ("0001", "0002"))


def rows(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}


def test_an_upgrade_lays_a_copy_beside_and_loses_nothing(
    old: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.chmod(0o600)
    before, counts = old.read_bytes(), rows(old)
    know_a_newer_schema(monkeypatch, tmp_path_factory.mktemp("scripts"))
    open_store(old).close()
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0002",)]
        assert {mood for (mood,) in connection.execute("SELECT mood FROM run")} == {"calm"}
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        indices = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
        assert "uq_run_standing" in indices
    assert rows(old) == counts
    [backup] = backups(old)
    assert re.fullmatch(r"bench\.db\.backup-0001-\d{8}T\d{6}Z", backup.name)
    assert backup.stat().st_mode & 0o777 == 0o600
    assert rows(backup) == counts
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    assert old.read_bytes() != before
    open_store(old).close()
    assert backups(old) == [backup], "an up-to-date database is not copied again"


def test_an_upgrade_that_fails_changes_nothing(
    old: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = old.read_bytes()
    know_a_newer_schema(monkeypatch, tmp_path_factory.mktemp("scripts"), "raise RuntimeError('half way')")
    with pytest.raises(RuntimeError, match="half way"):
        open_store(old)
    assert old.read_bytes() == before
    assert len(backups(old)) == 1


def test_an_upgrade_that_breaks_a_reference_changes_nothing(
    old: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = old.read_bytes()
    know_a_newer_schema(monkeypatch, tmp_path_factory.mktemp("scripts"), "op.execute('DELETE FROM machine')")
    with pytest.raises(RuntimeError, match="left run pointing nowhere"):
        open_store(old)
    assert old.read_bytes() == before


def test_no_upgrade_without_its_copy(
    old: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = old.read_bytes()
    know_a_newer_schema(monkeypatch, tmp_path_factory.mktemp("scripts"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(opening.shutil, "copymode", full)
    with pytest.raises(StoreError, match="the backup before its upgrade cannot be written: No space left on device"):
        open_store(old)
    assert old.read_bytes() == before
    assert sorted(path.name for path in old.parent.iterdir()) == ["bench.db"]


def test_an_old_database_is_not_upgraded_by_reading(
    old: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = old.read_bytes()
    know_a_newer_schema(monkeypatch, tmp_path_factory.mktemp("scripts"))
    with pytest.raises(StoreError, match="has the older schema '0001' and is opened for reading only"):
        open_store(old, read_only=True)
    assert old.read_bytes() == before
    assert backups(old) == []


def test_this_version_refuses_what_the_next_one_has_upgraded(
    old: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        know_a_newer_schema(later, tmp_path_factory.mktemp("scripts"))
        open_store(old).close()
    monkeypatch.setattr(schema, "REVISIONS", ("0001",))
    with pytest.raises(StoreError, match=r"was written by a newer version .schema '0002', known here: '0001'"):
        open_store(old)


def test_the_next_migration_can_be_drafted(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "migrations"
    shutil.copytree(schema.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(schema, "SCRIPTS", scripts)
    with create_engine("sqlite://").connect() as connection:
        schema.upgrade(connection)
        connection.execute(text("ALTER TABLE machine DROP COLUMN driver"))
        draft = schema.draft(connection, "Drivers are kept")
    written = draft.read_text(encoding="utf-8")
    following = f"{len(schema.REVISIONS) + 1:04d}"
    assert f'revision = "{following}"' in written
    assert f'down_revision = "{schema.head()}"' in written
    assert 'batch_op.add_column(sa.Column("driver", sa.Text(), nullable=True))' in written.replace("'", '"')
    compile(written, str(draft), "exec")
