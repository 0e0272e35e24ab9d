"""The board in a real browser: what a test of the logic cannot reach."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.store import open_store

pytestmark = pytest.mark.slow

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
HEAD, ROW, TICK, METHOD, NUMBER = 35, 35, 16, 150, 660
"""Pixels of the board's table, which is drawn on a canvas: heights, and where some columns lie."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = os.environ.get("BENCH_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine (BENCH_CHROMIUM names one)")
    with api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path_factory.mktemp("home")), executable_path=chromium, args=FLAGS, accept_downloads=True
        )
        yield context
        context.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """``bench leaderboard`` on a free port."""
    running: list[subprocess.Popen[bytes]] = []

    def start(database: Path) -> str:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "bench", "leaderboard", "--db", str(database), "--port", str(port)]
        command += ["--data-root", str(database.parent / "data")]
        running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True))
        address = f"http://localhost:{port}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                return address
            except OSError:
                time.sleep(0.2)
        raise TimeoutError("the board does not answer")

    yield start
    for process in running:
        os.killpg(process.pid, 15)
        process.wait()


def opened(browser: Any, address: str, width: int = 1400) -> Any:
    page = browser.new_page()
    page.said, page.asked = [], []
    page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.set_viewport_size({"width": width, "height": 1100})
    page.goto(address)
    return settled(page)


def settled(page: Any) -> Any:
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=60_000)
    page.wait_for_selector("h1", timeout=60_000)
    page.wait_for_timeout(1200)
    assert page.locator('[data-testid="stException"]').count() == 0
    assert page.said == []
    return page


def titled(page: Any, title: str) -> Any:
    page.wait_for_selector(f'h1:has-text("{title}")', timeout=60_000)
    return settled(page)


def click(page: Any, row: int, x: int) -> None:
    """A cell of the first table; row -1 is its head."""
    box = page.locator('[data-testid="stDataFrame"] canvas').first.bounding_box()
    page.mouse.click(box["x"] + x, box["y"] + (HEAD + ROW * row + ROW // 2 if row >= 0 else HEAD // 2))
    page.wait_for_timeout(600)


def first_method(page: Any) -> str:
    """The method in the first row, as the table tells a screen reader."""
    cells = page.locator('[data-testid="stDataFrame"]').first.locator('[data-testid^="glide-cell-"][data-testid$="-0"]')
    return next((text for text in cells.all_text_contents() if text in ("A", "B", "C")), "")


def test_from_a_number_to_its_pixels_and_back_by_link(browser, serve, ranked: Path) -> None:
    page = opened(browser, serve(ranked))
    click(page, 0, NUMBER)
    settled(page)
    page.get_by_role("link", name="Images behind").click()
    titled(page, "Images")
    assert "run=" in page.url
    drawings = page.locator(".viewer svg")
    assert drawings.count() == 2, "the annotation, and what the run found"
    assert page.locator(".viewer path").count() > 5
    assert page.locator(".viewer path title").first.text_content().startswith("cell 1, ")
    swatches = page.locator('img[src^="data:image/svg+xml"]')
    assert swatches.count() >= 2, "the legend"
    assert swatches.evaluate_all("all => all.every(one => one.naturalWidth > 0)")
    before = drawings.first.get_attribute("viewBox")
    drawings.first.focus()
    page.keyboard.press("o")
    assert not page.locator(".viewer .outlines").first.is_visible()
    page.keyboard.press("o")
    page.keyboard.press("+")
    zoomed = drawings.nth(1).get_attribute("viewBox")
    assert zoomed != before, "both panels are zoomed together"
    page.wait_for_timeout(500)
    assert "zoom=" in page.url
    shown = page.locator(".viewer figcaption").all_inner_texts()
    again = opened(browser, page.url)
    assert again.locator(".viewer figcaption").all_inner_texts() == shown
    assert again.locator(".viewer svg").first.get_attribute("viewBox") == zoomed, "a link shows the same part"
    again.get_by_role("button", name="Next").click()
    settled(again)
    assert "zoom=" not in again.url
    assert again.locator(".viewer svg").first.get_attribute("viewBox") == before, "another image is seen whole"


def test_filter_sort_tick_and_compare(browser, serve, ranked: Path) -> None:
    page = opened(browser, serve(ranked))
    box = page.get_by_label("filter", exact=True)
    box.fill("measured")
    box.press("Enter")
    settled(page)
    assert "filter=measured" in page.url
    before = first_method(page)
    for _ in range(2):  # once: ascending, twice: descending
        click(page, -1, METHOD)
        page.wait_for_timeout(600)
    assert (before, first_method(page)) == ("A", "C")
    click(page, 0, TICK)
    click(page, 1, TICK)
    page.get_by_role("button", name="Compare 2 runs").click()
    titled(page, "Compare")
    assert page.url.count("run=") == 2
    for part, word in (("Differences", "differences"), ("IoU curves", "curves"), ("Cell size and density", "cells")):
        page.get_by_role("radio", name=part).click()
        settled(page)
        assert f"part={word}" in page.url
        # Four images give no intervals to draw, which is said beside the table.
        shown = "stAlert" if part == "Differences" else "stVegaLiteChart"
        assert page.locator(f'[data-testid="{shown}"]').count() > 0, part
    again = opened(browser, page.url)
    assert again.get_by_role("radio", name="Cell size and density").get_attribute("aria-checked") == "true"
    assert again.locator('[data-testid="stVegaLiteChart"]').count() == 2
    again.close()
    for _ in range(4):
        page.go_back()
        page.wait_for_timeout(600)
    titled(page, "Board")


def test_controls_that_were_never_seen_change_nothing(browser, serve, ranked: Path) -> None:
    """A browser draws what is in a popover when it is opened, which may be runs of the script later."""
    page = opened(browser, f"{serve(ranked)}/?sort=title&reversed=1")
    box = page.get_by_label("filter", exact=True)
    for text in ("zzz", ""):
        box.fill(text)
        box.press("Enter")
        settled(page)
    heads = page.locator('[data-testid="stDataFrame"]').first.locator("th").all_text_contents()
    page.get_by_text("Columns and order", exact=True).first.click()
    page.wait_for_timeout(600)
    page.keyboard.press("Escape")
    page.wait_for_timeout(600)
    click(page, 0, TICK)
    settled(page)
    assert page.locator('[data-testid="stDataFrame"]').first.locator("th").all_text_contents() == heads
    assert "sort=title" in page.url
    assert "reversed=1" in page.url
    assert "column=" not in page.url


def test_the_order_of_a_link(browser, serve, ranked: Path) -> None:
    address = serve(ranked)
    page = opened(browser, f"{address}/?sort=title&reversed=1&filter=measured&tick=5&tick=6")
    assert first_method(page) == "C"
    page.get_by_role("button", name="Compare 2 runs").click()
    titled(page, "Compare")
    assert sorted(part for part in page.url.partition("?")[2].split("&") if part.startswith("run=")) == [
        "run=5",
        "run=6",
    ]


def test_by_keyboard_alone(browser, serve, ranked: Path) -> None:
    """Tab reaches every control of the board, the table among them."""
    page = opened(browser, serve(ranked))
    reached = set()
    for _ in range(70):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(() => { const at = document.activeElement; return at.getAttribute('aria-label') || at.innerText "
                "|| at.dataset.testid || '' })()"
            )
        )
    text = " ".join(sorted(reached))
    wanted = ("data set version", "split", "schedule", "protocol", "rank by", "filter", "Columns and order")
    for control in (*wanted, "data-grid-canvas", "Badges", "Export", "Images", "Across data sets"):
        assert control in text, control


def test_nothing_is_asked_of_another_machine(browser, serve, ranked: Path) -> None:
    address = serve(ranked)
    for where in ("", "speed", "images?run=5", "compare?run=5&run=6"):
        page = opened(browser, f"{address}/{where}")
        away = [url for url in page.asked if not url.startswith((address, "data:", "blob:"))]
        assert away == [], where
        page.close()


def downloaded(page: Any, name: str, nth: int = 0) -> tuple[str, bytes]:
    """What a button under Export gives: name and content."""
    page.get_by_role("button", name="Export").first.click()
    with page.expect_download(timeout=60_000) as waiting:
        page.get_by_role("button", name=name, exact=True).nth(nth).click()
    content = Path(waiting.value.path()).read_bytes()
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)
    return waiting.value.suggested_filename, content


def test_export(browser, serve, ranked: Path) -> None:
    address = serve(ranked)
    page = opened(browser, address)
    for name, ending, start in (
        ("CSV", ".csv", b"rank,"),
        ("LaTeX", ".tex", b"% needs"),
        ("Markdown", ".md", b"**A tiny"),
        ("ZIP", ".zip", b"PK"),
    ):
        file, content = downloaded(page, name)
        assert file.endswith(ending)
        assert content.startswith(start)
    pytest.importorskip("vl_convert", reason="the board's extra is not installed")
    for where in ("speed", "images?run=5"):
        page = opened(browser, f"{address}/{where}")
        if where != "speed":
            page.get_by_role("button", name="Export").first.wait_for()
        assert downloaded(page, "PNG")[1].startswith(b"\x89PNG")
        assert b"<svg" in downloaded(page, "SVG")[1][:300]


@pytest.mark.parametrize(
    "page_name",
    [
        *("", "speed", "compare?run=5&run=6", "compare?run=5&run=6&part=curves", "compare?run=5&run=6&part=cells"),
        *("images?run=5", "datasets", "papers", "run?run=5"),
    ],
)
def test_a_narrow_window_scrolls_down_only(browser, serve, ranked: Path, page_name: str) -> None:
    page = opened(browser, f"{serve(ranked)}/{page_name}", width=390)
    width = page.evaluate("document.querySelector('[data-testid=\"stMain\"]').scrollWidth")
    assert width <= 390


def test_a_script_in_a_name_does_nothing(browser, serve, ran: Path, add_copy) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    with open_store(ran) as store:
        run_id = add_copy(store, 2, hostile, latency=5.0, submitted_by=hostile, note=hostile)
        other = add_copy(store, 3, "B", latency=7.0)
    address = serve(ran)
    for where in ("", "speed", f"compare?run={run_id}&run={other}", f"images?run={run_id}", f"run?run={run_id}", "run"):
        page = opened(browser, f"{address}/{where}")
        assert page.locator("img[src=x]").count() == 0
        assert page.said == [], where
        page.close()


def test_it_answers_on_this_machine_only(serve, ranked: Path) -> None:
    port = int(serve(ranked).rpartition(":")[2])
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no address but its own")
    with pytest.raises(OSError), socket.create_connection((own, port), timeout=2):
        pass
