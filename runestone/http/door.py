"""Turning connections away before the server has them: it costs a tenth of what it costs to serve them.

Who is turned away gets a whole answer, 503 with ``Retry-After``. Its request may still be on its way, and closing a socket with unread
bytes would reset the connection and could take the answer with it; so the socket stays open for a moment, with nothing more to say.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from attrs import define, field

from runestone.http.http11 import refusal
from runestone.resilience.accept_queue import AcceptQueue

LOOK_SECONDS: Final = 0.05
_AT_ONCE: Final = 256  # connections turned away at one look: some 10 ms
_LINGER_SECONDS: Final = 1.0
_READ_BYTES: Final = 65536
_UNACKED = struct.Struct("@24xI")  # of tcp_info: for a socket that listens, those that wait to be accepted
_REFUSAL = refusal(
    "This gateway is at its limit and takes a part of the requests only. Send the request again later.",
)


def waiting(listener: socket.socket) -> int:
    """How many connections wait to be accepted. Linux tells; elsewhere it is 0."""
    if not hasattr(socket, "TCP_INFO"):
        return 0
    return int(_UNACKED.unpack(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.size))[0])


@define(slots=True, eq=False)
class Door:
    """The door of one listening socket, which is its own copy. ``patience``: see :meth:`AcceptQueue.observe`."""

    _listener: socket.socket
    _patience: Callable[[], float]
    _refused: Callable[[int], None]
    _queue: AcceptQueue = field(factory=AcceptQueue)
    _leaving: deque[tuple[float, socket.socket]] = field(factory=deque)  # when to close it

    def look(self, now: float, accepted: int) -> None:
        """Turn away who has waited too long. The server has ``accepted`` so many connections ever."""
        while self._leaving and self._leaving[0][0] <= now:
            _close(self._leaving.popleft()[1])
        self._queue, many = self._queue.observe(
            now, waiting=waiting(self._listener), accepted=accepted, patience=self._patience()
        )
        refused = 0
        while refused < min(many, _AT_ONCE) and self._turn_away(now):
            refused += 1
        if refused:
            self._refused(refused)

    def close(self) -> None:
        """Let go of everything."""
        while self._leaving:
            _close(self._leaving.popleft()[1])
        self._listener.close()

    def _turn_away(self, now: float) -> bool:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # nobody is there any more, or there is no descriptor left
            return False
        connection.settimeout(0.0)
        with contextlib.suppress(OSError):  # it has sent nothing yet, or has left
            connection.recv(_READ_BYTES)
        try:
            connection.send(_REFUSAL)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
        else:
            self._leaving.append((now + _LINGER_SECONDS, connection))
        return True


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.recv(_READ_BYTES)
    connection.close()
