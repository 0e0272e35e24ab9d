"""Tables in every format, with names as somebody might submit them."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UnknownNameError
from bench.report import escape
from bench.report.numbers import decimals, describe_plain, number, quantity
from bench.report.tables import FORMATS, Cell, Column, Table, render, simple, to_text

HOSTILE = [
    "<script>alert(1)</script>",
    "a|b & c",
    "two\nlines\r\nof text\ttab",
    "\x1b[31mred\x1b[0m \x07\x9b5m",
    "\u202egnp.exe \u200bzero\u2028width",
    "**bold** _it_ `code` [link](javascript:alert(1)) ![x](http://y) ~~no~~ $x$",
    r"\input{/etc/passwd} 100% #1 {x} ~^_$ \\",
    '=HYPERLINK("http://x")',
    "@SUM(1)",
    "細胞 ｗｉｄｅ é e\u0301",
    "</textarea>\"'",
]


def table_of(names: list[str]) -> Table:
    return simple(["name", "value"], [(name, i / 7) for i, name in enumerate(names)], title=names[0], notes=names[1:2])


# -- shape ------------------------------------------------------------------------------------------------


def test_text_by_hand() -> None:
    table = Table(
        columns=(
            Column("method", "method"),
            Column("ap", "AP@0.5", "%", "fraction", higher_is_better=True, numeric=True),
            Column("ms", "latency", "ms", "ms", higher_is_better=False, numeric=True),
            Column("key", "key", shown=False),
        ),
        rows=(
            (Cell("Mask R-CNN", "Mask R-CNN"), Cell("61.0", 0.61), Cell("120.5", 120.5), Cell("aa", "aa")),
            (Cell("U-Net", "U-Net"), Cell(None, None, "no scores"), Cell(None), Cell("bb", "bb")),
            (Cell("empty", "empty"), Cell(None, None, "no scores"), Cell(None, None, "not timed"), Cell("cc", "cc")),
        ),
        title="Cells",
        notes=("one split",),
    )
    assert to_text(table).split("\n") == [
        "Cells",
        "",
        "method      AP@0.5 [%] ↑  latency [ms] ↓",
        "──────────  ────────────  ──────────────",
        "Mask R-CNN          61.0           120.5",
        "U-Net              – (a)               –",
        "empty              – (a)           – (b)",
        "",
        "(a) no scores",
        "(b) not timed",
        "one split",
        "",
    ]
    assert "AP@0.5 [%] ^" in to_text(table, encoding="ascii")
    assert to_text(table, encoding="ascii").isascii()
    narrow = to_text(table, max_width=30)
    assert "latency [ms]" not in narrow
    assert "not shown for lack of room: latency" in narrow


def test_an_empty_table_says_so() -> None:
    empty = simple(["a", "b"], [])
    assert "(nothing)" in to_text(empty)
    assert json.loads(render(empty, "json"))["rows"] == []
    assert render(empty, "csv") == "a,b\r\n"
    assert render(empty, "markdown").count("\n") == 2


def test_values_of_every_kind() -> None:
    table = simple(["x"], [(1,), (0.123456,), (True,), (None,), (float("nan"),), ("text",)])
    assert [row[0].text for row in table.rows] == ["1", "0.1235", "yes", None, None, "text"]
    assert [row["x"] for row in json.loads(render(table, "json"))["rows"]] == [1, 0.123456, True, None, None, "text"]
    rows = csv.reader(io.StringIO(render(table, "csv"), newline=""))
    assert [row[0] for row in rows] == ["x", "1", "0.123456", "true", "", "", "text"]


def test_a_row_of_another_length_is_a_bug() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells under 2 columns"):
        Table((Column("a", "a"), Column("b", "b")), ((Cell("x"),),))


def test_an_unknown_format() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown table format 'latx' .did you mean latex"):
        render(simple(["a"], []), "latx")


def test_the_best_is_bold_on_paper_only() -> None:
    table = Table((Column("a", "a", numeric=True),), ((Cell("1.0", 1.0, best=True),), (Cell("0.5", 0.5),)))
    assert "| **1.0** |" in render(table, "markdown")
    assert r"\textbf{1.0} \\" in render(table, "latex")
    assert "*" not in render(table, "text")


# -- what names may hold ------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", sorted(FORMATS))
def test_nothing_that_a_terminal_obeys_comes_through(to: str) -> None:
    written = render(table_of(HOSTILE), to)
    kept = "\r\n" if to == "csv" else "\n"
    for character in written:
        assert character in kept or unicodedata.category(character)[0] != "C", repr(character)
        assert character not in "\u2028\u2029"


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_a_name_never_breaks_a_line_or_the_alignment(names: list[str]) -> None:
    lines = to_text(simple(["name", "end"], [(name, "|") for name in names])).split("\n")
    assert len(lines) == 2 + len(names) + 1
    assert len({escape.width(line) for line in lines[2:-1]}) == 1, "the last column is aligned"


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_csv_and_json_are_read_back(names: list[str]) -> None:
    table = table_of(names)
    rows = list(csv.reader(io.StringIO(render(table, "csv"), newline="")))
    assert [row[0] for row in rows[1:]] == [escape.spreadsheet(escape.visible(name)) for name in names]
    assert [float(row[1]) for row in rows[1:]] == [i / 7 for i in range(len(names))]
    if not any(0xD800 <= ord(c) <= 0xDFFF for name in names for c in name):
        assert [row["name"] for row in json.loads(render(table, "json"))["rows"]] == names


def test_a_spreadsheet_runs_nothing() -> None:
    for row in csv.reader(io.StringIO(render(table_of(HOSTILE), "csv"), newline="")):
        assert row[0][:1] not in ("=", "+", "-", "@")
    assert csv.reader([render(simple(["x"], [(-1.5,)]), "csv").split("\r\n")[1]]).__next__() == ["-1.5"]


def test_json_can_stand_in_a_page() -> None:
    assert not set(render(table_of(HOSTILE), "json")) & set("<>&")


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30)), min_size=1, max_size=5))
def test_markdown_shows_names_as_text(names: list[str]) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    page = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
    shown = page.render(render(simple(["name", "end"], [(name, "|") for name in names]), "markdown"))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", shown, flags=re.DOTALL)
    assert len(cells) == 2 * len(names)
    for name, cell in zip(names, cells[::2], strict=True):
        assert "<" not in cell, "no markup"
        assert html.unescape(cell) == escape.visible(name).strip()


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30)), min_size=1, max_size=5))
def test_latex_has_no_command_of_a_name(names: list[str]) -> None:
    rows = (
        render(simple(["name"], [(name,) for name in names]), "latex").split("\\midrule\n")[1].split("\\bottomrule")[0]
    )
    lines = rows.rstrip("\n").split("\n")
    assert len(lines) == len(names)
    ours = re.compile(
        r"\\text(?:backslash|brace(?:left|right)|asciitilde|asciicircum|less|greater|bar|registered|trademark"
        r"|exclamdown|questiondown)\{\}|\\(?:ldots|S|P|copyright|pounds)\{\}|\\[$&#_%]|\{[\[\]]\}"
        r"|\$(?:\\[A-Za-z]+|\^[123]|\^\\circ|-)\$|\{\\(?:ss|ae|AE|oe|OE|o|O|l|L|i|j|dj|DJ|dh|DH|th|TH)\}"
    )
    accent = re.compile(r"\{\\[`'^~=.\"uvHcdbkr]\{[A-Za-z]?\}\}")
    for line in lines:
        assert line.endswith(r" \\")
        left = ours.sub("", line[:-3])
        while accent.search(left):
            left = accent.sub("", left)
        assert not set(left) & set("\\{}$&#^_%~[]"), line


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Sjögren, Łoś", r"Sj{\"{o}}gren, {\L}o{\'{s}}"),
        ("e\u0301", r"{\'{e}}"),
        ("σ = 5 µm", r"$\sigma$ = 5 $\mu$m"),
        ('say "x" {y}', r"say ''x'' \textbraceleft{}y\textbraceright{}"),
        ("ﬁ ｗ", "fi w"),
        ("模型", "模型"),
    ],
)
def test_latex_by_hand(name: str, written: str) -> None:
    assert escape.latex(name) == written


def test_latex_says_what_it_needs() -> None:
    def first_lines(name: str) -> list[str]:
        return [line for line in render(simple(["name"], [(name,)]), "latex").split("\n") if line.startswith("%")]

    assert first_lines("σ é") == [r"% needs \usepackage{booktabs}"]
    assert "[T1]{fontenc}" in first_lines("Wałęsa")[1]
    assert first_lines("模型 σ 模")[1] == "% needs XeLaTeX or LuaLaTeX, and a font that has 模型"


LATIN = "".join(chr(c) for c in range(0x20, 0x250) if unicodedata.category(chr(c))[0] in "LNPSZ") + "αωΓΩ–—“”…≥→²"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles(tmp_path: Path) -> None:
    names = [*HOSTILE, *LATIN, "ế ǭ", '"quoted"', "[x] [y"]
    writable = [name for name in names if not any("XeLaTeX" in n for n in escape.latex_needs(escape.latex(name)))]
    assert len(writable) > 0.7 * len(names)
    table = render(simple(["name", "[n]"], [(name, i) for i, name in enumerate(writable)], title=writable[0]), "latex")
    packages = "\n".join(re.findall(r"\\usepackage\S+", "\n".join(re.findall(r"^%.*$", table, re.MULTILINE))))
    text = f"\\documentclass{{article}}\n{packages}\n\\begin{{document}}\n{table}\\end{{document}}\n"
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")


def test_markdown_makes_neither_links_nor_mentions() -> None:
    assert escape.markdown("see https://x.org, www.x.org, @someone") == (
        "see https&#58;//x.org, www&#46;x.org, &#64;someone"
    )
    assert escape.markdown("AP@0.5") == "AP@0.5"


def test_widths_of_wide_and_combining_characters() -> None:
    assert escape.width("細胞") == 4
    assert escape.width("e\u0301") == 1
    assert escape.visible("a\u00a0b\u3000c") == "a b c"
    assert escape.visible("\x1b\n\u202e") == "\\x1b\\n\\u202e"


# -- numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "unit", "places"),
    [
        ([51.234, 7.0], "%", 1),
        ([13.0, 250.0], "ms", 1),
        ([0.031, 250.0], "ms", 3),
        ([0.00000123], "ms", 4),
        ([3.0, 40.0], "instances", 0),
        ([3.5, 40.0], "instances", 1),
        ([3.0, 40.0], "", 0),
        ([0.123], "", 2),
        ([0.0], "ms", 1),
        ([None, 2.0], "", 0),
        ([], "ms", 1),
    ],
)
def test_decimals(values: list[float | None], unit: str, places: int) -> None:
    assert decimals(values, unit) == places


def test_numbers_as_people_read_them() -> None:
    assert number(-0.04, 1) == "0.0"
    assert number(-0.06, 1) == "-0.1"
    assert quantity(0.5123, "fraction") == "51.2 %"
    assert quantity(3 * 2**30, "bytes") == "3072 MiB"
    assert quantity(12.34, "ms") == "12.3 ms"
    assert quantity(4, "instances") == "4 instances"
    assert quantity(None, "ms") is None
    assert quantity(float("inf"), "ms") is None


def test_facts_are_harmless_by_name_and_by_value() -> None:
    facts = {
        "a\x1b[2J": 1,
        "b\u202e": {"c\nd": "e\x07"},
        "f\x9b": [{"g\x1b": "h"}],
        "i\x1b": ["j"],
        "k\x1b": ["l" * 50],
    }
    assert all(line.isprintable() for line in describe_plain(facts).split("\n"))
