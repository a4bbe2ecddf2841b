"""A hostile client on the admin socket moves nothing: chats and health go on meanwhile, and memory and descriptors are what they were."""

from __future__ import annotations

import contextlib
import json
import random
import re
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from runestone.console.admin import CONNECTIONS
from runestone.console.table import COMMANDS
from tests.e2e.node import Gateway, eventually
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN

WHOLE = {**HELLO, "stream": False}
MIB = 1024 * 1024
GIB = 1024 * MIB
MOST_GROWTH = 12 * MIB  # of which the thousand connections take most, and the allocator keeps it
SOON = 32 * MIB  # what a client can have sent by then: buffers of sockets, and what is thrown away for a moment


def memory(node: Gateway) -> int:
    """Bytes of the process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{node.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


class Others:
    """Whoever uses the gateway meanwhile, in a thread."""

    def __init__(self, node: Gateway) -> None:
        self.node = node
        self.wrong: list[str] = []
        self.rounds = 0
        self.most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Chat, ask for the health, look at the memory, again and again."""
        self._thread.start()

    def stop(self) -> None:
        """After the round that is under way."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=20, **PLAIN) as client:
            while not self._over.is_set():
                try:
                    chat = client.post(f"{self.node.base_url}/chat/completions", json=WHOLE)
                    health = client.get(f"{self.node.health_url}/health")
                    self.wrong += [answer.text for answer in (chat, health) if answer.status_code != 200]
                except httpx.HTTPError as error:
                    self.wrong.append(repr(error))
                self.most = max(self.most, memory(self.node))
                self.rounds += 1


@contextmanager
def unmoved(node: Gateway) -> Iterator[Others]:
    """What the block does to the admin socket is nothing to anybody else."""
    for _ in range(10):
        assert node.post(WHOLE).status_code == 200
    node.ctl("status")
    before, descriptors = memory(node), node.descriptors()
    others = Others(node)
    others.start()
    try:
        yield others
        eventually(lambda: others.rounds >= 3, "the others were served", 60)
    finally:
        others.stop()
    print(f"{others.rounds} rounds, {(others.most - before) / MIB:.1f} MiB more at most")
    assert others.wrong == []
    assert others.most - before < MOST_GROWTH
    eventually(lambda: node.descriptors() <= descriptors + 4, lambda: f"{node.descriptors()} of {descriptors}", 60)
    assert node.ctl("status")["status"] == "healthy"


def connected(path: Path, seconds: float = 20.0) -> socket.socket:
    """A connection to the unix socket at ``path``."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(seconds)
    connection.connect(str(path))
    return connection


def poured(node: Gateway, head: bytes, piece: bytes, most: int = GIB) -> tuple[int, bytes]:
    """Send ``head``, then ``piece`` until the node has had enough: how many bytes went out, and what came back."""
    sent = 0
    with connected(node.socket) as connection:
        try:
            connection.sendall(head)
            while sent < most:
                sent += connection.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(65536):
                received += data
    return sent, received


@pytest.mark.parametrize(
    "head",
    [b"GET /", b"", b"GET / HTTP/1.1\r\nhost: x\r\nx: ", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000],
    ids=["a request line", "no line at all", "a header", "headers"],
)
def test_a_line_without_end_is_cut_early(node: Gateway, head: bytes) -> None:
    with unmoved(node):
        sent, received = poured(node, head, b"a" * 65536)

    print(f"{sent / MIB:.1f} MiB were sent")
    assert sent < SOON
    assert received == b"" or received.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))


@pytest.mark.parametrize("head", ["content-length: 1073741824\r\n\r\n", "transfer-encoding: chunked\r\n\r\n"])
def test_a_body_that_is_too_large_is_refused_before_it_is_read(node: Gateway, head: str) -> None:
    piece = b"[" * 65536
    chunk = piece if head.startswith("content") else b"10000\r\n" + piece + b"\r\n"
    with unmoved(node):
        sent, received = poured(node, f"POST /v1/mode HTTP/1.1\r\nhost: x\r\n{head}".encode(), chunk)

    assert sent < GIB
    assert received == b"" or received.startswith(b"HTTP/1.1 413 ")


def test_who_says_how_much_it_would_be_is_told_that_it_is_too_much(node: Gateway) -> None:
    with connected(node.socket) as connection:
        connection.sendall(b"POST /v1/mode HTTP/1.1\r\nhost: x\r\ncontent-length: 1048577\r\n\r\n{")
        received = b""
        while data := connection.recv(65536):
            received += data

    assert received.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"too_large"' in received


@pytest.mark.parametrize("name", ["admin.sock", "observe.sock"])
def test_a_thousand_connections_at_once_keep_nobody_waiting(node: Gateway, name: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096) if hard > 0 else 4096, hard))
    with unmoved(node) as others, ExitStack() as stack:
        for number in range(1000):
            connection = stack.enter_context(connected(node.socket.with_name(name)))
            if number % 2:
                with contextlib.suppress(BrokenPipeError):
                    connection.sendall(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n" + b"\r\n" * (number % 4 == 1))
        eventually(lambda: others.rounds >= 3, "the others were served meanwhile", 60)
        if name == "observe.sock":  # who may look alone keeps nobody from acting
            assert node.ctl("breaker", "reset", "openai-default")["breaker"]["state"] == "closed"


def test_one_connection_too_many_is_told_to_come_back(node: Gateway) -> None:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(connected(node.socket))
        answers = [node.ctl_raw("--json", "status") for _ in range(2)]
        refused = answers[-1]  # by then all of them are there

        assert refused.returncode == 1
        assert json.loads(refused.stdout)["error"]["code"] == "overloaded"
    eventually(lambda: node.ctl_raw("status").returncode == 0, "there is room again")


@pytest.mark.parametrize(
    "path", ["/v1/actors/public/trace?max=10000&seconds=60", "/v1/events?limit=1000", "/v1/config", "/v1/tree"]
)
def test_a_reader_that_does_not_read_costs_a_connection_and_no_more(node: Gateway, path: str) -> None:
    with unmoved(node) as others, ExitStack() as stack:
        for _ in range(50):
            connection = stack.enter_context(connected(node.socket))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() * 3)
        eventually(lambda: others.rounds >= 10, "the others were served", 60)


def test_garbage_is_answered_with_a_refusal_or_the_end(node: Gateway) -> None:
    chance = random.Random(7)
    pieces = [chance.randbytes(chance.randrange(1, 20_000)) for _ in range(40)]
    pieces += [b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 20_000, b"\x00" * 20_000]
    pieces += [
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET  \r\n\r\n",
        b"POST /v1/mode HTTP/1.1\r\nhost: x\r\n\r\n",
        b"TRACE / HTTP/1.1\r\n\r\n",
    ]
    with unmoved(node):
        for piece in pieces:
            with connected(node.socket) as connection, contextlib.suppress(ConnectionError):
                connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass


def test_no_body_that_there_can_be_is_a_bug(node: Gateway) -> None:
    keys = [
        "name",
        "kind",
        "config",
        "providers",
        "options",
        "seconds",
        "model",
        "request",
        "spec",
        "mode",
        "group",
        "level",
        "before",
        "hard",
        "for",
        "steps",
    ]
    values: list[object] = [json.loads("[" * 90 + "]" * 90), json.loads('{"a":' * 90 + "1" + "}" * 90), 1e308, -1, "x" * 5000, "\ud800", "\x00", "", [], {}, [None], {"": None}, True, None]  # fmt: skip
    transport = httpx.HTTPTransport(uds=str(node.socket))
    with unmoved(node), httpx.Client(transport=transport, base_url="http://node", timeout=60) as client:
        for command in COMMANDS:
            if command.method == "POST" and command.path not in ("config reload", "drain", "undrain", "shutdown"):
                for value in values:
                    body = json.dumps(dict.fromkeys(keys, value) | {"name": "nobody"}).encode()
                    answer = client.post(command.route.format(name="nobody"), content=body)
                    assert answer.status_code < 500, (command.path, value, answer.text)
        tower = b'{"config":{"headers":{"a":' + b"[" * 400 + b"]" * 400 + b"}}}"
        answer = client.post("/v1/providers/openai-default", content=tower)
        assert "more than 100 lists and objects in each other" in answer.json()["error"]["message"]
        for deep in (b"[" * 500_000, b'{"a":' * 150_000, b'{"config":' + b"[" * 400 + b"]" * 400 + b"}"):
            answer = client.post("/v1/providers", content=deep)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "refused")

    assert "Traceback" not in node.told()
    assert node.provider("openai-default")["incarnation"] == 1
