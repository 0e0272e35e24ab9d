"""Pictures of every page of the board, for the README: from real runs, in headless Chromium.

    python docs/screenshots.py --db bench.db --data-root DATA --runs 8,10

Needs playwright (`pip install playwright`) and a Chromium (`--chromium`, default where Debian puts it). The board is
started for it and stopped again.
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
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
CHROMIUM = "/usr/bin/chromium"
LARGEST = 200_000
"""Bytes of a picture."""


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
    """The picture with as many colours as fit into :data:`LARGEST` bytes."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in (256, 128, 64, 32):
        out = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        if out.tell() <= LARGEST:
            break
    return out.getvalue()


def views(runs: list[int]) -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name of a picture -> page, its address and how it is drawn."""
    first, *others = runs
    pair = {"run": first, "other": others[0]} if others else {"run": first}
    return {
        "board": ("board", {}, {}),
        "board-dark": ("board", {}, {"dark": True}),
        "board-narrow": ("board", {}, {"width": 420}),
        "speed": ("speed", {}, {}),
        "compare": ("compare", {"run": runs}, {}),
        "compare-differences": ("compare", {"run": runs, "part": "differences"}, {}),
        "compare-curves": ("compare", {"run": runs, "part": "curves"}, {}),
        "compare-cells": ("compare", {"run": runs, "part": "cells"}, {}),
        "images": ("images", {**pair, "order": "worst"}, {"height": 900}),
        "images-narrow": ("images", pair, {"width": 420}),
        "datasets": ("datasets", {}, {}),
        "datasets-generated": ("datasets", {"synthetic": 1}, {"height": 1250}),
        "papers": ("papers", {}, {}),
        "run": ("run", {"run": first}, {}),
        "run-training": ("run", {"run": first, "part": "training"}, {}),
        "runs": ("run", {}, {}),
    }


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", default="1,2", help="runs of the same images, to compare and to look at")
    parser.add_argument("--board", default="", help="the address of the board view, after ?")
    parser.add_argument("--only", default="", help="names of pictures, comma-separated")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "img")
    parser.add_argument("--chromium", default=CHROMIUM)
    chosen = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chosen.out.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in chosen.only.split(",") if name]
    runs = [int(run) for run in chosen.runs.split(",")]
    with (
        board(chosen.db, chosen.data_root) as address,
        sync_playwright() as playwright,
        tempfile.TemporaryDirectory() as home,
    ):
        browser = playwright.chromium.launch_persistent_context(
            home, executable_path=chosen.chromium, args=list(FLAGS), headless=True
        )
        for name, (page_name, params, look) in views(runs).items():
            if wanted and name not in wanted:
                continue
            page = browser.new_page()
            page.emulate_media(color_scheme="dark" if look.get("dark") else "light")
            page.set_viewport_size({"width": look.get("width", 1280), "height": look.get("height", 860)})
            query = chosen.board if page_name in ("board", "speed") else urlencode(params, doseq=True)
            page.goto(f"{address}/{'' if page_name == 'board' else page_name}?{query}")
            settled(page)
            (chosen.out / f"{name}.png").write_bytes(small(page.screenshot()))
            sys.stdout.write(f"{name}.png\n")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
