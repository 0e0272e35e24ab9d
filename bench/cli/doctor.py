"""``bench doctor``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from bench.cli import options


@click.command("doctor", cls=options.Command, short_help="what is installed, what is missing and how to mend it")
@options.database()
@options.data_root()
@options.as_json()
def command(db: str | None, data_root: Path | None, as_json: bool) -> None:
    """What is installed, which operators and which GPU serve, which data are here, and how to mend what is missing.

    Ends with the exit code of a command that needs it where the database, the folder of runs or the chosen operators
    cannot be used; what is merely missing is none.
    """
    from bench.engine.doctor import examine, failure

    findings = examine(db=db, data_root=data_root)
    if as_json:
        options.emit([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = {"ok": "ok     ", "missing": "missing", "problem": "PROBLEM"}[finding.status]
            options.tell(f"{mark}  {finding.subject}: {finding.finding}")
            if finding.remedy:
                options.tell(f"         -> {finding.remedy}")
    grave = failure(findings)
    if grave is not None:
        raise grave
