"""What the command line says of mistakes: names nearly right, empty options, folders that are not there."""

from __future__ import annotations

import errno
import importlib
import json
import pickle
from pathlib import Path

import click
import pytest

from bench.cli import COMMANDS, options
from bench.errors import OutputError, UnknownNameError, nearest, writing_hint
from bench.registry import registry

MANY = [f"method_{number:02d}" for number in range(40)]


@pytest.mark.parametrize(
    ("written", "known", "found"),
    [
        ("otsu", [*MANY, "otsu_watershed"], ["otsu_watershed"]),
        ("watershed", [*MANY, "otsu_watershed"], ["otsu_watershed"]),
        ("OTSU-water", [*MANY, "otsu_watershed"], ["otsu_watershed"]),
        ("rcnn_mask", [*MANY, "mask_rcnn"], ["mask_rcnn"]),
        ("ostu", [*MANY, "otsu_watershed"], ["otsu_watershed"]),
        ("licnce", ["title", "licence", "url"], ["licence"]),
        ("unet", ["my_unet", "unet-dice", "unet-bce"], ["unet-bce", "unet-dice", "my_unet"]),
        ("ap@0.5", ["AP@0.5", "AP"], ["AP@0.5"]),
        ("qqqq", ["title", "licence"], []),
        ("", ["title", "licence"], []),
        ("--", ["title", "licence"], []),
    ],
)
def test_what_begins_with_or_holds_a_name_comes_before_what_is_spelt_alike(written, known, found):
    assert nearest(written, known) == found


def test_an_unknown_name_names_the_nearest_and_nothing_else():
    error = UnknownNameError("method", "otsu", [*MANY, "otsu_watershed"])
    assert str(error) == "unknown method 'otsu' (did you mean otsu_watershed?)"
    assert len(nearest("method", MANY)) == 5
    several = UnknownNameError("method", "unet", ["unet-a", "unet-b", "unet-c"], "the shop is closed")
    assert str(several) == "the shop is closed; unknown method 'unet' (did you mean unet-a, unet-b or unet-c?)"
    assert str(pickle.loads(pickle.dumps(several))) == str(several)


def test_a_method_is_found_by_the_beginning_of_its_name(workplace: Path, cli):
    code, _, err = cli("run", "-m", "otsu", "-d", "tiny", "--dry-run")
    assert code == 2
    assert "did you mean otsu_watershed" in err
    assert "more" not in err


def test_a_folder_of_methods_that_is_not_there_is_said_first(workplace: Path, cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BENCH_METHODS", "nowhere")
    registry.cache_clear()
    try:
        code, _, err = cli("run", "-m", "spots", "-d", "tiny")
        assert code == 2
        assert err.startswith("error: BENCH_METHODS names a folder that is not there: nowhere; unknown method 'spots'")
    finally:
        registry.cache_clear()


@pytest.mark.parametrize("option", ["--runs", "--split", "--data-root", "--db", "--weights"])
@pytest.mark.parametrize("form", ["two words", "one word"])
def test_an_empty_option_is_refused(workplace: Path, cli, option: str, form: str):
    given = (option, "") if form == "two words" else (f"{option}=",)
    code, _, err = cli("run", "-m", "truth", "-d", "tiny", *given)
    assert code == 2
    assert err.startswith(f"error: {option} is empty")
    assert not (workplace / "bench.db").exists()


def test_every_command_refuses_empty_options():
    def leaves(command: click.Command):
        if isinstance(command, click.Group):
            assert isinstance(command, options.Group)
            for below in command.commands.values():
                yield from leaves(below)
        else:
            yield command

    commands = [importlib.import_module(f"bench.cli.{name.replace('-', '_')}").command for name in COMMANDS]
    found = [leaf for command in commands for leaf in leaves(command)]
    assert len(found) > 20
    assert [leaf.name for leaf in found if not isinstance(leaf, options.Command)] == []


def test_doctor_ends_as_a_command_that_needs_the_database(workplace: Path, cli):
    (workplace / "notes.db").write_text("this is no database, but a text that is long enough to be looked at" * 20)
    code, out, err = cli("doctor", "--db", "notes.db")
    assert code == 4
    assert "PROBLEM  store: " in out
    assert err.startswith("error: store: ")
    code, out, _ = cli("doctor", "--db", "notes.db", "--json")
    assert code == 4
    assert [one["subject"] for one in json.loads(out) if one["exit_code"]] == ["store"]


def test_doctor_names_a_file_where_the_runs_should_lie(workplace: Path, cli, monkeypatch: pytest.MonkeyPatch):
    (workplace / "file").touch()
    monkeypatch.setenv("BENCH_RUNS", "file")
    code, out, err = cli("doctor")
    assert code == 7
    assert "PROBLEM  runs: " in out
    assert "is no folder" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "-d", "tiny", "--to", "nodir/x.csv"),
        ("export", "-d", "tiny", "--plot", "nodir/x.svg"),
        ("export", "--html", "nodir/public"),
        ("show", "1", "--picture", "nodir/x.png"),
    ],
)
def test_no_folder_is_made_around_what_is_written(workplace: Path, cli, arguments):
    assert cli("run", "-m", "truth", "-d", "tiny")[0] == 0
    code, _, err = cli(*arguments)
    assert code == 7
    assert f"{arguments[-1]}: there is no folder nodir" in err.replace(" cannot be written:", "")
    assert not (workplace / "nodir").exists()


def test_a_page_says_how_many_images_of_the_split_were_evaluated(workplace: Path, cli):
    assert cli("run", "-m", "truth", "-d", "tiny")[0] == 0
    assert cli("run", "-m", "truth", "-d", "tiny", "--split", "val")[0] == 0
    assert cli("export", "--html", "public")[0] == 0
    for split, count in (("test", 4), ("val", 2)):
        (page,) = (workplace / "public").glob(f"tiny-*-{split}.html")
        text = page.read_text()
        assert f"Split {split}: {count} images evaluated." in text
        assert ", 11 images." in text


def test_only_a_full_disk_asks_for_space():
    assert "space" in writing_hint(OSError(errno.ENOSPC, "full"))
    assert "space" in writing_hint(OSError(errno.EDQUOT, "quota"))
    assert "space" not in writing_hint(OSError(errno.ENOTDIR, "no folder"))


def test_a_file_where_a_folder_should_be_is_no_lack_of_space(workplace: Path, cli):
    (workplace / "file").touch()
    code, _, err = cli("run", "-m", "truth", "-d", "tiny", "--runs", "file")
    assert code == OutputError.exit_code
    assert "space" not in err
    assert "--runs" in err
