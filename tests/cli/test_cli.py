"""The command line as a user meets it: one clear line for every mistake, and the right exit code."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest


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
        ((*RUN, "--set", "nonsense"), 2, "--set 'nonsense' is not NAME=VALUE"),
        (("show", "nothing-of-this-name"), 2, "nothing-of-this-name"),
        (("compare", "1", "2"), 4, "there is no database"),
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
    cli("run", "-m", "truth,split", "-d", "tiny", "--split", "train")
    code, out, err = cli("compare", "1", "2", "--protocol", "kaggle")
    assert code == 0, err
    assert "difference" in out
    assert "so few images are a weak ground" in out
    code, out, _ = cli("compare", "1", "2", "--protocol", "kaggle", "--json")
    (difference,) = json.loads(out)["differences"]
    assert difference["difference"] > 0.5
    assert difference["low"] <= difference["difference"] <= difference["high"]


def test_compare_tells_nothing_apart_on_four_images(workplace: Path, cli):
    cli("run", "-m", "truth,split", "-d", "tiny")
    _, out, _ = cli("compare", "1", "2", "--protocol", "kaggle")
    assert "no interval and no p on fewer than 5 images" in out
    _, out, _ = cli("compare", "1", "2", "--protocol", "kaggle", "--json")
    (difference,) = json.loads(out)["differences"]
    assert difference["difference"] > 0.5
    assert difference["low"] is difference["high"] is difference["p"] is None


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


# -- what a new user stumbled over ------------------------------------------------------------------------

STAND_IN = '\n[stand_in]\ngenerator = "neural"\nseed = 4\nparams = { train = 2, val = 1, test = 1 }\n'


@pytest.fixture
def imitated(workplace: Path) -> Path:
    """The same place with a data set of which only a stand-in can be had, not made yet."""
    card = (workplace / "cards" / "tiny.toml").read_text().replace('"tiny"', '"imitated"')
    (workplace / "cards" / "imitated.toml").write_text(card + STAND_IN)
    return workplace


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_dry_run_makes_no_stand_in_and_says_that_a_run_would(imitated: Path, cli):
    before = files_of(imitated)
    code, out, err = cli("run", "-m", "truth,jitter", "-d", "imitated,tiny", "--dry-run", "--quiet")
    assert (code, err) == (0, "")
    assert out.count("the stand-in is generated first: 4 images, in data/synthetic/neural-") == 2
    assert out.count("not run yet") == 2
    made = files_of(imitated) - before
    assert not {path for path in made if path.parts[len(imitated.parts)] != "cache"}
    code, out, _ = cli("run", "-m", "truth", "-d", "imitated", "--dry-run", "--json")
    (plan,) = json.loads(out)
    assert (plan["source"], plan["key"], plan["dataset_version"], plan["action"]) == ("synthetic", None, None, "run")


@pytest.mark.parametrize("mistake", [("--split", "tset"), ("--set", "a=1"), ("--init", "imagenet"), ("-m", "trut")])
def test_a_dry_run_without_the_images_still_finds_mistakes(imitated: Path, cli, mistake):
    code, _, err = cli("run", "-m", "truth", "-d", "imitated", "--dry-run", *mistake)
    assert code == 2
    assert one_line(err)


def test_a_run_announces_the_stand_in_that_it_makes(imitated: Path, cli):
    code, _, err = cli("run", "-m", "truth", "-d", "imitated")
    assert code == 0, err
    assert "imitated: the stand-in is generated first: 4 images, in data/synthetic/neural-" in err
    _, out, _ = cli("run", "-m", "truth", "-d", "imitated", "--dry-run")
    assert "stored as run 1" in out


def test_rescore_generates_nothing_and_scores_what_it_can(imitated: Path, cli):
    import shutil

    cli("run", "-m", "truth", "-d", "imitated,tiny")
    shutil.rmtree(imitated / "data" / "synthetic")
    code, out, err = cli("rescore")
    assert code == 3
    assert "run 2 (truth on tiny) scored again" in out
    assert one_line(err)
    assert "the stand-in of imitated, on which run 1 was made, is not there" in err
    assert "bench data synth imitated" in err
    assert not (imitated / "data" / "synthetic").exists()
    code, out, _ = cli("rescore", "--json")
    assert (code, [row["run"] for row in json.loads(out)]) == (3, [2])
    assert cli("show", "1", "--picture", "a.png")[0] == 3
    assert cli("data", "synth", "imitated")[0] == 0
    assert cli("rescore")[0] == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tiny", "tiny is a data set (its images: bench data show tiny"),
        ("truth", "truth is a method (name a run: bench list runs --method truth)"),
        ("voc", "voc is a protocol"),
        ("9", "there is no run '9'"),
    ],
)
def test_a_picture_is_of_a_run(workplace: Path, cli, name: str, says: str):
    cli(*RUN)
    code, _, err = cli("show", name, "--picture", "a.png")
    assert code == 2
    assert says in err


def test_data_sets_are_listed_with_what_is_in_a_data_root(workplace: Path, cli):
    (workplace / "data").rename(workplace / "elsewhere")
    _, out, _ = cli("list", "datasets", "--json", "--data-root", "elsewhere")
    assert {row["name"]: row["here"] for row in json.loads(out)["items"]}["tiny"] == "real"
    _, out, _ = cli("list", "datasets", "--json")
    assert {row["name"]: row["here"] for row in json.loads(out)["items"]}["tiny"] == "missing"


def test_a_second_process_on_a_run_is_no_usage_error(workplace: Path, cli):
    from bench.engine.folder import RunFolder

    _, out, _ = cli(*RUN, "--dry-run", "--json")
    with RunFolder(Path(json.loads(out)[0]["folder"])).locked():
        code, _, err = cli(*RUN)
    assert code == 8
    assert "another process is at work on this run" in err


def test_every_exit_code_is_in_the_help(cli):
    import bench.errors
    from bench.cli import EXIT_CODES

    kinds = [bench.errors.UsageError, bench.errors.DataError, bench.errors.StoreError, bench.errors.MethodError]
    kinds += [bench.errors.MissingDependencyError, bench.errors.OutputError]
    assert {kind.exit_code for kind in kinds} < set(EXIT_CODES)
    _, out, err = cli("--help")
    assert not err
    for code, meaning in EXIT_CODES.items():
        assert f"{code:>3}  {meaning}" in out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("list", "methds"), 2, "unknown command of bench list 'methds' (did you mean methods"),
        (("data", "chek"), 2, "did you mean check"),
        (("list", "runs", "--dataset", "nope"), 2, "unknown data set 'nope'"),
        (("list", "runs", "--method", "trut"), 2, "unknown method 'trut' (did you mean truth"),
        (("list", "datasets", "--data-root", "nowhere"), 2, "nowhere: there is no such folder"),
        (("data", "list", "--data-root", "cards/tiny.toml"), 2, "cards/tiny.toml: that is no folder"),
        (("run", "-m", ",", "-d", "tiny"), 2, "--method names nothing"),
        ((*RUN, "--seed", "99999999999999999999"), 2, "from 0 to 4294967295"),
        ((*RUN, "--seed", "9" * 5000), 2, "from 0 to 4294967295"),
        (("time", "otsu_watershed", "-d", "tiny", "--seed", "9" * 30), 2, "'--seed'"),
        (("demo-db", "--seed", "9" * 30), 2, "'--seed'"),
        (("time", "otsu_watershed", "-d", "tiny", "--weights", "otsu_watershed=x"), 2, "has no weights to load"),
        (("time", "otsu_watershed", "-d", "tiny", "--weights", "x"), 2, "--weights 'x' is not METHOD=PATH"),
        (("export", "--to", "a", "--html", "b"), 2, "--to and --html are different exports"),
        (("show", "1", "--images", "3"), 2, "--picture FILE.png"),
        (("show", "1", "--db", "nowhere.db"), 4, "there is no database"),
        (("list", "runs", "--db", "nowhere.db"), 4, "there is no database"),
        (("show", "99"), 2, "there is no run '99' in this database (see `bench list runs`"),
        (("compare", "truth", "1"), 2, "no run truth in this database (a run is named by its number: see `bench list"),
        (("rescore", "77"), 2, "see `bench list runs`"),
        (("export", "--metric", "PQ"), 2, "PQ belongs to panoptic: add --protocol panoptic"),
    ],
)
def test_more_mistakes_are_one_line(workplace: Path, cli, arguments, code: int, says: str):
    cli(*RUN)
    got, out, err = cli(*arguments)
    assert got == code, err
    assert one_line(err)
    assert says in err
    assert not out


def test_a_command_that_needs_another_shows_its_help(cli):
    for group in ((), ("list",), ("data",), ("new",)):
        code, out, err = cli(*group)
        assert (code, out) == (2, ""), err
        assert "Commands:" in err


def test_a_method_that_ends_the_program_is_a_failed_run(workplace: Path, cli, monkeypatch):
    from bench.registry import registry

    (workplace / "mine").mkdir()
    (workplace / "mine" / "quits.py").write_text(
        "import sys\nfrom bench.api import Method, Schedule\n\n\nclass Quits(Method):\n"
        "    name = 'quits'\n    title = 'Quits'\n    trainable = False\n    scored = False\n    inits = ('none',)\n"
        "    schedules = {'paper': Schedule()}\n\n    def predict(self, image):\n        sys.exit(0)\n"
    )
    monkeypatch.setenv("BENCH_METHODS", str(workplace / "mine"))
    registry.cache_clear()
    code, out, err = cli("run", "-m", "quits", "-d", "tiny")
    registry.cache_clear()
    assert code == 5, err
    assert "SystemExit" in err
    assert "failed" in out


def bench_in_a_shell(command: str) -> subprocess.CompletedProcess[str]:
    line = command.replace("bench", f"{sys.executable} -m bench", 1)
    return subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("bench show mnc | true", 0, ""),
        ("bench list metrics | head -1", 0, ""),
        pytest.param(
            "bench list metrics > /dev/full",
            7,
            "error: the output cannot be written: No space left on device",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full"),
        ),
    ],
)
def test_stdout_that_is_closed_or_full(workplace: Path, command: str, code: int, says: str):
    done = bench_in_a_shell(command)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr


def test_nothing_takes_the_place_of_a_device(tmp_path: Path):
    import os
    import stat

    from bench.data.system import write_whole

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, b"text")
    assert os.read(reading, 100) == b"text"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reading)


def test_what_a_method_prints_is_no_result(workplace: Path):
    folder = workplace / "methods_here"
    folder.mkdir()
    (folder / "chatty.py").write_text(CHATTY)
    done = subprocess.run(
        [sys.executable, "-m", "bench", "run", "-m", "chatty", "-d", "tiny", "--schedule", "paper", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "BENCH_METHODS": str(folder)},
        check=True,
    )
    assert json.loads(done.stdout)
    assert done.stderr.count("by Python") == done.stderr.count("by a process") == 5  # four images and a warm-up


CHATTY = """
import os
from bench.api import Instances, Method, Schedule


class Chatty(Method):
    name = "chatty"
    title = "Chatty"
    trainable = False
    scored = False
    inits = ("none",)
    schedules = {"paper": Schedule()}

    def predict(self, image):
        print("said by Python")
        os.system("echo said by a process")
        return Instances.empty(*image.shape[:2])
"""


# -- what is said of what is there ------------------------------------------------------------------------


def test_no_database_yet_is_no_mistake(workplace: Path, cli, monkeypatch: pytest.MonkeyPatch):
    code, out, err = cli("list", "runs")
    assert (code, out) == (0, "")
    assert err.startswith("no runs yet: ")
    code, out, _ = cli("list", "runs", "--json")
    assert (code, json.loads(out)["items"]) == (0, [])
    monkeypatch.setenv("BENCH_DB", "named.db")
    assert cli("list", "runs")[0] == 4


def test_a_partial_download_is_named_wherever_it_is_used(workplace: Path, cli):
    whole = len(list((workplace / "data").rglob("images/*.png")))
    card = workplace / "cards" / "tiny.toml"
    card.write_text(f"{card.read_text()}\n[expected]\nimages = 200\n")
    code, _, err = cli("run", "-m", "truth", "-d", "tiny")
    assert code == 0, err
    (note,) = [line for line in err.splitlines() if line.startswith("note: ")]
    here = int(note.split()[4])
    assert note == f"note: tiny here has {here} images, the card expects 200: see `bench data check tiny`"
    assert here == whole == 11
    for command in (("doctor",), ("data", "list"), ("show", "1")):
        assert f"{here} of 200" in cli(*command)[1], command
    assert json.loads(cli("show", "1", "--json")[1])["images of the whole data set"] == 200
    card.write_text(card.read_text().replace("images = 200", f"images = {here}"))
    _, _, err = cli("run", "-m", "truth", "-d", "tiny", "--force")
    assert "note: " not in err
    assert " of " not in next(line for line in cli("data", "list")[1].splitlines() if line.startswith("tiny"))


def test_a_run_is_shown_in_the_units_of_the_tables(workplace: Path, cli):
    cli("run", "-m", "jitter", "-d", "tiny")
    results = json.loads(cli("show", "1", "--json")[1])["results"]
    name, result = next((n, r) for n, r in results.items() if r["unit"] == "fraction" and isinstance(r["value"], float))
    out = cli("show", "1")[1]
    assert f"{name}: {100 * result['value']:.1f} %" in out
    assert str(result["value"]) not in out or result["value"] in (0.0, 1.0)


def test_a_number_of_instances_is_compared_as_one(workplace: Path, cli):
    """The count error is in instances, and no share of anything."""
    cli("run", "-m", "truth,split", "-d", "tiny")
    asked = ("compare", "1", "2", "--protocol", "panoptic", "--metric", "count_error")
    found = json.loads(cli(*asked, "--json")[1])
    assert found["unit"] == "instances"
    code, out, err = cli(*asked)
    assert code == 0, err
    assert "%" not in out.replace("95 %", "")
    assert "points" not in out
    assert f"{max(found['values'].values()):.1f}".rstrip("0").rstrip(".") + " instances" in out


def test_runs_of_one_method_are_named_by_what_differs(workplace: Path, cli):
    cli("run", "-m", "otsu_watershed", "-d", "tiny", "--schedule", "paper")
    cli("run", "-m", "otsu_watershed", "-d", "tiny", "--schedule", "paper", "--set", "smoothing=3", "--seed", "1")
    code, out, err = cli("compare", "1", "2", "--protocol", "kaggle", "--json")
    assert code == 0, err
    assert list(json.loads(out)["values"]) == [
        "run 1 (Otsu + watershed, seed 0)",
        "run 2 (Otsu + watershed, seed 1, smoothing=3.0)",
    ]


def test_a_difference_of_percentages_is_in_points(workplace: Path, cli):
    cli("run", "-m", "truth,split", "-d", "tiny")
    _, out, _ = cli("compare", "1", "2", "--protocol", "kaggle")
    below = out[out.index("difference") :]
    assert " points" in below
    assert "%" not in below.split("\n", 2)[2]
