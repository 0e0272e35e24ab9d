"""The command line as a user meets it: one clear line for every mistake, and the right exit code."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.cli import main


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]):
    """Runs a command line in this process: ``cli("list", "methods") -> (exit code, stdout, stderr)``."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(list(arguments))
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return call


def one_line(err: str) -> bool:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    return len(lines) == 1 and "Traceback" not in err


RUN = ("run", "-m", "truth", "-d", "tiny")


def test_a_run_prints_its_row_and_where_it_is(workplace: Path, cli):
    code, out, err = cli(*RUN)
    assert code == 0, err
    assert "AP@0.5" in out
    assert "100.0 %" in out
    assert "run 1 stored in" in out
    assert (workplace / "bench.db").is_file()


def test_json_is_json_and_only_that(workplace: Path, cli):
    code, out, _ = cli(*RUN, "--json")
    assert code == 0
    (run,) = json.loads(out)
    assert run["protocols"]["voc"]["AP@0.5"]["value"] == 1.0
    assert run["new"] is True


def test_dry_run_says_what_and_why(workplace: Path, cli):
    code, out, _ = cli(*RUN, "--dry-run")
    assert code == 0
    assert "not run yet" in out
    assert not (workplace / "bench.db").exists()
    cli(*RUN)
    _, out, _ = cli(*RUN, "--dry-run")
    assert "stored as run 1" in out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("run", "-m", "trut", "-d", "tiny"), 2, "unknown method 'trut' (did you mean truth"),
        (("run", "-m", "truth", "-d", "tinny"), 2, "unknown data set 'tinny' (did you mean tiny"),
        (("runn",), 2, "unknown command 'runn' (did you mean run"),
        ((*RUN, "--split", "tset"), 2, "'tset'"),
        ((*RUN, "--seed", "one"), 2, "--seed 'one'"),
        ((*RUN, "--set", "nonsense"), 2, "'nonsense' is not a setting"),
        (("show", "nothing-of-this-name"), 2, "nothing-of-this-name"),
        (("list", "runs"), 4, "there is no database"),
        (("list", "runs", "--db", "nowhere/bench.db"), 4, "nowhere"),
        (("run", "-m", "mask_rcnn", "-d", "tiny", "--device", "cuda"), 6, "device cuda is not here"),
    ],
)
def test_a_mistake_is_one_line_and_its_exit_code(workplace: Path, cli, arguments, code: int, says: str):
    got, _, err = cli(*arguments)
    assert got == code, err
    assert one_line(err)
    assert says in err


def test_options_of_the_wrong_kind_are_refused(workplace: Path, cli):
    code, _, err = cli(*RUN, "--limit", "0")
    assert code == 2
    assert "Traceback" not in err


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_size(path: Path) -> None:
    from PIL import Image

    Image.new("I;16", (10, 10)).save(path)


@pytest.mark.parametrize(
    ("damage", "file", "says"),
    [
        (Path.unlink, "test/labels/test1.png", "test1"),
        (truncate, "test/images/test1.png", "test1.png"),
        (other_size, "test/labels/test1.png", "10 x 10"),
    ],
)
def test_damaged_data_is_named_and_nothing_is_stored(workplace: Path, cli, damage, file: str, says: str):
    damage(workplace / "data" / "tiny" / file)
    code, _, err = cli(*RUN)
    assert code == 3, err
    assert one_line(err)
    assert says in err


def test_a_file_that_is_no_database_is_left_alone(workplace: Path, cli):
    (workplace / "bench.db").write_text("these are my notes, and they are longer than a header of SQLite" * 20)
    before = (workplace / "bench.db").read_bytes()
    code, _, err = cli(*RUN)
    assert code == 4
    assert one_line(err)
    assert "is no SQLite database" in err
    assert (workplace / "bench.db").read_bytes() == before


def test_the_database_of_another_program_is_left_alone(workplace: Path, cli):
    with sqlite3.connect("bench.db") as other:
        other.execute("CREATE TABLE song (title TEXT)")
    code, _, err = cli(*RUN)
    assert code == 4
    assert "not a database of this program" in err


def test_a_folder_that_cannot_be_written_is_named(workplace: Path, cli):
    # /proc refuses new folders to everybody, root included.
    code, _, err = cli(*RUN, "--runs", "/proc/runs")
    assert code == 7
    assert one_line(err)
    assert "/proc/runs" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line_and_what_was_written_stays(workplace: Path, cli, monkeypatch):
    from bench.engine import folder

    real = folder.Journal.append

    def full(self, record):
        if record["id"].endswith("test2"):
            target = self._path
            self._path = Path("/dev/full")
            try:
                real(self, record)
            finally:
                self._path = target
        real(self, record)

    monkeypatch.setattr(folder.Journal, "append", full)
    code, _, err = cli(*RUN)
    assert code == 7
    assert "No space left on device" in err
    monkeypatch.setattr(folder.Journal, "append", real)
    code, out, _ = cli(*RUN)
    assert code == 0
    assert "100.0 %" in out


def test_debug_shows_the_traceback(workplace: Path, cli):
    code, _, err = cli("run", "-m", "trut", "-d", "tiny", "--debug")
    assert code == 2
    assert "Traceback" in err


def test_lists(workplace: Path, cli):
    code, out, _ = cli("list", "methods")
    assert code == 0
    assert {"mask_rcnn", "mnc", "truth", "unet-bce"} <= {line.split()[0] for line in out.splitlines()}
    _, out, _ = cli("list", "datasets", "--json")
    assert {"dsb2018", "bbbc039", "usiigaci", "neural", "tiny"} <= {row["name"] for row in json.loads(out)["items"]}
    _, out, _ = cli("list", "metrics")
    assert "AP@0.7" in out
    cli(*RUN)
    _, out, _ = cli("list", "runs")
    assert "truth" in out


def test_a_broken_method_is_reported_beside_the_others(workplace: Path, cli, monkeypatch):
    from bench.registry import registry

    (workplace / "mine").mkdir()
    (workplace / "mine" / "broken.py").write_text("import a_package_that_is_not_here\n")
    monkeypatch.setenv("BENCH_METHODS", str(workplace / "mine"))
    registry.cache_clear()
    code, out, err = cli("list", "methods")
    registry.cache_clear()
    assert code == 0
    assert "truth" in out
    assert "broken.py is left out: ModuleNotFoundError" in err


@pytest.mark.parametrize("name", ["mnc", "unet-bce", "mask_rcnn", "tiny", "voc", "truth"])
def test_show(workplace: Path, cli, name: str):
    code, out, err = cli("show", name)
    assert code == 0, err
    assert name in out
    code, out, _ = cli("show", name, "--json")
    assert json.loads(out)


def test_show_a_run_with_its_picture(workplace: Path, cli):
    from PIL import Image

    cli("run", "-m", "jitter", "-d", "tiny")
    code, out, _ = cli("show", "1")
    assert code == 0
    assert "provenance" in out
    code, _, err = cli("show", "1", "--picture", "sheet.png", "--images", "2")
    assert code == 0, err
    with Image.open("sheet.png") as picture:
        assert picture.width > 3 * 64


def test_doctor_changes_nothing(workplace: Path, cli):
    before = sorted(workplace.rglob("*"))
    code, out, _ = cli("doctor")
    assert code == 0
    assert "torch" in out
    assert [p for p in sorted(workplace.rglob("*")) if "cache" not in p.parts] == [
        p for p in before if "cache" not in p.parts
    ]


def test_listing_imports_nothing_heavy(workplace: Path):
    heavy = "torch,mmengine,mmcv,mmdet,pandas,sqlalchemy,scipy,skimage,streamlit"
    code = (
        "import sys\nfrom bench.cli import main\n"
        "try:\n    main(['list', 'methods'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"loaded = [m for m in {heavy.split(',')} if m in sys.modules]\n"
        "sys.exit(f'imported: {loaded}' if loaded else 0)\n"
    )
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begun < 20  # the figure lies in benchmarks; this only catches a hang


def test_compare_tells_apart_what_differs_and_only_that(workplace: Path, cli):
    cli("run", "-m", "truth,split", "-d", "tiny")
    code, out, err = cli("compare", "1", "2", "--protocol", "kaggle")
    assert code == 0, err
    assert "difference" in out
    code, out, _ = cli("compare", "1", "2", "--protocol", "kaggle", "--json")
    (difference,) = json.loads(out)["differences"]
    assert difference["difference"] > 0.5
    assert difference["low"] <= difference["difference"] <= difference["high"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("compare", "1"), 2, "two different runs"),
        (("compare", "1", "99"), 2, "99"),
        (("compare", "1", "3"), 2, "not of the same images"),
        (("compare", "1", "2", "--metric", "AP"), 2, "no metric 'AP'"),
        (("compare", "1", "2", "--protocol", "kagle"), 2, "kagle"),
    ],
)
def test_what_cannot_be_compared_says_why(workplace: Path, cli, arguments, code: int, says: str):
    cli("run", "-m", "truth,split", "-d", "tiny")
    cli("run", "-m", "truth", "-d", "tiny", "--split", "val")
    got, _, err = cli(*arguments)
    assert got == code, err
    assert one_line(err)
    assert says in err


def test_rescore_gives_the_same_numbers_without_the_method(workplace: Path, cli):
    cli("run", "-m", "jitter", "-d", "tiny")
    _, before, _ = cli("show", "1", "--json")
    code, out, err = cli("rescore")
    assert code == 0, err
    assert "run 1 (jitter on tiny) scored again" in out
    _, after, _ = cli("show", "1", "--json")
    assert json.loads(after)["results"] == json.loads(before)["results"]


def test_rescore_names_predictions_that_are_gone(workplace: Path, cli):
    cli("run", "-m", "jitter", "-d", "tiny", "--runs", "elsewhere")
    next((workplace / "elsewhere").rglob("predictions.jsonl")).unlink()
    code, _, err = cli("rescore", "1")
    assert code == 3
    assert "the predictions of run 1 are gone" in err
