"""``limits``: what is in use of what there may be, seen while it is in use, and what was refused for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import orjson
import pytest

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN

WHOLE = {**HELLO, "stream": False}
PINNED = {**WHOLE, "model": "openai-default/gpt-4o-mini"}


def of(node: Gateway, name: str) -> dict[str, Any]:
    """The limits of one provider."""
    return next(dict(one) for one in node.ctl("limits")["providers"] if one["name"] == name)


def test_calls_requests_and_who_waits_are_told_beside_what_there_may_be(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(RUNESTONE_MAX_REQUESTS="3", RUNESTONE_MAX_CONNECTIONS="50")
    node.ctl(
        "provider", "set", "openai-default", "--max-concurrency", "2", "--max-queue", "7", "--queue-timeout", "60s"
    )
    primary.fault("stall")

    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(node.post, PINNED) for _ in range(3)]
        eventually(lambda: of(node, "openai-default")["waiting"] == 1, "one waits")
        refused = node.post(PINNED)
        told = node.ctl("limits")
        person = node.ctl_raw("limits").stdout
        primary.fault("none")
        node.ctl("provider", "restart", "openai-default", "--hard")
        node.stop()
        for one in asked:
            one.exception()

    openai = next(one for one in told["providers"] if one["name"] == "openai-default")
    assert {key: openai[key] for key in ("in_flight", "limit", "adaptive", "most", "waiting", "queue", "headroom")} == {
        "in_flight": 2,
        "limit": 2,
        "adaptive": False,
        "most": 2,
        "waiting": 1,
        "queue": 7,
        "headroom": None,
    }
    assert refused.status_code == 503
    assert told["node"]["requests"] == {"in_use": 3, "limit": 3}
    assert told["node"]["connections"]["limit"] == 50
    assert 3 <= told["node"]["connections"]["in_use"] <= 4
    assert 0 < told["node"]["descriptors"]["in_use"] < told["node"]["descriptors"]["limit"]
    assert (told["node"]["shed"], told["node"]["refused_share"]) == (
        {"requests": 1, "lateness": 0, "connections": 0, "queue": 0},
        0.0,
    )
    rows = [line.split() for line in person.splitlines()]
    assert ["openai-default", "2", "2", "no", "1", "7", "-", "-"] in rows
    assert ["requests", "3", "3"] in rows
    assert ["1", "max_requests,", "or"] in [row[:3] for row in rows]


def test_connections_that_are_turned_away_are_told(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_MAX_CONNECTIONS="1")

    with httpx.Client(base_url=node.base_url, **PLAIN) as kept:
        assert kept.get("/models").status_code == 200
        assert node.post(WHOLE).status_code == 503
        assert node.ctl("limits")["node"]["connections"] == {"in_use": 1, "limit": 1}

    assert "runestone_requests_shed_total 1" in node.health("/metrics").text
    assert node.ctl("limits")["node"]["shed"] == {"requests": 0, "lateness": 0, "connections": 1, "queue": 0}


def test_an_adaptive_limit_is_told_as_it_was_found(node: Gateway, primary: Upstream) -> None:
    node.ctl("provider", "set", "openai-default", "--max-concurrency", "9", "--adaptive-concurrency", "true")
    before = of(node, "openai-default")
    primary.fault("429 retry_after=60")

    assert node.post(WHOLE).status_code == 200

    after = of(node, "openai-default")
    assert (before["limit"], before["most"], before["adaptive"]) == (9, 9, True)
    assert (after["limit"], after["most"]) == (1, 9)
    assert 0 < after["throttled_seconds"] <= 60


class _Sparing(BaseHTTPRequestHandler):
    """A provider that says how much is left of its rate limit."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "Hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = orjson.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]})
        self.send_response(200)
        for name, value in (("requests", "25"), ("tokens", "900")):
            self.send_header(f"x-ratelimit-remaining-{name}", value)
            self.send_header(f"x-ratelimit-limit-{name}", {"requests": "100", "tokens": "1000"}[name])
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sparing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Sparing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_what_a_provider_says_is_left_of_its_rate_limit_is_told_with_its_age(node: Gateway, sparing: str) -> None:
    node.ctl("provider", "add", "late", "--kind", "compatible", "--base-url", sparing, "--default-model", "m")
    unknown = of(node, "late")

    assert node.post({**WHOLE, "model": "late/m"}).status_code == 200

    told = eventually(lambda: (one := of(node, "late"))["headroom"] is not None and one, "it is told")
    assert (unknown["headroom"], unknown["headroom_age_seconds"]) == (None, None)
    assert told["headroom"] == 0.25
    assert told["headroom_age_seconds"] >= 0
