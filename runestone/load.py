"""Who may add to the load: places for requests in flight, shared fairly between keys, and fewer of them while the loop is late.

What is refused here is refused before its body is read: it costs the node next to nothing, and tells the client when to come back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, get_args

from attrs import define, field

from runestone.config.settings import Settings
from runestone.domain.errors import Overloaded
from runestone.resilience.shedding import CALM, Shedding, has_place
from supervisors import LoopLag

_LOOKS_AT_ONCE: Final = (
    100  # of those that were missed while nobody asked: by then a calm loop has forgotten everything
)
_RETRY_SECONDS: Final = 1.0
#: No place was free; the loop was late; and before they were requests: too many connections, too many at the door.
Cause = Literal["requests", "lateness", "connections", "queue"]


@define(slots=True, eq=False)
class Load:
    """What the node carries. Written by the requests themselves, in the one loop."""

    _lag: LoopLag
    _chance: Callable[[], float]
    shed: dict[Cause, int] = field(factory=lambda: dict.fromkeys(get_args(Cause), 0))  # what was refused, by what for
    _taken: int = 0
    _held: Counter[str] = field(factory=Counter)  # by key; no zeros
    _shedding: Shedding = CALM
    _looks: int = 0

    def place(self, key: str, settings: Settings) -> Place:
        """A place for one request of ``key``, to be entered and left."""
        return Place(self, key, settings)

    @property
    def refused(self) -> int:
        """How many requests and connections were."""
        return sum(self.shed.values())

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._taken

    @property
    def shedding(self) -> float:
        """The share of requests that is refused for the loop's lateness, 0 to 1, as of the last request."""
        return self._shedding.share

    def take(self, key: str, settings: Settings) -> None:
        """Count one more request in. Raises :class:`~runestone.domain.errors.Overloaded`."""
        server, held = settings.server, self._held.get(key, 0)
        sharing = len(self._held) + (held == 0)
        self._look(server.max_loop_lag_seconds)
        if not has_place(
            limit=server.max_requests,
            taken=self._taken,
            held=held,
            sharing=sharing,
            several=len(settings.auth.keys) > 1,
        ):
            self.shed["requests"] += 1
            raise Overloaded(
                f"This gateway serves {self._taken} requests and takes no more of yours now. Send the request again later.",
                retry_after_seconds=_RETRY_SECONDS,
            )
        if self._shedding.share and self._shedding.refuses(
            self._chance(), held=held, taken=self._taken, sharing=sharing
        ):
            self.shed["lateness"] += 1
            raise Overloaded(
                "This gateway is at its limit and takes a part of the requests only. Send the request again later.",
                retry_after_seconds=_RETRY_SECONDS,
            )
        self._taken += 1
        self._held[key] = held + 1

    def turned_away(self, count: int = 1, cause: Cause = "connections") -> None:
        """So many were refused before they were requests."""
        self.shed[cause] += count

    def give_back(self, key: str) -> None:
        """Count it out."""
        self._taken -= 1
        self._held[key] -= 1
        if not self._held[key]:
            del self._held[key]

    def _look(self, target: float) -> None:
        """Learn from the looks that the loop has taken at itself since."""
        missed = min(self._lag.looks - self._looks, _LOOKS_AT_ONCE)
        if missed:
            self._looks = self._lag.looks
            if self._shedding is not CALM or self._lag.last > target:
                for _ in range(missed - 1):  # nobody came meanwhile
                    self._shedding = self._shedding.observe(0.0, target)
                self._shedding = self._shedding.observe(self._lag.last, target)


class Place:
    """One request's place, as a context manager. Entering raises :class:`~runestone.domain.errors.Overloaded`."""

    __slots__ = ("_key", "_load", "_settings")

    def __init__(self, load: Load, key: str, settings: Settings) -> None:
        self._load = load
        self._key = key
        self._settings = settings

    def __enter__(self) -> None:
        self._load.take(self._key, self._settings)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._load.give_back(self._key)
