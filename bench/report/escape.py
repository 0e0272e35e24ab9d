"""Names made harmless for where they are shown: they come from submissions, and may hold anything."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from bench.text import visible, width

__all__ = ["latex", "latex_needs", "markdown", "spreadsheet", "visible", "width"]

_LINKS = re.compile(r":(?=//)|\bwww\.|(?<!\w)@(?=\w)", re.IGNORECASE)
_MARKDOWN = {c: f"\\{c}" for c in "\\`*_{}[]|~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown(text: str) -> str:
    """``text`` for a cell of a Markdown table: no markup, no HTML, and nothing that turns into a link or a mention."""
    escaped = "".join(_MARKDOWN.get(c, c) for c in visible(text))
    return _LINKS.sub(lambda found: "".join(f"&#{ord(c)};" if c in ":.@" else c for c in found[0]), escaped)


def spreadsheet(text: str) -> str:
    """``text`` for a CSV cell: one that a spreadsheet would run as a formula is led by an apostrophe."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


# -- LaTeX ------------------------------------------------------------------------------------------------

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",  # BibTeX counts \{ as a brace
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # after a line break, a bracket would open its option
    "]": "{]}",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "„": ",,",
    "‘": "`",
    "’": "'",
    "«": r"$\ll$",
    "»": r"$\gg$",
    "…": r"\ldots{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "©": r"\copyright{}",
    "®": r"\textregistered{}",
    "™": r"\texttrademark{}",
    "£": r"\pounds{}",
    "¡": r"\textexclamdown{}",
    "¿": r"\textquestiondown{}",
    "ß": r"{\ss}",
    "æ": r"{\ae}",
    "Æ": r"{\AE}",
    "œ": r"{\oe}",
    "Œ": r"{\OE}",
    "ø": r"{\o}",
    "Ø": r"{\O}",
    "ł": r"{\l}",
    "Ł": r"{\L}",
    "ı": r"{\i}",
    "ȷ": r"{\j}",
    "đ": r"{\dj}",
    "Đ": r"{\DJ}",
    "ð": r"{\dh}",
    "Ð": r"{\DH}",
    "þ": r"{\th}",
    "Þ": r"{\TH}",
} | {c: f"\\{c}" for c in "$&#_%"}
_MATHS = """
α alpha β beta γ gamma δ delta ε varepsilon ζ zeta η eta θ theta ι iota κ kappa λ lambda μ mu ν nu ξ xi π pi ρ rho
ς varsigma σ sigma τ tau υ upsilon φ varphi χ chi ψ psi ω omega Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma
Υ Upsilon Φ Phi Ψ Psi Ω Omega µ mu × times ± pm ÷ div · cdot ≥ geq ≤ leq ≠ neq ≈ approx ∞ infty → rightarrow
← leftarrow ↑ uparrow ↓ downarrow ↔ leftrightarrow ⇒ Rightarrow ∈ in ∩ cap ∪ cup ∑ sum √ surd ∂ partial ∇ nabla
"""
_LATEX |= {character: rf"$\{command}$" for character, command in zip(*[iter(_MATHS.split())] * 2, strict=True)}
_LATEX |= dict(zip("οΑΒΕΖΗΙΚΜΝΟΡΤΧ", "oABEZHIKMNOPTX", strict=True))  # Greek letters that TeX takes from Latin
_LATEX |= {"−": "$-$", "°": r"$^\circ$", "¹": "$^1$", "²": "$^2$", "³": "$^3$", "⁄": "/"}
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d", "\u0327": "c", "\u0328": "k",
    "\u0331": "b",
}  # fmt: skip
"""Combining mark to the command that puts it over or under a letter."""
_ONLY_T1 = re.compile(r"\\(?:k|dj|DJ|dh|DH|th|TH)(?![A-Za-z])")
"""Commands that the font encoding OT1, LaTeX's default, does not have."""


def latex(text: str) -> str:
    """``text`` for a cell of a LaTeX table or a field of a BibTeX entry, with as many braces opened as closed.

    Latin letters with accents, Greek letters and the usual signs become commands that every engine knows. What is left
    beyond ASCII (other scripts) stays as it is: :func:`latex_needs` says what it takes.
    """
    return "".join(_latex(cluster) for cluster in _clusters(unicodedata.normalize("NFC", visible(text))))


def latex_needs(written: str) -> list[str]:
    """What a text made by :func:`latex` asks of the document it goes into: a line each for a comment."""
    needs = []
    if _ONLY_T1.search(written):
        needs.append(r"needs \usepackage[T1]{fontenc} where the engine is pdfLaTeX")
    if beyond := "".join(dict.fromkeys(c for c in written if not c.isascii())):
        needs.append(f"needs XeLaTeX or LuaLaTeX, and a font that has {beyond}")
    return needs


def _clusters(text: str) -> Iterator[str]:
    """Each character with the combining marks that follow it."""
    cluster = ""
    for character in text:
        if cluster and not unicodedata.combining(character):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def _latex(cluster: str) -> str:
    if cluster in _LATEX:
        return _LATEX[cluster]
    if cluster.isascii():
        return cluster
    decomposed = unicodedata.normalize("NFD", cluster)
    base, marks = decomposed[0], decomposed[1:]
    if base.isascii() and base.isalpha() and all(mark in _ACCENTS for mark in marks):
        for mark in marks:
            base = f"{{\\{_ACCENTS[mark]}{{{base}}}}}"
        return base
    if base in _LATEX and marks:  # a Greek letter with its accent
        return _LATEX[base]
    plain = unicodedata.normalize("NFKC", cluster)  # ligatures, wide letters
    return "".join(_LATEX.get(c, c) for c in plain) if plain.isascii() else cluster
