"""What a submission may be called: any script, and nothing that passes for a method of this program."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.api import UsageError
from bench.engine.lookalikes import as_read, mixed_scripts
from bench.engine.statement import Statement

MIXED = {
    "m\u0430sk_rcnn": "mask_rcnn with a Cyrillic a",
    "M\u0430sk R-CNN": "the title, likewise",
    "Mask R-\u0421NN": "the title with a Cyrillic Es",
    "\u0422ruth": "a Cyrillic Te",
    "unet-\u042cce": "a Cyrillic soft sign",
    "\u039cN\u0421": "three scripts",
}
WHOLE = {
    "\u039c\u039d\u03f9": "MNC in Greek",
    "MN\u03f9": "a Greek lunate sigma",
    "\ua4df\ua4e0\ua4da": "MNC in Lisu",
    "\u054d-Net, BCE loss": "an Armenian U by itself",
    "m\u0251sk_rcnn": "a Latin alpha",
    "\u1d0d\u0274\u1d04": "small capitals",
}
TAKEN = [
    "β-VAE", "βVAE", "αNet", "μNet", "μ-Net", "µNet", "ΔNet", "σ", "Σ-Δ net", "Ω", "κύτταρο", "Κυτταρική τομή", "μνετ",
    "Сегментатор клеток", "Ядра-Net", "Ёлка", "обʼєкт", "клетки_v2", "v2сеть", "U-Net по-русски", "МНК",
    "細胞分割", "名前 with ünïcode", "U-Net改", "セグメンテーション", "細胞とセルのNet", "ひらがなカタカナ漢字", "々",
    "세포분할", "세포Net", "תאים", "خلايا", "कोशिका", "เซลล์", "Բջիջ", "უჯრედი", "ᏣᎳᎩ",
    "Müller-Net", "naïve", "Øresund ß", "Ｍy net", "𝒰 of mine", "Net²", "x̄-Net", "Mask R-CNN by me",
]  # fmt: skip


@pytest.mark.parametrize("name", MIXED, ids=MIXED.values())
@pytest.mark.parametrize("field", ["name", "who"])
def test_a_word_of_several_scripts_is_refused_and_the_letter_is_named(name: str, field: str):
    says = rf"^--{field} .* mixes letters of several scripts in the word .* U\+0[34]"
    with pytest.raises(UsageError, match=says) as caught:
        Statement(**{"name": "Mine", field: name})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", WHOLE, ids=WHOLE.values())
def test_a_name_that_reads_like_a_method_of_this_program_is_refused(name: str):
    with pytest.raises(UsageError, match=r"looks like .*, which is a method of this program"):
        Statement(name)


@pytest.mark.parametrize("name", TAKEN)
def test_legitimate_names_of_any_script_are_taken(name: str):
    assert Statement(name, who=name).name == name


@given(st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_plain_text_is_read_as_it_is(text: str):
    assert as_read(text) == text
    assert mixed_scripts(text) is None


@given(st.sampled_from("mask"), st.sampled_from([chr(c) for c in range(0x400, 0x500) if chr(c).isalpha()]))
def test_no_cyrillic_letter_hides_in_a_latin_word(replaced: str, letter: str):
    assert mixed_scripts("mask_rcnn".replace(replaced, letter, 1)) is not None or unicodedata.category(letter) == "Lm"
