"""The board. Start it with ``bench leaderboard``, or ``streamlit run leaderboard/app.py``."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from bench.errors import BenchError
from bench.store import NoDatabaseError
from leaderboard import state
from leaderboard.views import board, compare, datasets, images, papers, run, speed

# Address of a page -> what shows it, its title and its icon. (A comment: Streamlit prints what stands by itself.)
PAGES = {
    "board": (board.show, "Board", ":material/leaderboard:"),
    "speed": (speed.show, "Speed against accuracy", ":material/speed:"),
    "compare": (compare.show, "Compare", ":material/compare_arrows:"),
    "images": (images.show, "Images", ":material/image_search:"),
    "datasets": (datasets.show, "Across data sets", ":material/hub:"),
    "papers": (papers.show, "Reported against measured", ":material/menu_book:"),
    "run": (run.show, "Run", ":material/receipt_long:"),
}

ICON = Path(__file__).with_name("icon.svg")
# Of the browser's tab; one of Streamlit's own icons would be fetched from the internet.

FIRST_STEPS = """\
bench run -m truth,jitter,merge -d neural     # controls on generated images: a minute, no GPU
bench run -m mask_rcnn,unet-bce -d bbbc039 --data-root DATA
bench leaderboard"""


def main(first: str = "board") -> None:
    """Show the page that the address names, else ``first``."""
    st.set_page_config(page_title="cellseg-bench", page_icon=ICON, layout="wide")
    pages = {
        name: st.Page(show, title=title, icon=icon, url_path=name, default=name == first)
        for name, (show, title, icon) in PAGES.items()
    }
    st.session_state["pages"] = pages
    state.forget_held()
    chosen = st.navigation(list(pages.values()), position="top")
    st.session_state["page"] = next(name for name, page in pages.items() if page == chosen)
    try:
        empty = not state.versions()
    except NoDatabaseError:
        empty = True
    except BenchError as error:
        state.problem(error)
        return
    if empty:
        _welcome()
        return
    try:
        chosen.run()
    except BenchError as error:
        state.problem(error)


def _welcome() -> None:
    st.title("Nothing is stored yet")
    st.write("This board shows what `bench run` and `bench submit` have put into the database. Type first:")
    st.code(FIRST_STEPS, language="bash")
    st.write("Then reload this page. The database is the one that `--db` or `BENCH_DB` names, else `./bench.db`.")


if __name__ == "__main__":
    main()
