"""The board. Start it with ``bench leaderboard``, or ``streamlit run leaderboard/app.py``."""

from __future__ import annotations

import shlex
from pathlib import Path

import streamlit as st

from bench.errors import BenchError, DataError
from bench.report.escape import visible
from bench.store.target import DEFAULT_NAME, Target
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

LOOK = """\
<style>
.stMainBlockContainer { padding-top: 4.25rem; }
.stVegaLiteChart svg text { fill: currentColor; }
</style>"""
# Titles begin below Streamlit's bar, and what stands in charts has the contrast of all other text.

WITHOUT_RUNS = ("papers",)
"""Pages that have something to show before anything has run."""

FIRST_STEPS = """\
bench run -m truth,jitter,merge -d neural{db}     # controls on generated images: a minute, no GPU
bench run -m mask_rcnn,unet-bce -d bbbc039 --data-root DATA{db}
bench leaderboard{db}"""

DEMO = """\
bench demo-db --db demo.db
bench leaderboard --db demo.db"""


def main(first: str = "board") -> None:
    """Show the page that the address names, else ``first``."""
    st.set_page_config(page_title="cellseg-bench", page_icon=ICON, layout="wide")
    st.html(LOOK)
    pages = {
        name: st.Page(show, title=title, icon=icon, url_path=name, default=name == first)
        for name, (show, title, icon) in PAGES.items()
    }
    st.session_state["pages"] = pages
    state.forget_held()
    chosen = st.navigation(list(pages.values()), position="top")
    st.session_state["page"] = next(name for name, page in pages.items() if page == chosen)
    try:
        empty = state.empty()
    except BenchError as error:
        st.title("The database cannot be read", anchor=False)
        state.problem(error)
        return
    if empty and st.session_state["page"] not in WITHOUT_RUNS:
        _welcome()
        return
    try:
        chosen.run()
    except BenchError as error:
        state.problem(error)
    except OSError as error:
        what = error.filename or "a file of this run or data set"
        state.problem(DataError(f"{what} cannot be read: {error.strerror or error}", "check its permissions and disk"))


def _welcome() -> None:
    named, option = _database()
    st.title("Nothing is stored yet")
    st.write(
        f"This board shows what `bench run` and `bench submit` have put into {state.safe(named)}, and that holds no "
        "run. Type first:"
    )
    st.code(FIRST_STEPS.format(db=option), language="bash")
    st.write("Then reload this page. To look around before, make a database of invented methods:")
    st.code(DEMO, language="bash")
    state.link("papers", "What papers report needs no run", ":material/menu_book:")


def _database() -> tuple[str, str]:
    """The database as it is named, and the option by which a command finds it."""
    target = Target.parse(None)
    if target.path is None:
        return visible(target.shown), " --db URL"
    here = Path.cwd()
    path = target.path.relative_to(here) if target.path.is_relative_to(here) else target.path
    return visible(str(path)), "" if path == Path(DEFAULT_NAME) else f" --db {visible(shlex.quote(str(path)))}"


if __name__ == "__main__":
    main()
