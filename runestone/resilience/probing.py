"""Active probes of one provider: when the next one is due, what the last ones say, and for how long that holds.

A probe asks for nothing that costs anything, so it tells only whether somebody is there. Real calls know better: whatever one of them
has shown since the last probe takes back what the probe said. A breaker is never moved by a probe.
"""

from __future__ import annotations

from typing import Final, Literal

from attrs import evolve, frozen

ProbeOutcome = Literal["ok", "unreachable", "credentials", "rate_limited", "error"]

_IN_A_ROW: Final = 2  # failed connections before a provider counts as unreachable: one may be a hiccup of this machine
_JITTER: Final = 0.1  # of a pause, both ways, so that many nodes do not ask together
_LONGEST_PAUSE_SECONDS: Final = 300.0
_DOUBLINGS: Final = 16
_GRACE_SECONDS: Final = 30.0  # that the next probe may take before the last one is forgotten


@frozen(kw_only=True)
class Probing:
    """What is known of the probes so far; times are seconds of a clock that never goes back.

    ``unwelcome`` counts answers in a row that are no good ones: each doubles the pause, up to five minutes. A provider that cannot be
    reached is not disturbed by being looked for, so there the interval stays.
    """

    due: float = 0.0
    at: float = 0.0  # when the last one was sent
    outcome: ProbeOutcome | None = None  # of the last one
    unreachable: int = 0  # in a row, with no call between
    unwelcome: int = 0
    holds_until: float = 0.0  # after that the last one says nothing any more
    lists_models: bool = True  # False: it has no such list, so that a connection must do

    def start(self, now: float, interval: float, chance: float) -> Probing:
        """Begin, or begin again: the first one is sent at some time in the second half of ``interval``, never before it was due."""
        soon = now + interval * (0.5 + 0.5 * chance)
        return evolve(self, due=min(max(soon, self.due), now + _pause(self.unwelcome, interval, chance)))

    def note(
        self,
        outcome: ProbeOutcome,
        now: float,
        *,
        sent: float,
        last_call: float,
        interval: float,
        chance: float,
        lists_models: bool = True,
    ) -> Probing:
        """A probe that was ``sent`` then has ended so. ``last_call`` is when a call last showed something."""
        in_a_row = self.unreachable if last_call <= self.at else 0
        noted = evolve(
            self,
            at=sent,
            outcome=outcome,
            unreachable=in_a_row + 1 if outcome == "unreachable" else 0,
            unwelcome=0 if outcome in ("ok", "unreachable") else min(self.unwelcome + 1, _DOUBLINGS),
            holds_until=now + 2 * interval + _GRACE_SECONDS,
            lists_models=self.lists_models and lists_models,
        )
        return evolve(noted, due=now + _pause(noted.unwelcome, interval, chance))

    def wait(self, now: float, *, interval: float, last_call: float, busy: bool, refused: bool) -> float:
        """Seconds until the next one may be sent; 0: now. Without calls, only a provider that has been idle for ``interval`` is asked.

        ``busy``: calls are out. ``refused``: its breaker lets none through, so that nobody else would tell how it is.
        """
        due = self.due
        if not refused:
            due = max(due, (now if busy else last_call) + interval)
        return max(due - now, 0.0)

    def down(self, now: float, last_call: float) -> bool:
        """Whether it cannot be reached, as far as probes can tell and no call has shown otherwise."""
        return self.unreachable >= _IN_A_ROW and last_call <= self.at and now < self.holds_until

    def trouble(self, now: float, last_call: float) -> ProbeOutcome | None:
        """What of the last probe somebody should look at: it cannot be reached, or does not take the key."""
        refused_key = self.outcome == "credentials" and last_call <= self.at
        return self.outcome if refused_key or self.down(now, last_call) else None


def _pause(unwelcome: int, interval: float, chance: float) -> float:
    longest = max(interval, _LONGEST_PAUSE_SECONDS)
    return min(interval * 2.0**unwelcome, longest) * (1 + _JITTER * (2 * chance - 1))
