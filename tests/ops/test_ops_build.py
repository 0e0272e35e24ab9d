"""The build of mmcv's compiled operators, with a stand-in for pip: the real one takes minutes and the network."""

import sys
import zipfile
from pathlib import Path

import pytest

from bench.errors import BenchError, MissingDependencyError, OutputError
from bench.ops import build
from bench.ops.build import Target

WHEEL = "onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl"
TARGET = Target("2.3.6", "2.13.0+cpu", "cpython-311", "linux-x86_64", "cpu")

PYTHON = sys.executable

PIP = """#!{python}
import pathlib, sys, zipfile
arguments = sys.argv[1:]
pathlib.Path({record!r}).open("a").write(" ".join(arguments) + "\\n")
if "wheel" in arguments:
    for i in range(1, 4):
        print(f"  [{{i}}/3] c++ -c some_{{i}}.cpp")
    {ending}
    folder = pathlib.Path(arguments[arguments.index("--wheel-dir") + 1])
    with zipfile.ZipFile(folder / {wheel!r}, "w") as archive:
        archive.writestr("mmcv/_ext.so", "code")
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return TARGET.folder


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An environment with torch, mmcv, a compiler and a pip of ours: ``pip(ending)`` makes it, and reads its calls."""
    record = tmp_path / "calls"
    record.touch()
    answers: list[str | None] = []
    monkeypatch.setattr(Target, "here", classmethod(lambda cls: TARGET))
    monkeypatch.setattr(build, "_require_compiler", lambda target: None)
    monkeypatch.setattr(build, "BUILD_REQUIREMENTS", ())
    monkeypatch.setattr(build, "_fault", lambda: answers.pop(0))

    def make(ending: str = "pass", after: str | None = None):
        answers[:] = ["installed without its compiled operators", after]
        program = tmp_path / "python"
        program.write_text(PIP.format(python=PYTHON, record=str(record), ending=ending, wheel=WHEEL))
        program.chmod(0o755)
        monkeypatch.setattr(build.sys, "executable", str(program))
        return lambda: record.read_text().splitlines()

    return make


def put_wheel(folder: Path) -> Path:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("mmcv/_ext.so", "code")
    return folder / WHEEL


def test_the_cache_is_kept_by_versions(cache: Path, tmp_path: Path) -> None:
    name = "2.3.6-2.13.0+cpu-cpython-311-linux-x86_64-cpu"
    assert cache == tmp_path / "cache" / "cellseg-bench" / "ops" / name


def test_the_target_is_this_environment() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("mmcv")
    target = Target.here()
    assert target.torch == torch.__version__
    assert target.python == sys.implementation.cache_tag
    assert target.mmcv[0].isdigit()


def test_the_target_names_cuda_and_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    monkeypatch.delenv("FORCE_CUDA", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert build._accelerator() == "cpu"
    monkeypatch.setenv("FORCE_CUDA", "1")
    assert build._accelerator() == "cu130"
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0")
    assert build._accelerator() == "cu130-sm80-sm90"
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: (9, 0))
    assert build._accelerator() == "cu130-sm90"


def test_it_builds_once_and_then_takes_the_wheel(cache: Path, pip, capsys: pytest.CaptureFixture[str]) -> None:
    calls = pip()
    wheel = build.install(jobs=3)
    assert wheel == cache / WHEEL
    first, second = calls()
    for part in ("wheel", "--no-cache-dir", "--no-build-isolation", "--no-deps", "--no-binary onedl-mmcv"):
        assert part in first
    assert f"install --force-reinstall --no-deps --no-index {wheel}" in second
    assert "3/3" in capsys.readouterr().err
    assert sorted(p.name for p in cache.iterdir()) == ["build.log", WHEEL]
    assert "some_2.cpp" in (cache / "build.log").read_text()

    calls = pip()
    assert build.install() == wheel
    assert len(calls()) == 3
    assert "install" in calls()[2]


def test_nothing_to_do_where_they_serve(cache: Path, pip, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pip()
    monkeypatch.setattr(build, "_fault", lambda: None)
    assert build.install() is None
    assert calls() == []
    assert build.install(rebuild=True) == cache / WHEEL


def test_a_truncated_wheel_is_built_again(cache: Path, pip) -> None:
    wheel = put_wheel(cache)
    wheel.write_bytes(wheel.read_bytes()[:-30])
    assert TARGET.cached() is None
    calls = pip()
    build.install()
    assert any("wheel" in call for call in calls())
    assert TARGET.cached() == wheel


def test_a_build_that_fails(cache: Path, pip) -> None:
    pip("print('some_2.cpp:3:9: fatal error: Python.h: No such file'); print('ERROR: Failed'); sys.exit(1)")
    with pytest.raises(BenchError) as caught:
        build.install()
    assert "fatal error: Python.h: No such file" in caught.value.message
    assert "\n" not in str(caught.value)
    assert str(cache / "build.log") in (caught.value.hint or "")
    assert [p.name for p in cache.iterdir()] == ["build.log"]


def test_a_wheel_that_does_not_serve_is_not_kept(cache: Path, pip) -> None:
    put_wheel(cache)
    pip(after="undefined symbol")
    with pytest.raises(BenchError, match="undefined symbol"):
        build.install()
    assert TARGET.cached() is None


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++ -O2")
    with pytest.raises(MissingDependencyError, match="/nowhere/c"):
        build._require_compiler(TARGET)


def test_without_the_headers_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # any program
    monkeypatch.setattr(build.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(MissingDependencyError, match="headers of Python"):
        build._require_compiler(TARGET)


def test_a_cache_that_cannot_be_written(tmp_path: Path, pip, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    pip()
    with pytest.raises(OutputError, match="cannot write"):
        build.install()


def test_the_command(cache: Path, pip, capsys: pytest.CaptureFixture[str]) -> None:
    calls = pip()
    assert build.main(["--jobs", "1"]) == 0
    assert "installed and serve" in capsys.readouterr().err
    assert build.main(["--plain"]) == 0
    assert calls()[-1].endswith("--no-cache-dir onedl-mmcv==2.3.6 -q")


def test_the_command_says_what_is_wrong_in_one_line(
    cache: Path, pip, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip()

    def refuse(_target: Target) -> None:
        raise MissingDependencyError("no C++ compiler", "install one")

    monkeypatch.setattr(build, "_require_compiler", refuse)
    assert build.main([]) == MissingDependencyError.exit_code
    assert capsys.readouterr().err == "error: no C++ compiler (install one)\n"
