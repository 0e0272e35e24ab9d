"""Everything about one thing: a method, a data set, a protocol or a run."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from bench.api import Method, Schedule, UnknownNameError, UsageError
from bench.data import card_names, load_card
from bench.engine import provenance
from bench.engine.stored import files_of
from bench.metrics import protocol, protocol_names
from bench.registry import MethodEntry, registry
from bench.report.overlays import write_sheet
from bench.report.runs import listing
from bench.report.stored_runs import opened
from bench.store import NoDatabaseError, Store, StoredRun, open_store
from bench.store.files import RunFiles


def describe(name: str, *, db: str | None = None) -> dict[str, Any]:
    """Facts about whatever ``name`` names, as plain data.

    Raises:
        UnknownNameError: nothing is called so.
        UsageError: it is a number, and there is no such run.
    """
    methods = registry().methods
    if name in methods:
        return _method(methods[name])
    if name in card_names():
        return {"data set": name, **{k: v for k, v in load_card(name).plain().items() if k != "name"}}
    if name in protocol_names():
        return _protocol(name)
    run = _run_of(name, db)
    if run is not None:
        return _run(run, db)
    if _is_number(name):
        raise _no_run(name)
    families = {entry.method.name for entry in methods.values()}
    raise UnknownNameError("method, data set, protocol or run", name, {*methods, *families, *card_names()})


def picture(name: str, *, db: str | None, path: Path, count: int, data_root: Path | None = None) -> list[str]:
    """Write the outlines of a run's truth and predictions over its images, and return which.

    Of predictions with confidences, those from the run's operating point on.

    Args:
        name: of the run: its number or the beginning of its key.
        db: the store.
        path: of the picture file.
        count: how many images; those that are worst by the metric that ranks the data set come first.
        data_root: folder in which data sets lie.

    Raises:
        UsageError: no such run, the name of something else, or a run that failed.
        DataError: the data set on disk is another version than the run's, or its predictions are gone.
    """
    run = _run_of(name, db)
    if run is None:
        raise _no_run(name)
    if run.status != "ok":
        raise UsageError(f"run {run.id} failed: it has no predictions to draw", f"see why: bench show {run.id}")
    with open_store(db, read_only=True) as store:
        files = files_of(store, run)
        found = files.predictions()
        chosen = _worst_first(store, run, list(found))[:count]
    dataset = opened(run, data_root)
    split = dataset.split(run.split).take(chosen)
    samples = {sample.id: sample for sample in split}
    min_score = files.min_score()
    write_sheet(((samples[i], found[i].at_least(min_score)) for i in chosen), path)
    return chosen


def _no_run(name: str) -> UsageError:
    """Why ``name`` has no picture of a run."""
    kinds = {"method": registry().methods, "data set": card_names(), "protocol": protocol_names()}
    kind = next((kind for kind, names in kinds.items() if name in names), None)
    if kind == "data set":
        return UsageError(
            f"--picture is of a run, and {name} is a data set",
            f"its images: bench data show {name} --picture FILE.png; its runs: bench list runs --dataset {name}",
        )
    if kind is not None:
        also = f" --method {name}" if kind == "method" else ""
        return UsageError(f"--picture is of a run, and {name} is a {kind}", f"name a run: bench list runs{also}")
    return UsageError(f"there is no run {name!r} in this database", "see `bench list runs`, or name another by --db")


# -- inside -----------------------------------------------------------------------------------------


def _worst_first(store: Store, run: StoredRun, images: list[str]) -> list[str]:
    """By the first metric that has a direction; images without a number of it come last."""
    ranking = next((metric for metric in store.image_metrics(run.id) if metric[2] is not None), None)
    if ranking is None:
        return images
    protocol, metric, higher_is_better = ranking
    values = store.image_results(run.id, protocol=protocol, metric=metric).set_index("image")["value"].dropna()
    ordered = values.sort_values(ascending=bool(higher_is_better), kind="stable").index.tolist()
    return [*ordered, *(i for i in images if i not in set(ordered))]


def _run_of(name: str, db: str | None) -> StoredRun | None:
    """The run of that number or key, or None.

    Raises:
        StoreError: the database cannot be read, or there is none, and a number can name nothing but a run.
    """
    number = _is_number(name)
    try:
        with open_store(db, read_only=True) as store:
            return store.run(int(name) if number else name)
    except UnknownNameError:
        return None
    except NoDatabaseError:
        if number or db is not None:
            raise
        return None


def _is_number(name: str) -> bool:
    return name.isdecimal() and len(name) < 12


def _expected(run: StoredRun) -> int | None:
    """How many images the complete data set has, where its card is here and says so."""
    if run.source != "real" or run.dataset not in card_names():
        return None
    return load_card(run.dataset).expected.images


def _method(entry: MethodEntry) -> dict[str, Any]:
    method = entry.method
    params = method.make_params(entry.variant)
    return {
        "method": entry.name,
        "title": entry.title,
        "summary": method.summary,
        "paper": dataclasses.asdict(method.paper) if method.paper else None,
        "origin": method.origin,
        "needs": list(method.requires),
        "scores": "yes" if method.scored else "none: AP is not applicable",
        "init": list(method.inits),
        "schedules": {name: _schedule(schedule) for name, schedule in method.schedules.items()},
        "settings": {f.name: getattr(params, f.name) for f in dataclasses.fields(params)},
        "what the settings mean": _documentation(method),
        "deviations from the paper": list(method.deviations),
        "variants": [method.full_name(variant) for variant in method.variants],
        "code": inspect.getmodule(method).__name__,  # type: ignore[union-attr]
    }


def _schedule(schedule: Schedule) -> str:
    said = [f"{k} {v}" for k, v in dataclasses.asdict(schedule).items() if v not in (None, {}, "") and k != "note"]
    return ", ".join(said) + (f" ({schedule.note})" if schedule.note else "")


def _documentation(method: type[Method]) -> list[str]:
    """What the settings mean, those of the base class first, as they are listed."""
    lines: dict[str, str] = {}
    for params in reversed(method.Params.__mro__):
        _, _, attributes = inspect.cleandoc(params.__dict__.get("__doc__") or "").partition("Attributes:\n")
        name = ""
        for line in attributes.splitlines():
            if line.startswith("    ") and not line.startswith("     "):
                name = line.strip().partition(":")[0]
                lines[name] = line.strip()
            elif line.strip() and name:
                lines[name] += " " + line.strip()
    return list(lines.values())


def _protocol(name: str) -> dict[str, Any]:
    cls = protocol(name)
    made = cls()
    return {
        "protocol": name,
        "version": made.version,
        "rule": " ".join((inspect.getdoc(cls) or "").split()),
        "parameters": dict(provenance.plain(made.params)),
        "metrics": [
            {
                "name": spec.name,
                "unit": spec.unit,
                "better": "higher" if spec.higher_is_better else "lower",
                "meaning": spec.meaning,
                "undefined": spec.undefined,
            }
            for spec in made.metrics
        ],
    }


def _run(run: StoredRun, db: str | None) -> dict[str, Any]:
    with open_store(db, read_only=True) as store:
        bundle = store.bundle(run.id)
        latency = store.latency(run.id)
        said = store.provenance(run.id)
    chosen = said.arguments.get("operating_point")
    return {
        **listing(run),
        "images": run.n_images,
        "images of the data set here": bundle.dataset.n_images,
        "images of the whole data set": _expected(run),
        "results": {
            f"{r.protocol} {r.metric}": {
                "value": r.value if r.value is not None else f"undefined: {r.reason}",
                "interval": None if r.low is None else [r.low, r.high],
                "unit": r.unit,
            }
            for r in bundle.results
        },
        "counted from confidence": None if isinstance(chosen, int) else chosen,  # of a run that needs none, the rule
        "instances not learned from": {stage or "training": seen for stage, seen in RunFiles(run).dropped().items()},
        "latency": {phase: dataclasses.asdict(summary) for phase, summary in latency.items()},
        "provenance": {
            "command": run.command,
            "commit": run.commit,
            "dirty": run.dirty,
            "weights sha256": run.weights_sha256,
            "init": run.init,
            "device": run.device,
            "attempt": run.attempt,
            "training seconds": run.train_seconds,
            "prediction seconds": run.predict_seconds,
            "peak memory bytes": run.peak_memory_bytes,
            "method": dataclasses.asdict(bundle.method),
            "environment": dataclasses.asdict(bundle.environment),
            "machine": dataclasses.asdict(bundle.machine),
            "data set version": run.content_hash,
            "also trained on": list(bundle.run.arguments.get("further_data", ())),
            "weights said to be trained on": list(bundle.run.arguments.get("trained_on", ())),
            "changed from the method's defaults": bundle.run.arguments.get("changed", {}),
        },
    }
