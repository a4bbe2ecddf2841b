"""What the actors of a tree do, over some seconds: who is busy, who gets how much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from attrs import frozen

from supervisors.handler_time import TimedHandlers
from supervisors.mailbox import Mailbox
from supervisors.process import Process
from supervisors.receive import Server, SystemRequest
from supervisors.ref import ActorRef
from supervisors.snapshot import processes


@frozen(kw_only=True)
class Activity:
    """What one actor has done within the ``seconds`` that it was watched.

    * ``messages`` - taken from its mailbox.
    * ``busy_seconds`` - that its handlers held the loop; ``None`` where it was at one message all the time, and did not hear of the watch.
    """

    ref: ActorRef
    seconds: float
    messages: int
    busy_seconds: float | None


async def activity(
    root: ActorRef, *, seconds: float = 1.0, clock: Callable[[], float] = time.perf_counter
) -> list[Activity]:
    """Watch the actors under ``root``, itself included, for ``seconds``, and tell what those have done that live then.

    Nothing is measured before and after, so it costs nothing while nobody asks. ``clock`` tells seconds, by default of real time.

    >>> from supervisors import ChildSpec, GenServer, Supervisor, start
    >>> class Miller(GenServer[int]):
    ...     def handle_cast(self, message: int) -> None:
    ...         sum(range(message))
    >>> async def main() -> None:
    ...     root = await start(lambda: Supervisor([ChildSpec(id="miller", start=Miller)]))
    ...     [child] = await root.which_children()
    ...     watching = asyncio.ensure_future(activity(root, seconds=0.01))
    ...     await asyncio.sleep(0)
    ...     for _ in range(3):
    ...         child.ref.cast(10_000)
    ...     for one in await watching:
    ...         print(one.ref.path, one.messages, one.busy_seconds > 0)
    ...     await root.stop()
    >>> asyncio.run(main())
    root 0 False
    root/miller 3 True
    """
    watches = [_Watch(process, process.mailbox, clock) for process in processes(root) if process.mailbox is not None]
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        await asyncio.sleep(seconds)
        return [watch.told(loop.time() - began) for watch in watches if watch.process.alive]
    finally:
        for watch in watches:
            watch.end()


class _Watch:
    """Over one actor."""

    def __init__(self, process: Process, mailbox: Mailbox, clock: Callable[[], float]) -> None:
        self.process = process
        self._mailbox = mailbox
        self._taken = mailbox.taken
        self._layer = TimedHandlers(clock)
        self._heard = False
        self._request(self._begin)

    def told(self, seconds: float) -> Activity:
        return Activity(
            ref=ActorRef(self.process),
            seconds=seconds,
            messages=self._mailbox.taken - self._taken,
            busy_seconds=self._layer.time.total_seconds if self._heard else None,
        )

    def end(self) -> None:
        self._request(lambda server: server.remove_layer(self._layer))

    def _begin(self, server: Server) -> None:
        self._heard = True
        server.add_layer(self._layer)

    def _request(self, function: Callable[[Server], None]) -> None:
        if self.process.reason is None:
            self._mailbox.put_system(SystemRequest(function, self._mailbox.loop.create_future()))
