"""The store's frames as tables: the board of a data set, the numbers of runs, the list of runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.report.numbers import decimals, number, shown_unit
from bench.report.tables import Cell, Column, Table
from bench.store.badges import TRAINED_ON_THIS
from bench.store.queries import KEY_SHOWN

if TYPE_CHECKING:
    import pandas as pd

    from bench.store import StoredRun

_ONLY_EXPORTED = (
    *("method", "variant", "badge", "complete", "device", "started", "commit", "dirty", "origin"),
    *("submitted_by", "note", "key"),
)


def leaderboard_table(
    frame: pd.DataFrame, *, all_protocols: bool = False, columns: Sequence[str] | None = None
) -> Table:
    """The board of a data set.

    Args:
        frame: as :meth:`bench.store.Store.leaderboard` returns it, also filtered or sorted.
        all_protocols: show the numbers of every protocol, not only of the ranking one. CSV and JSON hold all.
        columns: those that people see besides rank, method and badges, by their names in the frame; default a choice.

    Raises:
        ValueError: the frame does not say what it shows (its ``attrs`` are lost).
    """
    about = frame.attrs
    if "columns" not in about:
        raise ValueError("not the frame of a leaderboard: its attrs are missing")
    made = _Columns(frame)
    made.whole("rank", "rank")
    made.text("title", "method")
    made.text("code_hash", "version", shown=_ambiguous(frame), cut=8)
    made.text("settings", "settings", shown=bool((frame["settings"].fillna("") != "").any()))
    made.whole("seed", "seed", shown=_varies(frame, "seed"))
    made.text("init", "init", shown=_varies(frame, "init"))
    made.text("schedule", "schedule", shown=_varies(frame, "schedule"))
    made.text("badges", "badges", shown=_varies(frame, "badges") or about["source"] == "synthetic")
    for key, definition in about["columns"].items():
        ranking = definition["protocol"] == about["protocol"]
        made.measure(
            key,
            definition["metric"] if ranking else f"{definition['protocol']} {definition['metric']}",
            definition["unit"],
            definition["higher_is_better"],
            shown=ranking or all_protocols,
            interval=True,
        )
    made.measure("latency_median_ms", "latency, median", "ms", False, of_machine=True)
    made.measure("latency_p95_ms", "latency, 95th percentile", "ms", False, of_machine=True)
    machines = _machines(frame)
    made.text("machine", "machine", shown=machines > 1, cut=8)
    made.whole("n_parameters", "parameters")
    made.measure("train_seconds", "training", "s", False, of_machine=True)
    made.measure("predict_seconds", "prediction", "s", False, shown=False, of_machine=True)
    made.measure("peak_memory_bytes", "peak memory", "bytes", False, shown=False, of_machine=True)
    for key in ("run_id", "n_images"):
        made.whole(key, key, shown=False)
    for key in _ONLY_EXPORTED:
        made.text(key, key, shown=False)
    if columns is not None:
        made.show({"rank", "title", "badges", *columns, *(("machine",) if machines > 1 else ())})
    return made.table(_board_title(about), _board_notes(frame, machines), about)


def results_table(frame: pd.DataFrame, *, title: str = "") -> Table:
    """Numbers of one or several runs, a row each.

    Args:
        frame: as :meth:`bench.store.Store.results` returns it.
        title: one line above.
    """
    columns = [
        Column("run_id", "run", numeric=True, shown=_varies(frame, "run_id")),
        Column("title", "method", shown=_varies(frame, "run_id")),
        Column("dataset", "data set", shown=_varies(frame, "dataset")),
        Column("protocol", "protocol"),
        Column("metric", "metric"),
        Column("value", "value", numeric=True),
        Column("interval", "95 % interval", numeric=True, exported=False),
        Column("low", "low", shown=False),
        Column("high", "high", shown=False),
        Column("unit", "unit"),
        Column("better", "better"),
        Column("n", "images", numeric=True),
        Column("reason", "reason", shown=False),
    ]
    better = {True: "higher", False: "lower"}
    rows = []
    for r in _rows(frame):
        factor, unit = shown_unit(r["unit"])
        values = [None if r[part] is None else r[part] * factor for part in ("value", "low", "high")]
        places = decimals(values[:1], unit)
        texts = [None if v is None else number(v, places) for v in values]
        interval = None if texts[1] is None else f"{texts[1]} to {texts[2]}"
        rows.append(
            (
                _cell(r["run_id"]),
                _cell(r["title"]),
                _cell(r["dataset"]),
                _cell(r["protocol"]),
                _cell(r["metric"]),
                Cell(texts[0], r["value"], r["reason"]),
                Cell(interval or ""),
                _cell(r["low"]),
                _cell(r["high"]),
                Cell(unit, r["unit"]),
                Cell(better.get(r["higher_is_better"], ""), better.get(r["higher_is_better"])),
                _cell(r["n"]),
                _cell(r["reason"]),
            )
        )
    return Table(tuple(columns), tuple(rows), title)


def runs_table(
    runs: Sequence[StoredRun], *, title: str = "", badges: Mapping[int, Sequence[str]] | None = None
) -> Table:
    """A list of runs; needs no pandas.

    Args:
        runs: what is listed.
        title: one line above.
        badges: of each run, by its number, as :meth:`bench.store.Store.badges` gives them; default how it came about.
    """
    columns = (
        Column("id", "run", numeric=True),
        Column("method", "method"),
        Column("dataset", "data set"),
        Column("source", "source"),
        Column("split", "split"),
        Column("schedule", "schedule"),
        Column("seed", "seed", numeric=True),
        Column("status", "status"),
        Column("badge", "badges"),
        Column("latency_median_ms", "latency, median", "ms", "ms", higher_is_better=False, numeric=True),
        Column("started", "started (UTC)"),
        Column("key", "key"),
        Column("failure", "failure", shown=any(run.failure for run in runs)),
    )
    places = decimals([run.latency_median_ms for run in runs], "ms")
    rows = tuple(
        (
            _cell(run.id),
            _cell(run.method),
            _cell(run.dataset),
            _cell(run.source),
            _cell(run.split),
            _cell(run.schedule),
            _cell(run.seed),
            Cell(_status(run), run.status),
            _cell(", ".join(badges[run.id]) if badges else run.badge),
            Cell(
                None if run.latency_median_ms is None else number(run.latency_median_ms, places),
                run.latency_median_ms,
            ),
            Cell(run.started.strftime("%Y-%m-%d %H:%M"), run.started.isoformat()),
            Cell(run.key[:KEY_SHOWN], run.key),
            Cell(_first_line(run.failure), run.failure),
        )
        for run in runs
    )
    return Table(columns, rows, title)


# -- inside -----------------------------------------------------------------------------------------------


class _Columns:
    """Columns of a table, gathered one by one from a frame."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._rows = _rows(frame)
        self._columns: list[Column] = []
        self._cells: list[list[Cell]] = []

    def text(self, key: str, header: str, *, shown: bool = True, cut: int | None = None) -> None:
        """A column of words; ``cut`` shows only so many characters."""
        cells = []
        for row in self._rows:
            value = row[key]
            text = "" if value is None else str(value)
            cells.append(Cell(text[:cut], value if value is None or isinstance(value, bool) else str(value)))
        self._add(Column(key, header, shown=shown), cells)

    def whole(self, key: str, header: str, *, shown: bool = True) -> None:
        """A column of whole numbers, empty where there is none."""
        cells = []
        for row in self._rows:
            value = None if row[key] is None else int(row[key])
            cells.append(Cell("" if value is None else f"{value:,}" if key == "n_parameters" else str(value), value))
        self._add(Column(key, header, numeric=True, shown=shown), cells)

    def measure(
        self,
        key: str,
        header: str,
        unit: str,
        higher_is_better: bool | None,
        *,
        shown: bool = True,
        interval: bool = False,
        of_machine: bool = False,
    ) -> None:
        """A column of numbers in their unit; with ``interval``, the columns ``:low`` and ``:high`` beside it.

        What is ``of_machine`` has a best only where all that rank were run on one machine.
        """
        factor, unit_shown = shown_unit(unit)
        values = [row[key] for row in self._rows]
        lows = [row[f"{key}:low"] if interval else None for row in self._rows]
        highs = [row[f"{key}:high"] if interval else None for row in self._rows]
        places = decimals([None if v is None else v * factor for v in values], unit_shown)
        at = self._best(values, higher_is_better, of_machine)
        best = None if at is None else values[at]
        best_low, best_high = (None, None) if at is None else (lows[at], highs[at])
        cells = []
        for row, value, low, high in zip(self._rows, values, lows, highs, strict=True):
            text = None if value is None else number(value * factor, places)
            if text is not None and low is not None and high is not None:
                text += f" [{number(low * factor, places)}, {number(high * factor, places)}]"
            ranked = row.get("rank") is not None
            is_best = ranked and best is not None and value == best
            tied = ranked and not is_best and _overlap(low, high, best_low, best_high)
            cells.append(Cell(text, value, row.get(f"{key}:reason"), best=is_best, tied=tied))
        self._add(Column(key, header, unit_shown, unit, higher_is_better, True, shown), cells)
        if interval:
            for part, numbers in (("low", lows), ("high", highs)):
                name = f"{header}, {part}"
                self._add(Column(f"{key}:{part}", name, unit_shown, unit, shown=False), [_cell(v) for v in numbers])
            self._add(
                Column(f"{key}:reason", f"{header}, reason", shown=False),
                [_cell(row[f"{key}:reason"]) for row in self._rows],
            )

    def show(self, keys: Collection[str]) -> None:
        """Show these columns and no others."""
        self._columns = [dataclasses.replace(column, shown=column.key in keys) for column in self._columns]

    def table(self, title: str, notes: Iterable[str], about: Mapping[Any, Any]) -> Table:
        """All of them."""
        rows = tuple(zip(*self._cells, strict=True)) if self._rows else ()
        return Table(tuple(self._columns), rows, title, tuple(notes), dict(about))

    def _add(self, column: Column, cells: list[Cell]) -> None:
        self._columns.append(column)
        self._cells.append(cells)

    def _best(
        self, values: Sequence[float | None], higher_is_better: bool | None, of_machine: bool = False
    ) -> int | None:
        """The row with the best value among those that have a rank, the first of several."""
        ranked = [
            (value if higher_is_better else -value, i)
            for i, (value, row) in enumerate(zip(values, self._rows, strict=True))
            if value is not None and row.get("rank") is not None
        ]
        if not ranked or higher_is_better is None:
            return None
        if of_machine and len({self._rows[i]["machine"] for _, i in ranked}) > 1:
            return None
        return max(ranked, key=lambda pair: (pair[0], -pair[1]))[1]


def _overlap(low: float | None, high: float | None, other_low: float | None, other_high: float | None) -> bool:
    if low is None or high is None or other_low is None or other_high is None:
        return False
    return low <= other_high and other_low <= high


def _board_title(about: Mapping[Any, Any]) -> str:
    source = ", generated stand-in" if about["source"] == "synthetic" else ""
    ranked = f"ranked by {about['protocol']} {about['metric']}" if about["metric"] else "not ranked"
    schedule = f", schedule {about['schedule']}" if about["schedule"] else ""
    return f"{about['title']}{source}: split {about['split']}{schedule}, {ranked}"


def _board_notes(frame: pd.DataFrame, machines: int) -> list[str]:
    about = frame.attrs
    notes = [f"data set {about['dataset']}, version {about['content_hash'][:KEY_SHOWN]} ({about['source']})"]
    if about["protocol_version"] is not None:
        notes[0] += f"; protocol {about['protocol']}, version {about['protocol_version']}"
    if about["other_versions"]:
        others = ", ".join(f"{o['content_hash'][:KEY_SHOWN]} ({o['source']})" for o in about["other_versions"])
        notes.append(f"other versions of the data set have boards of their own: {others}")
    if frame["rank"].isna().any():
        notes.append("without a rank: controls, runs of part of the images or of a short schedule, undefined numbers")
    if frame["badges"].str.contains(TRAINED_ON_THIS, regex=False).any():
        notes.append(
            f"{TRAINED_ON_THIS}: trained on images of this data set beyond its training split; without a rank where "
            "they may be the evaluated ones"
        )
    if machines > 1:
        notes.append("times and memory are of different machines, are compared only within one, and have no best here")
    return notes


def _machines(frame: pd.DataFrame) -> int:
    """On how many machines the times of a board were taken."""
    timed = frame["latency_median_ms"].notna() | frame["train_seconds"].notna()
    return int(frame.loc[timed, "machine"].nunique())


def _ambiguous(frame: pd.DataFrame) -> bool:
    """Whether two rows differ in nothing but the version of the method."""
    return bool(frame.duplicated(["title", "seed", "init", "schedule", "settings"]).any())


def _varies(frame: pd.DataFrame, column: str) -> bool:
    return bool(frame[column].nunique(dropna=False) > 1)


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain Python values, None for what is missing."""
    plain = frame.astype(object).where(frame.notna(), None)
    rows: list[dict[str, Any]] = plain.to_dict(orient="records")  # type: ignore[assignment]
    return rows


def _cell(value: Any) -> Cell:
    return Cell("" if value is None else str(value), value)


def _status(run: StoredRun) -> str:
    words = [run.status if run.failure_kind is None else f"failed: {run.failure_kind.replace('_', ' ')}"]
    if run.superseded:
        words.append("superseded")
    if not run.complete and run.status == "ok":
        words.append("incomplete")
    return ", ".join(words)


def _first_line(text: str | None) -> str:
    """The first line of a failure, short enough for a list."""
    line = (text or "").strip().split("\n")[0]
    return line if len(line) <= 80 else f"{line[:77]}..."
