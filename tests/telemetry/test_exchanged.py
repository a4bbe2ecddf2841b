"""What a span tells of a request and an answer: right types, bounded, and nobody's text."""

from __future__ import annotations

import json
import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from runestone.telemetry.exchanged import Exchanged, asked_of

FIELDS = (
    "n", "seed", "top_k", "max_tokens", "max_output_tokens", "max_completion_tokens", "temperature", "top_p", "frequency_penalty",
    "presence_penalty", "response_format", "text", "output_config", "output_format", "stop",
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "format", "x"]), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(FIELDS), values))
def test_no_request_makes_a_value_of_another_type_or_size(body: dict[str, Any]) -> None:
    for name, value in asked_of(body).items():
        if name == "gen_ai.output.type":
            assert value in {"text", "json"}
        elif name.rsplit(".", 1)[1] in {"count", "seed", "top_k", "max_tokens"}:
            assert type(value) is int
            assert -(2**63) <= value < 2**63
        else:
            assert type(value) is float
            assert math.isfinite(value)


@pytest.mark.parametrize(
    "wrong", ["x", "1", True, None, [], {}, math.inf, math.nan, 10**400, -(10**400)], ids=lambda value: str(value)[:8]
)
def test_a_setting_of_the_wrong_kind_is_not_told(wrong: object) -> None:
    assert asked_of(dict.fromkeys(FIELDS, wrong)) == {}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"n": 1}, {}),
        ({"n": 3}, {"gen_ai.request.choice.count": 3}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"gen_ai.request.max_tokens": 7}),
        ({"max_output_tokens": 5}, {"gen_ai.request.max_tokens": 5}),
        ({"top_k": 40, "stop": ["a"], "stop_sequences": ["a"], "user": "u"}, {"gen_ai.request.top_k": 40}),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, {"gen_ai.output.type": "json"}),
        ({"response_format": {"type": "secret"}}, {}),
        ({"text": {"format": {"type": "text"}}}, {"gen_ai.output.type": "text"}),
        ({"output_config": {"format": {"type": "json_schema"}}}, {"gen_ai.output.type": "json"}),
    ],
)
def test_each_wire_s_word_for_a_setting_is_the_conventions_one(body: dict[str, Any], told: dict[str, Any]) -> None:
    assert asked_of(body) == told
    assert asked_of(body, left_out=body) == {}


@pytest.mark.parametrize(
    ("answer", "identity", "reasons"),
    [
        ({"id": "a" * 201, "choices": [{"finish_reason": "stop"}]}, None, ("stop",)),
        ({"id": "said in words", "choices": [{"finish_reason": "said in words"}]}, None, ("_OTHER",)),
        ({"id": {"a": 1}, "choices": [{"finish_reason": ["a"]}]}, None, ("_OTHER",)),
        ({"id": "x", "choices": [{"index": 10**9, "finish_reason": "stop"}]}, "x", ("error",)),
        ({"id": "x", "choices": [{"index": 1, "finish_reason": "stop"}]}, "x", ("error", "stop")),
        ({"id": "x", "choices": "none"}, None, ("error",)),
        ({"id": "x", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "x", ("max_output_tokens",)),
        ([], None, ("error",)),
    ],
)  # fmt: skip
def test_what_a_provider_makes_up_is_bounded_and_no_text(
    answer: object, identity: str | None, reasons: tuple[str, ...]
) -> None:
    whole, streamed = Exchanged({}), Exchanged({})
    whole.whole(json.dumps(answer).encode())
    streamed.part(b"event: x\ndata: " + json.dumps(answer).encode() + b"\n\n")

    assert (whole.id, whole.reasons()) == (identity, reasons)
    assert (streamed.id, streamed.reasons()) == (identity, reasons)


@given(st.binary() | st.binary().map(lambda data: b'data: {"id": ' + data + b"}"))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    exchanged = Exchanged({})
    exchanged.whole(data)
    exchanged.part(data)
    exchanged.part(b'data: {"finish_reason":"' + data)

    assert len(exchanged.reasons() or ()) == 1


def test_what_is_nested_deeply_is_not_told() -> None:
    exchanged = Exchanged({})
    exchanged.whole(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")

    assert (exchanged.id, exchanged.model, exchanged.reasons()) == (None, None, ("error",))


def test_of_an_answer_that_never_came_nothing_is_told() -> None:
    assert Exchanged({}).reasons() is None
