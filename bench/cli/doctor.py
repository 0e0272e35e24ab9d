"""``bench doctor``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from bench.cli import options


@click.command("doctor", short_help="what is installed, what is missing and how to mend it")
@options.database()
@options.data_root()
@options.as_json()
def command(db: str | None, data_root: Path | None, as_json: bool) -> None:
    """What is installed, which operators and which GPU serve, which data are here, and how to mend what is missing."""
    from bench.engine.doctor import examine

    findings = examine(db=db, data_root=data_root)
    if as_json:
        options.emit([dataclasses.asdict(finding) for finding in findings])
        return
    for finding in findings:
        mark = {"ok": "ok     ", "missing": "missing", "problem": "PROBLEM"}[finding.status]
        options.tell(f"{mark}  {finding.subject}: {finding.finding}")
        if finding.remedy:
            options.tell(f"         -> {finding.remedy}")
