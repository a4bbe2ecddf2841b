"""Bodies: what everybody reads alike passes, everything else is a 400 that says why, whatever the bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.domain.errors import InvalidRequest
from runestone.http.parsing import parsed
from tests.support.json_corpus import ACCEPTED, EITHER, REFUSED

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def refusal(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(raw)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")
    return caught.value


@given(st.dictionaries(st.text(), JSON))
def test_an_object_is_read_as_it_is(value: dict[str, Any]) -> None:
    assert parsed(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b'{"a":1,"a":2}', "duplicate key"),
        (b'{"deep":[{"a":1,"b":2,"a":3}]}', "duplicate key"),
        (b'{"a":NaN}', "not valid JSON"),
        (b'{"a":Infinity}', "not valid JSON"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":[{"b":18446744073709551616}]}', "out of range"),
        (b'{"a":-9223372036854775809}', "out of range"),
        (b'{"a":' + b"9" * 10_000 + b"}", "out of range"),
        (b'{"a":"\\ud800"}', "not valid JSON"),
        (b'{"a":"\xff"}', "not valid JSON"),
        (b'{"a":"\x00"}', "not valid JSON"),
        (b'\xef\xbb\xbf{"a":1}', "not valid JSON"),
        (b'{"a":1} {"b":2}', "not valid JSON"),
        (b'{"a":1', "not valid JSON"),
        (b"{'a':1}", "not valid JSON"),
        (b'{"a":1,}', "not valid JSON"),
        (b'{"a":01}', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[]", "JSON object"),
        (b"null", "JSON object"),
        (b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}", "recursion"),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "recursion"),
        (b'{"a":[' + b"[]," * 1_000_000 + b"[]]}", "more than 1000000 values"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_what_two_readers_could_read_differently_is_refused(raw: bytes, why: str) -> None:
    assert why in refusal(raw).message


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 0, 1.7976931348623157e308, -0.5, 1e-320])
def test_numbers_in_range_stay_what_they_are(value: float) -> None:
    assert parsed(b'{"a":%s}' % json.dumps(value).encode()) == {"a": value}


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    try:
        assert isinstance(parsed(raw), dict)
    except InvalidRequest as error:
        assert error.status == 400


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    assert len(ACCEPTED) + len(REFUSED) + len(EITHER) > 400


@pytest.mark.parametrize("name", list(ACCEPTED))
def test_what_the_grammar_allows_is_read_as_it_says(name: str) -> None:
    document = ACCEPTED[name]

    assert parsed(b'{"a": %s}' % document) == {"a": json.loads(document)}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_the_grammar_forbids_is_refused_alone_and_inside_a_body(name: str) -> None:
    for raw in (REFUSED[name], b'{"a": %s}' % REFUSED[name], b'{"a": [1, %s]}' % REFUSED[name]):
        assert refusal(raw).message


@pytest.mark.parametrize("name", list(EITHER))
def test_what_readers_may_take_or_leave_is_read_as_all_read_it_or_refused(name: str) -> None:
    raw = b'{"a": %s}' % EITHER[name]
    try:
        read = parsed(raw)
    except InvalidRequest as error:
        assert (error.status, error.code) == (400, "invalid_json")
    else:
        assert read == json.loads(raw)
        json.dumps(read).encode()
