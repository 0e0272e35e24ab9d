"""Controls and the address: what a link says stays, what it does not say follows the default."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the board's extra is not installed")

from streamlit.testing.v1 import AppTest


def _one() -> None:
    import streamlit as st

    from leaderboard import state

    kept = st.session_state
    kept["said"] = state.choose(
        "v", kept["options"], "v", written=lambda option: str(option).partition(":")[0], always=kept["always"]
    )


def _some() -> None:
    import streamlit as st

    from leaderboard import state

    st.session_state["said"] = state.choose_some("v", ["a", "b", "c"], "v", default=st.session_state["default"])


def _rest() -> None:
    import streamlit as st

    from leaderboard import state

    on = state.switch("on", "on", default=True)
    text = state.write_text("text", "text")
    number = state.slide("number", 0.0, 1.0, "number", default=0.5, step=0.25)
    part = state.choose_part("part", {"first": "First", "second": "Second"})
    st.session_state["said"] = [on, text, number, part]


def opened(script: Any, address: dict[str, Any], **kept: Any) -> AppTest:
    at = AppTest.from_function(script, default_timeout=30)
    for name, value in kept.items():
        at.session_state[name] = value
    for name, value in address.items():
        at.query_params[name] = value
    return again(at)


def again(at: AppTest, **kept: Any) -> AppTest:
    """Run the page once more, after others have stored something."""
    for name, value in kept.items():
        at.session_state[name] = value
    at.run()
    assert not at.exception, [e.message for e in at.exception]
    return at


def address(at: AppTest) -> dict[str, list[str]]:
    found = dict(at.query_params)
    return {name: value if isinstance(value, list) else [value] for name, value in found.items()}


def seen(at: AppTest) -> tuple[Any, Any]:
    """What is shown, and what the address says."""
    return at.session_state["said"], address(at).get("v")


# -- one of several ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("always", [False, True])
def test_a_link_to_the_default_stays_when_the_default_changes(always: bool) -> None:
    at = opened(_one, {"v": "X"}, options=["X", "Y"], always=always)
    assert seen(at) == ("X", ["X"])
    for _ in range(2):
        again(at, options=["Y", "X"])
        assert seen(at) == ("X", ["X"])
    assert at.selectbox[0].value == "X"


def test_what_the_address_does_not_say_follows_the_default() -> None:
    at = opened(_one, {}, options=["X", "Y"], always=False)
    assert seen(at) == ("X", None)
    assert seen(again(at, options=["Y", "X"])) == ("Y", None)


def test_what_the_page_itself_has_put_into_the_address_stays_too() -> None:
    """Nobody's page goes to another data set because somebody else's run has finished."""
    at = opened(_one, {}, options=["X", "Y"], always=True)
    assert seen(again(at, options=["Y", "X"])) == ("X", ["X"])


def test_the_default_chosen_again_leaves_the_address_and_follows() -> None:
    at = opened(_one, {}, options=["X", "Y"], always=False)
    at.selectbox[0].set_value("Y").run()
    assert seen(at) == ("Y", ["Y"])
    at.selectbox[0].set_value("X").run()
    assert seen(at) == ("X", None)
    assert seen(again(at, options=["Y", "X"])) == ("Y", None)


def test_what_was_chosen_stays_when_it_becomes_the_default_and_when_it_no_longer_is() -> None:
    at = opened(_one, {}, options=["X", "Y"], always=False)
    at.selectbox[0].set_value("Y").run()
    assert seen(again(at, options=["Y", "X"])) == ("Y", ["Y"])
    assert seen(again(at, options=["X", "Y"])) == ("Y", ["Y"])


def test_another_address_is_followed() -> None:
    at = opened(_one, {"v": "X"}, options=["X", "Y"], always=False)
    at.query_params["v"] = "Y"
    assert seen(again(at)) == ("Y", ["Y"])
    del at.query_params["v"]
    assert seen(again(at)) == ("X", None)


@pytest.mark.parametrize("gone", ["Z", "", "x" * 9999])
def test_an_option_that_is_none_gives_the_default(gone: str) -> None:
    at = opened(_one, {"v": gone}, options=["X", "Y"], always=False)
    assert seen(at) == ("X", None)


def test_an_option_that_is_gone_gives_the_default() -> None:
    at = opened(_one, {"v": "Y"}, options=["X", "Y"], always=True)
    assert seen(again(at, options=["X", "W"])) == ("X", ["X"])


def test_an_option_that_has_become_another_object_of_the_same_name_stays_chosen() -> None:
    """A data set version counts its runs, and so is not equal to what it was a run ago."""
    at = opened(_one, {"v": "Y"}, options=["X:1", "Y:1"], always=True)
    assert seen(at) == ("Y:1", ["Y"])
    assert seen(again(at, options=["X:1", "Y:2"])) == ("Y:2", ["Y"])
    assert at.selectbox[0].value == "Y:2"


# -- several of several -----------------------------------------------------------------------------------


def test_none_of_several_is_in_the_address_and_opens_again() -> None:
    at = opened(_some, {}, default=["a", "b"])
    assert seen(at) == (["a", "b"], None)
    at.multiselect[0].set_value([]).run()
    assert seen(at) == ([], [""])
    assert seen(again(at)) == ([], [""])
    assert seen(opened(_some, address(at), default=["a", "b"])) == ([], [""])
    assert seen(again(at, default=["c"])) == ([], [""]), "a new default is not what was chosen"
    at.multiselect[0].set_value(["c"]).run()
    assert seen(at) == (["c"], None)


def test_none_by_default_needs_no_word() -> None:
    at = opened(_some, {}, default=[])
    assert seen(at) == ([], None)
    at.multiselect[0].set_value(["b", "a"]).run()
    assert seen(at) == (["b", "a"], ["b", "a"])
    at.multiselect[0].set_value([]).run()
    assert seen(at) == ([], None)


def test_a_link_to_the_default_several_stays() -> None:
    at = opened(_some, {"v": ["a", "b"]}, default=["a", "b"])
    assert seen(again(at, default=["c"])) == (["a", "b"], ["a", "b"])


@pytest.mark.parametrize("given", [["z"], ["z", ""], ["y", "z"]])
def test_several_that_are_all_unknown_give_the_default(given: list[str]) -> None:
    assert seen(opened(_some, {"v": given}, default=["a", "b"])) == (["a", "b"], None)


def test_of_several_the_known_ones_each_once() -> None:
    assert seen(opened(_some, {"v": ["c", "z", "c"]}, default=["a", "b"])) == (["c"], ["c"])


# -- the other controls -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said", "after"),
    [
        ({}, [True, "", 0.5, "first"], {}),
        (
            {"on": ["0"], "text": ["t"], "number": ["0.75"], "part": ["second"]},
            [False, "t", 0.75, "second"],
            {"on": ["0"], "text": ["t"], "number": ["0.75"], "part": ["second"]},
        ),
        ({"on": ["1"], "number": ["0.5"]}, [True, "", 0.5, "first"], {"on": ["1"], "number": ["0.5"]}),
        ({"number": ["7"], "part": ["third"]}, [True, "", 0.5, "first"], {}),
    ],
)
def test_every_control_says_what_its_address_says(given: Any, said: list[Any], after: Any) -> None:
    at = opened(_rest, given)
    for _ in range(2):
        assert at.session_state["said"] == said
        assert address(at) == after
        again(at)


def test_a_default_that_is_chosen_needs_no_word() -> None:
    at = opened(_rest, {"on": "0", "text": "t", "number": "0.75"})
    at.toggle[0].set_value(True)
    at.text_input[0].set_value("")
    at.slider[0].set_value(0.5)
    at.run()
    assert at.session_state["said"] == [True, "", 0.5, "first"]
    assert address(at) == {}
