"""The same message told at once and told in a stream is the same answer, however its blocks interleave and its bytes are cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import orjson
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.domain.chat import ChatRequest, Usage
from runestone.domain.failure import Failure
from runestone.providers.codecs import codec_for

CODEC = codec_for("anthropic")
DONE = b"data: [DONE]\n\n"
Event = dict[str, Any]


@frozen(kw_only=True)
class Told:
    """A message in both forms. ``end`` counts the last events, from the one with the stop reason on."""

    whole: dict[str, Any]
    events: list[Event]
    end: int


# -- messages ----------------------------------------------------------------------------------------------------------

WORDS = st.text(max_size=6) | st.sampled_from(
    ["\u2028", "\x85", "\r\n\r\n", "data: [DONE]", "null", '"', "\\", "\U0001f600"]
)
PARTS = st.lists(WORDS, min_size=1, max_size=3)
INPUTS = st.dictionaries(WORDS, st.recursive(WORDS | st.integers(0, 9) | st.none(), st.lists, max_leaves=3), max_size=2)
COUNTS = st.none() | st.integers(0, 99)


def delta(index: int, kind: str, **data: Any) -> Event:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **data}}


@st.composite
def blocks(draw: st.DrawFn, index: int) -> tuple[dict[str, Any], list[Event]]:
    """A block, and the events between its start and its stop. The first of them is its start."""
    kind = draw(st.sampled_from(["text", "text", "thinking", "tool_use", "tool_use", "redacted", "server", "tomorrow"]))
    whole: dict[str, Any] = {"type": kind}
    start, deltas = whole, list[Event]()
    match kind:
        case "text":
            parts = draw(PARTS)
            whole["text"] = "".join(parts)
            begun = draw(st.booleans())  # a start may hold the first words
            start = {**whole, "text": parts[0] if begun else ""}
            deltas = [delta(index, "text_delta", text=part) for part in parts[begun:]]
            deltas += [delta(index, "citations_delta", citation={"cited_text": "x"})] * draw(st.integers(0, 1))
        case "thinking":
            parts = draw(PARTS)
            whole |= {"thinking": "".join(parts), "signature": draw(st.text(min_size=1, max_size=4))}
            start = {**whole, "thinking": "", "signature": ""}
            deltas = [delta(index, "thinking_delta", thinking=part) for part in parts]
            deltas += [delta(index, "signature_delta", signature=part) for part in whole["signature"]]
        case "tool_use":
            whole |= {"id": f"toolu_{index}", "name": "look", "input": draw(INPUTS)}
            start = {**whole, "input": {}}
            deltas = [delta(index, "input_json_delta", partial_json=part) for part in draw(arguments(whole["input"]))]
        case "server":
            whole |= {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": "x"}}
            start, deltas = {**whole, "input": {}}, [delta(index, "input_json_delta", partial_json='{"q":"x"}')]
        case "redacted":
            whole |= {"type": "redacted_thinking", "data": draw(WORDS)}
        case _:
            whole |= {"text": "nobody's", "input": {"a": 1}}
            deltas = [delta(index, "delta_of_tomorrow", text="nobody's")]
    return whole, [{"type": "content_block_start", "index": index, "content_block": start}, *deltas]


@st.composite
def arguments(draw: st.DrawFn, given: dict[str, Any]) -> list[str]:
    """The text of the arguments in fragments; none at all where there are none."""
    if not given:
        return draw(st.sampled_from([[], [""], ["", ""]]))
    written = orjson.dumps(given).decode()
    cuts = sorted(draw(st.lists(st.integers(0, len(written)), max_size=3)))
    return [written[a:b] for a, b in pairwise([0, *cuts, len(written)])]


@st.composite
def messages(draw: st.DrawFn) -> Told:
    """A message; the fragments of its calls come whenever they like."""
    content, events, late = list[dict[str, Any]](), list[Event](), list[list[Event]]()
    for index in range(draw(st.integers(0, 5))):
        whole, (start, *deltas) = draw(blocks(index))
        content.append(whole)
        rest = [*deltas, {"type": "content_block_stop", "index": index}]
        events.append(start)
        if whole["type"] == "tool_use":
            late.append(rest)
        else:
            events += rest
        for queue in late:
            for _ in range(draw(st.integers(0, len(queue)))):
                events.append(queue.pop(0))
    events += [event for queue in late for event in queue]
    for place in draw(st.lists(st.integers(0, len(events)), max_size=3)):
        events.insert(place, draw(st.sampled_from([{"type": "ping"}, {"type": "event_of_tomorrow", "index": 0}])))
    reason = draw(
        st.sampled_from(["end_turn", "stop_sequence", "pause_turn", "max_tokens", "tool_use", "refusal", "x"])
    )
    details = {"type": "refusal", "explanation": "No."} if reason == "refusal" and draw(st.booleans()) else None
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    usage: dict[str, Any] = {name: draw(COUNTS) for name in names}
    usage["output_tokens_details"] = draw(st.none() | st.fixed_dictionaries({"thinking_tokens": COUNTS}))
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x"}
    first = {name: 0 if usage[name] is None else draw(st.integers(0, 99)) for name in names}  # replaced at the end
    ending = {"stop_reason": reason, "stop_details": details}
    end: list[Event] = [{"type": "message_delta", "delta": ending, "usage": usage}, {"type": "message_stop"}]
    begin = {"type": "message_start", "message": {**head, "content": [], "stop_reason": None, "usage": first}}
    return Told(
        whole={**head, "content": content, "usage": usage, **ending}, events=[begin, *events, *end], end=len(end)
    )


# -- reading them ------------------------------------------------------------------------------------------------------


def written(events: list[Event]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), orjson.dumps(e)) for e in events)


def read(pieces: list[bytes], *, include_usage: bool = True) -> tuple[bytes, Usage | None, Failure | None]:
    body = {"stream_options": {"include_usage": include_usage}}
    chat = ChatRequest(request_id="r", wire="openai", model="m", stream=True, body=body, raw=b"{}")
    stream = CODEC.stream(chat, created=7)
    out = [stream.feed(data) for data in pieces]
    out.append(stream.eof())
    return b"".join(piece.data for piece in out), stream.usage, out[-1].failure


def chunks(data: bytes) -> Iterator[dict[str, Any]]:
    for event in data.split(b"\n\n"):
        if event and event != DONE.strip():
            yield orjson.loads(event.removeprefix(b"data: "))


def assembled(data: bytes) -> dict[str, Any]:
    """What a client makes of the chunks."""
    texts = dict.fromkeys(("content", "refusal", "reasoning_content"), "")
    calls: list[dict[str, Any]] = []
    thoughts: list[dict[str, Any]] = []
    ends: list[str] = []
    usage = None
    for chunk in chunks(data):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            said = choice["delta"]
            for name in texts:
                texts[name] += said.get(name) or ""
            thoughts += said.get("thinking_blocks", [])
            for call in said.get("tool_calls", []):
                if "id" in call:
                    assert call["index"] == len(calls)
                    calls.append({"id": call["id"], "type": call["type"], "function": dict(call["function"])})
                else:
                    calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
            ends += [choice["finish_reason"]] if choice["finish_reason"] else []
    return {**texts, "tool_calls": calls, "thinking_blocks": thoughts, "finish": ends, "usage": usage}


def at_once(whole: dict[str, Any]) -> tuple[dict[str, Any], Usage | None]:
    chat = ChatRequest(request_id="r", wire="openai", model="m", stream=False, body={}, raw=b"{}")
    completion = CODEC.completion(chat, orjson.dumps(whole), created=7)
    body = orjson.loads(completion.body)
    said, finish = body["choices"][0]["message"], body["choices"][0]["finish_reason"]
    texts = {name: said.get(name) or "" for name in ("content", "refusal", "reasoning_content")}
    calls, thoughts = said.get("tool_calls", []), said.get("thinking_blocks", [])
    parts = {**texts, "tool_calls": calls, "thinking_blocks": thoughts, "finish": [finish], "usage": body["usage"]}
    return parts, completion.usage


@settings(max_examples=200)
@given(messages(), st.data())
def test_a_streamed_message_is_the_message(told: Told, draw: st.DataObject) -> None:
    data = written(told.events)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))

    out, usage, failure = read([data[a:b] for a, b in pairwise([0, *cuts, len(data)])])

    assert failure is None
    assert (assembled(out), usage) == at_once(told.whole)
    assert out.endswith(b"\n\n" + DONE)


@settings(max_examples=100)
@given(messages())
def test_the_usage_that_was_not_asked_for_is_the_only_difference(told: Told) -> None:
    data = written(told.events)
    with_usage, without = list(chunks(read([data])[0])), list(chunks(read([data], include_usage=False)[0]))
    assert with_usage.pop()["choices"] == []
    assert all(chunk.pop("usage") is None for chunk in with_usage)
    assert without == with_usage


@settings(max_examples=100)
@given(messages(), st.data())
def test_a_message_that_is_cut_anywhere_before_its_stop_reason_never_looks_whole(
    told: Told, draw: st.DataObject
) -> None:
    begun = written(told.events[: 1 - told.end])
    cut = draw.draw(st.integers(0, len(begun) - 1))

    out, _, failure = read([begun[:cut]])

    assert failure is not None
    assert failure.kind == "truncated"
    assert assembled(out)["finish"] == []
    assert DONE not in out


@settings(max_examples=100)
@given(messages(), st.data())
def test_an_error_anywhere_ends_the_stream_there_and_nothing_follows(told: Told, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(told.events) - told.end))
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}

    out, _, failure = read([written([*told.events[:place], error, *told.events[place:]])])

    assert failure is not None
    assert failure.kind == "overloaded"
    assert out == read([written(told.events[:place])])[0]
    assert assembled(out)["finish"] == []
