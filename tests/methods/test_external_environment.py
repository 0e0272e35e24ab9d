"""Environments of external tools: made once from a pinned list, found again, mended after a kill."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from bench.api import MissingDependencyError, OutputError, Task, UsageError
from methods._environment import COMPLETE, ToolEnvironment, clean_environment, environments_folder
from methods._external import ExternalMethod


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def wheel(folder, version="1.0"):
    """A wheel of one module that segments what is not 0, in plain Python; pip installs it without a network."""
    name = f"toysegment-{version}"
    path = folder / f"{name}-py3-none-any.whl"
    module = f"""
VERSION = {version!r}

def main():
    import sys
    # A NPY file of version 1: magic, length of the header, header, then the pixels.
    data = open(sys.argv[1], "rb").read()
    start = 10 + int.from_bytes(data[8:10], "little")
    header, pixels = data[:start], data[start:]
    open(sys.argv[2], "wb").write(header + bytes(1 if p else 0 for p in pixels))

if __name__ == "__main__":
    main()
"""
    info = f"{name}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toysegment.py", module)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: toysegment\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"toysegment.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return f"toysegment @ {path.as_uri()}"


def test_requirements_must_be_pinned_and_be_requirements():
    for loose in ("numpy", "numpy>=1", "numpy==1.*"):
        with pytest.raises(UsageError, match="not pinned"):
            ToolEnvironment("tool", (loose,))
    with pytest.raises(UsageError, match="no requirement"):
        ToolEnvironment("tool", ("==", "numpy==1.0"))


def test_the_folder_follows_from_the_list_whatever_its_order(cache):
    one = ToolEnvironment("tool", ("a==1", "b==2"))
    assert one.folder == ToolEnvironment("tool", ("b==2", "a==1")).folder
    assert one.folder != ToolEnvironment("tool", ("a==1", "b==3")).folder
    assert one.folder.parent == environments_folder() == cache / "environments"
    assert not one.ready


def test_the_cache_follows_the_desktop_convention(monkeypatch, tmp_path):
    monkeypatch.delenv("BENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert environments_folder() == tmp_path / "cellseg-bench" / "environments"


def test_another_interpreter_does_not_see_our_packages(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert "PYTHONPATH" not in clean_environment()
    assert clean_environment()["PATH"] == os.environ["PATH"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_named(tmp_path, monkeypatch):
    tmp_path.chmod(0o500)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(OutputError, match="cannot write"):
        ToolEnvironment("tool", ()).create()


def test_a_cache_that_is_a_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot write.*BENCH_CACHE"):
        ToolEnvironment("tool", ()).create()


def test_the_command_knows_methods_and_says_so():
    done = subprocess.run(
        [sys.executable, "-m", "methods._environment", "no-such-method"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "unknown method 'no-such-method'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_tool_gets_an_environment_of_its_own(tmp_path, cache):
    class Toy(ExternalMethod):
        name = "toy"
        title = "Toy"
        modules = ("toysegment",)
        requirements = (wheel(tmp_path),)
        image_format = answer_format = ".npy"

        def command(self, image, answer):
            return [self.interpreter(), "-m", "toysegment", image, answer]

    image = np.zeros((6, 8), np.uint8)
    image[2:4, 3:6] = 9
    method = Toy(Task())
    with pytest.raises(MissingDependencyError, match=r"no module toysegment.*methods\._environment toy"):
        method.predict(image)

    environment = Toy.environment()
    environment.folder.mkdir(parents=True)  # an earlier attempt, killed half way
    (environment.folder / "rubbish").write_text("")
    python = environment.create()
    assert environment.ready
    assert not (environment.folder / "rubbish").exists()
    installed = json.loads((environment.folder / COMPLETE).read_text())["installed"]
    assert any(line.startswith("toysegment") for line in installed)
    made = python.stat().st_mtime_ns
    assert environment.create() == python
    assert python.stat().st_mtime_ns == made

    assert method.interpreter() == python
    assert method.predict(image).areas.tolist() == [6]
    method.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_requirements_that_cannot_be_installed_leave_no_environment(tmp_path, cache):
    environment = ToolEnvironment("toy", (f"toysegment @ {(tmp_path / 'absent-1.0-py3-none-any.whl').as_uri()}",))
    with pytest.raises(MissingDependencyError, match="environment of toy cannot be made: ERROR"):
        environment.create()
    assert not environment.ready
