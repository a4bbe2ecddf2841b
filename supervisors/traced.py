"""What an actor does with its messages, told one by one. Nothing of this runs before somebody asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from attrs import frozen

from supervisors.messages import ChildExit, Down, Exit
from supervisors.returns import NO_REPLY, Reply, Stop

if TYPE_CHECKING:
    from supervisors.caller import Caller
    from supervisors.mailbox import Mailbox
    from supervisors.messages import Info
    from supervisors.receive import Handlers


@frozen(kw_only=True)
class TraceEvent:
    """One message that was handled.

    * ``at`` - when its handler began, in loop time.
    * ``kind`` - ``"call"``, ``"cast"`` or ``"info"``; ``type`` - of the message.
    * ``message`` - its ``repr``, cut to a bound; ``None`` where payloads are left out.
    * ``sender`` - the path of the process that called, or whose end it tells of; ``None`` where that is not known: a cast names nobody.
    * ``waited_seconds`` - in the mailbox; ``None`` if it was there before the trace began.
    * ``handled_seconds`` - from the beginning of its handler to its end, with what that has waited for.
    * ``outcome`` - ``"replied"``, ``"deferred"`` (answered later, or forwarded), ``"handled"``, ``"stopped"``, ``"cancelled"`` or
      ``"crashed: TypeOfTheException"``.
    """

    at: float
    kind: str
    type: str
    message: str | None = None
    sender: str | None
    waited_seconds: float | None
    handled_seconds: float
    outcome: str


Tracer = Callable[[Any, TraceEvent], None]


class TracedHandlers:
    """Stands between a receive loop and its behaviour, and tells ``tracer`` of each message once it is handled."""

    __slots__ = ("_mailbox", "_tracer", "inner")

    inner: Handlers

    def __init__(self, mailbox: Mailbox, tracer: Tracer) -> None:
        self._mailbox = mailbox
        self._tracer = tracer

    def handle_call(self, message: Any, caller: Caller[Any]) -> Any:
        """As the behaviour's."""
        sender = None if caller.process is None else caller.process.path
        return self._handle("call", message, sender, self.inner.handle_call, message, caller)

    def handle_cast(self, message: Any) -> Any:
        """As the behaviour's."""
        return self._handle("cast", message, None, self.inner.handle_cast, message)

    def handle_info(self, message: Info) -> Any:
        """As the behaviour's."""
        sender = message.process.path if isinstance(message, Down | Exit | ChildExit) else None
        return self._handle("info", message, sender, self.inner.handle_info, message)

    def handle_continue(self, term: Any) -> Any:
        """As the behaviour's. It is no message, and not told."""
        return self.inner.handle_continue(term)

    def _handle(self, kind: str, message: Any, sender: str | None, handler: Callable[..., Any], *arguments: Any) -> Any:
        arrived, began = self._mailbox.arrived, self._mailbox.stamp()
        at = self._mailbox.loop.time()

        def told(outcome: str) -> None:
            event = TraceEvent(
                at=at,
                kind=kind,
                type=type(message).__name__,
                sender=sender,
                waited_seconds=None if arrived is None else began - arrived,
                handled_seconds=self._mailbox.stamp() - began,
                outcome=outcome,
            )
            self._tracer(message, event)

        try:
            result = handler(*arguments)
        except Exception as error:
            told(_crashed(error))
            raise
        if type(result) is CoroutineType:
            return _awaited(kind, result, told)
        told(_outcome(kind, result))
        return result


async def _awaited(kind: str, handling: CoroutineType[Any, Any, Any], told: Callable[[str], None]) -> Any:
    try:
        result = await handling
    except asyncio.CancelledError:
        told("cancelled")
        raise
    except Exception as error:
        told(_crashed(error))
        raise
    told(_outcome(kind, result))
    return result


def _crashed(error: Exception) -> str:
    return f"crashed: {type(error).__name__}"


def _outcome(kind: str, result: Any) -> str:
    if isinstance(result, Stop):
        return "stopped"
    if kind != "call":
        return "handled"
    value = result.value if isinstance(result, Reply) else result
    return "deferred" if value is NO_REPLY else "replied"
