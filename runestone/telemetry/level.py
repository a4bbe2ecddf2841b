"""From which level on there are lines: what the settings say, or for a while something else, which ends by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define, frozen
from loguru import logger

from supervisors import Call, Caller, GenServer, Info, Timer

_LEAST_SECONDS: Final = 1e-3


@define(slots=True, eq=False)
class Levels:
    """What holds, whoever crashes. ``put`` has the log follow; ``until`` is the loop's time at which ``for_now`` is over."""

    put: Callable[[str], None]
    lasting: str
    for_now: str | None = None
    until: float = 0.0

    @property
    def level(self) -> str:
        """The level in force."""
        return self.lasting if self.for_now is None else self.for_now

    def settle(self, level: str) -> None:
        """The settings say ``level`` from now on; what holds for a while goes on."""
        self.lasting = level
        self.put(self.level)


@frozen
class HoldLevel(Call[None]):
    """Take lines from ``level`` on, for ``seconds``. A second one takes the place of the first."""

    level: str
    seconds: float


@frozen
class ReleaseLevel(Call[None]):
    """What the settings say holds again."""


@frozen
class _Over(Info):
    """The time may be over."""


class LogLevel(GenServer[object]):
    """Owns the time for which another level holds."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        self._timer: Timer | None = None

    def init(self) -> None:
        """Go on where the incarnation before was."""
        self._wait()

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        return {"level": self._levels.level, "lasting": self._levels.lasting}

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> None:
        """Hold a level, or let go of it."""
        match message:
            case HoldLevel(level, seconds):
                self._levels.for_now, self._levels.until = level, self.now() + seconds
            case ReleaseLevel():
                self._levels.for_now = None
            case _:
                raise TypeError(message)
        self._levels.put(self._levels.level)
        self._wait()

    def handle_info(self, message: Info) -> None:
        """End what was to last for a while."""
        if isinstance(message, _Over) and self._levels.for_now is not None:
            if self.now() >= self._levels.until:
                self._levels.for_now = None
                self._levels.put(self._levels.level)
                logger.info("log level: {} again, as the settings say", self._levels.level)
            self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._levels.for_now is not None:
            self._timer = self.send_after(max(self._levels.until - self.now(), _LEAST_SECONDS), _Over())
