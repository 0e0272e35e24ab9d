"""Starting the board: Streamlit in a process of its own, which finds database and data root in its environment."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.data.dataset import DATA_ROOT_VARIABLE
from bench.errors import MissingDependencyError, UsageError
from bench.store import NoDatabaseError, open_store
from bench.store.target import ENVIRONMENT_VARIABLE, Target

SETTINGS = {
    "browser.gatherUsageStats": "false",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "viewer",
    "runner.magicEnabled": "false",
    "server.enableStaticServing": "false",
    "server.fileWatcherType": "none",
    "server.headless": "true",
    "server.runOnSave": "false",
    "theme.dark.primaryColor": "#56B4E9",
    "theme.light.primaryColor": "#0072B2",
    "theme.light.textColor": "#111111",
}
"""Of Streamlit: nothing is sent anywhere, no folder is watched or served, and what is drawn fainter than the rest, as
captions and heads of tables are, still has a contrast of 4.5 to 1."""


def serve(
    db: str | None,
    *,
    data_root: Path | None = None,
    port: int = 8501,
    address: str = "localhost",
    say: Callable[[str], None] = lambda text: None,
) -> int:
    """Show the board until it is stopped; returns the exit code of Streamlit.

    Args:
        db: the database; default as everywhere.
        data_root: folder in which data sets lie; default as everywhere.
        port: on which it answers.
        address: of the network card on which it answers.
        say: is told where the board is.

    Raises:
        MissingDependencyError: Streamlit is not installed.
        StoreError: the database is none of ours. One that is not there yet is no error: the board says what to type.
        UsageError: the port is taken, or the address is not one of this machine.
    """
    app = _app()
    target = Target.parse(db)
    try:
        open_store(db, read_only=True).close()
    except NoDatabaseError as error:
        say(f"{error.message}: the board is empty until something has run")
    _check_port(address, port)
    environment = dict(os.environ)
    shown = target.url.render_as_string(hide_password=False) if target.path is None else str(target.path)
    environment[ENVIRONMENT_VARIABLE] = shown
    if data_root is not None:
        environment[DATA_ROOT_VARIABLE] = str(Path(data_root).expanduser().absolute())
    say(f"the board of {target.shown}: http://{address}:{port} (Ctrl-C stops it)")
    command = [
        sys.executable,
        "-P",  # a folder of that name where the user is must not come first
        "-m",
        "leaderboard",
        "run",
        str(app),
        f"--server.address={address}",
        f"--server.port={port}",
    ]
    command += [f"--{name}={value}" for name, value in SETTINGS.items()]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    with _told_to_stop():
        try:
            return process.wait()
        except (KeyboardInterrupt, _StoppedError):
            return 0
        finally:  # the server must not outlive the command
            if process.poll() is None:
                process.terminate()
                process.wait()


class _StoppedError(Exception):
    """Somebody ended the command by SIGTERM."""


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Raises :class:`_StoppedError` in the main thread where the system asks this process to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # who asks twice must not break off the ending
        raise _StoppedError

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _app() -> Path:
    """The file that serves the pages; the package is found, not imported."""
    if importlib.util.find_spec("streamlit") is None:
        raise MissingDependencyError(
            "the board needs streamlit, which is not installed", "pip install 'cellseg-bench[board]'"
        )
    found = importlib.util.find_spec("leaderboard")
    if found is None or not found.submodule_search_locations:
        raise MissingDependencyError("the board's pages are not installed", "install cellseg-bench again")
    return Path(found.submodule_search_locations[0]) / "served.py"


def _check_port(address: str, port: int) -> None:
    try:
        family, kind, _, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(where)
    except socket.gaierror:
        raise UsageError(
            f"--address {address!r} is no address", "localhost, or 0.0.0.0 for the whole network"
        ) from None
    except OSError as error:
        raise UsageError(
            f"the board cannot answer on {address}:{port}: {error.strerror}", "choose another --port"
        ) from None
