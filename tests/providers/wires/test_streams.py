"""Streams across wires and through them: every order of events, every cut of the bytes, and the truth at the end."""

from __future__ import annotations

from typing import Any, Final

import orjson
import pytest
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from runestone.domain.answer import (
    Ended,
    Failed,
    Finished,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ThinkingRedacted,
    ThinkingSigned,
    ToolDelta,
    ToolStarted,
)
from runestone.domain.catalogue import CATALOGUE
from runestone.domain.chat import Api, ChatRequest, Usage, Wire
from runestone.domain.conversation import RedactedThinking, Thinking
from runestone.domain.failure import Failure
from runestone.providers.codecs import Piece, StreamDecoder, codec_for
from runestone.providers.codecs.anthropic.stream_writer import EventWriter
from runestone.providers.codecs.completions.stream_writer import TextWriter
from runestone.providers.codecs.openai.stream_reader import ChunkReader
from runestone.providers.codecs.openai.stream_writer import ChunkWriter
from runestone.providers.codecs.responses.stream_writer import ItemWriter
from runestone.providers.codecs.wire import StreamWriter
from tests.providers.wires.chats import JSON

OPENAI: Final = CATALOGUE["openai"]
USAGE: Final = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, cache_write_tokens=1, reasoning_tokens=2)
EVENTS: Final[TypeAdapter[Any]] = TypeAdapter(RawMessageStreamEvent)
RESPONSES: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)


def request(api: Api, **body: Any) -> ChatRequest:
    wire: Wire = "anthropic" if api == "messages" else "openai"
    body = {"model": "m", "stream": True, **body}
    return ChatRequest(request_id="r", wire=wire, api=api, model="m", stream=True, body=body, raw=orjson.dumps(body))


def written(writer: StreamWriter, *events: StreamEvent) -> list[dict[str, Any]]:
    """The data of what a client gets; names of events must be those of their types."""
    out = []
    for text in b"".join(writer.write(event) for event in events).split(b"\n\n")[:-1]:
        name, _, data = text.rpartition(b"data: ")
        if data == b"[DONE]":
            continue
        told = orjson.loads(data)
        assert not name or name == f"event: {told['type']}\n".encode()
        out.append(told)
    return out


def chunks(*deltas: dict[str, Any] | str, usage: dict[str, Any] | None = None, done: bool = True) -> bytes:
    """A stream of chat completions: a delta a chunk, or a finish reason."""
    out = b""
    for delta in deltas:
        choice = (
            {"index": 0, "delta": {}, "finish_reason": delta}
            if isinstance(delta, str)
            else {"index": 0, "delta": delta}
        )
        out += b"data: " + orjson.dumps({"id": "chatcmpl-1", "model": "m", "choices": [choice]}) + b"\n\n"
    if usage is not None:
        out += b"data: " + orjson.dumps({"id": "chatcmpl-1", "model": "m", "choices": [], "usage": usage}) + b"\n\n"
    return out + (b"data: [DONE]\n\n" if done else b"")


def read(stream: bytes, cuts: tuple[int, ...] = ()) -> list[StreamEvent]:
    reader = ChunkReader(OPENAI)
    events: list[StreamEvent] = []
    for begin, end in zip((0, *cuts), (*cuts, len(stream)), strict=True):
        events += reader.feed(stream[begin:end])
    return merged([*events, *reader.eof()])


def merged(events: list[StreamEvent]) -> list[StreamEvent]:
    """Without ``Started``: it is the same in all of them."""
    assert isinstance(events[0], Started | Failed)
    return [event for event in events if not isinstance(event, Started)]


# -- reading chunks ---------------------------------------------------------------------------------------------------------

CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (chunks({"role": "assistant", "content": ""}, {"content": "Hi"}, "stop"), [TextDelta("Hi"), Finished("stop"), Ended(None)]),
        (chunks({"content": "Hi"}, "stop", done=False), [TextDelta("Hi"), Finished("stop"), Ended(None)]),
        (chunks({"content": "Hi"}, "stop") * 2, [TextDelta("Hi"), Finished("stop"), Ended(None)]),
        (chunks({"content": None, "reasoning_content": "hm"}, "stop"), [ThinkingDelta("hm"), Finished("stop"), Ended(None)]),
        (chunks({"reasoning": "hm"}, "length"), [ThinkingDelta("hm"), Finished("length"), Ended(None)]),
        (chunks({"refusal": "no"}, "content_filter"), [RefusalDelta("no"), Finished("content_filter"), Ended(None)]),
        (chunks({"content": "Hi"}, "gone_fishing"), [TextDelta("Hi"), Finished("stop"), Ended(None)]),
        (
            chunks({"content": "I look.", "tool_calls": [CALL, {**CALL, "index": 1, "id": "c2"}]}, "stop"),
            [
                TextDelta("I look."), ToolStarted(0, "c1", "look"), ToolStarted(1, "c2", "look"), ToolDelta(0, "{}"), ToolDelta(1, "{}"),
                Finished("tool_calls"), Ended(None),
            ],
        ),
        (
            chunks({"tool_calls": [{"index": 0, "id": "c1"}]}, {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]},
                   {"tool_calls": [{"function": {"arguments": "}"}}]}, "tool_calls"),
            [ToolStarted(0, "c1", "f"), ToolDelta(0, "{"), ToolDelta(0, "}"), Finished("tool_calls"), Ended(None)],
        ),
        (
            chunks({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, "stop"),
            [ToolStarted(0, "call_0", "f"), ToolDelta(0, "{}"), Finished("tool_calls"), Ended(None)],
        ),
        (
            chunks({"content": "Hi"}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2}),
            [TextDelta("Hi"), Finished("stop"), Ended(Usage(input_tokens=3, output_tokens=2))],
        ),
    ],
)  # fmt: skip
def test_chunks_are_read_as_events_however_a_server_gives_them(stream: bytes, events: list[StreamEvent]) -> None:
    assert read(stream) == events
    for cut in range(1, len(stream)):
        assert read(stream, (cut,)) == events


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (chunks({"content": "Hi"}), "truncated"),
        (chunks({"content": "Hi"}, done=False), "truncated"),
        (b"", "truncated"),
        (
            chunks({"content": "Hi"}, done=False) + b'data: {"error":{"message":"m","type":"server_error"}}\n\n',
            "error_event",
        ),
        (chunks({"content": "Hi"}, done=False) + b'event: error\ndata: {"type":"overloaded_error"}\n\n', "overloaded"),
        (b"data: [1]\n\n", "invalid_answer"),
        (b"data: <html>\n\n", "invalid_answer"),
        (b"data: " + b"x" * 1_100_000, "too_large"),
    ],
)
def test_a_stream_that_is_not_whole_ends_in_its_failure_and_nothing_follows(stream: bytes, kind: str) -> None:
    reader = ChunkReader(OPENAI)
    events = [*reader.feed(stream), *reader.eof()]

    assert isinstance(events[-1], Failed)
    assert events[-1].failure.kind == kind
    assert [e for e in events if isinstance(e, Ended | Finished)] == []
    assert reader.feed(chunks({"content": "late"}, "stop")) + reader.eof() == []


# -- writing events ---------------------------------------------------------------------------------------------------------

TOOL_EVENTS: Final[list[StreamEvent]] = [
    Started("chatcmpl-1", "m"),
    ThinkingDelta("h"),
    ThinkingDelta("m"),
    TextDelta("I "),
    TextDelta("look."),
    ToolStarted(0, "c1", "look"),
    ToolDelta(0, '{"a":'),
    ToolStarted(1, "c2", "see"),  # while the first one is not whole
    ToolDelta(1, "{"),
    ToolDelta(0, "1}"),
    ToolDelta(1, "}"),
    Finished("tool_calls"),
    Ended(USAGE),
]


def test_anthropic_s_events_never_interleave_and_tell_the_usage_at_the_end() -> None:
    events = written(EventWriter(request("messages"), 1), *TOOL_EVENTS)

    for event in events:
        EVENTS.validate_python(event)
    assert [(e["type"], e.get("index")) for e in events] == [
        ("message_start", None),
        *[(f"content_block_{what}", 0) for what in ("start", "delta", "delta", "stop")],
        *[(f"content_block_{what}", 1) for what in ("start", "delta", "delta", "stop")],
        *[(f"content_block_{what}", 2) for what in ("start", "delta", "delta", "stop")],
        *[(f"content_block_{what}", 3) for what in ("start", "delta", "delta", "stop")],
        ("message_delta", None),
        ("message_stop", None),
    ]
    arguments = [
        "".join(e["delta"]["partial_json"] for e in events if e.get("index") == i and "delta" in e) for i in (2, 3)
    ]
    assert arguments == ['{"a":1}', "{}"]
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2]["usage"] == {
        "input_tokens": 5, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 4, "output_tokens": 5
    }  # fmt: skip


def test_a_second_call_goes_out_at_once_where_the_first_is_whole() -> None:
    writer = EventWriter(request("messages"), 1)
    written(writer, Started("1", "m"), ToolStarted(0, "c1", "f"), ToolDelta(0, "{}"))

    assert [e["type"] for e in written(writer, ToolStarted(1, "c2", "g"))] == [
        "content_block_stop",
        "content_block_start",
    ]
    assert [e["delta"]["partial_json"] for e in written(writer, ToolDelta(1, "{"))] == ["{"]


def test_a_refusal_is_words_and_a_reason_of_its_own() -> None:
    events = written(
        EventWriter(request("messages"), 1), Started("1", "m"), RefusalDelta("No."), Finished("stop"), Ended(None)
    )

    assert events[2]["delta"] == {"type": "text_delta", "text": "No."}
    assert events[-2]["delta"]["stop_reason"] == "refusal"
    assert events[-2]["usage"]["output_tokens"] == 0


def test_signed_and_redacted_thoughts_are_told_with_their_signature() -> None:
    thought = Thinking(text="hm", signature="s")
    events = written(
        EventWriter(request("messages"), 1),
        Started("1", "m"),
        ThinkingDelta("hm"),
        ThinkingSigned(thought),
        ThinkingRedacted(RedactedThinking(data="x")),
        TextDelta("Hi"),
        Finished("stop"),
        Ended(None),
    )

    assert [e["delta"] for e in events if e["type"] == "content_block_delta"] == [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "s"},
        {"type": "text_delta", "text": "Hi"},
    ]
    assert [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"] == [
        "thinking", "redacted_thinking", "text"
    ]  # fmt: skip


def test_long_names_of_tools_are_whole_again_for_the_client() -> None:
    name = "a" * 100
    asked = request("messages", tools=[{"name": name}])
    from runestone.providers.codecs.tool_names import shortened

    events = written(EventWriter(asked, 1), Started("1", "m"), ToolStarted(0, "c", shortened(name)))
    assert events[-1]["content_block"]["name"] == name


def test_responses_tell_every_item_from_its_beginning_to_its_end() -> None:
    tools = [{"type": "function", "name": "look", "parameters": {}, "strict": False}]
    asked = request("responses", input="Hello", instructions="Be brief.", tools=tools)
    events = written(ItemWriter(asked, 1), *TOOL_EVENTS)

    for event in events:
        RESPONSES.validate_python(event)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert (events[0]["type"], events[1]["type"], events[-1]["type"]) == (
        "response.created", "response.in_progress", "response.completed"
    )  # fmt: skip
    final = Response.model_validate(events[-1]["response"])
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "function_call"]
    assert final.output_text == "I look."
    assert [i.arguments for i in final.output if i.type == "function_call"] == ['{"a":1}', "{}"]
    assert final.usage is not None
    assert (final.usage.input_tokens, final.usage.total_tokens) == (10, 15)
    assert final.instructions == "Be brief."
    done = {e["output_index"]: e["item"] for e in events if e["type"] == "response.output_item.done"}
    assert [done[i] for i in range(4)] == events[-1]["response"]["output"]
    added = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    assert added == [0, 1, 2, 3]


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_a_response_that_was_cut_short_says_so(finish: Any, reason: str) -> None:
    events = written(
        ItemWriter(request("responses"), 1), Started("1", "m"), TextDelta("Hi"), Finished(finish), Ended(None)
    )

    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": reason}


def test_a_refusal_is_a_part_of_its_own_in_responses() -> None:
    events = written(
        ItemWriter(request("responses"), 1), Started("1", "m"), RefusalDelta("No."), Finished("stop"), Ended(None)
    )

    for event in events:
        RESPONSES.validate_python(event)
    assert events[-1]["response"]["output"][0]["content"] == [{"type": "refusal", "refusal": "No."}]


def test_completions_are_words_alone() -> None:
    asked = request("completions", stream_options={"include_usage": True})
    events = written(TextWriter(asked, 1), *TOOL_EVENTS)

    assert [c["choices"][0]["text"] for c in events if c["choices"]] == ["I ", "look.", ""]
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["total_tokens"] == 15
    assert all(e["object"] == "text_completion" for e in events)


@pytest.mark.parametrize("writer", [ChunkWriter, EventWriter, ItemWriter, TextWriter])
@given(
    st.lists(
        st.builds(TextDelta, st.text(max_size=5))
        | st.builds(RefusalDelta, st.text(max_size=5))
        | st.builds(ThinkingDelta, st.text(max_size=5))
        | st.builds(ThinkingSigned, st.builds(Thinking, text=st.text(max_size=3), signature=st.text(max_size=3)))
        | st.builds(ThinkingRedacted, st.builds(RedactedThinking, data=st.text(max_size=3)))
        | st.builds(ToolStarted, st.integers(0, 3), st.text(max_size=3), st.text(max_size=3))
        | st.builds(ToolDelta, st.integers(0, 3), st.sampled_from(["{", "}", "{}", "1"]))
        | st.builds(Finished, st.sampled_from(["stop", "length", "tool_calls", "content_filter"])),
        max_size=12,
    )
)  # fmt: skip
def test_any_order_of_events_is_written_as_one_that_the_wire_knows(writer: Any, events: list[StreamEvent]) -> None:
    told = written(writer(request("messages"), 1), Started("1", "m"), *events, Ended(USAGE))

    if writer is EventWriter:
        opened: list[int] = []
        for event in told:
            EVENTS.validate_python(event)
            if event["type"] == "content_block_start":
                assert opened == []
                opened.append(event["index"])
            elif event["type"] == "content_block_delta":
                assert opened == [event["index"]]
            elif event["type"] == "content_block_stop":
                assert opened.pop() == event["index"]
        assert opened == []
    if writer is ItemWriter:
        for event in told:
            RESPONSES.validate_python(event)


def test_nothing_is_written_for_a_failure() -> None:
    failed = Failed(Failure(kind="truncated", message="m"))

    for writer in (ChunkWriter, EventWriter, ItemWriter, TextWriter):
        assert writer(request("chat"), 1).write(failed) == b""


# -- through the same wire --------------------------------------------------------------------------------------------------


def event(name: str, **data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name, **data}) + b"\n\n"


MESSAGE = (
    event(
        "message_start",
        message={"id": "msg_1", "usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1}},
    )
    + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + event("ping")
    + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "H\u2028i"})
    + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "!"})
    + event("content_block_stop", index=0)
    + event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7})
    + event("message_stop")
)
RESPONSE = (
    event("response.created", sequence_number=0, response={"status": "in_progress"})
    + event("response.output_item.added", output_index=0, item={"type": "message"})
    + event("response.content_part.added", output_index=0, part={"type": "output_text"})
    + event("response.output_text.delta", delta="Hi")
    + event("response.output_text.delta", delta="!")
    + event("response.completed", response={"status": "completed", "usage": {"input_tokens": 3, "output_tokens": 7}})
)


def passing(api: Api) -> StreamDecoder:
    return codec_for("anthropic" if api == "messages" else "openai", api).stream(request(api), created=1)


def fed(decoder: StreamDecoder, stream: bytes, *cuts: int) -> list[Piece]:
    places = zip((0, *cuts), (*cuts, len(stream)), strict=True)
    return [*(decoder.feed(stream[begin:end]) for begin, end in places), decoder.eof()]


@pytest.mark.parametrize(("api", "stream"), [("messages", MESSAGE), ("responses", RESPONSE)])
def test_a_stream_of_the_same_wire_passes_byte_for_byte_however_it_is_cut(api: Api, stream: bytes) -> None:
    for cut in range(1, len(stream)):
        decoder = passing(api)
        pieces = fed(decoder, stream, cut)

        assert b"".join(piece.data for piece in pieces) == stream
        assert any(piece.content for piece in pieces)
        assert (pieces[-1].ended, pieces[-1].finished, pieces[-1].failure) == (True, True, None)
        assert decoder.usage is not None
        assert decoder.usage.output_tokens == 7


@pytest.mark.parametrize(("api", "stream"), [("messages", MESSAGE), ("responses", RESPONSE)])
def test_other_line_ends_and_comments_make_no_difference(api: Api, stream: bytes) -> None:
    noisy = b"\xef\xbb\xbf: hello\r\n\r\n" + stream.replace(b"\n", b"\r\n")
    pieces = fed(passing(api), noisy)

    assert b"".join(piece.data for piece in pieces) == stream
    assert pieces[-1].ended


def test_content_is_told_where_it_begins_and_not_before() -> None:
    for api, stream, before in (
        ("messages", MESSAGE, b'data: {"type":"content_block_delta"'),
        ("responses", RESPONSE, b'data: {"type":"response.output_text.delta"'),
    ):
        place = stream.index(before)
        assert not passing(api).feed(stream[:place]).content  # type: ignore[arg-type] # one of them
        decoder = passing(api)  # type: ignore[arg-type] # one of them
        assert decoder.feed(stream[: stream.index(b"\n\n", place) + 2]).content


@pytest.mark.parametrize(
    ("api", "stream", "kind"),
    [
        ("messages", MESSAGE[: MESSAGE.index(b"event: message_delta")], "truncated"),
        ("messages", MESSAGE[:200], "truncated"),
        ("messages", event("error", error={"type": "overloaded_error", "message": "m"}), "overloaded"),
        ("messages", b"event: error\ndata: {}\n\n", "error_event"),
        ("messages", b'event: message_stop\ndata: {"type":"message_stop"}\n\n', "truncated"),
        ("messages", b"data: nonsense\n\n", "invalid_answer"),
        ("messages", b"data: " + b"x" * 1_100_000, "too_large"),
        ("responses", RESPONSE[: RESPONSE.index(b"event: response.completed")], "truncated"),
        ("responses", event("error", code="server_error", message="m", param=None), "error_event"),
        ("responses", event("response.failed", response={"error": {"code": "rate_limit_exceeded", "message": "m"}}), "rate_limited"),
        ("responses", b"data: nonsense\n\n", "invalid_answer"),
        ("responses", b"data: " + b"x" * 1_100_000, "too_large"),
    ],
)  # fmt: skip
def test_a_passing_stream_that_is_not_whole_fails_and_its_error_is_not_passed(
    api: Api, stream: bytes, kind: str
) -> None:
    decoder = passing(api)
    pieces = fed(decoder, stream)

    failure = pieces[-1].failure
    assert failure is not None
    assert failure.kind == kind
    assert not any(piece.ended for piece in pieces)
    assert b"error" not in b"".join(piece.data for piece in pieces)
    assert decoder.feed(MESSAGE).failure == failure


def test_a_message_whose_end_was_left_out_gets_it() -> None:
    pieces = fed(passing("messages"), MESSAGE[: MESSAGE.index(b"event: message_stop")])

    assert b"".join(piece.data for piece in pieces) == MESSAGE
    assert pieces[-1].ended


@pytest.mark.parametrize("api", ["messages", "responses", "completions", "chat"])
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@given(st.lists(JSON.map(orjson.dumps) | st.binary(max_size=20), max_size=5), st.integers(1, 40))
def test_no_bytes_make_a_decoder_raise(kind: str, api: Api, data: list[bytes], size: int) -> None:
    stream = b"".join(b"data: " + part + b"\n\n" for part in data)
    decoder = codec_for(kind, api).stream(request(api), created=1)
    pieces = [decoder.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    last = [*pieces, decoder.eof()][-1]

    assert last.ended or last.failure is not None
