"""Scoring files against files, without a data set, a run or a store: what ``bench score`` does."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.api import OutputError, UsageError
from bench.data.system import write_whole
from bench.engine.file_pairs import FilePairs
from bench.metrics import Scorer, Scores, protocol, protocol_names
from bench.metrics.scoring import Progress


def protocols_with(names: str, settings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The protocols asked for, with each setting at every one that has such a parameter.

    Args:
        names: ``all``, or names separated by commas.
        settings: ``parameter`` or ``protocol.parameter`` -> value.

    Raises:
        UnknownNameError: no such protocol.
        UsageError: none is named, or a setting that none of them has.
    """
    chosen = list(protocol_names()) if names.strip() == "all" else [n.strip() for n in names.split(",") if n.strip()]
    known = {name: protocol(name).parameters() for name in chosen}
    found: dict[str, dict[str, str]] = {name: {} for name in chosen}
    for setting, value in settings.items():
        at, _, parameter = setting.rpartition(".")
        takers = [name for name in chosen if parameter in known[name] and at in ("", name)]
        if not takers:
            everything = sorted({p for parameters in known.values() for p in parameters})
            raise UsageError(
                f"no protocol asked for has a parameter {setting!r}", f"there are: {', '.join(everything) or 'none'}"
            )
        for name in takers:
            found[name][parameter] = value
    return found


def score_files(
    truth: Path,
    prediction: Path,
    protocols: Mapping[str, Mapping[str, Any]],
    *,
    rle: str | None = None,
    min_score: float | None = None,
    workers: int = 1,
    intervals: bool = False,
    images: bool = True,
    progress: Progress | None = None,
) -> Scores:
    """Score the predictions in files against the truth in files; see :class:`FilePairs` and :class:`Scorer`.

    Raises:
        UnknownNameError, UsageError: the protocols or their parameters.
        DataError: the files.
    """
    pairs = FilePairs(truth, prediction, rle)
    scorer = Scorer(protocols, classes=pairs.classes, intervals=intervals, images=images, min_score=min_score)
    scorer.add_all(pairs, workers=workers, progress=progress)
    del pairs  # what was read is not needed for the sums, and large files need room
    return scorer.result()


def as_plain(scores: Scores) -> dict[str, Any]:
    """The scores as plain data for JSON: undefined numbers are None, with the reason under ``reasons``."""
    results = {name: found.results for name, found in scores.protocols.items()}
    plain: dict[str, Any] = {
        "n_images": scores.n_images,
        "n_truth": scores.n_truth,
        "n_pred": scores.n_predictions,
        "protocols": {name: {r.metric: r.value for r in found} for name, found in results.items()},
        "reasons": {
            name: {r.metric: r.reason for r in found if r.reason}
            for name, found in results.items()
            if any(r.reason for r in found)
        },
        "units": {name: {r.metric: r.unit for r in found} for name, found in results.items()},
        "rules": {
            name: {"version": found.version, "params": dict(found.params)} for name, found in scores.protocols.items()
        },
    }
    if any(r.low is not None for found in results.values() for r in found):
        plain["intervals"] = {
            name: {r.metric: None if r.low is None else [r.low, r.high] for r in found}
            for name, found in results.items()
        }
    return plain


def table(scores: Scores) -> tuple[tuple[str, ...], list[list[str]]]:
    """Head and rows of the scores for a terminal; an undefined number is a dash with its reason."""
    rows = []
    with_intervals = any(r.low is not None for found in scores.protocols.values() for r in found.results)
    for name, found in scores.protocols.items():
        for r in found.results:
            value = "-" if r.value is None else f"{r.value:.4f}"
            spread = [] if not with_intervals else ["" if r.low is None else f"{r.low:.4f} to {r.high:.4f}"]
            rows.append([name, r.metric, value, *spread, r.unit, r.reason or ""])
    head = ("protocol", "metric", "value", *(("95 % interval",) if with_intervals else ()), "unit", "")
    return head, rows


def write_json(path: Path, scores: Scores) -> None:
    """Write the scores, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    _write(path, (json.dumps(as_plain(scores), indent=2, allow_nan=False) + "\n").encode())


def write_images(path: Path, scores: Scores) -> None:
    """Write the values of single images as CSV, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("image", "protocol", "metric", "value", "tp", "fp", "fn"))
    for name, found in scores.protocols.items():
        for image in found.images:
            row = (image.image_key, name, image.metric, image.value, image.tp, image.fp, image.fn)
            writer.writerow("" if cell is None else cell for cell in row)
    _write(path, table.getvalue().encode("utf-8", "backslashreplace"))


def _write(path: Path, content: bytes) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: cannot be written: there is no folder {path.parent}", "make it, or name another")
    write_whole(path, content)
