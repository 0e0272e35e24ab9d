"""What is kept of how a run was made, and what is not."""

from __future__ import annotations

import json
import sys

import pytest

from bench.cli import main
from bench.engine import provenance
from bench.store import open_store


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("--db=postgresql+psycopg://ada:s3cr3t@host:5432/db", "--db=postgresql+psycopg://ada:***@host:5432/db"),
        ("postgresql://ada:p%40ss:w0rd@host/db", "postgresql://ada:***@host/db"),
        ("postgresql://host/db?user=ada&password=s3cr3t&x=1", "postgresql://host/db?user=ada&password=***&x=1"),
        ("postgresql://:s3cr3t@/db", "postgresql://:***@/db"),
        ("https://example.org/a:b", "https://example.org/a:b"),
        ("mailto:ada@example.org", "mailto:ada@example.org"),
        ("sqlite:///bench.db", "sqlite:///bench.db"),
    ],
)
def test_the_command_is_kept_without_passwords(monkeypatch: pytest.MonkeyPatch, typed: str, kept: str):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bench", "run", "--db", typed])
    assert provenance.command_line().replace("'", "") == f"bench run --db {kept}"


def test_no_password_reaches_the_store_or_a_run_folder(workplace, monkeypatch: pytest.MonkeyPatch, capsys):
    typed = ["run", "-m", "truth", "-d", "tiny", "--data-root", "data"]
    monkeypatch.setattr(sys, "argv", ["bench", *typed, "--db", "postgresql://ada:s3cr3t@host/db"])
    with pytest.raises(SystemExit) as exit_:
        main([*typed, "--json"])
    assert not exit_.value.code
    (run,) = json.loads(capsys.readouterr().out)
    with open_store(read_only=True) as store:
        assert store.run(run["run"]).command.endswith("postgresql://ada:***@host/db'")
    for path in workplace.rglob("*"):
        assert not path.is_file() or b"s3cr3t" not in path.read_bytes(), path


def test_the_hash_of_a_methods_code_is_taken_once(monkeypatch: pytest.MonkeyPatch):
    from bench.registry import find_method

    method = find_method("truth").method
    first = provenance.code_hash(method)
    monkeypatch.setattr(provenance, "ast", None)  # nothing is parsed again
    assert provenance.code_hash(method) == first
