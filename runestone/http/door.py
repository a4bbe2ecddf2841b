"""Turning connections away before the server has them: it costs a tenth of what it costs to serve them.

Who is turned away gets a whole answer, 503 with ``Retry-After``. Its request may still be on its way, and closing a socket with unread
bytes would reset the connection and could take the answer with it; so the socket stays open, with nothing more to say, until its client has
closed it too, and what still comes is thrown away.
"""

from __future__ import annotations

import selectors
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from attrs import define, field

from runestone.http.http11 import refusal
from runestone.http.sockets import most_leaving
from runestone.resilience.accept_queue import AcceptQueue

LOOK_SECONDS: Final = 0.05
_AT_ONCE: Final = 256  # connections turned away at one look: some 10 ms
_LINGER_SECONDS: Final = 5.0
_READ_BYTES: Final = 262_144  # of one connection at one look
_QUEUE = struct.Struct(
    "@24xII"
)  # of tcp_info: for a socket that listens, those that wait to be accepted, and how many may
_REFUSAL = refusal(
    "This gateway is at its limit and takes a part of the requests only. Send the request again later.",
)


def waiting(listener: socket.socket) -> tuple[int, int]:
    """How many connections wait to be accepted, and how many the system keeps. Linux tells; elsewhere nobody waits."""
    if not hasattr(socket, "TCP_INFO"):
        return 0, 0
    now, most = _QUEUE.unpack(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE.size))
    return now, most


@define(slots=True, eq=False)
class Door:
    """The door of one listening socket, which is its own copy. ``patience``: see :meth:`AcceptQueue.observe`."""

    _listener: socket.socket
    _patience: Callable[[], float]
    _refused: Callable[[int], None]
    _queue: AcceptQueue = field(factory=AcceptQueue)
    _leaving: deque[tuple[float, socket.socket]] = field(factory=deque)  # when to close it, if it is open
    _open: selectors.BaseSelector = field(factory=selectors.DefaultSelector)  # those of them that are

    def look(self, now: float, accepted: int) -> None:
        """Turn away who has waited too long. The server has ``accepted`` so many connections ever."""
        self._see_off(now)
        many_wait, most = waiting(self._listener)
        self._queue, many = self._queue.observe(
            now, waiting=many_wait, most=most // 2, accepted=accepted, patience=self._patience()
        )
        refused = 0
        while refused < min(many, _AT_ONCE) and self._turn_away(now):
            refused += 1
        if refused:
            self._refused(refused)

    def close(self) -> None:
        """Let go of everything."""
        while self._leaving:
            self._close(self._leaving.popleft()[1])
        self._open.close()
        self._listener.close()

    def _turn_away(self, now: float) -> bool:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # nobody is there any more, or there is no descriptor left
            return False
        connection.settimeout(0.0)
        try:
            connection.send(_REFUSAL)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
        else:
            self._open.register(connection, selectors.EVENT_READ)
            self._leaving.append((now + _LINGER_SECONDS, connection))
        return True

    def _see_off(self, now: float) -> None:
        for key, _ in self._open.select(0):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            try:
                gone = not connection.recv(_READ_BYTES)
            except OSError:
                gone = True
            if gone:
                self._close(connection)
        most = most_leaving()  # of more than that, the oldest are closed: they have had their answer
        while self._leaving:
            until, connection = self._leaving[0]
            if connection.fileno() >= 0 and until > now and len(self._open.get_map()) <= most:
                return
            self._close(connection)
            self._leaving.popleft()

    def _close(self, connection: socket.socket) -> None:
        if connection.fileno() >= 0:
            self._open.unregister(connection)
            connection.close()
