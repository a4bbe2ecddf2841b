"""The second admin socket: it answers ``GET /v1/stacks`` from a thread of its own, so also while the event loop is stuck.

It lies beside the admin socket, under its name and ``.stacks``, with the same mode. One connection is served at a time, within a second,
and nothing but that question is answered.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from loguru import logger

from runestone.config.run_directory import stacks_socket
from runestone.http.sockets import listen_unix
from runestone.operations import stacks
from runestone.operations.errors import OperationError
from supervisors import GenServer, Ignore

_PATIENCE_SECONDS: Final = 1.0  # for one client
_HEAD_BYTES: Final = 8192
_STATUS: Final = {200: "200 OK", 400: "400 Bad Request", 404: "404 Not Found"}


class StacksListener(GenServer[object]):
    """Listens on the socket beside ``admin`` while it lives. Where there can be none, the node does without."""

    def __init__(self, admin: Path) -> None:
        self._path = stacks_socket(admin)

    def init(self) -> Ignore | None:
        """Bind, and start the thread."""
        try:
            listener = listen_unix(self._path)
        except OSError as error:
            logger.warning("no stacks from a thread: {}: {}", self._path, error)
            return Ignore()
        loop, thread = asyncio.get_running_loop(), threading.get_ident()
        server = Server(
            listener,
            lambda task: stacks.answer(loop, thread, task),
            lambda: loop.call_soon_threadsafe(self.process.crash, RuntimeError("its thread has ended")),
        )
        self.process.on_exit(lambda *_: self._close(server))
        threading.Thread(target=server.run, name="stacks", daemon=True).start()
        return None

    def _close(self, server: Server) -> None:
        self._path.unlink(missing_ok=True)
        server.stop()


class Server:
    """What runs in the thread. ``ended`` is called, there, if a bug ends it."""

    def __init__(
        self, listener: socket.socket, answer: Callable[[str | None], dict[str, Any]], ended: Callable[[], object]
    ) -> None:
        self._listener = listener
        self._answer = answer
        self._ended = ended
        self._stopped = False
        self._waking, self._wake = socket.socketpair()

    def stop(self) -> None:
        """Called from the loop; the thread sees it at once, or when its client is served."""
        self._stopped = True
        self._wake.close()

    def run(self) -> None:
        """Serve until it is stopped."""
        try:
            self._listen()
        finally:
            if not self._stopped:
                self._ended()

    def _listen(self) -> None:
        with self._listener, self._waking, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._waking, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._waking in ready:
                    return
                try:
                    client, _ = self._listener.accept()
                    with client:
                        self._serve(client)
                except OSError:  # the client has gone, or has taken too long
                    continue

    def _serve(self, client: socket.socket) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
            client.settimeout(max(until - time.monotonic(), 0.001))
            if not (data := client.recv(_HEAD_BYTES)):
                return
            head += data
        status, answer = self._answered(head.partition(b"\r\n")[0].decode("ascii", "replace"))
        body = json.dumps({"v": 1, **answer}).encode()
        client.settimeout(_PATIENCE_SECONDS)
        lines = f"HTTP/1.1 {_STATUS[status]}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close"
        client.sendall(f"{lines}\r\n\r\n".encode() + body)

    def _answered(self, line: str) -> tuple[int, dict[str, Any]]:
        method, _, rest = line.partition(" ")
        try:
            target = urlsplit(rest.partition(" ")[0])
        except ValueError:
            return _refused(400, "refused", "no HTTP request")
        if (method, target.path) != ("GET", "/v1/stacks"):
            return _refused(404, "not_found", "here is GET /v1/stacks and nothing else")
        try:
            return 200, self._answer(parse_qs(target.query).get("task", [None])[0])
        except OperationError as error:
            return _refused(404, error.reason, str(error))


def _refused(status: int, code: str, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": code, "message": message, "problems": []}}
