"""Pictures of the board for the README: from real runs, in headless Chromium.

    bench demo-db --db demo.db
    python docs/screenshots.py --db bench.db --data-root DATA --runs 6,2,1 --generated demo.db

The page of several data sets is of generated ones, from a database of its own. Needs playwright
(`pip install playwright`) and a Chromium (`--chromium`, default where Debian puts it). The board is started for it and
stopped again.
"""

from __future__ import annotations

import argparse
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
CHROMIUM = "/usr/bin/chromium"
LARGEST = 300_000
"""Bytes of a picture."""

WIDTH = 1280
"""Pixels of a window."""


@contextmanager
def board(db: Path, data_root: Path | None) -> Iterator[str]:
    """The board on a free port; its address."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bench", "leaderboard", "--db", str(db), "--port", str(port)]
    command += ["--data-root", str(data_root)] if data_root else []
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ, start_new_session=True)
    address = f"http://localhost:{port}"
    try:
        for _ in range(150):
            try:
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait()


def settled(page: Any) -> None:
    """Wait until the page has been drawn and nothing runs any more."""
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=60_000)
    page.wait_for_selector("h1", timeout=60_000)
    page.wait_for_timeout(1_500)


def small(picture: bytes) -> bytes:
    """The picture as it is, or with as many colours as fit into :data:`LARGEST` bytes."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in (None, 256, 128, 64, 32):
        out = io.BytesIO()
        shown = image if colours is None else image.quantize(colours, dither=Image.Dither.NONE)
        shown.save(out, "PNG", optimize=True)
        if out.tell() <= LARGEST:
            break
    return out.getvalue()


@dataclass(frozen=True)
class View:
    """What a picture shows, and how it is taken.

    Attributes:
        page: of the board.
        address: what stands in it.
        dark: whether the browser asks for dark colours.
        height: of the window, in pixels.
        generated: whether it is of the database of generated images.
    """

    page: str
    address: dict[str, Any] = field(default_factory=dict)
    dark: bool = False
    height: int = 860
    generated: bool = False


def views(runs: list[int]) -> dict[str, View]:
    """Name of a picture to what it shows; those that the README has."""
    first, *others = runs
    return {
        "board": View("board", height=900),
        "board-dark": View("board", dark=True, height=900),
        "images": View(
            "images", {"run": first, **({"other": others[0]} if others else {}), "order": "worst"}, height=920
        ),
        "speed": View("speed", height=960),
        "compare-curves": View("compare", {"run": runs, "part": "curves"}),
        "papers": View("papers"),
        "run-training": View("run", {"run": first, "part": "training"}, height=960),
        "datasets-generated": View("datasets", {"synthetic": 1}, height=1640, generated=True),
    }


def taken(browser: Any, address: str, view: View) -> bytes:
    """The picture, of the board at that address."""
    page = browser.new_page()
    page.emulate_media(color_scheme="dark" if view.dark else "light")
    page.set_viewport_size({"width": WIDTH, "height": view.height})
    query = urlencode(view.address, doseq=True)
    page.goto(f"{address}/{'' if view.page == 'board' else view.page}?{query}")
    settled(page)
    picture = page.screenshot()
    page.close()
    return small(picture)


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--generated", type=Path, help="a database of generated images; default: the same")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", default="1,2", help="runs of the same images, to compare and to look at")
    parser.add_argument("--only", default="", help="names of pictures, comma-separated")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "img")
    parser.add_argument("--chromium", default=CHROMIUM)
    chosen = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chosen.out.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in chosen.only.split(",") if name]
    every = views([int(run) for run in chosen.runs.split(",")])
    if unknown := set(wanted) - set(every):
        parser.error(f"no picture {min(unknown)}; there are: {', '.join(every)}")
    for database, generated in ((chosen.db, False), (chosen.generated or chosen.db, True)):
        mine = {n: v for n, v in every.items() if v.generated == generated and (not wanted or n in wanted)}
        if not mine:
            continue
        with (
            board(database, chosen.data_root) as address,
            sync_playwright() as playwright,
            tempfile.TemporaryDirectory() as home,
        ):
            browser = playwright.chromium.launch_persistent_context(
                home, executable_path=chosen.chromium, args=list(FLAGS), headless=True
            )
            for name, view in mine.items():
                (chosen.out / f"{name}.png").write_bytes(taken(browser, address, view))
                sys.stdout.write(f"{name}.png\n")
            browser.close()


if __name__ == "__main__":
    main()
