"""A pipe that breaks: whether it was stdout, which is no error, or any other, which is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WITH_A_COMMAND_WHOSE_TOOL_DIED = """
import os, sys, types
import click
from bench import cli


@click.command()
def command():
    click.echo("half a result")
    reading, writing = os.pipe()
    os.close(reading)
    os.write(writing, b"a request")


cli.COMMANDS["ask"] = "asks a tool"
sys.modules["bench.cli.ask"] = types.SimpleNamespace(command=command)
cli.main(sys.argv[1:])
"""


def ended(*command: str, unbuffered: bool = False, read: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program whose stdout is read to the end, or not at all by anyone."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    if read:
        return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=False)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [sys.executable, *command], stdout=writing, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    finally:
        os.close(writing)


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_pipe_to_something_else_is_an_error(workplace: Path, unbuffered: bool):
    done = ended("-c", WITH_A_COMMAND_WHOSE_TOOL_DIED, "ask", unbuffered=unbuffered)
    assert done.returncode == 70
    assert done.stdout == "half a result\n"
    assert done.stderr.startswith("error: this is a bug: BrokenPipeError: ")
    assert done.stderr.count("\n") == 1


def test_its_traceback_is_that_of_the_error(workplace: Path):
    done = ended("-c", WITH_A_COMMAND_WHOSE_TOOL_DIED, "ask", "--debug")
    assert done.returncode == 1
    assert "in command" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("BrokenPipeError")


@pytest.mark.skipif(os.name != "posix", reason="a pipe that nobody reads is told otherwise elsewhere")
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("line", ["--help", "--version", "list --help", "list metrics", "show mnc --json"])
def test_stdout_that_nobody_reads_is_none(workplace: Path, line: str, unbuffered: bool):
    done = ended("-m", "bench", *line.split(), unbuffered=unbuffered, read=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_run_without_any_stdout_is_stored_and_spoils_no_file(workplace: Path):
    """What is opened first then has the number of standard output."""
    line = f"{sys.executable} -m bench run -m truth,jitter -d tiny >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = subprocess.run([sys.executable, "-m", "bench", "rescore"], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.count("scored again") == 2
