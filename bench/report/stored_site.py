"""The store's boards and runs as web pages: in a folder, or as one ZIP file for whoever asks for it in the browser."""

from __future__ import annotations

import importlib.util
import io
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.reported import papers
from bench.report.site import write_site

if TYPE_CHECKING:
    import pandas as pd

    from bench.store import Store


def write(store: Store, folder: Path) -> int:
    """Every board and every run as web pages; returns how many pages.

    Raises:
        UsageError: the folder holds something else.
        OutputError: it cannot be written.
    """
    return write_site(
        store,
        folder,
        lambda version, split: store.leaderboard(version.name, content_hash=version.content_hash, split=split),
        reported={paper.paper: paper.bibtex for paper in papers()},
        charts=_svgs if importlib.util.find_spec("vl_convert") else None,
    )


def zipped(store: Store) -> bytes:
    """The same as a ZIP file; to be unpacked, then ``index.html`` opened.

    Raises:
        OutputError: there is no room for temporary files.
    """
    out = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="cellseg-bench-") as place:
        folder = Path(place) / "board"
        write(store, folder)
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=5) as packed:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    packed.write(path, path.relative_to(folder.parent))
    return out.getvalue()


def speed_picture(frame: pd.DataFrame, form: str) -> bytes | None:
    """Speed against accuracy on the machine with most timed runs of a board, or None where no run has a time.

    Args:
        frame: of a board, with its ``attrs``.
        form: ``svg`` or ``png``.

    Raises:
        MissingDependencyError: what draws it is not installed.
    """
    from bench.report import speed

    timed = frame[speed.timed(frame)]
    if timed.empty:
        return None
    from bench.report import charts

    machine = timed["machine"].value_counts().index[0]
    chosen = timed[timed["machine"] == machine]
    chosen.attrs = frame.attrs
    drawn = charts.speed(speed.points(chosen), speed.axis_title(chosen), True).properties(width=560)
    return charts.picture(drawn, form)


def _svgs(frame: pd.DataFrame) -> list[str]:
    picture = speed_picture(frame, "svg")
    return [] if picture is None else [picture.decode()]
