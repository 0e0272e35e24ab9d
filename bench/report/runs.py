"""What ``bench run`` prints: the plan, and the rows of the runs that were made or found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records import ResultRecord, part_of_metric
from bench.report.numbers import quantity
from bench.report.tables import Table, simple, to_text

if TYPE_CHECKING:
    from bench.engine.service import FinishedRun

SHOWN_METRICS = 6
"""Numbers of a protocol in a row for people; ``bench show`` has all of them."""


def plan_table(plans: Sequence[Mapping[str, Any]]) -> str:
    """What would run, and why, for people."""
    rows = [
        (
            plan["method"],
            plan["dataset"] + (" (stand-in)" if plan["source"] == "synthetic" else ""),
            plan["split"],
            plan["seed"],
            plan["schedule"]["name"],
            plan["init"],
            plan["device"],
            plan["action"],
            plan["why"],
        )
        for plan in plans
    ]
    return to_text(simple(("method", "data set", "split", "seed", "schedule", "init", "device", "does", "why"), rows))


def run_tables(finished: Sequence[FinishedRun]) -> str:
    """One table a data set version and protocol, then where everything is stored."""
    blocks = []
    for (dataset, source, split), runs in _grouped(finished).items():
        mark = ", generated stand-in" if source == "synthetic" else ""
        shown = [(result.protocol, part_of_metric(result.metric)[1]) for run in runs for result in run.results]
        for protocol, part in sorted(dict.fromkeys(shown), key=lambda pair: pair[1] is not None):
            where = f"split {split}" if part is None else f"only {part} of split {split}"
            blocks.append(
                to_text(_protocol_table(f"{dataset}{mark}: {where}, protocol {protocol}", protocol, part, runs))
            )
    failed = [run for run in finished if run.error is not None]
    if failed:
        rows = [(run.stored.id, run.stored.method, run.stored.dataset, run.stored.failure) for run in failed]
        blocks.append(to_text(simple(("run", "method", "data set", "failure"), rows, title="failed")))
    blocks.append("\n".join(_where(run) for run in finished))
    return "\n\n".join(blocks)


def as_plain(run: FinishedRun) -> dict[str, Any]:
    """A run for programs."""
    stored = run.stored
    return {
        "run": stored.id,
        "key": stored.key,
        "method": stored.method,
        "dataset": stored.dataset,
        "dataset_version": stored.content_hash,
        "source": stored.source,
        "split": stored.split,
        "seed": stored.seed,
        "schedule": stored.schedule,
        "complete": stored.complete,
        "init": stored.init,
        "device": stored.device,
        "status": stored.status,
        "failure": stored.failure,
        "n_images": stored.n_images,
        "new": run.new,
        "database": run.database,
        "folder": stored.folder,
        "protocols": _numbers(run.results),
    }


def listing(run: Any) -> dict[str, Any]:
    """A stored run as one line of ``bench list runs``."""
    return {
        "run": run.id,
        "method": run.method,
        "dataset": run.dataset,
        "split": run.split,
        "seed": run.seed,
        "schedule": run.schedule,
        "status": run.status if not run.superseded else f"{run.status}, superseded",
        "source": run.source,
        "complete": run.complete,
        "started": run.started.strftime("%Y-%m-%d %H:%M"),
        "failure": run.failure,
        "folder": run.folder,
        "key": run.key,
    }


def _numbers(results: Sequence[ResultRecord]) -> dict[str, dict[str, Any]]:
    numbers: dict[str, dict[str, Any]] = {}
    for result in results:
        numbers.setdefault(result.protocol, {})[result.metric] = {
            "value": result.value,
            "reason": result.reason,
            "low": result.low,
            "high": result.high,
            "unit": result.unit,
        }
    return numbers


def _grouped(finished: Sequence[FinishedRun]) -> dict[tuple[str, str, str], list[FinishedRun]]:
    groups: dict[tuple[str, str, str], list[FinishedRun]] = {}
    for run in finished:
        if run.results:
            groups.setdefault((run.stored.dataset, run.stored.source, run.stored.split), []).append(run)
    return groups


def _protocol_table(title: str, protocol: str, part: str | None, runs: Sequence[FinishedRun]) -> Table:
    by_run = [
        {
            part_of_metric(r.metric)[0]: r
            for r in run.results
            if r.protocol == protocol and part_of_metric(r.metric)[1] == part
        }
        for run in runs
    ]
    metrics = list(dict.fromkeys(metric for results in by_run for metric in results))[:SHOWN_METRICS]
    rows = [
        (
            run.stored.id,
            run.stored.title,
            run.stored.seed,
            run.stored.schedule,
            run.stored.n_images if part is None else max((r.n or 0 for r in results.values()), default=0),
            *(_cell(results.get(metric)) for metric in metrics),
        )
        for run, results in zip(runs, by_run, strict=True)
    ]
    reasons = dict.fromkeys(
        f"{metric} of {run.stored.title}: {result.reason}"
        for run, results in zip(runs, by_run, strict=True)
        for metric, result in results.items()
        if metric in metrics and result.value is None
    )
    return simple(("run", "method", "seed", "schedule", "images", *metrics), rows, title=title, notes=list(reasons))


def _cell(result: ResultRecord | None) -> str | None:
    if result is None or result.value is None:
        return None
    text = quantity(result.value, result.unit)
    if result.low is None or result.high is None:
        return text
    return f"{text} [{quantity(result.low, result.unit)}, {quantity(result.high, result.unit)}]"


def _where(run: FinishedRun) -> str:
    how = "stored" if run.new else "was already stored"
    return f"run {run.stored.id} {how} in {run.database}, files in {_near(Path(run.stored.folder))}"


def _near(path: Path) -> str:
    """Relative to where the user stands, if it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
