"""A value that no rendering shows."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable

import cattrs
import pytest
from attrs import asdict, frozen

from runestone.domain.secret import Secret

KEY = "sk-0123456789abcdef"
SECRET = Secret(KEY)


@frozen
class Holder:
    key: Secret


@pytest.mark.parametrize(
    "render",
    [
        str,
        repr,
        "{}".format,
        "{!r:>5}".format,
        lambda s: f"{s:>30}",
        lambda s: "%s %r" % (s, s),  # noqa: UP031 - a rendering like the others
        lambda s: repr([s]),
        lambda s: repr(Holder(s)),
        lambda s: repr(asdict(Holder(s))),
        lambda s: repr(cattrs.unstructure(Holder(s))),
        lambda s: json.dumps({"key": s}, default=str),
        lambda s: str(ValueError(s)),
        lambda s: str(copy.deepcopy({"key": s})),
    ],
)
def test_no_rendering_shows_it(render: Callable[[Secret], str]) -> None:
    assert "0123456789" not in render(SECRET)
    assert "***" in render(SECRET)


def test_only_reveal_gives_it() -> None:
    assert SECRET.reveal() == KEY
    assert not hasattr(SECRET, "__dict__")


def test_copies_of_data_hold_the_same_secret() -> None:
    assert copy.copy(SECRET) is SECRET
    assert copy.deepcopy([SECRET])[0] is SECRET


def test_it_does_not_travel_in_a_pickle() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(SECRET)


def test_equal_secrets_are_equal_and_a_text_is_none() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert SECRET != KEY
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
