"""``bench leaderboard``: one clear line where it cannot start, and nothing heavy on the way."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.errors import MissingDependencyError, StoreError, UsageError
from bench.report import board_server


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """Commands that would have been started."""
    commands: list[tuple[list[str], dict[str, str]]] = []

    class Process:
        def __init__(self, command: list[str], env: dict[str, str], **_: object) -> None:
            commands.append((command, env))

        def wait(self) -> int:
            return 0

        def poll(self) -> int:
            return 0

    monkeypatch.setattr(board_server, "subprocess", SimpleNamespace(Popen=Process, DEVNULL=subprocess.DEVNULL))
    return commands


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def test_it_answers_on_this_machine_and_sends_nothing_home(started, ran: Path) -> None:
    said: list[str] = []
    port = free_port()
    assert board_server.serve(str(ran), data_root=Path("data"), port=port, say=said.append) == 0
    ((command, environment),) = started
    assert "--server.address=localhost" in command
    assert "--browser.gatherUsageStats=false" in command
    assert (environment["BENCH_DB"], environment["BENCH_DATA_ROOT"]) == (str(ran), str(ran.parent / "data"))
    assert said == [f"the board of {ran}: http://localhost:{port} (Ctrl-C stops it)"]
    assert Path(command[command.index("run") + 1]).is_file()


def test_without_a_database_it_starts_and_says_so(started, workplace: Path) -> None:
    said: list[str] = []
    board_server.serve(None, port=free_port(), say=said.append)
    assert "the board is empty until something has run" in said[0]
    assert len(started) == 1


def test_no_database_of_ours(started, workplace: Path) -> None:
    (workplace / "notes.txt").write_text("no database at all")
    with pytest.raises(StoreError, match="is no SQLite database"):
        board_server.serve(str(workplace / "notes.txt"), port=free_port())
    assert started == []


def test_without_streamlit(started, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "streamlit" else real(name, *a))
    with pytest.raises(MissingDependencyError, match=r"needs streamlit.*pip install 'cellseg-bench\[board\]'"):
        board_server.serve(None)


def test_a_port_that_is_taken_and_an_address_that_is_none(started, workplace: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        with pytest.raises(UsageError, match="choose another --port"):
            board_server.serve(None, port=taken.getsockname()[1])
    with pytest.raises(UsageError, match="is no address"):
        board_server.serve(None, address="no such host.invalid", port=free_port())


def test_the_pages_need_neither_torch_nor_a_method() -> None:
    code = (
        "import sys, leaderboard.app\n"
        "heavy = {'torch', 'mmcv', 'mmdet', 'mmengine', 'methods', 'bench.engine'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ending_the_command_ends_the_server(ran: Path) -> None:
    """A server that outlives its command holds the port."""
    port = free_port()
    command = [sys.executable, "-m", "bench", "leaderboard", "--db", str(ran), "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("localhost", port)) == 0

    deadline = time.monotonic() + 60
    while not answers():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.terminate()
    assert process.wait(30) == 0
    assert not answers()
