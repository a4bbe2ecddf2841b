"""OpenAI's stream, passed on: the same pieces whatever the split, failures where the answer is not whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
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
    "bare data": text("a")
    + text("c")
    + b'data:{"choices":[{"delta":{"content":"b"}}]}\n\n'
    + STOP
    + b"data:[DONE]\n\n",
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


def decoder(n: object = None, *, asks: bool = True) -> StreamDecoder:
    body = {"model": "m", "n": n, "stream_options": {"include_usage": asks}}
    chat = ChatRequest(request_id="r", wire="openai", model="m", stream=True, body=body, raw=b"{}")
    return codec_for("openai").stream(chat, created=1)


def run(pieces: Iterable[bytes], n: object = None, *, asks: bool = True) -> tuple[Piece, Usage | None]:
    """All pieces as one, up to the end of the stream. ``asks``: the client wants to know the tokens."""
    stream = decoder(n, asks=asks)
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
    assert answer == Piece(WHOLE, content=True, finished=True, ended=True)
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


@pytest.mark.parametrize("end", [DONE, b""], ids=["done", "closed"])
def test_a_choice_that_has_not_finished_makes_the_stream_a_truncation(end: bytes) -> None:
    answer, _ = run([text("a") + chunk({"content": "b"}, index=1) + STOP + end], n=2)
    assert answer.failure is not None
    assert answer.failure.kind == "truncated"


def test_a_server_that_gives_one_choice_where_two_were_asked_for_ends_its_stream_with_done() -> None:
    answer, _ = run([text("a") + text("b") + STOP + DONE], n=2)
    assert answer == Piece(text("a") + text("b") + STOP + DONE, content=True, finished=True, ended=True)


def test_without_done_nobody_knows_whether_the_other_choice_would_have_come() -> None:
    answer, _ = run([text("a") + STOP], n=2)
    assert answer.failure is not None
    assert answer.failure.kind == "truncated"


@pytest.mark.parametrize("n", [None, 0, -1, 1, True, "2", 2.0, [], {}])
def test_an_odd_n_counts_as_one(n: object) -> None:
    assert run([WHOLE], n)[0].ended


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


def test_after_the_first_content_what_looks_like_an_event_is_passed_on_unread() -> None:
    assert run([text("a") + JUNK + STOP + DONE])[0].data == text("a") + JUNK + STOP + DONE


JUNK = b"data: {not json, but nobody reads it}\n\n"
LOOKED_AT = {
    "comment": (b": c\n\n", b""),
    "null error": (chunk({"content": "a"}, error=None), chunk({"content": "a"}, error=None)),
    "usage": (chunk({"content": "a"}, usage={"prompt_tokens": 1}), chunk({"content": "a"}, usage={"prompt_tokens": 1})),
    "bare data": (b'data:{"a":1}\n\n', b'data: {"a":1}\n\n'),
    "id": (b'id: 1\ndata: {"a":1}\n\n', b'data: {"a":1}\n\n'),
    "two lines": (b'data: {"a":\ndata: 1}\n\n', b'data: {"a": 1}\n\n'),
    "more blank lines": (b"\n\n\n", b""),
}


@pytest.mark.parametrize("name", LOOKED_AT)
@pytest.mark.parametrize("before", [0, 1, 2, 17, 46, 47, 48])
def test_in_a_burst_only_the_events_that_need_a_look_are_read(name: str, before: int) -> None:
    odd, told = LOOKED_AT[name]
    after = 48 - before
    answer, _ = run([text("a"), JUNK * before + odd + JUNK * after + STOP + USAGE + DONE])
    assert answer.failure is None
    assert answer.data == text("a") + JUNK * before + told + JUNK * after + STOP + USAGE + DONE


@pytest.mark.parametrize("bad", [ERROR, b"data: <html>\n\n", text("x" * 1_100_000)], ids=["error", "html", "large"])
@pytest.mark.parametrize("before", [0, 1, 2, 17, 47])
def test_a_failure_within_a_burst_ends_it_there(bad: bytes, before: int) -> None:
    burst = text("a") + text("b") * before
    answer, _ = run([burst + bad + text("c") * 20 + STOP + DONE])
    assert answer.failure is not None
    assert answer.data == burst


def test_a_burst_of_which_one_event_is_read_says_that_it_holds_content() -> None:
    stream = decoder()
    stream.feed(text("a"))
    assert stream.feed(b": c\n\n" + JUNK * 2) == Piece(JUNK * 2, content=True)
    assert stream.feed(b": c\n\n") == Piece()


@pytest.mark.parametrize("torn", [b'data: {"choices":[\n\n', b'data: "choices":[]}\n\n', b'data: {"a":1} x\n\n'])
@pytest.mark.parametrize("after", [b"", JUNK * 3], ids=["last", "between"])
def test_an_event_that_does_not_begin_and_end_as_an_object_is_never_passed_on(torn: bytes, after: bytes) -> None:
    answer, _ = run([text("a"), JUNK * 3 + torn + after])
    assert answer.failure is not None
    assert answer.failure.kind == "invalid_answer"
    assert answer.data == text("a") + JUNK * 3


def test_after_the_finish_every_event_of_a_burst_is_read() -> None:
    answer, _ = run([text("a") * 20 + STOP + text("b") * 20 + JUNK])
    assert answer.failure is not None
    assert answer.failure.kind == "invalid_answer"
    assert answer.data == text("a") * 20 + STOP + text("b") * 20


def test_a_failure_comes_with_what_was_whole_before_it_and_with_the_usage_so_far() -> None:
    counted = chunk({"content": "a"}, usage={"prompt_tokens": 1, "completion_tokens": 1})
    answer, usage = run([counted + ERROR + text("b")])
    assert answer.data == counted
    assert usage == Usage(input_tokens=1, output_tokens=1)


def test_the_last_usage_counts() -> None:
    first = chunk({"content": "a"}, usage={"prompt_tokens": 1, "completion_tokens": 1})
    assert run([first + text("b") + STOP + USAGE + DONE])[1] == Usage(input_tokens=3, output_tokens=2)


# -- against a decoder that reads everything ---------------------------------------------------------------------------

CONTENT = ("content", "refusal", "tool_calls", "function_call", "reasoning_content", "reasoning", "audio")


Seen = tuple[bytes, bool, bool, bool, str | None, tuple[int, int] | None]


def seen(answer: Piece, usage: Usage | None) -> Seen:
    """Everything that a decoder told."""
    kind = None if answer.failure is None else answer.failure.kind
    counts = None if usage is None else (usage.input_tokens, usage.output_tokens)
    return answer.data, answer.content, answer.finished, answer.ended, kind, counts


def naive(data: bytes, n: int) -> Seen:
    """The whole stream, event by event, with nothing taken for granted."""
    out, content, usage = b"", False, None
    finished, seen = set[int](), set[int]()
    for block in re.split(rb"\n\n", data)[:-1]:
        lines = [line.partition(b":") for line in block.split(b"\n")]
        body = b"\n".join(value.removeprefix(b" ") for key, _, value in lines if key == b"data")
        named_error = any(key == b"event" and value.strip() == b"error" for key, _, value in lines)
        if not body or body.startswith(b":"):
            continue
        whole = len(finished) >= n
        if body == b"[DONE]":
            if whole or (seen and seen <= finished):
                return out + DONE, content, True, True, None, usage
            return out, content, whole, False, "truncated", usage
        event = json.loads(body)
        if event.get("error") is not None or named_error:
            return out, content, whole, False, "error_event", usage
        if isinstance(event.get("usage"), dict):
            usage = event["usage"].get("prompt_tokens", 0), event["usage"].get("completion_tokens", 0)
        for choice in event.get("choices", []):
            seen.add(choice["index"])
            content = content or any(choice["delta"].get(name) for name in CONTENT)
            if choice["finish_reason"] is not None:
                finished.add(choice["index"])
        out += b"data: " + body.replace(b"\n", b" ") + b"\n\n"
    if len(finished) >= n:
        return out + DONE, content, True, True, None, usage
    return out, content, False, False, "truncated", usage


TRAPS = st.sampled_from(
    [
        *("", "error", '"error":', '{"error": {"message": "m"}}', '"finish_reason":"stop"', "finish_reason", "usage"),
        *('"usage": {}', "[DONE]", "data: [DONE]\n\n", "}\n\ndata: {", "\u2028", "\x85", "\\", "null"),
        *('\\"finish_reason\\": 1',),
    ]
)
WORDS = st.one_of(TRAPS, st.text(max_size=12))
DELTAS = st.one_of(
    st.builds(
        lambda name, value: {name: value},
        st.sampled_from(["content", "content", "refusal", "reasoning_content"]),
        WORDS,
    ),
    st.builds(lambda t: {"tool_calls": [{"index": 0, "function": {"arguments": t}}]}, WORDS),
    st.builds(lambda name, t: {name: t}, TRAPS, WORDS),
    st.sampled_from([{}, {"role": "assistant", "content": ""}, {"content": None}, {"content": "error"}]),
)
COUNTS = st.integers(min_value=0, max_value=9)
USAGES = st.builds(lambda a, b: {"prompt_tokens": a, "completion_tokens": b}, COUNTS, COUNTS)


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """One event as some server writes it."""
    choice = {"index": draw(st.integers(0, 1)), "delta": draw(DELTAS)}
    choice["finish_reason"] = draw(st.sampled_from([None] * 24 + ["stop", "null"]))
    value: dict[str, Any] = {"id": draw(WORDS), "choices": [dict(draw(st.permutations(sorted(choice.items()))))]}
    if draw(st.integers(0, 5)) == 0:
        value["choices"] = draw(st.sampled_from([[], value["choices"] * 2]))
    if draw(st.integers(0, 3)) == 0:
        value["usage"] = draw(st.one_of(st.none(), USAGES))
    if draw(st.integers(0, 15)) == 0:
        value["error"] = draw(st.sampled_from([None, None, None, {"message": "m"}, "m", {}]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :\t")]))
    text_ = json.dumps(value, ensure_ascii=draw(st.booleans()), separators=separators)
    indented = json.dumps(value, indent=1).replace("\n", "\ndata: ")
    return draw(
        st.sampled_from(
            [f"data: {text_}\n\n"] * 4
            + [
                *[f"data:{text_}\n\n"] * 2,
                f"id: 1\ndata: {text_}\n\n",
                f"event: x\ndata: {text_}\n\n",
                f": c\ndata: {text_}\n\n",
            ]
            + [f"data: {indented}\n\n", f"event: error\ndata: {text_}\n\n"]
        )
    ).encode()


OTHERS = st.sampled_from([b": c\n\n", b"data: : c\n\n", b"\n", b"\n\n", b"data:\n\n", DONE, STOP, STOP + DONE])
EVENTS = st.one_of(*[chunks()] * 9, OTHERS)


@st.composite
def reads(draw: st.DrawFn, sent: list[bytes]) -> list[bytes]:
    """The bytes of the events as they may arrive: one by one, some together, or cut anywhere."""
    data, parts = b"".join(sent), list(sent)
    match draw(st.sampled_from(["events", "pairs", "cuts", "burst"])):
        case "burst":
            parts = [data]
        case "pairs":
            parts = [b"".join(sent[i : i + 2]) for i in range(0, len(sent), 2)]
        case "cuts":
            cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
            parts = [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]
        case _:
            pass
    return parts


@settings(max_examples=400)
@given(st.lists(EVENTS, max_size=10), st.sampled_from([1, 1, 1, 2]), st.data())
def test_the_fast_path_gives_what_a_decoder_gives_that_reads_every_event(
    sent: list[bytes], n: int, draw: st.DataObject
) -> None:
    answer, usage = run([text("a"), *draw.draw(reads(sent))], n)
    assert seen(answer, usage) == naive(text("a") + b"".join(sent), n)


@st.composite
def bursts(draw: st.DrawFn) -> list[bytes]:
    """Runs of ordinary events, of any length, with others between them."""
    plain = draw(st.lists(WORDS.map(text), min_size=1, max_size=3))
    runs = st.lists(st.sampled_from(plain), max_size=24)
    return [event for odd in draw(st.lists(EVENTS, max_size=4)) for event in (*draw(runs), odd)] + draw(runs)


@settings(max_examples=300)
@given(bursts(), st.sampled_from([1, 1, 1, 2]), st.data())
def test_a_burst_gives_what_a_decoder_gives_that_reads_every_event(
    sent: list[bytes], n: int, draw: st.DataObject
) -> None:
    answer, usage = run([text("a"), *draw.draw(reads(sent))], n)
    assert seen(answer, usage) == naive(text("a") + b"".join(sent), n)


@settings(max_examples=100)
@given(bursts(), st.sampled_from([1, 1, 1, 2]))
def test_a_whole_stream_in_one_read_gives_what_a_decoder_gives_that_reads_every_event(
    sent: list[bytes], n: int
) -> None:
    data = ROLE + b"".join(sent)
    assert seen(*run([data], n)) == naive(data, n)


COUNTED = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"say \\",\\"usage\\":null"},"finish_reason":null}],"usage":null}\n\n'


@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_tokens_that_the_client_did_not_ask_for_are_counted_and_kept_from_it(size: int) -> None:
    data = text("a") + COUNTED * 3 + STOP + USAGE + DONE
    answer, usage = run((data[i : i + size] for i in range(0, len(data), size)), asks=False)

    assert usage == Usage(input_tokens=3, output_tokens=2)
    told = COUNTED.replace(b',"usage":null}\n', b"}\n")
    assert answer == Piece(text("a") + told * 3 + STOP + DONE, content=True, finished=True, ended=True)
    for event in answer.data.split(b"\n\n")[:-2]:
        assert "usage" not in orjson.loads(event.removeprefix(b"data: "))


def test_tokens_that_come_with_a_choice_are_told_as_they_come() -> None:
    data = text("a") + chunk(finish="stop", usage={"prompt_tokens": 3, "completion_tokens": 2}) + DONE
    assert run([data], asks=False)[0].data == data
