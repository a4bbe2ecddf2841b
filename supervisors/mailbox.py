"""A bounded queue with a lane for system messages, and one waiter."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Literal

from supervisors.errors import MailboxFull

Policy = Literal["reject", "drop_new", "drop_old"]


class Mailbox:
    """What one actor has still to handle. The system lane goes first and knows no bound."""

    __slots__ = ("drops", "high_water", "limit", "messages", "policy", "suspended", "system", "waiter")

    def __init__(self, limit: int, policy: Policy) -> None:
        self.limit = limit
        self.policy = policy
        self.messages: deque[Any] = deque()
        self.system: deque[Any] = deque()
        self.waiter: asyncio.Future[None] | None = None
        self.suspended = False
        self.high_water = 0
        self.drops = 0

    def put(self, message: Any) -> Any:
        """Queue ``message``; what was dropped for it is returned. Raises :class:`MailboxFull` under ``reject``."""
        messages = self.messages
        depth = len(messages)
        dropped = None
        if depth >= self.limit:
            if self.policy == "reject":
                raise MailboxFull(f"{depth} messages wait")
            self.drops += 1
            if self.policy == "drop_new":
                return message
            dropped = messages.popleft()
        messages.append(message)
        if depth >= self.high_water:
            self.high_water = depth + 1
        self.wake()
        return dropped

    def put_system(self, message: Any) -> None:
        """Queue ``message`` before all others."""
        self.system.append(message)
        self.wake()

    def put_unbounded(self, message: Any) -> None:
        """Queue ``message`` in its turn, whatever the bound."""
        self.messages.append(message)
        self.wake()

    def wake(self) -> None:
        """Let the waiter look again."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Return once there may be something to handle."""
        if self.system or (self.messages and not self.suspended):
            return
        waiter = self.waiter = asyncio.get_running_loop().create_future()
        await waiter
