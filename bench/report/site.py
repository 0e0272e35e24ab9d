"""A static copy of the board: plain HTML files that open without a server, for the web page of a lab.

Everything that a run, a submission or a card says is text to these pages: templates escape it, and the only script
that a browser may run is the one that sorts tables.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.overview import is_partial
from bench.errors import OutputError, UsageError, writing_hint
from bench.records import ReportedResultRecord
from bench.report.bibtex import bibliography, submissions
from bench.report.boards import leaderboard_table
from bench.report.escape import visible
from bench.report.numbers import quantity
from bench.report.tables import Table, render, simple
from bench.store.identity import SUBMITTED
from bench.store.queries import KEY_SHOWN

if TYPE_CHECKING:
    import pandas as pd

    from bench.store import Store, StoredDataset, StoredRun

MARK = ".cellseg-bench"
"""File that says that a folder was made here and may be replaced."""

DOWNLOADS = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "json": "JSON"}
_FORMATS = {"csv": "csv", "md": "markdown", "tex": "latex", "json": "json"}

Board = Callable[["StoredDataset", str], "pd.DataFrame"]
"""Makes the frame of a data set version and a split."""

Charts = Callable[["pd.DataFrame"], Sequence[str]]
"""Makes SVG pictures of a board."""


def write_site(
    store: Store,
    folder: Path,
    board: Board,
    *,
    title: str = "Instance segmentation of cells and nuclei",
    reported: Mapping[str, str] | None = None,
    charts: Charts | None = None,
    made: datetime | None = None,
) -> int:
    """Write a page for every board and every run of it, and return how many pages there are.

    Args:
        store: opened for reading.
        folder: new, empty, or made here before; then it is replaced as a whole.
        board: makes a board's frame.
        title: of the front page.
        reported: BibTeX of the papers whose numbers stand beside the measured ones, by the paper's name.
        charts: pictures of a board, as SVG.
        made: the time that the pages name; default now.

    Raises:
        UsageError: the folder holds something else.
        OutputError: it cannot be written, or the folder around it is not there.
    """
    if not folder.parent.is_dir():
        raise OutputError(f"{folder}: there is no folder {folder.parent}", "make it, or name another")
    if folder.exists() and not (folder / MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something else", "name a new or empty folder")
    try:
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            pages = _Site(store, new, board, title, reported or {}, charts, made or datetime.now(UTC)).write()
            (new / MARK).write_text("made by bench export --html; replaced as a whole\n")
            new.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}", writing_hint(error)) from error
    return pages


class _Site:
    def __init__(
        self,
        store: Store,
        folder: Path,
        board: Board,
        title: str,
        reported: Mapping[str, str],
        charts: Charts | None,
        made: datetime,
    ) -> None:
        from importlib.metadata import version

        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup

        self._store, self._folder, self._board, self._title = store, folder, board, title
        self._reported, self._charts = reported, charts
        self._pages = 0
        self._markup = Markup
        self._environment = Environment(
            loader=PackageLoader("bench.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        script = (Path(__file__).parent / "templates" / "sort.js").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        self._environment.globals.update(
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            made=made.strftime("%Y-%m-%d %H:%M UTC"),
            version=version("cellseg-bench"),
        )

    def write(self) -> int:
        boards, names = [], set()
        submitted: list[dict[str, Any]] = []
        shown: list[int] = []
        for dataset in self._store.datasets():
            for split in dataset.splits:
                frame = self._board(dataset, split)
                reported = self._store.reported(dataset=dataset.name)
                boards.append(self._board_page(dataset, split, frame, reported))
                submitted += submissions(frame)
                names |= {record.paper for record in reported}
                runs = self._store.runs_by_id([int(i) for i in frame["run_id"]])
                badges = self._store.badges(runs)
                for run in runs:
                    self._run_page(run, badges[run.id], boards[-1]["file"])
                shown += badges
        self._page("index.html", "index.html", title=self._title, boards=boards)
        ready = [self._reported[name] for name in sorted(names) if name in self._reported]
        papers, cards = self._store.cited(shown)
        (self._folder / "references.bib").write_text(
            bibliography([*papers, *submitted], cards, ready=ready), encoding="utf-8"
        )
        return self._pages

    def _board_page(
        self, dataset: StoredDataset, split: str, frame: pd.DataFrame, reported: Sequence[ReportedResultRecord]
    ) -> dict[str, Any]:
        table = leaderboard_table(frame)
        stem = _file_name(f"{dataset.name}-{dataset.content_hash[:8]}-{split}")
        for ending in DOWNLOADS:
            (self._folder / f"{stem}.{ending}").write_text(render(table, _FORMATS[ending]), encoding="utf-8")
        ranking = f"{frame.attrs['protocol']}/{frame.attrs['metric']}" if frame.attrs["metric"] else None
        first = frame.iloc[0] if len(frame) and ranking and not frame["rank"].isna().all() else None
        links = [f"runs/{int(run_id)}.html" for run_id in frame["run_id"]]
        board = {
            "file": f"{stem}.html",
            "title": dataset.title,
            "source": dataset.source,
            "split": split,
            "content_hash": dataset.content_hash[:KEY_SHOWN],
            "evaluated": _evaluated(frame),
            "n_images": dataset.n_images,
            "n_expected": whole_data_set(self._store, dataset, [int(run_id) for run_id in frame["run_id"]]),
            "licence": dataset.licence,
            "n_runs": len(frame),
            "n_submitted": int((frame["origin"] == SUBMITTED).sum()),
            "ranked_by": ranking or "",
            "best": "" if first is None else _best(first, str(ranking), frame),
            "table": self._drawn(table, links=links, link="title"),
            "downloads": [(f"{stem}.{ending}", name) for ending, name in DOWNLOADS.items()],
            "reported": self._drawn(reported_table(reported)) if reported else None,
            "charts": [self._markup(svg) for svg in self._charts(frame)] if self._charts else [],
        }
        self._page("board.html", f"{stem}.html", board=board)
        return board

    def _run_page(self, run: StoredRun, badges: Sequence[str], board: str) -> None:
        said = self._store.provenance(run.id)
        rows = [(r.protocol, r.metric, quantity(r.value, r.unit), _interval(r), r.reason or "") for r in said.results]
        facts = {
            "method": f"{run.method}, code {said.method.code_hash[:KEY_SHOWN]} ({run.origin})",
            "settings": ", ".join(f"{k}={v}" for k, v in said.method.params.items()) or "none",
            "data": f"{run.dataset}, {run.source}, version {run.content_hash[:KEY_SHOWN]}, split {run.split}",
            "training": f"schedule {run.schedule}, seed {run.seed}, initial weights {run.init}",
            "badges": ", ".join(badges),
            "weights said to be trained on": ", ".join(said.arguments.get("trained_on") or ()),
            "by": run.submitted_by,
            "note": run.note,
            "started": f"{run.started:%Y-%m-%d %H:%M UTC}",
            "commit": None if run.commit is None else run.commit + (" with changes" if run.dirty else ""),
            "weights": run.weights_sha256,
            "machine": f"{said.machine.cpu}, {said.machine.cores} cores"
            + (f", {said.machine.gpu}" if said.machine.gpu else ""),
            "software": ", ".join(
                f"{name} {value}"
                for name, value in (
                    ("Python", said.environment.python),
                    ("torch", said.environment.torch),
                    ("operators", said.environment.ops),
                )
                if value
            ),
        }
        self._page(
            "run.html",
            f"runs/{run.id}.html",
            run={
                "id": run.id,
                "title": visible(run.title),
                "dataset": run.dataset,
                "board": board,
                "command": visible(run.command),
                "facts": [(name, visible(str(value))) for name, value in facts.items() if value],
                "table": self._drawn(simple(("protocol", "metric", "value", "95 % interval", "why not"), rows)),
            },
        )

    def _drawn(self, table: Table, links: Sequence[str] = (), link: str = "") -> dict[str, Any]:
        """What the template draws: shown columns only, every cell as text and as what it is sorted by."""
        shown = [i for i, column in enumerate(table.columns) if column.shown]
        rows = []
        for number, row in enumerate(table.rows):
            cells = [
                {
                    "text": visible("–" if row[i].text is None else row[i].text or ""),
                    "sort": "" if row[i].value is None else visible(str(row[i].value)),
                    "numeric": table.columns[i].numeric,
                    "best": row[i].best,
                    "tied": row[i].tied,
                    "reason": row[i].reason,
                }
                for i in shown
            ]
            rows.append({"cells": cells, "link": links[number] if links else None})
        keys = [table.columns[i].key for i in shown]
        return {
            "shown": [table.columns[i] for i in shown],
            "rows": rows,
            "notes": table.notes,
            "link_at": keys.index(link) if link in keys else -1,
        }

    def _page(self, template: str, name: str, **context: Any) -> None:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(self._environment.get_template(template).render(**context), encoding="utf-8")
        self._pages += 1


def whole_data_set(store: Store, dataset: StoredDataset, run_ids: Sequence[int]) -> int | None:
    """How many images the complete data set has, where its card said so and fewer or more were here.

    Args:
        store: opened for reading.
        dataset: a version of it.
        run_ids: one run on that version, or more.
    """
    _, cards = store.cited(run_ids) if dataset.source == "real" else ([], [])
    expected = (cards[0].get("expected") or {}).get("images") if cards else None
    return expected if is_partial(dataset.n_images, expected) else None


def reported_table(records: Sequence[ReportedResultRecord]) -> Table:
    """Numbers of papers, with how each was taken."""
    headers = (
        "paper",
        "where",
        "method",
        "here",
        "split",
        "metric",
        "value",
        "comparable",
        "why not, or note",
        "hardware",
    )
    rows = [
        (
            r.paper,
            r.table,
            r.method,
            r.counterpart or None,
            r.split or None,
            f"{r.protocol} {r.metric}",
            quantity(r.value, r.unit),
            r.comparable,
            r.note,
            r.hardware,
        )
        for r in records
    ]
    return simple(headers, rows, notes=sorted({f"{r.paper}: “{r.wording}”" for r in records if r.wording}))


def _evaluated(frame: pd.DataFrame) -> str:
    """How many images of the split the runs of a board were evaluated on."""
    counts = sorted({int(count) for count in frame["n_images"]})
    if not counts:
        return "no images evaluated"
    many = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{many} {'image' if counts == [1] else 'images'} evaluated"


def _best(row: Any, ranking: str, frame: pd.DataFrame) -> str:
    unit = frame.attrs["columns"][ranking]["unit"]
    return f"{row['title']}, {quantity(row[ranking], unit)}"


def _interval(result: Any) -> str | None:
    if result.low is None or result.high is None:
        return None
    return f"{quantity(result.low, result.unit)} to {quantity(result.high, result.unit)}"


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip(".") or "board"
