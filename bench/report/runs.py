"""What ``bench run`` prints: the plan, and the rows of the runs that were made or found."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.overview import is_partial
from bench.records import ResultRecord, part_of_metric
from bench.report.numbers import quantity
from bench.report.tables import Table, simple, to_text
from bench.text import visible
from bench.text import width as columns

if TYPE_CHECKING:
    from bench.engine.service import FinishedRun
    from bench.store import StoredRun

SHOWN_METRICS = 6
"""Numbers of a protocol in a row for people; ``bench show`` has all of them."""
MIN_METHOD, MAX_METHOD = 8, 32
"""Characters of a method's name that a narrow terminal shows at least and at most."""


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


def run_tables(finished: Sequence[FinishedRun], width: int | None = None) -> str:
    """The numbers of runs, then where everything is stored.

    One table a data set version and protocol. Where one of them is wider than the terminal, there is one table a data
    set version instead: the ranking number with its interval, and the first number of every other protocol, in as many
    rows of columns as it takes.

    Args:
        finished: the runs.
        width: of the terminal, in characters; None is as wide as it takes.
    """
    blocks = []
    for (dataset, source, split), runs in _grouped(finished).items():
        title = f"{dataset}{', generated stand-in' if source == 'synthetic' else ''}"
        tables = [
            _protocol_table(f"{title}: {_images_of(split, part)}, protocol {protocol}", protocol, part, runs)
            for protocol, part in _protocols(runs)
        ]
        texts = [to_text(table) for table in tables]
        if width is not None and any(columns(line) > width for text in texts for line in _body(text)):
            texts = _summary(title, split, runs, width)
        blocks += texts
    failed = [run for run in finished if run.error is not None]
    if failed:
        rows = [(run.stored.id, run.stored.method, run.stored.dataset, run.stored.failure) for run in failed]
        blocks.append(to_text(simple(("run", "method", "data set", "failure"), rows, title="failed")))
    blocks.append("\n".join(visible(_where(run)) for run in finished))
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


def listing(run: StoredRun) -> dict[str, Any]:
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


def for_people(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`bench.engine.describe.describe` says of a run, in the units and decimals of the tables.

    Facts about anything else stay as they are.
    """
    if "results" not in facts:
        return dict(facts)
    here, whole = facts["images of the data set here"], facts["images of the whole data set"]
    changed = {
        "images of the data set here": None,
        "images of the whole data set": f"{here} of {whole} are here" if is_partial(here, whole) else None,
        "results": {_named(name): _result(result) for name, result in facts["results"].items()},
        "instances not learned from": {
            stage: _not_learned(seen) for stage, seen in facts["instances not learned from"].items()
        },
        "latency": {phase: _latency(said) for phase, said in facts["latency"].items()},
    }
    return {name: changed.get(name, value) for name, value in facts.items()}


def _named(result: str) -> str:
    """The speed by the median stands beside that of all images together, which differs where times are uneven."""
    return f"{result} (at the median latency)" if result.endswith(" images_per_second") else result


def _result(result: Mapping[str, Any]) -> str:
    value, unit = result["value"], result["unit"]
    if not isinstance(value, int | float):
        return str(value)
    text = quantity(value, unit) or "undefined"
    if result["interval"] is None:
        return text
    low, high = (quantity(bound, unit) for bound in result["interval"])
    return f"{text}, 95 % interval {low} to {high}"


def _not_learned(seen: Mapping[str, Any]) -> str:
    dropped = dict(seen.get("dropped") or {})
    text = f"{sum(dropped.values())} of {seen.get('instances')} instances"
    if dropped:
        text += " (" + ", ".join(f"{reason}: {count}" for reason, count in dropped.items()) + ")"
    return f"{text}, of {seen.get('examples')} {seen.get('counted', 'examples')}"


def _latency(said: Mapping[str, Any]) -> str:
    times = [f"{name} {quantity(said[key], 'ms')}" for name, key in _TIMES]
    rate = quantity(said["images_per_second"], "images/s")
    over = [] if rate is None else [f"{rate} over all of them together"]
    return f"{', '.join([*times, *over])} ({said['n']} samples)"


_TIMES = (("median", "median_ms"), ("95th percentile", "p95_ms"), ("interquartile range", "iqr_ms"))


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


def _protocols(runs: Sequence[FinishedRun]) -> list[tuple[str, str | None]]:
    """Each protocol, and each with a part of the split: the whole split first, the ranking protocol before others."""
    shown = [(result.protocol, part_of_metric(result.metric)[1]) for run in runs for result in run.results]
    return sorted(dict.fromkeys(shown), key=lambda pair: pair[1] is not None)


def _images_of(split: str, part: str | None) -> str:
    return f"split {split}" if part is None else f"only {part} of split {split}"


def _numbers_of(run: FinishedRun, protocol: str, part: str | None) -> dict[str, ResultRecord]:
    named = ((*part_of_metric(r.metric), r) for r in run.results if r.protocol == protocol)
    return {metric: r for metric, its, r in named if its == part}


def _protocol_table(title: str, protocol: str, part: str | None, runs: Sequence[FinishedRun]) -> Table:
    by_run = [_numbers_of(run, protocol, part) for run in runs]
    every = list(dict.fromkeys(metric for results in by_run for metric in results))
    metrics = every[:SHOWN_METRICS]
    rows = [
        (
            *_who(run),
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
    more = [f"and {len(every) - len(metrics)} more numbers: {_how_to_see(runs)}"] if len(every) > len(metrics) else []
    return simple((*_WHO, "images", *metrics), rows, title=title, notes=[*reasons, *more])


_WHO = ("run", "method", "seed", "schedule")


def _who(run: FinishedRun) -> tuple[int, str, int, str]:
    return run.stored.id, run.stored.title, run.stored.seed, run.stored.schedule


def _how_to_see(runs: Sequence[FinishedRun]) -> str:
    named = f"{runs[0].stored.id}" if len(runs) == 1 else "RUN"
    return f"`bench show {named}` has all of them, and --json"


def _summary(title: str, split: str, runs: Sequence[FinishedRun], width: int) -> list[str]:
    """The first number of each protocol; columns that do not fit beside the run's name follow below."""
    heads: list[tuple[str, list[str | None]]] = []
    for protocol, part in _protocols(runs):
        by_run = [_numbers_of(run, protocol, part) for run in runs]
        metric = next(iter(dict.fromkeys(metric for results in by_run for metric in results)))
        of = "" if part is None else f" ({part})"
        cells = [_cell(results.get(metric), interval=not heads) for results in by_run]
        heads.append((f"{protocol} {metric}{of}" + (" [95 %]" if not heads else ""), cells))
    stub = [(str(run.stored.id), visible(run.stored.title)) for run in runs]
    room = max(MIN_METHOD, width - 2 - max(len("run"), *(len(number) for number, _ in stub)))
    about: list[tuple[str, list[str | None]]] = [
        ("method", [_shortened(name, min(room, MAX_METHOD)) for _, name in stub]),
        heads[0],
        ("seed", [str(run.stored.seed) for run in runs]),
        ("schedule", [run.stored.schedule for run in runs]),
        ("images", [str(run.stored.n_images) for run in runs]),
        *heads[1:],
    ]
    texts: list[str] = []
    while about:
        count = len(about)
        text = _columns(stub, about, title=f"{title}: split {split}" if not texts else "")
        while count > 1 and max(columns(line) for line in _body(text)) > width:
            count -= 1
            text = _columns(stub, about[:count], title=f"{title}: split {split}" if not texts else "")
        texts.append(text)
        del about[:count]
    undefined = any(cell is None for _, cells in heads for cell in cells)
    texts[-1] += "\n" + "\n".join(
        textwrap.wrap(
            f"the first number of each protocol; {_how_to_see(runs)}"
            + ("; they say why a number is undefined (–)" if undefined else ""),
            width,
        )
    )
    return texts


def _columns(stub: Sequence[tuple[str, str]], about: Sequence[tuple[str, list[str | None]]], title: str) -> str:
    rows = [(int(number), *(cells[i] for _, cells in about)) for i, (number, _) in enumerate(stub)]
    return to_text(simple(("run", *(head for head, _ in about)), rows, title=title))


def _body(text: str) -> list[str]:
    """The lines of a written table; a note below it may be longer, and is wrapped by the terminal."""
    lines = text.split("\n")
    rule = next(i for i, line in enumerate(lines) if line and not line.strip("─- "))
    end = next((i for i in range(rule, len(lines)) if not lines[i]), len(lines))
    return lines[rule - 1 : end]


def _shortened(text: str, most: int) -> str:
    """A name of at most ``most`` characters; "…" stands for what is left out of its middle."""
    if len(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def _cell(result: ResultRecord | None, *, interval: bool = True) -> str | None:
    if result is None or result.value is None:
        return None
    text = quantity(result.value, result.unit)
    if not interval or result.low is None or result.high is None:
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
