"""How many of those who wait at the door should be told to come back later.

A connection waits in the kernel until the node accepts it, and a node at its limit accepts as many as it can serve: its event loop is not
late, and still each newcomer waits as long as the queue is. The rule is CoDel's in the form that Facebook gave it for servers ("Fail at
scale", ACM Queue 13/8, 2015): a queue that empties now and then absorbs a burst and may be long; one that never empties is overload, and
is kept short.

None may grow until it is full: the system then drops newcomers without a word, those too who believe that they are connected. They hang,
and in the end they are reset.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

_BURST_LOOKS: Final = 20  # in a row that find somebody waiting are no burst any more
_SMOOTHING: Final = 0.3  # of each look's rate
_LEAST_SECONDS: Final = 1e-3  # that tell a rate
_FEWEST: Final = 4  # may always wait: the rate of a slow node is known badly


@frozen(kw_only=True)
class AcceptQueue:
    """One queue as of its last look. Times are in seconds on one clock."""

    looked_at: float = 0.0
    accepted: int = 0  # up to then
    rate: float | None = None  # accepted a second, while somebody waited
    looks: int = (
        0  # in a row that found somebody waiting: a loop that stands still takes none, and that is not the load's fault
    )

    def observe(
        self, now: float, *, waiting: int, most: int, accepted: int, patience: float
    ) -> tuple[AcceptQueue, int]:
        """One look: ``waiting`` are in it, ``accepted`` were taken out of it ever. Gives how many to turn away now.

        ``most`` may wait, in a burst too. ``patience`` is the wait that a lasting queue may mean, in seconds; 0: any.
        """
        over = max(waiting - most, 0)
        if not waiting or not patience:
            return AcceptQueue(looked_at=now, accepted=accepted), over
        looks, rate, seconds = self.looks + 1, self.rate, now - self.looked_at
        if self.looks and seconds > _LEAST_SECONDS:
            latest = (accepted - self.accepted) / seconds
            rate = latest if rate is None else rate + _SMOOTHING * (latest - rate)
        seen = AcceptQueue(looked_at=now, accepted=accepted, rate=rate, looks=looks)
        if rate is None or looks < _BURST_LOOKS:
            return seen, over
        return seen, max(waiting - max(int(rate * patience), _FEWEST), over)
