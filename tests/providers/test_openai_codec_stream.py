"""OpenAI's stream, passed on: the same pieces whatever the split, failures where the answer is not whole."""

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


def event(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    return event({"id": "c", "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more})


ROLE = chunk({"role": "assistant", "content": ""})
STOP = chunk(finish="stop")
USAGE = event({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
ERROR = event({"error": {"message": "boom sk-abcdefgh", "type": "server_error", "code": None}})


def text(content: str) -> bytes:
    return chunk({"content": content})


WHOLE = ROLE + text("Hel") + text("lo \u2028 é \U0001f600") + STOP + USAGE + DONE
STREAMS = {
    "whole": WHOLE,
    "compact and spaced": text("a")
    + b'data: {"choices": [{"delta": {"content": "b"}, "finish_reason": null}]}\n\n'
    + STOP
    + DONE,
    "bare data": text("a") + b'data:{"choices":[{"delta":{"content":"b"}}]}\n\n' + STOP + b"data:[DONE]\n\n",
    "crlf": WHOLE.replace(b"\n", b"\r\n"),
    "cr": WHOLE.replace(b"\n", b"\r"),
    "bom": b"\xef\xbb\xbf" + WHOLE,
    "comments": b": OPENROUTER PROCESSING\n\n"
    + ROLE
    + b": x\n\n"
    + text("a")
    + b": y\n\ndata: : keepalive\n\n"
    + STOP
    + DONE,
    "ids": b"id: 1\n" + text("a") + b"id: 2\nretry: 5\n" + text("b") + STOP + DONE,
    "several lines": text("a") + b'data: {"choices":\ndata: [{"delta":{"content":"b"}}]}\n\n' + STOP + DONE,
    "no done": ROLE + text("a") + STOP,
    "done twice": ROLE + text("a") + STOP + DONE + DONE,
    "bytes after done": ROLE + text("a") + STOP + DONE + b"garbage\n\n" + text("b"),
    "done without finish": ROLE + text("a") + DONE,
    "cut": ROLE + text("a") + text("b"),
    "cut in an event": ROLE + text("a") + text("b")[:-1],
    "empty": b"",
    "error first": ERROR,
    "error later": ROLE + text("a") + ERROR + text("b"),
    "named error": text("a") + b'event: error\ndata: {"message":"m"}\n\n',
    "error after finish": text("a") + STOP + ERROR,
    "usage in the last chunk": text("a")
    + chunk(finish="stop", usage={"prompt_tokens": 3, "completion_tokens": 2})
    + DONE,
    "error as text": text('{"error": {"message"')
    + text('"error":')
    + text('data: [DONE]\n\n"finish_reason":"stop"')
    + STOP
    + DONE,
    "null error": chunk({"content": "a"}, error=None) + chunk({"content": "b"}, error=None) + STOP + DONE,
    "garbage first": b"data: {oops\n\n",
    "garbage later": text("a") + b"data: <html>\n\n" + text("b"),
    "a list": text("a") + b"data: []\n\n" + STOP,
    "odd choices": event({"choices": 1})
    + event({"choices": [1, {"delta": 2}, {"index": [], "delta": {}}]})
    + text("a")
    + STOP
    + DONE,
    "nul": text("a\x00b") + STOP + DONE,
}


def decoder(n: int | None = None) -> StreamDecoder:
    body = {"model": "m", "n": n}
    chat = ChatRequest(request_id="r", wire="openai", model="m", stream=True, body=body, raw=b"{}")
    return codec_for("openai").stream(chat, created=1)


def run(pieces: Iterable[bytes]) -> tuple[Piece, Usage | None]:
    """All pieces as one, up to the end of the stream."""
    stream = decoder()
    total = Piece()
    for data in pieces:
        piece = stream.feed(data)
        add(total, piece)
        if piece.ended or piece.failure:
            return total, stream.usage
    add(total, stream.eof())
    return total, stream.usage


def add(total: Piece, piece: Piece) -> None:
    total.data += piece.data
    total.content |= piece.content
    total.finished, total.ended, total.failure = piece.finished, piece.ended, piece.failure


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


@pytest.mark.parametrize(
    "name",
    ["whole", "crlf", "cr", "bom"],
)
def test_a_whole_stream_passes_as_it_came_with_the_standard_line_ends(name: str) -> None:
    answer, usage = run([STREAMS[name]])
    assert answer == Piece(WHOLE, True, True, True)
    assert usage == Usage(input_tokens=3, output_tokens=2)


@pytest.mark.parametrize(
    "name", ["whole", "no done", "done twice", "bytes after done", "comments", "ids", "null error", "error as text"]
)
def test_a_stream_with_a_finish_reason_ends_with_exactly_one_done(name: str) -> None:
    answer, _ = run([STREAMS[name]])
    assert answer.failure is None
    assert answer.ended
    assert answer.data.endswith(b"\n\n" + DONE)
    assert answer.data.count(b"\n" + DONE) == 1


@pytest.mark.parametrize(
    ("name", "kind", "before"),
    [
        ("done without finish", "truncated", ROLE + text("a")),
        ("cut", "truncated", ROLE + text("a") + text("b")),
        ("cut in an event", "truncated", ROLE + text("a")),
        ("empty", "truncated", b""),
        ("error first", "error_event", b""),
        ("error later", "error_event", ROLE + text("a")),
        ("named error", "error_event", text("a")),
        ("error after finish", "error_event", text("a") + STOP),
        ("garbage first", "invalid_answer", b""),
        ("garbage later", "invalid_answer", text("a")),
        ("a list", "invalid_answer", text("a")),
    ],
)
def test_what_is_not_whole_fails_after_what_came_before(name: str, kind: FailureKind, before: bytes) -> None:
    answer, _ = run([STREAMS[name]])
    assert answer.failure is not None
    assert answer.failure.kind == kind
    assert answer.data == before
    assert not answer.ended


def test_an_error_event_tells_its_words_without_keys() -> None:
    answer, _ = run([ERROR])
    assert answer.failure is not None
    assert answer.failure.message == "boom ***"
    assert answer.failure.type == "server_error"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "m", "type": "overloaded_error"}, "overloaded"),
        ({"message": "m", "code": 529}, "overloaded"),
        ({"message": "m", "code": 429}, "rate_limited"),
        ({"message": "m", "type": "rate_limit_error"}, "rate_limited"),
        ({"message": "m", "code": "insufficient_quota"}, "quota_exceeded"),
        ("plain words", "error_event"),
        ([], "error_event"),
    ],
)
def test_error_events_are_told_apart(error: object, kind: FailureKind) -> None:
    answer, _ = run([event({"error": error})])
    assert answer.failure is not None
    assert answer.failure.kind == kind


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0}]},
        {"function_call": {"name": "f"}},
        {"reasoning_content": "hm"},
        {"audio": {"id": "a"}},
    ],
)
def test_content_is_more_than_text(delta: dict[str, Any]) -> None:
    assert decoder().feed(chunk(delta)).content


@pytest.mark.parametrize(
    "head", [ROLE, chunk({"content": None}), chunk({"tool_calls": []}), event({"choices": []}), b": c\n\n"]
)
def test_the_head_of_a_stream_is_no_content(head: bytes) -> None:
    assert not decoder().feed(head).content


def test_an_empty_real_end_is_finished_without_content() -> None:
    piece = decoder().feed(ROLE + STOP)
    assert piece.finished
    assert not piece.content


def test_with_several_choices_the_last_one_finishes_the_stream() -> None:
    stream = decoder(n=2)
    stream.feed(text("a"))
    assert not stream.feed(chunk(finish="stop", index=0)).finished
    assert stream.feed(chunk({"content": "b"}, index=1)).data
    assert stream.feed(chunk(finish="stop", index=1)).finished


def test_nothing_is_looked_at_after_the_end() -> None:
    stream = decoder()
    stream.feed(text("a") + STOP + DONE)
    assert stream.feed(ERROR) == Piece(finished=True, ended=True)
    assert stream.eof() == Piece(finished=True, ended=True)


def test_a_failure_is_told_again() -> None:
    stream = decoder()
    failure = stream.feed(ERROR).failure
    assert stream.feed(text("a")) == Piece(failure=failure)
    assert stream.eof() == Piece(failure=failure)


@pytest.mark.parametrize("first", [b"", text("a")], ids=["before content", "after content"])
@pytest.mark.parametrize("size", [4096, 10**7])
def test_an_event_of_more_than_a_megabyte_is_refused(first: bytes, size: int) -> None:
    data = first + text("x" * 1_100_000)
    answer, _ = run(data[i : i + size] for i in range(0, len(data), size))
    assert answer.failure is not None
    assert answer.failure.kind == "too_large"
    assert answer.data == first


def test_many_events_in_one_read_may_be_larger_than_the_limit_of_one() -> None:
    data = text("a") + text("x" * 1000) * 2000
    assert decoder().feed(data).data == data
