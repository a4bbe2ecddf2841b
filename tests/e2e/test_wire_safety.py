"""What hypercorn would let through, and what two servers could read differently, is refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

import httpx
import pytest

from runestone.http.sockets import bind_tcp
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.raw import BODY, exchange, request, statuses
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN

LENGTH = f"content-length: {len(BODY)}"
SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"


def test_a_request_with_both_lengths_is_refused_closed_and_what_is_behind_it_not_served(
    node: Gateway, primary: Upstream
) -> None:
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

    lengths = (LENGTH, "transfer-encoding: chunked", "connection: keep-alive")

    received = exchange(node, request(*lengths, body=chunked) + SMUGGLED)

    assert statuses(received) == [400]
    assert b'"ambiguous_length"' in received
    assert b"connection: close" in received.lower()
    assert primary.requests() == []


def test_an_upgrade_to_http2_is_served_as_plain_http(node: Gateway) -> None:
    upgrade = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA")

    received = exchange(node, request(LENGTH, *upgrade), seconds=2)

    assert statuses(received) == [200]


def test_http2_with_prior_knowledge_is_refused(node: Gateway, primary: Upstream) -> None:
    received = exchange(node, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")

    assert b"\x00\x00\x00\x04" not in received
    assert [status for status in statuses(received) if status < 400] == []
    assert primary.requests() == []


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ([LENGTH, *(f"x-{n}: 1" for n in range(120))], 431, "headers_too_large"),
        ([LENGTH, "origin: https://evil.example"], 403, "not_allowed"),
        (["content-length: 99999999"], 413, "request_too_large"),
    ],
)
def test_a_request_over_a_limit_is_refused_with_its_reason(
    node: Gateway, primary: Upstream, headers: list[str], status: int, code: str
) -> None:
    received = exchange(node, request(*headers))

    assert statuses(received) == [status]
    assert f'"{code}"'.encode() in received
    assert primary.requests() == []


def test_a_body_that_grows_over_the_limit_without_saying_so_is_refused(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_BODY_LIMIT_BYTES="10000")
    chunks = b"".join(b"%x\r\n%s\r\n" % (1000, b"x" * 1000) for _ in range(20)) + b"0\r\n\r\n"

    received = exchange(node, request("transfer-encoding: chunked", body=chunks))

    assert statuses(received) == [413]


def test_a_body_that_does_not_come_is_refused_after_its_deadline(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_BODY_TIMEOUT_MS="1000")

    received = exchange(node, request(LENGTH, body=BODY[:10]))

    assert statuses(received) == [408]
    assert b'"request_timeout"' in received


def test_a_body_that_is_still_coming_when_its_request_is_refused_is_read_to_its_end(node: Gateway) -> None:
    body = b"x" * 16_000_000  # more than the system keeps

    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as connection:
        connection.sendall(request("origin: https://evil.example", f"content-length: {len(body)}", body=b""))
        received = connection.recv(1)
        connection.sendall(body)
        while data := connection.recv(65536):
            received += data

    assert statuses(received) == [403]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"model"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "gpt-4o-mini", "messages": NaN}',
        b"\xff\xfe",
        b'{"model": "gpt-4o-mini", "messages": "hello"}',
        b'{"model": 7, "messages": [1]}',
        b'{"model": "gpt-4o-mini", "messages": [1], "stream": "yes"}',
    ],
)
def test_a_body_that_is_no_chat_request_is_the_callers_error(node: Gateway, primary: Upstream, body: bytes) -> None:
    received = exchange(node, request(f"content-length: {len(body)}", body=body))

    assert statuses(received) == [400]
    error = json.loads(received.partition(b"\r\n\r\n")[2])["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert primary.requests() == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/../etc/passwd", 404),
    ],
)
def test_a_page_that_is_not_there_is_told_in_openais_shape(node: Gateway, method: str, path: str, status: int) -> None:
    received = exchange(
        node, f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
    )

    assert statuses(received) == [status]
    assert set(json.loads(received.partition(b"\r\n\r\n")[2])["error"]) == {"message", "type", "param", "code"}


def test_a_model_name_cannot_forge_a_header(node: Gateway) -> None:
    answer = node.post({**HELLO, "stream": False, "model": "openai/evil\r\nx-forged: 1"})

    assert answer.status_code == 200
    assert "x-forged" not in answer.headers
    assert answer.headers["x-runestone-model"] == "evil??x-forged: 1"


def test_a_request_id_of_the_client_is_kept_only_where_it_is_harmless(node: Gateway) -> None:
    kept = node.post({**HELLO, "stream": False}, {"x-request-id": "abc-1.2_3"})
    made = node.post({**HELLO, "stream": False}, {"x-request-id": "abc def<script>"})

    assert kept.headers["x-request-id"] == "abc-1.2_3"
    assert made.headers["x-request-id"].startswith("req_")


def test_a_connection_of_our_own_sockets_gives_a_silent_reader_up() -> None:
    with bind_tcp("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        listener.settimeout(5)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) > 0


def test_a_client_that_sends_a_stray_byte_and_leaves_is_noticed_by_the_next_write(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault("pace=0.05 tokens=2000")
    body = json.dumps(HELLO).encode()
    with socket.create_connection(("127.0.0.1", node.port), timeout=20) as connection:
        connection.sendall(request(f"content-length: {len(body)}", body=body) + b"G")
        assert connection.recv(100)

    eventually(lambda: primary.state()["open_streams"] == 0, "the upstream is closed")
    eventually(lambda: node.provider("openai-default")["in_flight"] == 0, "the lease is back")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("GET", "/v1/messages", b"", 405, "invalid_request_error"),
        ("POST", "/v1/messages/nothing", b"{}", 404, "not_found_error"),
        ("POST", "/v1/messages", b"{", 400, "invalid_request_error"),
        ("POST", "/v1/messages", b'{"model":"m","model":"n"}', 400, "invalid_request_error"),
        ("POST", "/v1/messages", b'{"model":"nobody-knows","messages":[{}]}', 404, "not_found_error"),
        ("POST", "/v1/messages", b"x" * 2000, 413, "request_too_large"),
        ("POST", "/v1/messages/count_tokens", b"{}", 400, "invalid_request_error"),
    ],
)
def test_errors_on_anthropic_s_routes_have_its_shape(
    serve: Callable[..., Gateway], method: str, path: str, body: bytes, status: int, kind: str
) -> None:
    node = serve(RUNESTONE_BODY_LIMIT_BYTES="1000")
    answer = httpx.request(
        method, node.public_url + path, content=body, headers={"content-type": "application/json"}, **PLAIN
    )

    told = answer.json()
    assert (answer.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
    assert told["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]


def test_a_wrong_key_is_anthropic_s_authentication_error_by_either_header(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_API_KEYS="right")
    url, body = (
        f"{node.public_url}/v1/messages",
        {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]},
    )

    for headers in ({"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}, {}):
        told = httpx.post(url, json=body, headers=headers, **PLAIN)
        assert (told.status_code, told.json()["error"]["type"]) == (401, "authentication_error")
    for headers in ({"x-api-key": "right"}, {"authorization": "Bearer right"}):
        assert httpx.post(url, json=body, headers=headers, **PLAIN).status_code == 200
