"""``bench list``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from bench.cli import options


@click.group("list", cls=options.Group, short_help="what there is")
def command() -> None:
    """What there is: methods, datasets, metrics, runs."""


@command.command("methods")
@options.as_json()
def methods(as_json: bool) -> None:
    """Every method, and what keeps a broken one from loading."""
    from bench.registry import registry

    found = registry()
    rows = [
        {
            "name": entry.name,
            "title": entry.title,
            "origin": entry.method.origin,
            "trainable": entry.method.trainable,
            "schedules": list(entry.method.schedules),
            "inits": list(entry.method.inits),
            "summary": entry.method.summary,
        }
        for entry in found.methods.values()
    ]
    _print(rows, ("name", "title", "origin", "summary"), found.broken, as_json)


@command.command("datasets")
@options.data_root()
@options.as_json()
def datasets(data_root: Path | None, as_json: bool) -> None:
    """Every data set that has a card, and whether its files are here; bench data list says more of the files."""
    from bench.data import overview

    found = overview.examine(options.existing_folder(data_root))
    rows = [
        {
            "name": card.name,
            "here": here,
            "title": card.title,
            "modality": card.task.modality,
            "classes": list(card.task.classes),
            "splits": list(card.split_names),
            "ranked by": card.protocols[0].name,
            "stand-in": "yes" if card.stand_in else "no",
            "licence": card.licence,
        }
        for here, card in sorted(((row.state, row.card) for row in found.rows), key=lambda pair: pair[1].name)
    ]
    _print(
        rows,
        ("name", "title", "modality", "ranked by", "here"),
        {name: str(error) for name, error in found.broken.items()},
        as_json,
    )


@command.command("metrics")
@options.as_json()
def metrics(as_json: bool) -> None:
    """Every protocol with its metrics."""
    from bench.metrics import list_protocols

    rows = [
        {
            "protocol": protocol.name,
            "version": protocol.version,
            "metric": metric.name,
            "unit": metric.unit,
            "better": {True: "higher", False: "lower", None: "-"}[metric.higher_is_better],
        }
        for protocol in list_protocols()
        for metric in protocol.metrics
    ]
    _print(rows, ("protocol", "version", "metric", "unit", "better"), {}, as_json)


@command.command("runs")
@options.database()
@click.option("--dataset", help="Only of this data set.")
@click.option("--method", help="Only of this method.")
@click.option("--all", "superseded", is_flag=True, help="Superseded runs as well.")
@options.as_json()
def runs(db: str | None, dataset: str | None, method: str | None, superseded: bool, as_json: bool) -> None:
    """Every stored run, the newest first."""
    from bench.engine import stored
    from bench.report.runs import listing
    from bench.store import NoDatabaseError, open_store
    from bench.store.target import ENVIRONMENT_VARIABLE

    rows = []
    try:
        with open_store(db, read_only=True) as store:
            found = stored.listed(store, dataset=dataset, method=method, superseded=superseded)
            rows = [listing(run) for run in found]
    except NoDatabaseError as error:
        if db is not None or os.environ.get(ENVIRONMENT_VARIABLE):  # it was named
            raise
        options.tell(f"no runs yet: {error}", err=True)
        if not as_json:
            return
    _print(rows, ("run", "method", "dataset", "split", "seed", "schedule", "status", "source", "started"), {}, as_json)


def _print(rows: list[dict[str, Any]], columns: tuple[str, ...], broken: dict[str, str], as_json: bool) -> None:
    if as_json:
        options.emit({"items": rows, "broken": broken})
        return
    click.echo(options.plain_table(columns, [[str(row[c]) for c in columns] for row in rows]))
    for name, problem in broken.items():
        options.tell(f"warning: {name} is left out: {problem}", err=True)
