"""What an operator does to the node as a whole: drain it, take that back, end it."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from loguru import logger

from runestone.operations import ceilings, given
from runestone.operations.errors import OperationError
from runestone.operations.given import Body
from runestone.operations.node import Node
from runestone.operations.operation import Operation

Answer = dict[str, Any]


@frozen
class LifecycleActions:
    """The acts on ``node``."""

    node: Node

    def table(self) -> list[Operation]:
        """All of them."""
        return [
            Operation("POST", "/v1/drain", self.drain),
            Operation("POST", "/v1/undrain", self.undrain),
            Operation("POST", "/v1/shutdown", self.shutdown),
        ]

    async def drain(self, _: str, body: Body) -> Answer:
        """Take nothing new, and return when nothing is in flight, or refuse after ``seconds`` with ``timeout``; it goes on draining."""
        phase, seconds = self.node.phase, self._seconds(body)
        phase.drain()
        logger.info("draining by an operator: {} in flight", phase.in_flight)
        if await phase.idle(seconds):
            return {"phase": "draining", "in_flight": 0}
        if not phase.draining:
            raise OperationError("conflict", "the drain was taken back meanwhile")
        message = f"{phase.in_flight} requests are in flight still after {seconds:g} s; the node goes on draining"
        raise OperationError("timeout", message)

    async def undrain(self, _: str, __: Body) -> Answer:
        """Take requests again."""
        phase = self.node.phase
        if phase.stopping or (self.node.ending is not None and self.node.ending.asked.is_set()):
            raise OperationError("conflict", "the node is shutting down, which is not taken back")
        phase.undrain()
        return {"phase": "ready", "in_flight": phase.in_flight}

    async def shutdown(self, _: str, body: Body) -> Answer:
        """Drain for ``seconds`` at most, tell those who are in flight still, and end the process as SIGTERM does.

        It returns when the drain is over, just before the tree stops.
        """
        ending, seconds = self.node.ending, self._seconds(body)
        if ending is None:
            raise OperationError("refused", "this node runs in another program, which alone can end it")
        if ending.asked.is_set():
            raise OperationError("conflict", "the node is shutting down already")
        self.node.phase.drain()
        ending.ask(seconds)
        await ending.drained.wait()
        return {"phase": "stopping", "cut": ending.cut}

    def _seconds(self, body: Body) -> float:
        seconds = given.seconds(body, ceilings.DRAIN_SECONDS)
        return self.node.settings.server.drain_timeout_seconds if seconds is None else seconds
