"""Clients and providers that fall silent without a word, or are as slow as they can be: each costs one connection, and nobody else waits."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.e2e.load import state
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.raw import request
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN
from tests.support.relay import Relay, relay

WHOLE = {**HELLO, "stream": False}
PINNED = {**HELLO, "model": "openai-default/gpt-4o-mini"}
STAND_IN = {**WHOLE, "model": "anthropic-default/claude-sonnet-4-5"}
MANY = 200


def port_of(url: str) -> int:
    return httpx.URL(url).port or 0


@contextmanager
def behind_a_relay(serve: Callable[..., Gateway], primary: Upstream, **more: str) -> Iterator[tuple[Gateway, Relay]]:
    """A gateway whose way to ``primary`` may go dead."""
    with relay(port_of(primary.url)) as way:
        url = primary.url.replace(f":{port_of(primary.url)}", f":{way.port}")
        yield serve(OPENAI_BASE_URL=url, RETRY_MAX_ATTEMPTS="1", **more), way


def others_are_served(node: Gateway) -> None:
    for _ in range(10):
        assert node.post(STAND_IN).status_code == 200


@contextmanager
def silent_reader(node: Gateway, port: int | None = None) -> Iterator[socket.socket]:
    """A client that asks for a stream and takes next to nothing of it."""
    body = json.dumps(PINNED).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", node.port if port is None else port))
        connection.sendall(request(f"content-length: {len(body)}", body=body))
        assert connection.recv(10)
        yield connection


def test_a_provider_that_vanishes_before_its_answer_is_replaced_in_time(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    with behind_a_relay(serve, primary, RUNESTONE_FIRST_TOKEN_TIMEOUT_MS="500") as (node, way):
        assert node.post(HELLO).headers["x-runestone-provider"] == "openai-default"
        way.go_dead()

        answer = node.post(HELLO)  # over the connection that was kept, and is dead

        assert answer.headers["x-runestone-provider"] == "anthropic-default"
        assert answer.text.endswith("data: [DONE]\n\n")
        assert "timeout" in node.provider("openai-default")["last_error"]["what"]
        way.revive()
        assert node.post(HELLO).headers["x-runestone-provider"] == "openai-default"
        assert way.connections == 2


def test_a_provider_that_vanishes_in_a_stream_is_told_in_band(serve: Callable[..., Gateway], primary: Upstream) -> None:
    primary.fault("pace=0.05 tokens=2000")
    with (
        behind_a_relay(serve, primary, RUNESTONE_IDLE_TIMEOUT_MS="500") as (node, way),
        httpx.stream("POST", f"{node.base_url}/chat/completions", json=HELLO, timeout=20, **PLAIN) as answer,
    ):
        received = bytearray()
        for data in answer.iter_raw():
            received += data
            way.go_dead()
            others_are_served(node) if len(received) == len(data) else None

    assert received.count(b'"upstream_stalled"') == 1
    assert b"[DONE]" not in received
    assert node.provider("openai-default")["breaker"]["consecutive_failures"] == 1


def test_a_client_that_vanishes_in_a_stream_is_given_up_at_the_deadline_and_nobody_is_blamed(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(RUNESTONE_REQUEST_DEADLINE_MS="1500")
    primary.fault("pace=0.02 tokens=100000")
    with relay(node.port) as way, silent_reader(node, way.port):
        way.go_dead()
        others_are_served(node)

        eventually(lambda: primary.state()["open_streams"] == 0, "the upstream is closed")
        shown = eventually(
            lambda: (it := node.provider("openai-default"))["in_flight"] == 0 and it, "the lease is back"
        )
        assert (shown["failures"], shown["breaker"]["consecutive_failures"]) == (0, 0)


def test_slow_readers_hold_their_own_upstream_up_and_nobody_else(node: Gateway, primary: Upstream) -> None:
    others_are_served(node)
    primary.fault("tokens=150000")  # some 30 MB each: more than all buffers on the way take
    memory = node.detailed()["memory_bytes"]
    with ExitStack() as crowd:
        for _ in range(4):
            crowd.enter_context(silent_reader(node))
        others_are_served(node)
        assert primary.state()["open_streams"] == 4
        assert node.detailed()["memory_bytes"] - memory < 64 * 1024 * 1024
    eventually(lambda: primary.state()["open_streams"] == 0, "the upstream saw all of them leave", 20)
    eventually(lambda: node.provider("openai-default")["in_flight"] == 0, "the leases are back")
    assert node.provider("openai-default")["failures"] == 0
    primary.fault("none")
    assert node.post(PINNED).text.endswith("data: [DONE]\n\n")


def test_heads_that_come_byte_by_byte_cost_a_connection_each_for_ten_seconds(node: Gateway) -> None:
    others_are_served(node)
    before = state(node)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-slow: "
    attackers = [socket.create_connection(("127.0.0.1", node.port), timeout=10) for _ in range(MANY)]
    for connection in attackers:
        connection.sendall(head)
        connection.setblocking(False)
    closed = set[int]()

    def drip() -> bool:
        """One more byte from each; whether the node has closed all of them."""
        for number, connection in enumerate(attackers):
            if number not in closed:
                try:
                    connection.send(b"x")
                    gone = connection.recv(1) == b""
                except BlockingIOError:
                    gone = False
                except OSError:
                    gone = True
                closed.update({number} if gone else ())
        return len(closed) == MANY

    began = time.monotonic()
    drip()
    others_are_served(node)
    assert not closed
    eventually(drip, lambda: f"all are closed: {len(closed)} are", 25)
    assert time.monotonic() - began > 5  # a slow client is no attacker
    for connection in attackers:
        connection.close()
    eventually(lambda: state(node)["descriptors"] <= before["descriptors"] + 4, "their sockets are closed")


def test_a_hundred_bodies_that_come_byte_by_byte_delay_nobody(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_BODY_TIMEOUT_MS="2000")
    body = json.dumps(WHOLE).encode()
    with ExitStack() as crowd:
        attackers = [
            crowd.enter_context(socket.create_connection(("127.0.0.1", node.port), timeout=20)) for _ in range(100)
        ]
        for connection in attackers:
            connection.sendall(request(f"content-length: {len(body)}", body=body[:1]))
        others_are_served(node)

        told = [connection.recv(65536) for connection in attackers]

    assert {answer.split(b"\r\n")[0] for answer in told} == {b"HTTP/1.1 408 "}


@pytest.mark.parametrize(
    ("milliseconds", "crashes", "code"),
    [
        ("60000", ["requests"], "restarting"),
        ("60000", ["servers"], "restarting"),
        ("60000", ["requests", "servers"], "restarting"),
        ("60000", ["servers", "servers"], "restarting"),
        ("2000", ["servers"], "deadline_exceeded"),
    ],
)
def test_a_slow_reader_is_told_once_how_its_stream_ends_however_often_its_request_is_cancelled(
    serve: Callable[..., Gateway], primary: Upstream, milliseconds: str, crashes: list[str], code: str
) -> None:
    node = serve("--allow-faults", RUNESTONE_REQUEST_DEADLINE_MS=milliseconds)
    others_are_served(node)
    assert node.post(PINNED).status_code == 200
    before = state(node)
    primary.fault("tokens=200000")
    with silent_reader(node) as connection:
        if code == "deadline_exceeded":
            eventually(lambda: primary.state()["open_streams"] == 0, "its time is over")
        for name in crashes:
            node.ctl("crash", name)
            eventually(lambda: primary.state()["open_streams"] == 0, "the upstream is closed")

        told = b""
        while not told.endswith(b"\r\n0\r\n\r\n") and (more := connection.recv(65536)):
            told += more

        assert told.count(b'"error"') == 1
        assert f'"code":"{code}"'.encode() in told
        assert b"[DONE]" not in told
        assert node.provider("openai-default")["in_flight"] == 0
    primary.fault("none")
    eventually(lambda: node.post(PINNED).status_code == 200, "it serves")
    eventually(
        lambda: all(state(node)[what] <= before[what] + 4 for what in before),
        lambda: f"as before: {before}, {state(node)}",
        30,
    )


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_sockets_of_readers_that_take_nothing_are_closed_in_the_end(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(RUNESTONE_REQUEST_DEADLINE_MS="2000")
    others_are_served(node)
    before = state(node)
    primary.fault("tokens=60000")
    with ExitStack() as crowd:
        for _ in range(100):
            crowd.enter_context(silent_reader(node))
        eventually(
            lambda: all(state(node)[what] <= before[what] + 4 for what in before),
            lambda: f"as before: {before}, {state(node)}",
            120,
        )
        with contextlib.suppress(OSError):
            others_are_served(node)
