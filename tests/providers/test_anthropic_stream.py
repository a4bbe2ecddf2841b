"""Anthropic's stream as OpenAI's chunks: the state machine step by step, and the same chunks whatever the split."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.failure import FailureKind
from runestone.providers.codecs import Piece, StreamDecoder, codec_for

DONE = b"data: [DONE]\n\n"


def event(kind: str, **data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **data}))


START = event(
    "message_start",
    message={
        "id": "msg_01",
        "model": "claude-sonnet-4-5",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1},
    },
)
PING = event("ping")
STOP = event("message_stop")
ERROR = event("error", error={"type": "overloaded_error", "message": "busy, see https://x.example/y"})


def begin(index: int = 0, **block: Any) -> bytes:
    return event(
        "content_block_start",
        index=index,
        content_block=block if "type" in block else {"type": "text", "text": "", **block},
    )


def delta(kind: str, index: int = 0, **data: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **data})


def text(words: str, index: int = 0) -> bytes:
    return delta("text_delta", index, text=words)


def end(index: int = 0) -> bytes:
    return event("content_block_stop", index=index)


def finish(reason: str | None = "end_turn", **more: Any) -> bytes:
    return event(
        "message_delta", delta={"stop_reason": reason, "stop_sequence": None, **more}, usage={"output_tokens": 5}
    )


def tool(index: int, *parts: str, number: int = 1, **more: Any) -> bytes:
    head = begin(index, type="tool_use", id=f"toolu_{number}", name=f"f{number}", input={}, **more)
    return head + b"".join(delta("input_json_delta", index, partial_json=p) for p in parts) + end(index)


ANSWER = START + begin() + PING + text("Hel") + text("lo \u2028 é \U0001f600") + end() + finish() + STOP
STREAMS = {
    "whole": ANSWER,
    "crlf": ANSWER.replace(b"\n", b"\r\n"),
    "cr": ANSWER.replace(b"\n", b"\r"),
    "bom": b"\xef\xbb\xbf" + ANSWER,
    "no message_stop": ANSWER.removesuffix(STOP),
    "tools": START
    + begin()
    + text("a")
    + end()
    + tool(1, '{"a"', ":1}")
    + tool(2, number=2)
    + finish("tool_use")
    + STOP,
    "thinking": START
    + begin(type="thinking", thinking="")
    + delta("thinking_delta", thinking="Hm.")
    + delta("signature_delta", signature="sig")
    + end()
    + begin(1, type="redacted_thinking", data="d")
    + end(1)
    + begin(2)
    + text("Ah.", 2)
    + end(2)
    + finish()
    + STOP,
    "refusal": START + finish("refusal", stop_details={"type": "refusal", "explanation": "No."}) + STOP,
    "empty": START + finish() + STOP,
    "cut": START + begin() + text("a"),
    "cut in an event": START + begin() + text("a") + text("b")[:-1],
    "nothing": b"",
    "error first": ERROR,
    "error later": START + begin() + text("a") + ERROR + text("b"),
    "stop without a reason": START + begin() + text("a") + end() + STOP,
    "garbage": START + begin() + text("a") + b"data: <html>\n\n",
    "after the end": ANSWER + ERROR + text("b"),
    "comments": b": hello\n\n" + ANSWER.replace(PING, b": x\n\ndata: : keepalive\n\ndata:\n\n"),
}


def decoder(*, include_usage: bool = False) -> StreamDecoder:
    body = {"stream_options": {"include_usage": include_usage}}
    chat = ChatRequest(request_id="r", wire="openai", model="m", stream=True, body=body, raw=b"{}")
    return codec_for("anthropic").stream(chat, created=7)


def run(pieces: Iterable[bytes], *, include_usage: bool = False) -> tuple[Piece, Usage | None]:
    """All pieces as one, up to the end of the stream."""
    stream = decoder(include_usage=include_usage)
    total = Piece()
    for data in pieces:
        piece = stream.feed(data)
        add(total, piece)
        if piece.ended or piece.failure:
            return total, stream.usage
    add(total, stream.eof())
    return total, stream.usage


def add(total: Piece, piece: Piece) -> None:
    assert piece.finished or not total.finished
    total.data += piece.data
    total.content |= piece.content
    total.finished, total.ended, total.failure = piece.finished, piece.ended, piece.failure


def chunks(data: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(e.removeprefix(b"data: ")) for e in data.split(b"\n\n") if e and e != DONE.strip()]


def deltas(*events: bytes) -> list[dict[str, Any]]:
    """What is said after the role."""
    answer, _ = run(events)
    return [c["choices"][0]["delta"] for c in chunks(answer.data)][1:]


@pytest.mark.parametrize("name", STREAMS)
def test_every_split_gives_the_same_answer(name: str) -> None:
    data = STREAMS[name]
    whole = run([data])
    for cut in range(len(data) + 1):
        assert run([data[:cut], data[cut:]]) == whole
    for size in (1, 2, 3, 7):
        assert run(data[i : i + size] for i in range(0, len(data), size)) == whole


@given(st.sampled_from(list(STREAMS)), st.data())
def test_any_split_gives_the_same_answer(name: str, draw: st.DataObject) -> None:
    data = STREAMS[name]
    cuts = sorted(draw.draw(st.lists(st.integers(min_value=0, max_value=len(data)), max_size=12)))
    assert run(data[a:b] for a, b in pairwise([0, *cuts, len(data)])) == run([data])


@pytest.mark.parametrize("name", ["whole", "crlf", "cr", "bom", "no message_stop", "after the end", "comments"])
def test_a_whole_answer_chunk_by_chunk(name: str) -> None:
    answer, usage = run([STREAMS[name]])
    head = {"id": "chatcmpl-01", "object": "chat.completion.chunk", "created": 7, "model": "claude-sonnet-4-5"}
    said = [
        ({"role": "assistant", "content": "", "refusal": None}, None),
        ({"content": "Hel"}, None),
        ({"content": "lo \u2028 é \U0001f600"}, None),
        ({}, "stop"),
    ]
    assert chunks(answer.data) == [
        {**head, "choices": [{"index": 0, "delta": d, "finish_reason": f, "logprobs": None}]} for d, f in said
    ]
    assert answer.data.endswith(b"\n\n" + DONE)
    assert answer.data.count(DONE) == 1
    assert (answer.content, answer.finished, answer.ended, answer.failure) == (True, True, True, None)
    assert usage == Usage(input_tokens=13, output_tokens=5, cached_tokens=4)


def test_the_usage_comes_last_and_only_where_it_was_asked_for() -> None:
    answer, _ = run([ANSWER], include_usage=True)
    *before, last = chunks(answer.data)
    assert all(chunk["usage"] is None for chunk in before)
    assert (last["choices"], last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == ([], 13, 5)
    assert last["usage"]["total_tokens"] == 18
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 0}
    assert all("usage" not in chunk for chunk in chunks(run([ANSWER])[0].data))


def test_the_counts_of_the_end_replace_those_of_the_start_and_null_ones_do_not() -> None:
    usage = {"input_tokens": 20, "cache_read_input_tokens": None, "output_tokens": 7}
    late = event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
    assert run([START + late + STOP])[1] == Usage(input_tokens=24, output_tokens=7, cached_tokens=4)
    assert run([START + finish() + event("message_delta", delta={}, usage=usage) + STOP])[1] == Usage(
        input_tokens=24, output_tokens=7, cached_tokens=4
    )


@pytest.mark.parametrize("tail", [STOP, b""], ids=["stop", "closed"])
def test_counts_beyond_reason_are_none_and_break_nothing(tail: bytes) -> None:
    most = 2**64 - 1
    usage = {"input_tokens": most, "cache_read_input_tokens": most, "output_tokens": 3}
    answer, counted = run([event("message_start", message={"usage": usage}) + finish() + tail], include_usage=True)
    assert answer.ended
    assert counted == Usage(input_tokens=0, output_tokens=5)


def test_a_stream_without_any_usage_still_gives_the_chunk_that_was_asked_for() -> None:
    bare = event("message_start", message={}) + event("message_delta", delta={"stop_reason": "end_turn"}) + STOP
    answer, usage = run([bare], include_usage=True)
    assert usage is None
    assert chunks(answer.data)[-1]["usage"]["total_tokens"] == 0


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("reason_of_tomorrow", "stop"),
    ],
)
def test_stop_reasons(reason: str, told: str) -> None:
    answer, _ = run([START + finish(reason) + STOP])
    assert [c["choices"][0]["finish_reason"] for c in chunks(answer.data)] == [None, told]


def test_tool_calls_count_from_zero_whatever_stands_before_them_and_have_arguments_always() -> None:
    calls = [d["tool_calls"][0] for d in deltas(STREAMS["tools"]) if "tool_calls" in d]
    assert calls == [
        {"index": 0, "id": "toolu_1", "type": "function", "function": {"name": "f1", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ":1}"}},
        {"index": 1, "id": "toolu_2", "type": "function", "function": {"name": "f2", "arguments": ""}},
        {"index": 1, "function": {"arguments": "{}"}},
    ]


def test_arguments_that_came_with_the_start_of_the_call_are_kept() -> None:
    head = begin(0, type="tool_use", id="t", name="f", input={"a": 1})
    assert deltas(START, head, end())[-1] == {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}


def test_deltas_of_two_open_calls_do_not_mix() -> None:
    said = deltas(
        START,
        begin(0, type="tool_use", id="t1", name="a", input={}),
        begin(1, type="tool_use", id="t2", name="b", input={}),
        delta("input_json_delta", 1, partial_json="[1]"),
        delta("input_json_delta", 0, partial_json="[0]"),
    )
    arguments = [(d["tool_calls"][0]["index"], d["tool_calls"][0]["function"]["arguments"]) for d in said]
    assert arguments == [(0, ""), (1, ""), (1, "[1]"), (0, "[0]")]


def test_what_a_server_does_for_itself_is_no_call_of_the_clients() -> None:
    assert (
        deltas(
            START,
            begin(0, type="server_tool_use", id="s", name="web_search", input={}),
            delta("input_json_delta", 0, partial_json='{"q"'),
            end(0),
            begin(1, type="web_search_tool_result", content=[]),
            end(1),
            tool(2, "{}"),
        )[0]["tool_calls"][0]["index"]
        == 0
    )


def test_thinking_is_reasoning_and_its_signature_comes_when_it_ends() -> None:
    assert deltas(STREAMS["thinking"]) == [
        {"reasoning_content": "Hm."},
        {"thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "sig"}]},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]},
        {"content": "Ah."},
        {},
    ]


def test_a_thought_whose_start_was_missed_is_still_told() -> None:
    assert deltas(START, delta("thinking_delta", 9, thinking="Hm.")) == [{"reasoning_content": "Hm."}]


def test_text_that_came_with_the_start_of_a_block_is_text() -> None:
    assert deltas(START, begin(text="Hi")) == [{"content": "Hi"}]


def test_a_second_stop_reason_is_not_told_again_though_its_counts_are_read() -> None:
    late = event("message_delta", delta={"stop_reason": "max_tokens"}, usage={"output_tokens": 8})
    answer, usage = run([START + finish() + late + STOP])
    assert [c["choices"][0]["finish_reason"] for c in chunks(answer.data)] == [None, "stop"]
    assert usage == Usage(input_tokens=13, output_tokens=8, cached_tokens=4)


def test_a_refusal_says_why_and_filters() -> None:
    assert deltas(STREAMS["refusal"]) == [{"refusal": "No."}, {}]


@pytest.mark.parametrize(
    "odd",
    [
        event("ping"),
        event("event_of_tomorrow", error=None, x=[1]),
        b"event: event_of_tomorrow\ndata: not json\n\n",
        b"data: {}\n\n",
        b'data: {"type":[]}\n\n',
        b'data: {"type":{"a":1}}\n\n',
        delta("citations_delta", citation={}),
        delta("delta_of_tomorrow"),
        delta("text_delta", text=""),
        delta("text_delta", text=None),
        delta("text_delta", text=7),
        delta("input_json_delta", 9, partial_json="x"),
        delta("thinking_delta", thinking=""),
        delta("signature_delta", 9, signature="x"),
        event("content_block_delta"),
        event("content_block_delta", index=[], delta=[]),
        event("content_block_stop", index=9),
        event("content_block_start", index=9),
        event("content_block_start", index=9, content_block={"type": "text", "text": [1]}),
        event("message_delta", delta=None, usage=None),
        finish(None),
    ],
)
def test_what_means_nothing_changes_nothing(odd: bytes) -> None:
    before, after = START + begin() + text("a"), text("b") + end() + finish() + STOP
    assert run([before + odd + after])[0] == run([before + after])[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cut", "truncated"),
        ("cut in an event", "truncated"),
        ("nothing", "truncated"),
        ("stop without a reason", "truncated"),
        ("garbage", "invalid_answer"),
        ("error first", "overloaded"),
        ("error later", "overloaded"),
    ],
)
def test_what_is_not_whole_fails_after_what_came_before_and_never_looks_finished(name: str, kind: FailureKind) -> None:
    answer, _ = run([STREAMS[name]])
    assert answer.failure is not None
    assert answer.failure.kind == kind
    assert (answer.finished, answer.ended) == (False, False)
    assert DONE not in answer.data
    assert all(c["choices"][0]["finish_reason"] is None for c in chunks(answer.data))
    assert answer.content is (b'"a"' in STREAMS[name])


def test_an_error_tells_its_words_without_urls() -> None:
    failure = run([ERROR])[0].failure
    assert failure is not None
    assert (failure.message, failure.type) == ("busy, see [url]", "overloaded_error")


@pytest.mark.parametrize(
    "error",
    [
        b'data: {"error":{"message":"m","type":"server_error"}}\n\n',
        b'event: error\ndata: {"message":"m"}\n\n',
        b'event: error\ndata: {"error":"m"}\n\n',
        b'data: {"type":"error","error":{"message":"m"}}\n\n',
    ],
)
def test_an_error_in_another_dialect_is_an_error(error: bytes) -> None:
    failure = run([START + begin() + text("a") + error + text("b")])[0].failure
    assert failure is not None
    assert (failure.kind, failure.message) == ("error_event", "m")


@pytest.mark.parametrize(
    "garbage",
    [b"data: {oops\n\n", b"data: []\n\n", b"data: 7\n\n", b"event: message_stop\ndata: x\n\n", b"data: \xff\n\n"],
)
def test_an_event_that_is_no_object_is_no_answer(garbage: bytes) -> None:
    failure = run([START + garbage])[0].failure
    assert failure is not None
    assert failure.kind == "invalid_answer"


@pytest.mark.parametrize(
    "deep",
    [
        b'{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","input":{"a":%s}}}',
    ],
)
def test_an_event_that_is_nested_too_deeply_is_no_answer(deep: bytes) -> None:
    failure = run([START + b"data: " + deep % (b"[" * 300 + b"]" * 300) + b"\n\n" + end()])[0].failure
    assert failure is not None
    assert failure.kind == "invalid_answer"


@pytest.mark.parametrize(
    ("events", "content"),
    [
        (START, False),
        (START + begin(), False),
        (START + PING, False),
        (START + begin(type="thinking", thinking=""), False),
        (START + begin() + text("a"), True),
        (START + tool(0), True),
        (START + begin(type="thinking") + delta("thinking_delta", thinking="Hm"), True),
        (START + begin(type="redacted_thinking", data="d"), True),
        (START + begin(type="server_tool_use", id="s", name="n", input={}), False),
    ],
)
def test_the_first_content_is_text_a_call_or_a_thought(events: bytes, content: bool) -> None:
    assert decoder().feed(events).content is content


def test_content_is_told_with_the_piece_that_holds_it() -> None:
    stream = decoder()
    assert [stream.feed(e).content for e in (START, begin(), text("a"), PING, end())] == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_an_empty_real_end_is_finished_without_content() -> None:
    piece = decoder().feed(START + finish())
    assert (piece.finished, piece.content, piece.ended) == (True, False, False)


def test_nothing_is_looked_at_after_the_end() -> None:
    stream = decoder()
    stream.feed(ANSWER)
    assert stream.feed(ERROR) == Piece(finished=True, ended=True)
    assert stream.eof() == Piece(finished=True, ended=True)


def test_a_failure_is_told_again() -> None:
    stream = decoder()
    failure = stream.feed(ERROR).failure
    assert stream.feed(text("a")) == Piece(failure=failure)
    assert stream.eof() == Piece(failure=failure)


@pytest.mark.parametrize("size", [4096, 10**7])
def test_an_event_of_more_than_a_megabyte_is_refused_after_what_came_before(size: int) -> None:
    data = START + begin() + text("a") + text("x" * 1_100_000)
    answer, _ = run(data[i : i + size] for i in range(0, len(data), size))
    assert answer.failure is not None
    assert answer.failure.kind == "too_large"
    assert [c["choices"][0]["delta"] for c in chunks(answer.data)][1:] == [{"content": "a"}]


@given(st.lists(st.text(min_size=1), min_size=1))
def test_any_text_arrives_as_it_was(pieces: list[str]) -> None:
    said = deltas(START + begin(), *map(text, pieces))
    assert [d["content"] for d in said] == pieces
