"""Tables that a terminal, a spreadsheet, a paper and a program read: one model, five ways to write it.

A :class:`Table` is made once, by :mod:`bench.report.boards` or by hand, and written by :func:`render`. Text, Markdown
and LaTeX show rounded values with their unit in the header and an arrow for the direction; a number that is
undefined is a dash whose reason stands below the table. CSV and JSON hold every value as stored.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.errors import UnknownNameError
from bench.report import escape


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: its name in CSV and JSON.
        header: its name for people, without the unit.
        unit: of the values as people see them ("%", "ms", ...).
        stored_unit: of the values as CSV and JSON hold them ("fraction", "ms", ...).
        higher_is_better: draws an arrow; None draws none.
        numeric: whether it is aligned to the right.
        shown: whether people see it.
        exported: whether CSV and JSON hold it.
    """

    key: str
    header: str
    unit: str = ""
    stored_unit: str = ""
    higher_is_better: bool | None = None
    numeric: bool = False
    shown: bool = True
    exported: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: as people see it; None is a dash.
        value: as CSV and JSON hold it; None is empty.
        reason: why there is no value; stands below the table.
        best: whether it is the best of its column (bold in Markdown, LaTeX and HTML).
        tied: whether its interval overlaps that of the best (underlined in LaTeX and HTML).
    """

    text: str | None
    value: Any = None
    reason: str | None = None
    best: bool = False
    tied: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under columns, with a title above and notes below.

    Attributes:
        columns: in order.
        rows: each with one cell a column.
        title: one line, or empty.
        notes: one line each.
        about: what the table is of, as plain data; only JSON holds it.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells under {len(self.columns)} columns")


def simple(
    headers: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "", notes: Sequence[str] = ()
) -> Table:
    """A table of plain values: numbers to the right, None a dash, everything else by its ``str``."""
    listed = [[None if isinstance(v, float) and not math.isfinite(v) else v for v in row] for row in rows]
    columns = tuple(
        Column(
            key=header,
            header=header,
            numeric=any(_is_number(row[i]) for row in listed)
            and all(row[i] is None or _is_number(row[i]) for row in listed),
        )
        for i, header in enumerate(headers)
    )
    cells = tuple(tuple(Cell(None if v is None else _plain_text(v), v) for v in row) for row in listed)
    return Table(columns, cells, title, tuple(notes))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def render(table: Table, to: str = "text") -> str:
    """Write a table.

    Args:
        table: what to write.
        to: a name in :data:`FORMATS`.

    Raises:
        UnknownNameError: no such format.
    """
    if to not in FORMATS:
        raise UnknownNameError("table format", to, FORMATS)
    return FORMATS[to](table)


# -- for people -------------------------------------------------------------------------------------------


def to_text(table: Table, *, max_width: int | None = None, encoding: str = "utf-8") -> str:
    """Write for a terminal: aligned columns, no colours, no control characters.

    Args:
        table: what to write.
        max_width: characters of a line; columns that do not fit are left out from the right, and named below.
        encoding: of the terminal; what it cannot show is written as an escape, arrows as ``^`` and ``v``.
    """
    signs = _Signs.of(encoding)
    shown = [i for i, c in enumerate(table.columns) if c.shown]
    footnotes = _Footnotes()
    heads = {i: signs.safe(_head(table.columns[i], signs.up, signs.down)) for i in shown}
    body = [
        {i: signs.safe(escape.visible(_cell_text(row[i], footnotes, signs.dash))) for i in shown} for row in table.rows
    ]
    widths = {i: max(escape.width(line[i]) for line in (heads, *body)) for i in shown}
    fitting = _fitting(shown, widths, max_width)

    def line(cells: Mapping[int, str]) -> str:
        padded = []
        for i in fitting:
            space = " " * (widths[i] - escape.width(cells[i]))
            padded.append(space + cells[i] if table.columns[i].numeric else cells[i] + space)
        return "  ".join(padded).rstrip()

    lines = [signs.safe(escape.visible(table.title)), ""] if table.title else []
    lines.append(line(heads))
    lines.append("  ".join(signs.rule * widths[i] for i in fitting))
    lines += [line(cells) for cells in body]
    left_out = [table.columns[i].header for i in shown if i not in fitting]
    notes = [*footnotes.lines(), *table.notes]
    if left_out:
        notes.append(f"not shown for lack of room: {', '.join(left_out)}")
    if not table.rows:
        lines.append("(nothing)")
    if notes:
        lines += ["", *(signs.safe(escape.visible(note)) for note in notes)]
    return "\n".join(lines) + "\n"


def to_markdown(table: Table) -> str:
    """Write as a GitHub-flavoured Markdown table; the best of a column is bold."""
    shown = [i for i, c in enumerate(table.columns) if c.shown]
    footnotes = _Footnotes()

    def cell(cell: Cell) -> str:
        text = escape.markdown(_cell_text(cell, footnotes, "–"))
        return f"**{text}**" if cell.best and text else text

    lines = [f"**{escape.markdown(table.title)}**", ""] if table.title else []
    lines.append(_pipes(escape.markdown(_head(table.columns[i], "↑", "↓")) for i in shown))
    lines.append(_pipes("---:" if table.columns[i].numeric else ":---" for i in shown))
    lines += [_pipes(cell(row[i]) for i in shown) for row in table.rows]
    notes = [*footnotes.lines(), *table.notes]
    if notes:
        lines += ["", *(f"- {escape.markdown(note)}" for note in notes)]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """Write as a LaTeX ``table`` with the rules of the booktabs package; the best is bold, ties underlined.

    Comments at the top say what it needs in the preamble, and which engine where pdfLaTeX does not have every letter.
    """
    shown = [i for i, c in enumerate(table.columns) if c.shown]
    footnotes = _Footnotes()

    def cell(cell: Cell) -> str:
        text = escape.latex(_cell_text(cell, footnotes, "–"))
        if cell.best and text:
            return rf"\textbf{{{text}}}"
        return rf"\underline{{{text}}}" if cell.tied and text else text

    def head(column: Column) -> str:
        arrow = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}[column.higher_is_better]
        return escape.latex(_head(column, "", "")) + arrow

    rows = [r"\toprule", _ampersands(head(table.columns[i]) for i in shown), r"\midrule"]
    rows += [_ampersands(cell(row[i]) for i in shown) for row in table.rows]
    rows.append(r"\bottomrule")
    alignment = "".join("r" if table.columns[i].numeric else "l" for i in shown)
    lines = [r"\begin{table}", r"\centering"]
    if table.title:
        lines.append(rf"\caption{{{escape.latex(table.title)}}}")
    lines += [rf"\begin{{tabular}}{{{alignment}}}", *rows, r"\end{tabular}"]
    lines += [rf"\par\footnotesize {escape.latex(note)}" for note in (*footnotes.lines(), *table.notes)]
    lines.append(r"\end{table}")
    written = "\n".join(lines) + "\n"
    needs = [r"needs \usepackage{booktabs}", *escape.latex_needs(written)]
    return "".join(f"% {need}\n" for need in needs) + written


# -- for programs -----------------------------------------------------------------------------------------


def to_csv(table: Table) -> str:
    """Write as CSV (RFC 4180), every exported column, values as stored; an undefined one is empty."""
    out = io.StringIO()
    writer = csv.writer(out)
    exported = [i for i, c in enumerate(table.columns) if c.exported]
    writer.writerow([escape.spreadsheet(escape.visible(table.columns[i].key)) for i in exported])
    for row in table.rows:
        writer.writerow([_csv_value(row[i].value) for i in exported])
    return out.getvalue()


def _csv_value(value: Any) -> Any:
    if value is None or _is_number(value):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return escape.spreadsheet(escape.visible(str(value)))


def to_json(table: Table) -> str:
    """Write as JSON: ``about``, ``title``, ``columns``, ``rows`` (an object each, by column key) and ``notes``.

    An undefined value is null. ``<``, ``>`` and ``&`` are written as escapes, so that the text can stand in a page.
    """
    exported = {i: c for i, c in enumerate(table.columns) if c.exported}
    content = {
        "title": table.title,
        "about": dict(table.about),
        "columns": [
            {"key": c.key, "header": c.header, "unit": c.stored_unit, "higher_is_better": c.higher_is_better}
            for c in exported.values()
        ],
        "rows": [{c.key: row[i].value for i, c in exported.items()} for row in table.rows],
        "notes": list(table.notes),
    }
    text = json.dumps(content, indent=2, allow_nan=False, default=str)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {
    "text": to_text,
    "csv": to_csv,
    "markdown": to_markdown,
    "latex": to_latex,
    "json": to_json,
}
"""Name of a format to what writes it."""


# -- inside -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Signs:
    """The few signs beyond ASCII, or what stands for them."""

    encoding: str
    up: str
    down: str
    dash: str
    rule: str

    @classmethod
    def of(cls, encoding: str) -> _Signs:
        try:
            "↑↓–─".encode(encoding)
        except UnicodeEncodeError:
            return cls(encoding, "^", "v", "-", "-")
        return cls(encoding, "↑", "↓", "–", "─")

    def safe(self, text: str) -> str:
        """``text`` with escapes for what the terminal cannot show."""
        return text.encode(self.encoding, "backslashreplace").decode(self.encoding)


class _Footnotes:
    """Reasons under a table, each once, marked a, b, c."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, reason: str) -> str:
        """The mark of a reason."""
        return self._marks.setdefault(reason, _letters(len(self._marks)))

    def lines(self) -> list[str]:
        """The notes, in order of appearance."""
        return [f"({mark}) {reason}" for reason, mark in self._marks.items()]


def _letters(index: int) -> str:
    """a to z, then aa, ab, ..."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return letters


def _cell_text(cell: Cell, footnotes: _Footnotes, dash: str) -> str:
    if cell.text is not None:
        return cell.text
    return f"{dash} ({footnotes.mark(cell.reason)})" if cell.reason else dash


def _head(column: Column, up: str, down: str) -> str:
    arrow = {True: up, False: down, None: ""}[column.higher_is_better]
    unit = f"[{column.unit}]" if column.unit else ""
    return " ".join(part for part in (escape.visible(column.header), unit, arrow) if part)


def _fitting(shown: Sequence[int], widths: Mapping[int, int], max_width: int | None) -> list[int]:
    """As many columns from the left as fit; at least one."""
    fitting: list[int] = []
    used = 0
    for i in shown:
        used += widths[i] + (2 if fitting else 0)
        if max_width is not None and fitting and used > max_width:
            break
        fitting.append(i)
    return fitting


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ampersands(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
