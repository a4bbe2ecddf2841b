"""What the bookkeeper leaves to its next incarnation: the calls that are not in the ledger yet, and its counts."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Final

from attrs import define, field

from runestone.ledger.row import Answers, Ended, Row
from runestone.telemetry.events import AttemptFinished, Event

_MOST: Final = 100_000
_NOT_SENT: Final = "unsupported"  # the outcome of an attempt that has called nobody


@define(slots=True, eq=False)
class Books:
    """Calls in the order of their ends: first those that have no price yet, then those that wait for the ledger.

    At most ``most`` of them; beyond, calls are dropped and counted, and the ledger does not hold them. ``failing`` says why nothing can be
    written now. ``answers`` are those that the log has priced before the ledger came to them.
    """

    KINDS: ClassVar = (AttemptFinished,)  # of events that it is for

    most: int = _MOST
    ended: deque[Ended] = field(factory=deque)
    rows: deque[Row] = field(factory=deque)
    answers: Answers = field(factory=dict)
    written: int = 0
    dropped: int = 0
    failures: int = 0
    failing: str | None = None

    def handle(self, event: Event, at: float) -> None:
        """A handler of the bus: note a call that was over at ``at`` (epoch seconds)."""
        if not isinstance(event, AttemptFinished) or event.outcome == _NOT_SENT:
            return
        if len(self.ended) + len(self.rows) >= self.most:
            self.dropped += 1
        else:
            self.ended.append(Ended(at, event))

    @property
    def waiting(self) -> int:
        """How many calls are not in the ledger yet."""
        return len(self.ended) + len(self.rows)

    def counts(self) -> tuple[int, int, int, int]:
        """Calls that wait, are written and are lost, and tries that failed."""
        return self.waiting, self.written, self.dropped, self.failures

    def status(self) -> dict[str, Any]:
        """For people."""
        return {
            "state": "ok" if self.failing is None else f"failing: {self.failing}",
            "waiting": self.waiting,
            "written": self.written,
            "dropped": self.dropped,
        }
