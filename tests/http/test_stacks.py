"""The thread that answers beside a stuck loop: what it says, and that its end is noticed."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runestone.http.sockets import listen_unix
from runestone.http.stacks import Server, StacksListener
from runestone.operations.errors import OperationError
from supervisors import Ignored, Supervisor, start
from supervisors.child_spec import ChildSpec

pytestmark = pytest.mark.anyio


def answer(task: str | None) -> dict[str, Any]:
    if task == "nobody":
        raise OperationError("not_found", "there is no task 'nobody'")
    if task == "bug":
        raise ValueError("bug")
    return {"task": task}


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with listen_unix(tmp_path / "s") as bound:
        yield bound


def ask(path: str, *pieces: bytes) -> bytes:
    received = b""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(path)
        for piece in pieces:
            client.sendall(piece)
        while data := client.recv(65536):
            received += data
    return received


@pytest.mark.parametrize(
    ("pieces", "status", "told"),
    [
        ([b"GET /v1/stacks HTTP/1.1\r\n\r\n"], 200, {"v": 1, "task": None}),
        ([b"GET /v1/stacks?ta", b"sk=a%2Fb HTTP/1.1\r\nhost: x\r\n", b"\r\n"], 200, {"v": 1, "task": "a/b"}),
        ([b"GET /v1/stacks?task=nobody HTTP/1.1\r\n\r\n"], 404, "not_found"),
        ([b"POST /v1/stacks HTTP/1.1\r\n\r\n"], 404, "not_found"),
        ([b"GET /v1/tree HTTP/1.1\r\n\r\n"], 404, "not_found"),
        ([b"GET //[ HTTP/1.1\r\n\r\n"], 400, "refused"),
        ([b"\xff\xfe\r\n\r\n"], 404, "not_found"),
    ],
)
def test_one_question_is_answered_and_everything_else_refused(
    listener: socket.socket, pieces: list[bytes], status: int, told: object
) -> None:
    server = Server(listener, answer, lambda: None)
    thread = threading.Thread(target=server.run)
    thread.start()
    head, _, body = ask(listener.getsockname(), *pieces).partition(b"\r\n\r\n")
    server.stop()
    thread.join(10)
    data = json.loads(body)

    assert not thread.is_alive()
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert f"content-length: {len(body)}".encode() in head
    assert told == (data if status == 200 else data["error"]["code"])


@pytest.mark.parametrize("said", [b"", b"GET /v1/sta"])
def test_who_is_silent_keeps_nobody_waiting(listener: socket.socket, said: bytes) -> None:
    server = Server(listener, answer, lambda: None)
    thread = threading.Thread(target=server.run)
    thread.start()
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(150)]
        for one in silent:
            one.settimeout(30)
            one.connect(listener.getsockname())
            one.sendall(said)
        answered = ask(listener.getsockname(), b"GET /v1/stacks HTTP/1.1\r\n\r\n")
        ended = [one.recv(1) for one in silent]
    server.stop()
    thread.join(10)

    assert answered.startswith(b"HTTP/1.1 200 ")
    assert set(ended) == {b""}


def test_a_thread_that_a_bug_ends_says_so(listener: socket.socket) -> None:
    ended = threading.Event()
    server = Server(listener, answer, ended.set)
    asking = threading.Thread(target=ask, args=(listener.getsockname(), b"GET /v1/stacks?task=bug HTTP/1.1\r\n\r\n"))
    asking.start()

    with pytest.raises(ValueError, match="bug"):
        server.run()
    server.stop()
    asking.join(10)

    assert ended.is_set()


async def test_a_node_whose_path_leaves_no_room_for_the_socket_does_without(tmp_path: Path) -> None:
    path = tmp_path / ("x" * (106 - len(str(tmp_path))))
    spec = ChildSpec(id="stacks", start=lambda: StacksListener(path))
    root = await start(lambda: Supervisor([spec]))

    assert await root.restart_child("stacks") == Ignored()
    await root.stop()
