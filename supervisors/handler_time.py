"""How long the handlers of an actor hold the loop up. Nothing of this runs before somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from supervisors.caller import Caller
    from supervisors.messages import Info
    from supervisors.receive import Handlers


@frozen(kw_only=True)
class HandlerTime:
    """How long handlers held the loop since the measure began; what they wait for is not counted.

    * ``count`` - how many messages and continues were handled, or begun.
    * ``total_seconds`` - of all together.
    * ``max_seconds``, ``longest`` - the longest hold at a stretch, and the type of the message that was at work; ``None`` before the first.
    """

    count: int
    total_seconds: float
    max_seconds: float
    longest: str | None


class TimedHandlers:
    """Stands between a receive loop and its behaviour, and holds a clock to each handler."""

    __slots__ = ("_clock", "_count", "_longest", "_max", "_total", "inner")

    inner: Handlers

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._count = 0
        self._total = 0.0
        self._max = 0.0
        self._longest: str | None = None

    @property
    def time(self) -> HandlerTime:
        """What was measured until now."""
        return HandlerTime(count=self._count, total_seconds=self._total, max_seconds=self._max, longest=self._longest)

    def handle_call(self, message: Any, caller: Caller[Any]) -> Any:
        """As the behaviour's."""
        return self._handle(message, self.inner.handle_call, message, caller)

    def handle_cast(self, message: Any) -> Any:
        """As the behaviour's."""
        return self._handle(message, self.inner.handle_cast, message)

    def handle_info(self, message: Info) -> Any:
        """As the behaviour's."""
        return self._handle(message, self.inner.handle_info, message)

    def handle_continue(self, term: Any) -> Any:
        """As the behaviour's."""
        return self._handle(term, self.inner.handle_continue, term)

    def _handle(self, message: Any, handler: Callable[..., Any], *arguments: Any) -> Any:
        self._count += 1
        result = self.hold(message, handler, *arguments)
        return self._drive(message, result) if type(result) is CoroutineType else result

    async def _drive(self, message: Any, coroutine: CoroutineType[Any, Any, Any]) -> Any:
        return await _Steps(self, message, coroutine)

    def hold(self, message: Any, step: Callable[..., Any], *arguments: Any) -> Any:
        """Do one step, which holds the loop until it returns or raises."""
        began = self._clock()
        try:
            return step(*arguments)
        finally:
            seconds = self._clock() - began
            self._total += seconds
            if self._longest is None or seconds > self._max:
                self._max, self._longest = seconds, type(message).__name__


class _Steps:
    """Awaits a coroutine as ``await`` does, step by step, each under the clock."""

    __slots__ = ("_coroutine", "_message", "_timed")

    def __init__(self, timed: TimedHandlers, message: Any, coroutine: CoroutineType[Any, Any, Any]) -> None:
        self._timed = timed
        self._message = message
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[Any], Any] = self._coroutine.send
        value: Any = None
        while True:
            try:
                awaited = self._timed.hold(self._message, step, value)
            except StopIteration as done:
                return done.value
            try:
                step, value = self._coroutine.send, (yield awaited)
            except BaseException as error:  # noqa: BLE001 - the coroutine decides what becomes of it
                step, value = self._coroutine.throw, error
