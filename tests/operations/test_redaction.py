"""What may be shown of an actor's state: never a text that is no name, and never much."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from runestone.operations.redaction import redacted
from supervisors import Call

NAMES = frozenset({"openai-default", "priority"})


class Colour(Enum):
    RED = "canary"


@frozen
class Ask(Call[int]):
    prompt: str


@define
class Stats:
    requests: int
    key: str
    missing: int = field(init=False)


class Opaque:
    def __repr__(self) -> str:
        return "canary"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, 3),
        (None, None),
        (True, True),
        (Decimal("0.10"), "0.10"),
        ("openai-default", "openai-default"),
        ("canary", "(text)"),
        (b"canary", "(bytes)"),
        (Colour.RED, "RED"),
        (Opaque(), "<Opaque>"),
        (Ask("canary"), {"": "<Ask>", "prompt": "(text)"}),
        (Stats(1, "canary"), {"": "<Stats>", "requests": 1, "key": "(text)", "missing": None}),
        ({"priority": 1, "canary": 2}, {"priority": 1, "(text)": 2}),
        ({("openai-default", 1): "x"}, {"(2 values)": "(text)"}),
        (["canary", 1], ["(text)", 1]),
        ([[[[1]]]], [[["(1 values)"]]]),
        ([[[{}]]], [[["(0 entries)"]]]),
        ([[[Stats(1, "canary")]]], [[["<Stats>"]]]),
    ],
)
def test_a_value_is_shown_by_shape_number_and_name(value: object, shown: object) -> None:
    assert redacted({"it": value}, NAMES) == {"it": shown}


def test_a_container_is_shown_in_part_and_says_how_much_it_holds() -> None:
    told = redacted({"list": list(range(50)), "map": {n: n for n in range(50)}}, NAMES)

    assert told["list"] == [*range(20), "… 50 in all"]
    assert (len(told["map"]), told["map"]["…"]) == (21, "50 in all")


_secrets = st.integers(0, 9).map("canary{}".format)
_values = st.recursive(
    st.none() | st.integers() | _secrets | st.just(b"canary"),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_secrets, inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from("abc"), _values))
def test_no_text_of_a_state_is_ever_shown(state: dict[str, Any]) -> None:
    assert "canary" not in json.dumps(redacted(state, NAMES))


def test_a_state_of_any_size_is_shown_in_bounds() -> None:
    wide: Any = list(range(100))
    for _ in range(3):
        wide = [wide] * 100

    assert len(json.dumps(redacted({f"a{n}": wide for n in range(100)}, NAMES))) < 20_000
