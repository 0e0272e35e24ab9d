"""How fast the board is on a big store: 10,000 runs with 1,000,000 image results, and a large image.

python -m benchmarks.leaderboard                    # every query behind a view, and an image page
python -m benchmarks.leaderboard --keep big.db      # keep the generated store, to look at it with bench leaderboard
python -m benchmarks.leaderboard --one-board        # all runs on one data set, split and schedule
python -m benchmarks.leaderboard --browser          # first row of the board in Chromium as well (needs playwright)
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from bench.store import open_store
from bench.store.models import (
    DatasetVersion,
    Environment,
    Image,
    ImageResult,
    Machine,
    MethodVersion,
    Metric,
    Result,
    Run,
    TimingSample,
)

METRICS = {
    "kaggle": ("mAP@.5:.95",),
    "voc": ("AP@0.5", "IoU@0.5", "AP@0.7", "IoU@0.7"),
    "panoptic": ("PQ", "SQ", "RQ", "F1@0.5", "F1@0.75", "AJI"),
}
IMAGES = 100
QUERY_LIMIT, PAGE_LIMIT, PAINT_LIMIT = 0.1, 1.0, 2.0


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def build(path: Path, runs: int, datasets: int, seed: int = 0) -> None:
    """A store of ``runs`` runs of 40 methods, each with a result on 100 images; the same from the same seed."""
    random = np.random.default_rng(seed)
    store = open_store(path)
    with store._database.writing() as session:

        def add(table: Any, rows: list[dict[str, Any]]) -> None:
            for start in range(0, len(rows), 20_000):
                session.execute(insert(table), rows[start : start + 20_000])

        add(
            DatasetVersion,
            [
                {
                    "id": d, "name": f"cells{d:02d}", "content_hash": digest("data", d), "source": "real",
                    "title": f"Cells {d}", "licence": "CC0-1.0", "n_images": IMAGES, "n_instances": 50 * IMAGES,
                    "classes": ["cell"], "protocols": list(METRICS), "card": {},
                }
                for d in range(1, datasets + 1)
            ],
        )  # fmt: skip
        add(
            Image,
            [
                {
                    "id": (d - 1) * IMAGES + i + 1, "dataset_version_id": d, "key": f"image{i:03d}",
                    "sha256": digest("image", d, i), "height": 512, "width": 640, "truths": 50, "group": None,
                }
                for d in range(1, datasets + 1)
                for i in range(IMAGES)
            ],
        )  # fmt: skip
        add(
            MethodVersion,
            [
                {
                    "id": m, "name": f"method{m:02d}", "variant": "", "title": f"Method {m}",
                    "origin": "reimplementation", "code_hash": digest("code", m), "params": {"width": m},
                    "params_hash": digest("params", m), "scored": True, "paper": None,
                }
                for m in range(1, 41)
            ],
        )  # fmt: skip
        add(
            Environment,
            [
                {
                    "id": 1, "digest": digest("environment"), "hash": digest("e"), "python": "3.11.7",
                    "platform": "linux", "torch": None, "mmcv": None, "ops": None, "cuda": None, "packages": {},
                }
            ],
        )  # fmt: skip
        add(
            Machine,
            [
                {
                    "id": m, "digest": digest("machine", m), "hash": digest("m", m), "hostname": "bench", "cpu": "CPU",
                    "cores": 8, "memory_bytes": 2**35, "os": "Linux", "gpu": f"GPU {m}", "gpu_memory_bytes": 2**35,
                    "driver": None,
                }
                for m in (1, 2, 3)
            ],
        )  # fmt: skip
        columns = [(protocol, name) for protocol, names in METRICS.items() for name in names]
        columns.append(("timing", "latency_median"))
        add(
            Metric,
            [
                {
                    "id": i, "protocol": protocol, "protocol_version": "1", "name": name, "params": {},
                    "params_hash": digest({}), "unit": "ms" if protocol == "timing" else "fraction",
                    "higher_is_better": -1 if protocol == "timing" else 1,
                }
                for i, (protocol, name) in enumerate(columns, start=1)
            ],
        )  # fmt: skip
        begun = datetime(2026, 1, 1, tzinfo=UTC)
        rows: dict[Any, list[dict[str, Any]]] = {Run: [], Result: [], ImageResult: [], TimingSample: []}
        for run in range(1, runs + 1):
            d, m, number = 1 + run % datasets, 1 + (run // datasets) % 40, run // (40 * datasets)
            quality, milliseconds = random.beta(5, 3), float(random.lognormal(3, 1))
            failed = run % 50 == 49
            rows[Run].append(
                {
                    "id": run, "key": digest("run", run), "dataset_version_id": d, "method_version_id": m,
                    "environment_id": 1, "machine_id": 1 + run % 3, "split": "test", "seed": number,
                    "schedule": ("paper", "paper", "paper", "short", "smoke")[number % 5], "init": "random",
                    "device": "cuda:0", "status": "failed" if failed else "ok", "superseded": False,
                    "badge": "measured", "started": begun + timedelta(minutes=run),
                    "finished": begun + timedelta(minutes=run + 1), "attempt": 1, "folder": f"/nowhere/{run}",
                    "command": f"bench run -m method{m:02d} -d cells{d:02d}", "n_images": IMAGES,
                    "complete": not failed, "failure_kind": "error" if failed else None,
                    "failure": "it failed" if failed else None, "train_seconds": 100.0, "predict_seconds": 10.0,
                    "n_parameters": 1_000_000 * m, "arguments": {"demo": True},
                    "latency_median_ms": milliseconds, "latency_p95_ms": 1.5 * milliseconds,
                }
            )  # fmt: skip
            if failed:
                continue
            for i, (protocol, _) in enumerate(columns, start=1):
                value = milliseconds if protocol == "timing" else float(np.clip(quality + random.normal(0, 0.02), 0, 1))
                rows[Result].append(
                    {
                        "run_id": run, "metric_id": i, "position": i, "value": value, "reason": None,
                        "low": 0.95 * value, "high": min(1.05 * value, 1.0) if protocol != "timing" else 1.05 * value,
                        "n": IMAGES,
                    }
                )  # fmt: skip
            values = np.clip(quality + random.normal(0, 0.1, IMAGES), 0, 1).tolist()
            for i, value in enumerate(values):
                image = (d - 1) * IMAGES + i + 1
                rows[ImageResult].append(
                    {
                        "run_id": run, "metric_id": 1, "image_id": image, "value": value, "tp": 40, "fp": 5, "fn": 10,
                    }
                )  # fmt: skip
                if i < 10:
                    rows[TimingSample].append(
                        {
                            "run_id": run, "phase": "total", "image_id": image, "round": 0,
                            "milliseconds": milliseconds,
                        }
                    )  # fmt: skip
        for table, found in rows.items():
            add(table, found)
    store.close()


# -- measuring --------------------------------------------------------------------------------------


def seconds(work: Callable[[], object], rounds: int = 7) -> float:
    """CPU seconds of the fastest of some rounds, after one that is not counted; SQLite works in this process, too."""
    work()
    times = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def queries(path: Path) -> dict[str, float]:
    """Seconds of everything that a page asks of the store, SQL and frames together."""
    with open_store(path, read_only=True) as store:
        version = store.datasets()[0]
        frame = store.leaderboard(version.name)
        ids = frame["run_id"].tolist()
        last, other = ids[0], ids[1]
        asked = {
            "data set versions": store.datasets,
            f"board of {len(frame)} runs": lambda: store.leaderboard(version.name),
            "board, schedule paper": lambda: store.leaderboard(version.name, schedule="paper"),
            "marks of the board": lambda: store.marks(ids),
            "machines": store.machines,
            "newest 500 runs": lambda: store.runs(limit=500),
            "newest 300 on the same images": lambda: store.runs(
                dataset=version.name, content_hash=version.content_hash, split="test", status="ok", limit=300
            ),
            "failed runs": lambda: store.runs(status="failed", limit=500),
            "a run": lambda: store.run(last),
            "its provenance": lambda: store.provenance(last),
            "its numbers of images": lambda: store.image_metrics(last),
            "two runs image by image": lambda: store.image_values([last, other], "kaggle", "mAP@.5:.95"),
            "every ranking value": store.ranking_values,
            "reported": store.reported,
        }
        return {name: seconds(work) for name, work in asked.items()}


def image_page(cells: int = 500, size: int = 1024) -> dict[str, float]:
    """Seconds for the picture of an image page: 16 bit, two runs, everything but reading the files of the image."""
    from bench.api import Instances
    from leaderboard import viewer

    random = np.random.default_rng(0)
    spacing = size / np.sqrt(cells)
    rows, columns = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.uint16)
    places = np.mgrid[spacing / 2 : size : spacing, spacing / 2 : size : spacing].reshape(2, -1).T[:cells]
    for number, (y, x) in enumerate(places, start=1):
        window = np.s_[max(0, int(y - spacing)) : int(y + spacing), max(0, int(x - spacing)) : int(x + spacing)]
        a, b = spacing * random.uniform(0.3, 0.5, 2)
        inside = ((rows[window] - y) / a) ** 2 + ((columns[window] - x) / b) ** 2 <= 1
        labels[window][inside & (labels[window] == 0)] = number
    image = np.clip(random.normal(500, 60, labels.shape) + 2000 * (labels > 0), 0, 65535).astype(np.uint16)
    truth = Instances.from_label_map(labels)
    found = [Instances.from_label_map(np.roll(labels, shift, (0, 1))) for shift in (3, 9)]

    def page() -> object:
        panels = [viewer.truth_panel(truth)]
        panels += [viewer.run_panel(f"run {i}", truth, one, 0.5) for i, one in enumerate(found)]
        return viewer.content("image", viewer.stretched(image, 0.5, 99.8), panels)

    return {
        f"picture, {size} x {size}, {len(truth)} cells, two runs": seconds(page),
        "of it, grey levels and PNG": seconds(lambda: viewer.as_url(viewer.stretched(image, 0.5, 99.8))),
    }


def scripts(path: Path) -> dict[str, float]:
    """Seconds of a whole run of a page's script on the server, when nothing is remembered yet."""
    import streamlit
    from streamlit.testing.v1 import AppTest

    os.environ["BENCH_DB"] = str(path)

    def app(first: str) -> None:
        from leaderboard.app import main

        main(first)

    def page(first: str) -> None:
        streamlit.cache_data.clear()
        test = AppTest.from_function(app, kwargs={"first": first}, default_timeout=120).run()
        assert not test.exception, test.exception[0].message

    return {name: seconds(lambda name=name: page(name), 3) for name in ("board", "speed", "compare", "run", "datasets")}


FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
BARE = 'import streamlit\n\nstreamlit.write("one line")\n'
LINE = "() => document.body.innerText.includes('one line')"
FIRST_ROW = """() => {
  const drawn = document.querySelector('[data-testid="stDataFrame"] canvas');
  if (!drawn || !drawn.width) return false;
  const scale = window.devicePixelRatio;
  const { data } = drawn.getContext("2d").getImageData(0, 38 * scale, 400 * scale, 28 * scale);
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200 && data[i] < 150) return true;
  return false;
}"""
"""Whether there is text in the first row of the table, which is drawn on a canvas."""


@contextmanager
def answering(command: list[str]) -> Iterator[str]:
    """A server on a free port, until it is ready; its address. ``PORT`` in the command stands for the port."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [part.replace("PORT", str(port)) for part in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://localhost:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def first_paint(path: Path, place: Path, rounds: int = 7) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds in Chromium with nothing cached, from the address to the first row of the board.

    Returns what has a limit, and what it is to be held against: a page of Streamlit with one line of text, visited in
    turn with the board, and what the browser calls the first contentful paint. ``place`` is for temporary files.
    """
    from playwright.sync_api import sync_playwright

    def visit(address: str, there: str) -> tuple[float, float]:
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        page = context.new_page()
        begun = time.perf_counter()
        page.goto(address, wait_until="commit")
        page.wait_for_function(there, timeout=60_000)
        spent = time.perf_counter() - begun
        page.wait_for_timeout(500)
        painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
        context.close()
        return spent, painted

    line = place / "bare.py"
    line.write_text(BARE)
    plain = [sys.executable, "-m", "streamlit", "run", str(line), "--server.port=PORT"]
    plain += ["--server.headless=true", "--server.address=localhost", "--browser.gatherUsageStats=false"]
    ours = [sys.executable, "-m", "bench", "leaderboard", "--db", str(path), "--port", "PORT"]
    with answering(plain) as bare, answering(ours) as board, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        visit(bare, LINE)  # the browser's own start
        first, _ = visit(board, FIRST_ROW)
        seen = [(visit(bare, LINE)[0], *visit(board, FIRST_ROW)) for _ in range(rounds)]
        browser.close()
    bares, boards, painted = (statistics.median(column) for column in zip(*seen, strict=True))
    limited = {"first visitor of a fresh server": first, f"later visitors, median of {rounds}": boards}
    beside = {
        "a page of Streamlit with one line of text, in turn": bares,
        "the board above it": statistics.median(ours - plain for plain, ours, _ in seen),
        "fastest visit": min(ours for _, ours, _ in seen),
        "first contentful paint of the board (the frame)": painted,
    }
    return limited, beside


def show(title: str, times: dict[str, float], limit: float) -> bool:
    """Print them, and whether all are within their limit."""
    print(f"\n{title}" + (f" (limit {limit * 1000:.0f} ms)" if limit < math.inf else ""))
    for name, spent in times.items():
        print(f"  {name:58s} {spent * 1000:9.1f} ms{'' if spent <= limit else '   TOO SLOW'}")
    return max(times.values()) <= limit


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--one-board", action="store_true", help="all runs on one data set")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep the generated store")
    parser.add_argument("--db", type=Path, help="measure this store, generated before")
    parser.add_argument("--browser", action="store_true", help="first row in Chromium as well")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = chosen.db or chosen.keep or Path(folder) / "big.db"
        if chosen.db is None:
            build(path, chosen.runs, 1 if chosen.one_board else 10)
        images = chosen.runs * 98 // 100 * IMAGES
        print(f"{chosen.runs} runs, {images} image results, {path.stat().st_size / 2**20:.0f} MiB")
        well = [show("queries behind the pages", queries(path), QUERY_LIMIT)]
        well.append(show("image page", image_page(), PAGE_LIMIT))
        well.append(show("whole script of a page, nothing remembered", scripts(path), PAINT_LIMIT))
        if chosen.browser:
            limited, beside = first_paint(path, Path(folder))
            well.append(show("first row of the board in Chromium, nothing cached", limited, PAINT_LIMIT))
            show("to hold it against", beside, math.inf)
    if not all(well) and not chosen.one_board:
        sys.exit("something is slower than it may be")


if __name__ == "__main__":
    main()
