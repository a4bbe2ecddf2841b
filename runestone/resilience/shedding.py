"""How much of the load an overloaded node refuses: a proportional-integral controller over the lateness of its event loop.

It is PIE (RFC 8033) with the loop's lateness in place of a queue's delay: the share that is refused grows while the loop is later than
its target and while it gets later, and shrinks as soon as it catches up. So the node settles where it serves what it can, instead of
swinging between all and nothing.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

_INTEGRAL: Final = 0.04  # for each look, per target of error
_PROPORTIONAL: Final = 0.12
_WORST: Final = 4.0  # targets of error that count at most: one long hold-up is no overload
_BURST: Final = 3  # looks in a row that may find the loop late before anything is refused
_LEAST: Final = 0.01
_MOST: Final = 0.98  # something is always let through, or a node that only refuses would never see that it may serve


@frozen(kw_only=True)
class Shedding:
    """``share`` of the requests is refused, 0 to 1; ``error`` is how late the loop was at the last look, in targets above the target.

    ``late`` counts looks in a row that found it later than the target.
    """

    share: float = 0.0
    error: float = -1.0
    late: int = 0

    def observe(self, lag: float, target: float) -> Shedding:
        """One look: the loop was ``lag`` seconds late. With a ``target`` of 0 nothing is ever refused."""
        if target <= 0.0:
            return CALM
        error = min(lag / target - 1.0, _WORST)
        late = 0 if error < 0.0 else self.late + 1
        if not self.share and late < _BURST:
            return Shedding(error=error, late=late)
        share = self.share + _INTEGRAL * error + _PROPORTIONAL * (error - self.error)
        if error < 0.0:
            share = min(share, self.share * 0.9)  # no overload: it goes down, however quick the change
        return Shedding(share=min(share, _MOST) if share > _LEAST else 0.0, error=error, late=late)

    def refuses(self, chance: float, *, held: int, taken: int, sharing: int) -> bool:
        """Whether to refuse one more request of somebody who has ``held`` of ``taken`` requests in flight, one of ``sharing``.

        Who has less than an equal share is let through: the load is that of others. ``chance`` is a random number in 0 to 1.
        """
        return chance < self.share and (held + 1) * sharing > taken


CALM: Final = Shedding()


def has_place(*, limit: int, taken: int, held: int, sharing: int, several: bool) -> bool:
    """Whether one more request has a place among ``limit``, ``taken`` of which are taken, ``held`` by the same key.

    Where there are ``several`` keys, one that holds an equal share (``sharing`` keys hold any; half of all, if it is alone) leaves a tenth
    of the places free for the others: a newcomer need not wait for the end of what somebody else holds.
    """
    if taken >= limit or not several:
        return taken < limit
    return held < limit / max(sharing, 2) or taken < limit - max(limit // 10, 1)
