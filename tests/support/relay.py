"""A way between two sockets that can go dead: it stays connected, and nothing passes any more, as when a machine or a cable is gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import define, field


@define(eq=False)
class Relay:
    """Relays to ``target``, a port of this machine. It runs in a loop and a thread of its own, so that a test may block."""

    target: int
    port: int = 0
    connections: int = 0
    _alive: threading.Event = field(factory=threading.Event)
    _tasks: set[asyncio.Task[None]] = field(factory=set)
    _writers: list[asyncio.StreamWriter] = field(factory=list)

    def go_dead(self) -> None:
        """From now on nothing passes and nobody is told; new connections are taken."""
        self._alive.clear()

    def revive(self) -> None:
        """New connections are relayed again; those of before stay dead."""
        self._alive.set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers += (writer, other_writer)
        for source, sink in ((reader, other_writer), (other_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if not self._alive.is_set():
                    await asyncio.Event().wait()  # for ever
                sink.write(data)
                await sink.drain()
        if not self._alive.is_set():
            await asyncio.Event().wait()
        sink.close()

    async def _run(self, ready: threading.Event, over: asyncio.Event) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        with suppress(ConnectionError):
            for writer in self._writers:
                await writer.wait_closed()


@contextmanager
def relay(target: int) -> Iterator[Relay]:
    """A relay to the port ``target`` for the time of the block."""
    it, ready, loop, over = Relay(target), threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    it.revive()
    thread = threading.Thread(target=lambda: loop.run_until_complete(it._run(ready, over)), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield it
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
