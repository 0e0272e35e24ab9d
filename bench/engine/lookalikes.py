"""Letters that look like others: a name written with them passes for one that it is not.

The rules are those of Unicode Technical Standard 39 (Unicode Security Mechanisms), cut down to what names of methods
need: no word mixes scripts whose letters are mistaken for one another (its section 5), and two names are the same to a
reader where they are the same letter for letter once every look-alike is replaced by the Latin letter that it looks
like (its section 4). Unicode's own table of look-alikes has ten thousand rows and does not come with Python; here are
the letters of those scripts from which whole Latin words can be spelt.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import groupby

_LOOKALIKES = str.maketrans(
    # Cyrillic, Greek, Armenian, Cherokee, Lisu; then Latin letters that look like the basic ones.
    "АВЕЅІЈКМНОРСТУХҮԚԜаеѕіјкорсухүһԁԛԝѵӏгпьЬ"
    "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϳͿαγικνορστυχϲω"
    "ՍՏՕԼսոօհցզյ"
    "ᎠᎡᎢᎥᎪᎫᎬᎳᎷᎻᎽᏀᏃᏔᏙᏚᏞᏟᏢᏦᏮᏴ"
    "ꓐꓑꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ"
    "ıɑɡɩᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ",
    "ABESIJKMHOPCTYXYQWaesijkopcyxyhdqwvlrnbb"
    "ABEZHIKMNOPTYXCjJayikvopotuxcw"
    "USOLunohgqj"
    "DRTiAJEWMHYGZWVSLCPKBB"
    "BPDTGKJCZFMNLSRVHWXYAEIOU"
    "iagiabcdefghijklmnoprstuvwyz",
)
_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"})
"""Scripts that are written together, and beside Latin letters in one word; no letter of theirs looks like a Latin."""
_GREEK_LIKE_LATIN = frozenset("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο")
"""Greek letters that nobody needs beside Latin ones, which look the same."""


def as_read(text: str) -> str:
    """``text`` (in NFKC) as somebody reads it who takes every letter for the Latin one that it looks like."""
    return unicodedata.normalize("NFKC", text.translate(_LOOKALIKES)).translate(_LOOKALIKES)


def mixed_scripts(text: str) -> tuple[str, str] | None:
    """The first word that is spelt with letters of several scripts, and a letter of the rarer one; or None.

    East Asian scripts count as none, and so does a Greek letter unless it looks the same as a Latin one: both are
    written into Latin words (``U-Net改``, ``μNet``) and mistaken for nothing in them.
    """
    for word in _words(unicodedata.normalize("NFKC", text)):
        of_script: dict[str, list[str]] = {}
        for letter in word:
            script = _script(letter)
            if script is not None:
                of_script.setdefault(script, []).append(letter)
        if len(of_script) > 1:
            return word, min(of_script.values(), key=len)[0]
    return None


def _words(text: str) -> Iterator[str]:
    """Every stretch of letters, with the marks on them."""
    for is_word, characters in groupby(text, lambda c: unicodedata.category(c)[0] in "LM"):
        if is_word:
            yield "".join(characters)


def _script(character: str) -> str | None:
    """By Unicode's name of a letter, which begins with its script; None of what may stand beside any letter."""
    if unicodedata.category(character) not in ("Lu", "Ll", "Lt", "Lo"):  # marks, and letters that modify others
        return None
    script = unicodedata.name(character, "").partition(" ")[0]
    if script in _EAST_ASIAN or (script == "GREEK" and character not in _GREEK_LIKE_LATIN):
        return None
    return script
