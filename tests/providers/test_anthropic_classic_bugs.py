"""The classic bugs of translating between the two wires, one statement each; the numbers are those of the wire's notes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runestone.domain.chat import ChatRequest
from runestone.domain.errors import UpstreamFailed
from runestone.domain.failure import Failure
from runestone.domain.secret import Secret
from runestone.providers.codecs import Unsupported, UpstreamRequest, codec_for

CODEC = codec_for("anthropic")
HELLO = {"role": "user", "content": "Hello"}
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def chat(body: dict[str, Any]) -> ChatRequest:
    stream = bool(body.get("stream"))
    return ChatRequest(request_id="r", wire="openai", model="m", stream=stream, body=body, raw=b"{}")


def request(model: str = "claude-sonnet-4-5", **body: Any) -> UpstreamRequest | Unsupported:
    return CODEC.request(chat({"messages": [HELLO], **body}), model=model, api_key=Secret("k"), extra_headers={})


def sent(model: str = "claude-sonnet-4-5", **body: Any) -> dict[str, Any]:
    asked = request(model, **body)
    assert isinstance(asked, UpstreamRequest), asked
    return dict(orjson.loads(asked.body))


def call(number: int) -> dict[str, Any]:
    return {"id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def result(number: int, content: Any = "r") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"c{number}", "content": content}


def whole(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = {"id": "msg_1", "content": list(blocks), "stop_reason": "end_turn", **more}
    return dict(orjson.loads(CODEC.completion(chat({}), orjson.dumps(answer), created=1).body))


def event(kind: str, **data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **data}))


START = event("message_start", message={"id": "msg_1", "usage": {"input_tokens": 9, "output_tokens": 1}})
STOP = event("message_stop")


def begin(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def tool(index: int) -> bytes:
    return begin(index, type="tool_use", id=f"t{index}", name="look", input={})


def delta(index: int, kind: str, **data: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **data})


def end(index: int) -> bytes:
    return event("content_block_stop", index=index)


def finish(**usage: int) -> bytes:
    return event("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)


def stream(*pieces: bytes, eof: bool = True) -> tuple[list[dict[str, Any]], Failure | None]:
    """The chunks, and how the stream failed."""
    decoder = CODEC.stream(chat({"stream_options": {"include_usage": True}}), created=1)
    out = [decoder.feed(data) for data in pieces]
    if eof:
        out.append(decoder.eof())
    events = [e.removeprefix(b"data: ") for e in b"".join(p.data for p in out).split(b"\n\n") if e]
    return [orjson.loads(e) for e in events if e != b"[DONE]"], out[-1].failure


def said(*pieces: bytes) -> list[dict[str, Any]]:
    return [chunk["choices"][0]["delta"] for chunk in stream(*pieces)[0] if chunk["choices"]]


def calls(*pieces: bytes) -> list[tuple[int, str]]:
    """Index and arguments of every delta of a call."""
    deltas = [one for d in said(*pieces) for one in d.get("tool_calls", [])]
    return [(one["index"], one["function"]["arguments"]) for one in deltas]


CACHED = {"input_tokens": 10, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 20, "output_tokens": 5}


def test_1_cached_tokens_are_counted_once_in_the_prompt_and_once_in_the_total() -> None:
    streamed = stream(event("message_start", message={"usage": CACHED}), finish(output_tokens=5), STOP)[0][-1]["usage"]
    for usage in (whole(usage=CACHED)["usage"], streamed):
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (60, 5, 65)
        assert usage["prompt_tokens_details"] == {"cached_tokens": 30, "cache_write_tokens": 20}


def test_2_the_usage_of_the_end_replaces_that_of_the_start_and_what_it_lacks_is_kept() -> None:
    for ending, counts in (({"output_tokens": 7}, (9, 7)), ({"input_tokens": 12, "output_tokens": 7}, (12, 7))):
        usage = stream(START, finish(**ending), STOP)[0][-1]["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == counts


def test_4_an_error_in_the_middle_is_a_failure_and_no_finish_reason() -> None:
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    chunks, failure = stream(START, begin(0, type="text", text="Hel"), error, finish(), STOP)
    assert failure is not None
    assert failure.kind == "overloaded"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None]


def test_5_a_cut_connection_is_a_failure_and_no_stop() -> None:
    chunks, failure = stream(START, begin(0, type="text", text="Hel"), end(0))
    assert failure is not None
    assert failure.kind == "truncated"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None]


def test_6_calls_are_counted_among_the_calls_and_not_among_the_blocks() -> None:
    text = begin(0, type="text", text="Looking.") + end(0)
    assert calls(START, text, tool(1), end(1), tool(2), end(2)) == [(0, ""), (0, "{}"), (1, ""), (1, "{}")]


@pytest.mark.parametrize("deltas", [b"", delta(0, "input_json_delta", partial_json="")], ids=["none", "empty"])
def test_7_a_call_without_arguments_has_an_empty_object(deltas: bytes) -> None:
    assert "".join(text for _, text in calls(START, tool(0), deltas, end(0))) == "{}"
    block = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    assert whole(block)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
    asked = {"role": "assistant", "tool_calls": [{**call(1), "function": {"name": "look", "arguments": ""}}]}
    assert sent(messages=[HELLO, asked])["messages"][1]["content"][0]["input"] == {}


def test_8_the_results_of_parallel_calls_are_one_turn_and_stand_before_any_text() -> None:
    asked = {"role": "assistant", "tool_calls": [call(1), call(2)]}
    messages = [HELLO, asked, result(1), {"role": "user", "content": "Wait."}, result(2)]
    turns = sent(messages=messages)["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert [block["type"] for block in turns[2]["content"]] == ["tool_result", "tool_result", "text"]


def test_9_signed_thinking_goes_round_and_stands_before_the_call() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
    message = whole(thought, {"type": "tool_use", "id": "c1", "name": "look", "input": {}})["choices"][0]["message"]
    back = sent(messages=[HELLO, message, result(1)], reasoning_effort="low")
    assert [block["type"] for block in back["messages"][1]["content"]] == ["thinking", "tool_use"]
    assert back["messages"][1]["content"][0] == thought
    assert back["thinking"]["type"] == "enabled"


def test_11_a_tools_schema_is_sent_whole() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/b"}, "minItems": 2}},
        "additionalProperties": False,
        "$defs": {"b": {"anyOf": [{"type": "string", "pattern": "x"}, {"type": "null"}]}},
    }
    given = {"type": "function", "function": {"name": "look", "parameters": schema}}
    assert sent(tools=[given])["tools"][0]["input_schema"] == schema


def test_12_what_a_server_runs_itself_is_no_call_of_the_clients() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    answer = {"type": "text", "text": "Found."}
    assert whole(block, found, answer)["choices"][0]["message"].keys() == {"role", "content", "refusal"}
    pieces = begin(0, **block) + delta(0, "input_json_delta", partial_json='{"q":"x"}') + end(0)
    assert calls(START, pieces, begin(1, **found), end(1), tool(2)) == [(0, "")]


@pytest.mark.parametrize(
    "part", [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, {"type": "video_url"}]
)
def test_13_content_that_cannot_be_told_is_refused_and_never_dropped(part: dict[str, Any]) -> None:
    asked = request(messages=[{"role": "user", "content": [part]}])
    assert isinstance(asked, Unsupported)
    assert asked.field.startswith("messages[0].content[0].")


def test_13_text_documents_and_images_in_results_and_streamed_refusals_arrive() -> None:
    plain = {"type": "file", "file": {"file_data": "data:text/plain;base64,SGk=", "filename": "a.txt"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    asked = {"role": "assistant", "tool_calls": [call(1)]}
    turns = sent(messages=[{"role": "user", "content": [plain]}, asked, result(1, [image])])["messages"]
    assert turns[0]["content"][0]["source"]["data"] == "Hi"
    assert turns[2]["content"][0]["content"][0]["source"]["data"] == "AA=="
    refusal = event("message_delta", delta={"stop_reason": "refusal", "stop_details": {"explanation": "No."}})
    assert said(START, refusal, STOP)[1:] == [{"refusal": "No."}, {}]


def test_14_interleaved_deltas_stay_apart() -> None:
    pieces = [delta(i % 2, "input_json_delta", partial_json=part) for i, part in enumerate(["[", "{", "0]", '"a":1}'])]
    told = calls(START, tool(0), tool(1), *pieces, end(1), end(0))
    assert ["".join(text for index, text in told if index == n) for n in (0, 1)] == ["[0]", '{"a":1}']


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_14_characters_that_are_cut_by_a_read_and_separators_of_lines_in_text_survive(size: int) -> None:
    words = "é \u20ac \U0001f600 a\u2028b\u2029c\x85d"
    data = START + begin(0, type="text", text="") + delta(0, "text_delta", text=words) + end(0) + finish() + STOP
    told = said(*(data[i : i + size] for i in range(0, len(data), size)))
    assert "".join(d.get("content", "") for d in told) == words


def test_15_a_limit_keeps_its_time_and_an_overload_is_503() -> None:
    body = orjson.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "m"}})
    for status, told in ((429, 429), (529, 503)):
        failure = CODEC.failure(status, {"retry-after": "12"}, body, now_epoch=0)
        assert failure.retry_after_seconds == 12
        assert UpstreamFailed(failure, same_wire=False).status == told


def test_15_a_prompt_that_is_too_long_has_a_code_in_words() -> None:
    error = {"type": "invalid_request_error", "message": "Prompt is too long: 210000 tokens > 200000 maximum"}
    failure = CODEC.failure(400, {}, orjson.dumps({"type": "error", "error": error}), now_epoch=0)
    assert (failure.kind, failure.code) == ("caller_error", "context_length_exceeded")
    assert UpstreamFailed(failure, same_wire=False).code == "context_length_exceeded"


def test_15_a_page_of_a_proxy_is_no_crash_and_the_gateways_wrong_key_is_not_the_clients() -> None:
    assert CODEC.failure(502, {}, b"<html>bad gateway</html>", now_epoch=0).kind == "server_error"
    assert UpstreamFailed(CODEC.failure(401, {}, b"{}", now_epoch=0), same_wire=False).status == 502


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh", "max"])
@pytest.mark.parametrize("most", [None, 1, 1024, 1025, 4096, 8192, 16384, 16385])
def test_15_a_budget_for_thinking_is_below_the_most_tokens(effort: str, most: int | None) -> None:
    body = sent(reasoning_effort=effort, max_tokens=most)
    assert body.get("thinking", {}).get("budget_tokens", 1024) >= 1024
    assert body.get("thinking", {}).get("budget_tokens", 0) < body["max_tokens"]


def test_15_a_forced_call_and_thinking_do_not_meet() -> None:
    body = sent(reasoning_effort="high", tools=[LOOK], tool_choice="required")
    assert "thinking" not in body
    assert body["tool_choice"] == {"type": "any"}
