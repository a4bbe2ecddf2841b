"""Bytes to a node and back, for what no client library would send."""

from __future__ import annotations

import contextlib
import json
import socket

from tests.e2e.node import Gateway
from tests.e2e.streams import HELLO

BODY = json.dumps({**HELLO, "stream": False}).encode()


def request(*headers: str, body: bytes = BODY, method: str = "POST", version: str = "HTTP/1.1") -> bytes:
    """A chat request with more ``headers``, after which the server closes; a Content-Length is not added."""
    lines = [f"{method} /v1/chat/completions {version}", "host: localhost", "content-type: application/json", *headers]
    if not any(header.lower().startswith("connection:") for header in headers):
        lines.append("connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def exchange(node: Gateway, data: bytes, *, seconds: float = 20.0) -> bytes:
    """Send ``data``, and read until the server closes or says nothing for ``seconds``."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=seconds) as connection:
        connection.sendall(data)
        received = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while data := connection.recv(65536):
                received += data
        return received


def statuses(received: bytes) -> list[int]:
    """The status of every answer in ``received``."""
    return [int(line.split()[1]) for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def refusals(node: Gateway, count: int) -> None:
    """So many requests that are refused, each with its line."""
    one = b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", node.port), timeout=60) as client:
        for _ in range(count // 50):
            client.sendall(one * 50)
            answers = b""
            while answers.count(b"HTTP/1.1 404") < 50:
                data = client.recv(65536)
                assert data, answers[-300:]
                answers += data
