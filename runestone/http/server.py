"""A listener: one supervised child per port, serving a ``dup()`` of a socket that outlives it.

hypercorn's ``serve()`` and all its connections run in a process of their own under ``servers``, beside the listener. So a listener that
crashes cuts nobody off: its server is told to stop accepting, finishes what it has, and the new incarnation accepts meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from attrs import frozen
from hypercorn.asyncio import serve
from starlette.types import ASGIApp

from runestone.http import door, http11
from runestone.http.door import Door
from runestone.http.http11 import ServerConfig
from runestone.http.sockets import BACKLOG
from runestone.providers import names
from supervisors import ActorRef, ChildSpec, Down, GenServer, Info, Registry, Shutdown, Stop, Task

_QUEUE = 64  # body messages that hypercorn reads ahead of the application
_HEAD_BYTES = 32 * 1024
_KEEP_ALIVE_SECONDS = 75.0


http11.install()


@frozen
class Admission:
    """How many connections a listener may have, how many seconds new ones may wait for it for long, and who counts those turned away.

    ``refused`` counts those that waited at the door, ``beyond`` each that came above ``most``.
    """

    most: Callable[[], int] = lambda: sys.maxsize
    patience: Callable[[], float] = lambda: 0.0
    refused: Callable[[int], None] = lambda _: None
    beyond: Callable[[], None] = lambda: None


ANY: Final = Admission()


@frozen
class _Look(Info):
    """To itself: see who waits at the door."""


def config(listener: socket.socket, graceful_seconds: float, admission: Admission = ANY) -> ServerConfig:
    """Hypercorn's settings for serving a copy of ``listener`` to the connections of ``admission``."""
    settings = ServerConfig(admission.most, admission.beyond, knows_peers=listener.family == socket.AF_UNIX)
    settings.bind = [f"fd://{listener.detach()}"]
    settings.accesslog = None
    settings.errorlog = logging.getLogger("hypercorn.error")
    settings.include_server_header = False
    settings.include_date_header = False
    settings.keep_alive_timeout = _KEEP_ALIVE_SECONDS
    settings.keep_alive_max_requests = 2**31
    settings.max_app_queue_size = _QUEUE
    settings.h11_max_incomplete_size = _HEAD_BYTES
    settings.graceful_timeout = graceful_seconds
    settings.backlog = BACKLOG
    return settings


class Listener(GenServer[object]):
    """Serves ``app`` on ``listener`` while it lives."""

    def __init__(
        self,
        listener: socket.socket,
        app: Callable[[], ASGIApp],
        registry: Registry,
        graceful_seconds: float,
        admission: Admission = ANY,
    ) -> None:
        self._listener = listener
        self._app = app
        self._servers = registry.via(names.SERVERS)
        self._graceful_seconds = graceful_seconds
        self._admission = admission
        self._settings: ServerConfig | None = None

    async def init(self) -> None:
        """Start a server that stops accepting when this process ends, however it ends."""
        over = asyncio.Event()
        self.process.on_exit(lambda _process, _reason: over.set())
        settings = self._settings = config(self._listener.dup(), self._graceful_seconds, self._admission)

        async def until_over() -> None:
            await over.wait()
            settings.close_idle()

        serving = partial(serve, self._app(), settings, shutdown_trigger=until_over)  # type: ignore[arg-type]
        spec = ChildSpec(id=f"{self.name}", start=partial(Task, serving), restart="temporary", shutdown=1.0)
        server = await self._servers.start_child(spec)
        if not isinstance(server, ActorRef):
            raise TypeError(f"the server did not start: {server}")
        self.monitor(server)
        if self._admission is not ANY and self._listener.family != socket.AF_UNIX:  # which does not tell who waits
            self._door = Door(self._listener.dup(), self._admission.patience, self._admission.refused)
            self.process.on_exit(lambda _process, _reason: self._door.close())
            self.send_after(door.LOOK_SECONDS, _Look())

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        if self._settings is None or self._admission is ANY:
            return {}
        return {"connections": self._settings.connections, "most connections": self._admission.most()}

    def handle_info(self, message: Info) -> Stop | None:
        """Its server has ended, however: so does this, and its supervisor makes a new pair."""
        if isinstance(message, _Look):
            assert self._settings is not None
            self._door.look(asyncio.get_running_loop().time(), self._settings.accepted)
            self.send_after(door.LOOK_SECONDS, _Look())
        return Stop(Shutdown("its server has ended")) if isinstance(message, Down) else None
