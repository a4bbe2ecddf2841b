"""The second admin socket: it answers ``GET /v1/stacks`` from a thread of its own, so also while the event loop is stuck.

It lies beside the admin socket, under its name and ``.stacks``, with the same mode. Whoever connects has a second to ask, beside the
others, and nothing but that question is answered.
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

from attrs import define
from loguru import logger

from runestone.config.run_directory import stacks_socket
from runestone.http.sockets import listen_unix
from runestone.operations import stacks
from runestone.operations.errors import OperationError
from supervisors import GenServer, Ignore

_PATIENCE_SECONDS: Final = 1.0  # for one client
_HEAD_BYTES: Final = 8192
_MOST: Final = 100  # clients at once; for one more, who has been silent longest is let go
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


@define
class _Asking:
    """What a client has said of its question, and until when it may."""

    until: float
    head: bytes = b""


class Server:
    """What runs in the thread. ``ended`` is called, there, if a bug ends it."""

    def __init__(
        self, listener: socket.socket, answer: Callable[[str | None], dict[str, Any]], ended: Callable[[], object]
    ) -> None:
        self._listener = listener
        self._answer = answer
        self._ended = ended
        self._stopped = False
        self._selector = selectors.DefaultSelector()
        self._clients: dict[socket.socket, _Asking] = {}  # the first to be given up first
        self._waking, self._wake = socket.socketpair()

    def stop(self) -> None:
        """Called from the loop; the thread sees it at once, or when its client is served."""
        self._stopped = True
        self._wake.close()

    def run(self) -> None:
        """Serve until it is stopped."""
        try:
            with self._listener, self._waking, self._selector:
                self._listen()
        finally:
            for client in self._clients:
                client.close()
            if not self._stopped:
                self._ended()

    def _listen(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._waking, selectors.EVENT_READ)
        while True:
            first = next(iter(self._clients.values()), None)
            patience = None if first is None else max(first.until - time.monotonic(), 0.0)
            ready = {key.fileobj for key, _ in self._selector.select(patience)}
            if self._waking in ready:
                return
            for client, asking in list(self._clients.items()):
                if (client in ready and self._served(client, asking)) or asking.until <= time.monotonic():
                    self._let_go(client)
            if self._listener in ready:
                self._accept()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it has gone, or there is no descriptor left
            return
        if len(self._clients) == _MOST:
            self._let_go(next(iter(self._clients)))
        client.settimeout(_PATIENCE_SECONDS)
        self._clients[client] = _Asking(time.monotonic() + _PATIENCE_SECONDS)
        self._selector.register(client, selectors.EVENT_READ)

    def _let_go(self, client: socket.socket) -> None:
        del self._clients[client]
        self._selector.unregister(client)
        client.close()

    def _served(self, client: socket.socket, asking: _Asking) -> bool:
        """Take what has come, and answer once that is all; whether there is nothing more to do for ``client``."""
        try:
            data = client.recv(_HEAD_BYTES)
            asking.head += data
            if data and b"\r\n\r\n" not in asking.head and len(asking.head) < _HEAD_BYTES:
                return False
            if data:
                self._tell(client, asking.head)
        except OSError:  # it has gone, or reads too slowly
            pass
        return True

    def _tell(self, client: socket.socket, head: bytes) -> None:
        status, answer = self._answered(head.partition(b"\r\n")[0].decode("ascii", "replace"))
        body = json.dumps({"v": 1, **answer}).encode()
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
