"""Which database is meant: a path, or any SQLAlchemy URL."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from bench.errors import StoreError

ENVIRONMENT_VARIABLE = "BENCH_DB"
DEFAULT_NAME = "bench.db"

_MEMORY = ":memory:"
_URL = re.compile(r"[A-Za-z][\w+.-]*://|sqlite:|postgres(ql)?:")
_EXAMPLES = "it looks like sqlite:///bench.db or postgresql+psycopg://user:password@host:5432/name"
_SUPPORTED = "a store lies in SQLite or PostgreSQL"


@dataclass(frozen=True)
class Target:
    """Where a store lies.

    Attributes:
        url: the SQLAlchemy URL. It may hold a password: show :attr:`shown` instead.
        path: the file, absolute, where it is an SQLite file.
    """

    url: URL
    path: Path | None = None

    @property
    def in_memory(self) -> bool:
        """Whether it is an SQLite database without a file."""
        return self.url.get_backend_name() == "sqlite" and self.path is None

    @property
    def shown(self) -> str:
        """How it is named in messages: the path, or the URL without password and parameters."""
        if self.path is not None:
            return str(self.path)
        return self.url.set(query={}).render_as_string(hide_password=True)

    @classmethod
    def parse(cls, target: str | Path | None = None) -> Target:
        """Read what the user gave; None is ``$BENCH_DB``, or ``bench.db`` in the current folder.

        Raises:
            StoreError: a URL that is none, or of a kind that cannot hold a store.
        """
        if target is None:
            target = os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_NAME
        text = str(target)
        if not text.strip():
            raise StoreError("the name of the database is empty", "give a path or an SQLAlchemy URL")
        if isinstance(target, str) and text == _MEMORY:
            return cls(URL.create("sqlite"))
        if isinstance(target, str) and _URL.match(text):
            return cls._parse_url(text)
        return cls._at(text)

    @classmethod
    def _parse_url(cls, text: str) -> Target:
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            # The text may hold a password, and so may the reason: neither is printed.
            raise StoreError("the URL of the database cannot be read", _EXAMPLES) from None
        try:
            dialect = url.get_dialect()
        except NoSuchModuleError:
            raise StoreError(f"no kind of database is called {url.drivername!r}", _EXAMPLES) from None
        if dialect.is_async:
            raise StoreError(f"{url.drivername} is an asynchronous driver, which is of no use here", _EXAMPLES)
        if url.get_backend_name() == "postgresql":
            return cls(url)
        if dialect.driver != "pysqlite":
            raise StoreError(f"a database of the kind {url.drivername!r} cannot hold a store", _SUPPORTED)
        if url.query or (url.database or "").startswith("file:"):
            raise StoreError("an SQLite URL with parameters is not supported", "give the path of the file alone")
        if url.database in (None, "", _MEMORY):
            return cls(URL.create("sqlite"))
        return cls._at(str(url.database))

    @classmethod
    def _at(cls, path: str) -> Target:
        if "\0" in path:
            raise StoreError(f"{path!r} cannot be the name of a file", "it holds a NUL character")
        try:
            absolute = Path(path).expanduser().absolute()
        except RuntimeError:  # ~ of somebody who is not known here
            absolute = Path(path).absolute()
        return cls(URL.create("sqlite", database=str(absolute)), absolute)
