"""One line for each request, and lines for what happens on its way: as JSON, and short for people."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from loguru import logger
from msgspec.structs import replace

from runestone.domain.chat import Usage
from runestone.telemetry import logs
from runestone.telemetry.access import Access, AccessLog
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import (
    AttemptStarted,
    BreakerChanged,
    Event,
    Failover,
    ProviderThrottled,
    RequestFinished,
)

KEY = "sk-ant-api03-aBcDeFgHiJkLmNoP_123"
DONE = RequestFinished(
    request_id="req_1",
    route="/v1/chat/completions",
    stream=True,
    status=200,
    outcome="ok",
    duration_seconds=0.81234,
    provider="anthropic-default",
    model="claude-sonnet-4-5",
    attempts=2,
    asked="gpt-4o",
    group="default-chat-service",
    key="team",
    first_content_seconds=0.1204,
    upstream_seconds=0.8,
    usage=Usage(input_tokens=12, output_tokens=34, cached_tokens=5),
)
REFUSED = RequestFinished(
    request_id="req_2",
    route="other",
    stream=False,
    status=404,
    outcome="unknown_url",
    duration_seconds=0.0004,
    provider=None,
    model=None,
    attempts=0,
)
Told = Callable[..., list[str]]


@pytest.fixture
def told() -> Iterator[Told]:
    """The lines that come of events."""

    def lines(*events: Event, level: str = "INFO", form: str = "json", wanted: bool = True) -> list[str]:
        stream, bus = io.StringIO(), Bus()
        sink = logs.configure(level, form, stream)
        bus.subscribe_later(AccessLog(sink, lambda: wanted, lambda done, _: 0.25 if done.usage else None).handle)
        for event in events:
            bus.emit(event)
        assert bus.failures == 0
        logger.remove()
        return stream.getvalue().splitlines()

    yield lines
    logger.remove()
    logger.add(sys.stderr)


def record(line: str) -> dict[str, Any]:
    return dict(orjson.loads(line))


def test_a_request_gets_one_flat_line_with_all_that_is_known_of_it(told: Told) -> None:
    (line,) = told(DONE)

    data = record(line)
    assert data.pop("ts").endswith("+00:00")
    assert data == {
        "level": "INFO",
        "logger": "runestone.access",
        "event": "request",
        "request_id": "req_1",
        "route": "/v1/chat/completions",
        "key": "team",
        "asked": "gpt-4o",
        "group": "default-chat-service",
        "provider": "anthropic-default",
        "model": "claude-sonnet-4-5",
        "status": 200,
        "outcome": "ok",
        "attempts": 2,
        "stream": True,
        "ttft_ms": 120.4,
        "duration_ms": 812.3,
        "overhead_ms": 12.3,
        "tokens_in": 12,
        "tokens_out": 34,
        "tokens_cached": 5,
        "cost_usd": 0.25,
    }


def test_a_line_is_priced_once_as_of_its_time_however_often_it_is_looked_at() -> None:
    asked = list[tuple[RequestFinished, float]]()

    def price(done: RequestFinished, at: float) -> float:
        asked.append((done, at))
        return 0.5

    line = Access(1_793_491_200.0, DONE, price)

    assert [line.told().cost_usd, line.told().cost_usd] == [0.5, 0.5]
    assert "$0.500000" in line.text()
    assert asked == [(DONE, 1_793_491_200.0)]


def test_what_is_not_known_is_null_and_every_line_has_the_same_fields(told: Told) -> None:
    lines = [record(line) for line in told(DONE, REFUSED)]

    assert list(lines[0]) == list(lines[1])
    nulls = {key for key, value in lines[1].items() if value is None}
    assert nulls == {
        "key", "asked", "group", "provider", "model", "ttft_ms", "tokens_in", "tokens_out", "tokens_cached",
        "cost_usd",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            DONE,
            "200 /v1/chat/completions gpt-4o -> anthropic-default/claude-sonnet-4-5 2 attempts 812.3 ms 12+34 tokens $0.250000 req_1",
        ),
        (REFUSED, "404 other - unknown_url 0.4 ms req_2"),
        (
            replace(DONE, status=0, outcome="client_gone", provider=None, usage=None, attempts=1),
            "- /v1/chat/completions gpt-4o client_gone 812.3 ms req_1",
        ),
    ],
)
def test_for_people_it_is_one_short_line(told: Told, event: RequestFinished, text: str) -> None:
    (line,) = told(event, form="pretty")

    assert re.fullmatch(rf"\d\d:\d\d:\d\d\.\d{{3}} INFO    {re.escape(text)}", line)


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_client_s_words_forge_no_line_move_no_terminal_and_hold_no_key(told: Told, form: str) -> None:
    word = f'a\nb\x1b[31m\u2028\x85\ud800{{"level": "FATAL"}} Bearer {KEY}'

    lines = told(replace(DONE, asked=word, model=word), form=form)

    assert len(lines) == 1
    assert lines[0].isprintable()
    assert "aBcDeF" not in lines[0]
    assert lines[0].count("Bearer ***") == 2
    if form == "json":
        assert record(lines[0])["level"] == "INFO"


def test_a_switch_turns_the_lines_of_requests_off_and_no_others(told: Told) -> None:
    change = BreakerChanged(provider="a", before="closed", after="open")

    assert [record(line)["event"] for line in told(DONE, change, wanted=False)] == ["breaker.changed"]


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("DEBUG", ["request", "failover", "provider.throttled", "breaker.changed"]),
        ("INFO", ["request", "provider.throttled", "breaker.changed"]),
        ("WARNING", ["breaker.changed"]),
        ("ERROR", []),
    ],
)
def test_each_event_has_its_level(told: Told, level: str, seen: list[str]) -> None:
    events = (
        DONE,
        AttemptStarted(request_id="req_1", number=1, provider="a", model="m", group="g"),
        Failover(group="g", origin="a", target="b", reason="server_error", request_id="req_1"),
        ProviderThrottled(provider="a", seconds=1.0),
        BreakerChanged(provider="a", before="closed", after="open"),
    )

    assert [record(line)["event"] for line in told(*events, level=level)] == seen


def test_what_happens_on_the_way_names_its_request_and_its_provider(told: Told) -> None:
    event = Failover(group="g", origin="a", target="b", reason="server_error", request_id="req_1")

    (data,) = [record(line) for line in told(event, level="DEBUG")]
    (line,) = told(event, level="DEBUG", form="pretty")

    assert (data["request_id"], data["origin"], data["target"]) == ("req_1", "a", "b")
    assert line.endswith("DEBUG   failover group=g origin=a target=b reason=server_error request_id=req_1")


def test_the_level_changes_live(told: Told) -> None:
    stream = io.StringIO()
    sink = logs.configure("WARNING", "json", stream)
    handle = AccessLog(sink, lambda: True).handle

    handle(DONE, 0.0)
    sink.set_level("INFO")
    handle(REFUSED, 0.0)
    logger.remove()

    assert [record(line)["request_id"] for line in stream.getvalue().splitlines()] == ["req_2"]
