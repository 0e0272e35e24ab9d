"""Which schema a database has, and how it comes to the newest one.

Alembic is imported only where something has to be changed: opening an up-to-date database is fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS: tuple[str, ...] = ("0001", "0002")
"""Every schema there has been, oldest first. A test holds it equal to the files in ``migrations/versions``."""

SCRIPTS = Path(__file__).parent / "migrations"

VERSION_TABLE = "alembic_version"


class ForeignSchemaError(Exception):
    """The database holds tables that are not ours."""

    def __init__(self, tables: list[str]) -> None:
        super().__init__(tables)
        self.tables = tables


class NewerSchemaError(Exception):
    """The database was written by a newer version of this program."""

    def __init__(self, revision: str) -> None:
        super().__init__(revision)
        self.revision = revision


def head() -> str:
    """The newest schema."""
    return REVISIONS[-1]


def current(connection: Connection) -> str | None:
    """The schema that a database has, or None where it is empty.

    Raises:
        ForeignSchemaError: its tables are not ours.
        NewerSchemaError: they are, but of a schema that is not known here.
    """
    tables = set(inspect(connection).get_table_names())
    if not tables - {VERSION_TABLE}:
        return None
    revision = None
    if VERSION_TABLE in tables:
        revision = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    # Other projects use Alembic too, and count from 0001: the oldest tables say whose database it is.
    if revision is None or not {"dataset_version", "method_version", "run", "result"} <= tables:
        raise ForeignSchemaError(sorted(tables))
    if revision not in REVISIONS:
        raise NewerSchemaError(revision)
    return str(revision)


def config(connection: Connection) -> Config:
    """Alembic's configuration, made here so that no file of it is needed."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection) -> None:
    """Bring the database to :func:`head`, inside the transaction that ``connection`` is in."""
    from alembic import command

    command.upgrade(config(connection), "head")


def draft(connection: Connection, message: str) -> Path:
    """Write the next migration: what the models have and the database on ``connection`` has not. For developers.

    The draft is to be read, mended, tested with a dump of the schema before it, and named in :data:`REVISIONS`.
    """
    from alembic import command

    revision = f"{len(REVISIONS) + 1:04d}"
    script = command.revision(config(connection), message, autogenerate=True, rev_id=revision)
    return Path(script.path)  # type: ignore[union-attr]
