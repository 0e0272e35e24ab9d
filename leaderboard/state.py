"""What a session keeps: the open store, remembered answers, and the state of every picker in the address.

A picker reads its first value from the address and writes what is chosen back, unless it is the default. So a link
opens the same view, the browser's back button works, and a value that nobody could have chosen is passed over. What
the address says stays, though the default changes with what others store; what it does not say follows the default.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from bench.data import Dataset
from bench.errors import BenchError
from bench.report.escape import markdown, visible
from bench.report.stored_site import zipped
from bench.store import NoDatabaseError, Store, StoredDataset, StoredRun, open_store
from bench.store.target import Target
from leaderboard import data

T = TypeVar("T")

TEXT_LIMIT = 200
"""Characters of a text that is taken from the address."""

PATIENCE = 10.0
"""Seconds that a page waits for a program that writes."""

ASKED_AGAIN = 10
"""Seconds for which the answers of a server are remembered."""

NONE = [""]
"""What the address holds where nothing of several was chosen; without a word it opens what is chosen by default."""


# -- the store --------------------------------------------------------------------------------------------


@st.cache_resource(show_spinner=False, max_entries=4)
def _opened(location: str, file: tuple[int, ...]) -> Store:
    return open_store(location, read_only=True, timeout=PATIENCE)


def store() -> Store:
    """The database that ``BENCH_DB`` names, opened for reading only.

    A file that is another than it was, or has changed, is looked at anew: it may be none of ours by now.

    Raises:
        StoreError: it cannot be opened, or is none of ours.
    """
    return _opened(_location(), _file(Target.parse(None)))


def _location() -> str:
    target = Target.parse(None)
    return str(target.path) if target.path is not None else target.url.render_as_string(hide_password=False)


def stamp() -> tuple[str | int, ...]:
    """Which database, in which state: remembered answers are of one stamp. A server has a new one every 10 s."""
    target = Target.parse(None)
    return _location(), *(_file(target) if target.path is not None else (int(time.time() // ASKED_AGAIN),))


def _file(target: Target) -> tuple[int, ...]:
    """What tells a file from another, and from itself after a change; nothing of a server, or of what is not there."""
    if target.path is None:
        return ()
    try:
        status = target.path.stat()
    except OSError:
        return ()  # whoever opens it says what is wrong
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def data_root() -> Path | None:
    """Where the data sets lie: what the command line said by ``BENCH_DATA_ROOT``, else the default."""
    return Path(os.environ["BENCH_DATA_ROOT"]) if os.environ.get("BENCH_DATA_ROOT") else None


# -- remembered answers -----------------------------------------------------------------------------------


@st.cache_data(show_spinner=False, max_entries=32)
def _versions(stamp: tuple[Any, ...]) -> list[StoredDataset]:
    return store().datasets()


def versions() -> list[StoredDataset]:
    """The data set versions that have runs, the one run last first."""
    return _versions(stamp())


def empty() -> bool:
    """Whether nothing has run: the database holds no run, or is not there.

    Raises:
        StoreError: it cannot be opened, or is none of ours.
    """
    try:
        return not versions()
    except NoDatabaseError:
        return True


@st.cache_data(show_spinner=False, max_entries=32)
def _board(stamp: tuple[Any, ...], asked: data.Asked) -> pd.DataFrame:
    return data.board(store(), asked)


def board(asked: data.Asked) -> pd.DataFrame:
    """See :func:`leaderboard.data.board`."""
    return _board(stamp(), asked)


@st.cache_data(show_spinner=False, max_entries=1)
def _site(stamp: tuple[Any, ...]) -> bytes:
    return zipped(store())


def site() -> bytes:
    """See :func:`bench.report.stored_site.zipped`; made once for each state of the database."""
    return _site(stamp())


@st.cache_data(show_spinner=False, max_entries=64)
def _image_table(stamp: tuple[Any, ...], first: int, second: int | None, protocol: str, metric: str) -> pd.DataFrame:
    return data.image_table(store(), first, second, protocol, metric)


def image_table(first: int, second: int | None, protocol: str, metric: str) -> pd.DataFrame:
    """See :func:`leaderboard.data.image_table`."""
    return _image_table(stamp(), first, second, protocol, metric)


@st.cache_resource(show_spinner="opening the data set", max_entries=4)
def _dataset(name: str, content_hash: str, root: str, _run: StoredRun) -> Dataset:
    return data.dataset_of(_run, data_root())


def dataset(run: StoredRun) -> Dataset:
    """The data set that a run was made on.

    Raises:
        BenchError: it is not there, or is another version.
    """
    return _dataset(run.dataset, run.content_hash, str(data_root()), run)


@st.cache_resource(show_spinner="reading the predictions", max_entries=24)
def _evidence(
    stamp: tuple[Any, ...], run_id: int, protocol: str, images: tuple[str, ...], _run: StoredRun
) -> data.Evidence:
    return data.evidence(dataset(_run), _run, images, protocol)


def evidence(run: StoredRun, images: Sequence[str], protocol: str) -> data.Evidence:
    """See :func:`leaderboard.data.evidence`.

    Raises:
        BenchError: the predictions or the images are gone.
    """
    return _evidence(stamp(), run.id, protocol, tuple(images), run)


# -- the address ------------------------------------------------------------------------------------------


def _settle(name: str, fits: Callable[[Any], bool], default: Any, read: Callable[[list[str]], Any]) -> str:
    """Bring a widget's state and the address together; returns the widget's key."""
    key = f"{st.session_state.get('page', '')}/{name}"
    given = st.query_params.get_all(name)
    before = st.session_state.get(f"{key}!", default)
    st.session_state[f"{key}!"] = default
    st.session_state[f"{key}+"] = False
    if before != default and st.session_state.get(key) == before and not given:
        _set(key, default)  # what nobody chose follows the default
    if key not in st.session_state or given != st.session_state.get(f"{key}@"):
        _set(key, read(given) if given else default)
    if not fits(st.session_state[key]):
        _set(key, default)
    return key


def _set(key: str, value: Any) -> None:
    st.session_state[key] = value
    st.session_state[f"{key}+"] = True


def _start(key: str, **start: Any) -> dict[str, Any]:
    """What a widget is to begin with in a browser that has not drawn it yet, as one in a popover that was never open.

    Such a browser would else begin with Streamlit's own default, and say that somebody has chosen it. Nothing where
    the state was set in this run: then it is sent anyway.
    """
    return {} if st.session_state[f"{key}+"] else start


def _written(name: str, key: str, texts: list[str], *, needed: bool) -> None:
    """Put a choice into the address; where it is not ``needed``, only an address that says the same keeps saying it."""
    if needed or texts == st.query_params.get_all(name):
        _put(name, texts)
        st.session_state[f"{key}@"] = texts
    else:
        _put(name, [])
        st.session_state[f"{key}@"] = []


def _put(name: str, texts: list[str]) -> None:
    if texts == st.query_params.get_all(name):
        return
    if texts:
        st.query_params[name] = texts
    else:
        del st.query_params[name]


PAINT = 0.25
"""Seconds that a browser is given to paint what matters before its controls follow, which cost it as much again."""

HELD = "held controls"


def hold_controls(height: int) -> Any:
    """At the first look of a session at a page: let controls wait for :func:`draw_controls`, with what they will say.

    Nobody can have touched them before, so each already has its value: that of the address, or its default. Returns the
    room that is kept free for them, ``height`` pixels high; None where nothing waits.
    """
    seen = f"{st.session_state.get('page', '')}/seen"
    if st.session_state.get(seen):
        return None
    st.session_state[seen] = True
    st.session_state[HELD] = []
    room = st.empty()
    room.space(height)
    return room


def draw_controls(room: Any) -> None:
    """Draw the controls that wait, once what has been drawn until now is painted."""
    waiting = st.session_state.pop(HELD, None)
    if waiting is not None:
        time.sleep(PAINT)
        room.empty()
        for draw in waiting:
            draw()


def forget_held() -> None:
    """What a run of the script that was cut short has left."""
    st.session_state.pop(HELD, None)


def _control(key: str, draw: Callable[[], T]) -> T:
    """What a control says, drawn now or later."""
    waiting = st.session_state.get(HELD)
    if waiting is None:
        return draw()
    waiting.append(draw)
    value: T = st.session_state[key]
    return value


def choose(
    label: str,
    options: Sequence[T],
    name: str,
    *,
    default: T | None = None,
    shown: Callable[[T], str] = str,
    written: Callable[[T], str] = str,
    always: bool = False,
    where: Any = st,
    **more: Any,
) -> T:
    """One of several, by a select box.

    ``written`` is how an option stands in the address; with ``always`` the default stands there too, because what is
    the default changes with what is stored.
    """
    names = {written(option): option for option in options}
    first = options[0] if default is None or default not in options else default

    def read(given: list[str]) -> T:
        return names.get(given[-1], first)

    key = _settle(name, lambda value: written(value) in names, first, read)
    now = names[written(st.session_state[key])]
    if st.session_state[key] != now:
        _set(key, now)  # the same by name, but not what it was: a data set with one run more
    chosen: T = _control(
        key,
        lambda: where.selectbox(
            label,
            options,
            key=key,
            format_func=lambda o: visible(shown(o)),
            **_start(key, index=options.index(now)),
            **more,
        ),
    )
    _written(name, key, [written(chosen)], needed=always or chosen != first)
    return chosen


def choose_some(
    label: str,
    options: Sequence[T],
    name: str,
    *,
    default: Sequence[T] = (),
    shown: Callable[[T], str] = str,
    written: Callable[[T], str] = str,
    most: int | None = None,
    where: Any = st,
    **more: Any,
) -> list[T]:
    """Several of several, or none, which an empty value says in the address; of more than ``most`` the first."""
    names = {written(option): option for option in options}
    first = [option for option in default if option in options][:most]

    def read(given: list[str]) -> list[T]:
        known = [names[text] for text in dict.fromkeys(given) if text in names][:most]
        return known if known or given == NONE else first

    key = _settle(name, lambda value: all(v in names.values() for v in value), first, read)
    now = st.session_state[key]
    chosen: list[T] = _control(
        key,
        lambda: where.multiselect(
            label,
            options,
            key=key,
            format_func=lambda o: visible(shown(o)),
            max_selections=most,
            **_start(key, default=now),
            **more,
        ),
    )
    _written(name, key, [written(option) for option in chosen] or NONE, needed=chosen != first)
    return chosen


def choose_part(label: str, parts: Mapping[str, str], name: str = "part", *, where: Any = st) -> str:
    """One part of a page, by a row of buttons: the others are neither computed nor sent.

    ``parts`` is how a part stands in the address to its title; the first is the default. Returns the former.
    """
    first = next(iter(parts))
    key = _settle(name, parts.__contains__, first, lambda given: given[-1])
    chosen: str = where.segmented_control(
        label, list(parts), key=key, format_func=parts.__getitem__, required=True, label_visibility="collapsed"
    )
    _written(name, key, [chosen], needed=chosen != first)
    return chosen


def write_numbers(name: str, numbers: Sequence[int]) -> None:
    """Put numbers into the address."""
    _put(name, [str(number) for number in numbers])


def write_text(label: str, name: str, *, where: Any = st, **more: Any) -> str:
    """A line of text."""
    key = _settle(name, lambda value: isinstance(value, str), "", lambda given: given[-1][:TEXT_LIMIT])
    now = st.session_state[key]
    text = (
        _control(key, lambda: where.text_input(label, key=key, max_chars=TEXT_LIMIT, **_start(key, value=now), **more))
        or ""
    )
    _written(name, key, [text], needed=bool(text))
    return text


def switch(label: str, name: str, *, default: bool = False, where: Any = st, **more: Any) -> bool:
    """On or off."""
    key = _settle(name, lambda value: isinstance(value, bool), default, lambda given: given[-1] == "1")
    now = st.session_state[key]
    on = bool(_control(key, lambda: where.toggle(label, key=key, **_start(key, value=now), **more)))
    _written(name, key, [str(int(on))], needed=on != default)
    return on


def slide(
    label: str,
    low: float,
    high: float,
    name: str,
    *,
    default: Any,
    step: float,
    gap: float = 0.0,
    where: Any = st,
    **more: Any,
) -> Any:
    """A number, or two, ``gap`` apart or more, where ``default`` is a pair."""
    pair = isinstance(default, tuple)

    def fits(value: Any) -> bool:
        ends = value if isinstance(value, tuple) else (value,)
        return len(ends) == (2 if pair else 1) and all(low <= end <= high for end in ends)

    def read(given: list[str]) -> Any:
        try:
            numbers = tuple(type(low)(text) for text in given)
        except ValueError:
            return default
        return (numbers if numbers[0] <= numbers[-1] else default) if pair else numbers[-1]

    key = _settle(name, fits, default, read)
    if pair and st.session_state[key][1] - st.session_state[key][0] < gap:
        lower = min(st.session_state[key][0], high - gap)
        _set(key, (lower, lower + gap))
    value = where.slider(label, low, high, step=step, key=key, **more)
    texts = [f"{v:g}" for v in (value if pair else (value,))]
    _written(name, key, texts, needed=value != default)
    return value


def numbers_in_address(name: str) -> list[int]:
    """Whole numbers that the address holds under a name."""
    return [int(text) for text in st.query_params.get_all(name) if text.isascii() and text.isdigit() and len(text) < 12]


def number_in_address(name: str) -> int | None:
    """The last of them, or None."""
    return next(reversed(numbers_in_address(name)), None)


# -- what is said -----------------------------------------------------------------------------------------


def safe(text: object) -> str:
    """Text of somebody else for a place where Streamlit reads Markdown: shown as it is, doing nothing."""
    return markdown(str(text)).replace(":", "&#58;")


def problem(error: BenchError) -> None:
    """Say what is wrong and what to do."""
    st.warning(f"{safe(error.message)}" + (f"  \n{safe(error.hint)}" if error.hint else ""), icon=":material/warning:")


def go(page: str, **params: Any) -> None:
    """Open another page of the board with this in its address."""
    texts = {
        name: [str(v) for v in value] if isinstance(value, list) else str(value)
        for name, value in params.items()
        if value is not None
    }
    st.switch_page(st.session_state["pages"][page], query_params=texts)


def link(page: str, label: str, icon: str, **params: Any) -> None:
    """A link to another page of the board."""
    texts = {name: str(value) for name, value in params.items() if value is not None}
    st.page_link(st.session_state["pages"][page], label=label, icon=icon, query_params=texts)
