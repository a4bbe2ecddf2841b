"""Plays the kept steps of a provider again, with the settings that were in force or with others, and tells what has moved its breaker.

With the settings that were in force the outcome is the breaker as it was, to the last number: chances are among the steps. With others,
calls that would have been refused are left out with all that came of them; of calls that were refused and would have been let through
nobody knows how they would have ended, so they move nothing and are counted. What went elsewhere without asking is no step at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Literal, assert_never

from attrs import define, evolve, field, frozen

from runestone.resilience.breaker import Breaker, Closed, Disabled, ForcedOpen, HalfOpen, Open, Permit
from runestone.resilience.health import Health
from runestone.resilience.history import Chunk, Content, Ended, Step, operated

_CHANCE: Final = 0.5  # where none was drawn
_EVIDENCE: Final = 20  # steps that are told of one change

Stand = Literal["closed", "open", "half_open", "forced_open", "disabled"]
Cause = Literal[
    "failures_in_a_row",
    "failures_in_the_window",
    "slow_in_the_window",
    "probe_failed",
    "probe_was_slow",
    "probes_were_good",
    "time_was_over",
    "operator",
    "forgotten",
]
_STANDS: Final[dict[type, Stand]] = {
    Closed: "closed",
    Open: "open",
    HalfOpen: "half_open",
    ForcedOpen: "forced_open",
    Disabled: "disabled",
}


@frozen
class Played:
    """One step, and the machines after it. ``said`` is whether the breaker would let it through, where it was asked."""

    at: float  # epoch seconds
    step: Step | None  # None: before the first one
    breaker: Breaker
    health: Health
    said: bool | None = None
    slow: bool = False  # the call that has ended had a late first token

    def epoch(self, time: float) -> float:
        """A time of the machines in epoch seconds."""
        return time if self.step is None else self.at + time - self.step[1]


@frozen(kw_only=True)
class Turn:
    """The breaker has changed its state at ``at`` (epoch seconds), by ``by``.

    ``evidence`` are the last of the steps that led to it: ``count`` of them there were, among ``calls`` in the window.
    ``until``: when it is tried again, epoch seconds.
    """

    at: float
    before: Stand
    after: Stand
    cause: Cause
    by: Played
    evidence: tuple[Played, ...] = ()
    count: int = 0
    calls: int = 0
    until: float | None = None


@frozen(kw_only=True)
class Difference:
    """What other settings would have changed for calls.

    ``refused`` were made and would have been refused, by how they have ended (``out``: not yet). ``let_through`` were refused and would
    have been let through; how they would have ended is not known.
    """

    refused: Mapping[str, int]
    let_through: int


def stand(breaker: Breaker) -> Stand:
    """The state of ``breaker``, by name. One whose time is over is open until somebody asks."""
    return _STANDS[type(breaker.state)]


def play(chunks: Sequence[Chunk], changes: Mapping[str, Any] | None = None) -> Iterator[Played]:
    """The machines before the first step, then after each; nothing, where nothing is kept.

    With ``changes`` of the breaker's policy it is as if that had always been so.
    """
    changes = changes or {}
    if not chunks:
        return
    start = chunks[0].start
    course = _Course(_changed(start.breaker, changes), start.health, changes)
    first = chunks[0].steps[0][1] if chunks[0].steps else 0.0
    yield Played(first + start.epoch, None, course.breaker, course.health)
    for chunk in chunks:
        for step in chunk.steps:
            said = course.take(step)
            yield Played(step[1] + chunk.start.epoch, step, course.breaker, course.health, said, course.slow)


def turns(course: Sequence[Played]) -> list[Turn]:
    """Every change of the breaker's state, and whatever an operator has done to it, with its causes."""
    return [
        _turn(course, index)
        for index, (before, after) in enumerate(pairwise(course), 1)
        if after.breaker is not before.breaker
        and (
            stand(after.breaker) != stand(before.breaker)
            or (after.step is not None and after.step[0] in ("operate", "forget"))
        )
    ]


def difference(other: Sequence[Played]) -> Difference:
    """What a course with other settings says to calls, against what they were told. Who only measures refuses nobody."""
    refused: dict[int, str] = {}
    let_through = 0
    for played in other:
        match played.step:
            case ("admit", _, lease, _, True) if not played.said:
                refused[lease] = "out"
            case ("refuse", _, _, count, _) if played.said:
                let_through += count
            case ("end", _, lease, _, outcome, *_) if lease in refused:
                refused[lease] = outcome
            case _:
                pass
    return Difference(refused=Counter(refused.values()), let_through=let_through)


def open_seconds(course: Sequence[Played], changes: Sequence[Turn], now: float) -> float:
    """For how long of the course, up to ``now`` (epoch seconds), the breaker let nothing through."""
    first = course[0]
    state = first.breaker.state
    edges: list[tuple[float, Stand, float | None]] = [
        (first.at, stand(first.breaker), _until(first) if isinstance(state, Open | ForcedOpen) else None),
        *((turn.at, turn.after, turn.until) for turn in changes),
        (now, "closed", None),
    ]
    return sum(
        max(0.0, min(then, now if until is None else until) - at)
        for (at, after, until), (then, _, _) in pairwise(edges)
        if after in ("open", "forced_open")
    )


@define(eq=False)
class _Course:
    """The machines on their way through the steps."""

    breaker: Breaker
    health: Health
    changes: Mapping[str, Any]
    slow: bool = False  # of the step before
    _permits: dict[int, Permit | None] = field(factory=dict)  # of the calls that are out, by lease
    _left_out: set[int] = field(factory=set)  # calls that are not made here
    _late: dict[int, bool] = field(factory=dict)  # by lease: whether its first token was late

    def take(self, step: Step) -> bool | None:
        self.slow = False
        match step:
            case ("admit", now, lease, _, counts):
                return self._admitted(now, lease, counts=counts)
            case ("refuse", _, last, _, _):
                return self.breaker.refusal(last) is None
            case ("content", *_):
                self._content(step)
            case ("end", *_):
                self._ended(step)
            case ("operate", now, act, until):
                self.breaker = operated(self.breaker, act, now, until)
            case ("tune", _, policy):
                self.breaker = _changed(evolve(self.breaker, policy=policy), self.changes)
            case ("forget", _, _):
                self.breaker, self.health = self.breaker.reset(), Health()
            case ("begin", *_):
                pass
            case _:
                assert_never(step)
        return None

    def _admitted(self, now: float, lease: int, *, counts: bool) -> bool:
        self.breaker, answer = self.breaker.admit(lease, now)
        permit = self._permits[lease] = answer if isinstance(answer, Permit) else None
        if permit is None and counts:
            self._left_out.add(lease)
        return permit is not None

    def _permit(self, lease: int, generation: int | None, *, probe: bool) -> Permit | None:
        """That of a call from before the first step is what it was."""
        if lease in self._permits:
            return self._permits[lease]
        return None if generation is None else Permit(lease, generation, probe)

    def _content(self, step: Content) -> None:
        _, now, lease, seconds, prompt, headroom, chance, generation, probe = step
        if lease in self._left_out:
            return
        if prompt:
            self.health = self.health.observe_first_token(seconds, now)
            self._late[lease] = self.breaker.slow(seconds)
        else:
            self.health = self.health.observe_whole(seconds, now)
        if headroom is not None:
            self.health = self.health.observe_headroom(headroom, now)
        permit = self._permit(lease, generation, probe=probe)
        if permit is not None and permit.probe:
            self.breaker = self.breaker.settle(
                permit, "success", now, _CHANCE if chance is None else chance, slow=self._late.get(lease, False)
            )

    def _ended(self, step: Ended) -> None:
        _, now, lease, _, outcome, _, _, _, late, chance, generation, probe = step
        permit = self._permit(lease, generation, probe=probe)
        self.slow = self._late.pop(lease, late)
        self._permits.pop(lease, None)
        if lease in self._left_out:
            self._left_out.discard(lease)
            return
        self.health = self.health.observe(outcome, now)
        if permit is not None:
            self.breaker = self.breaker.settle(
                permit, outcome, now, _CHANCE if chance is None else chance, slow=self.slow
            )


def _changed(breaker: Breaker, changes: Mapping[str, Any]) -> Breaker:
    return evolve(breaker, policy=evolve(breaker.policy, **changes)) if changes else breaker


def _until(played: Played) -> float | None:
    """When one that is open is tried again, in epoch seconds."""
    match played.breaker.state:
        case Open(until) | ForcedOpen(until) if until is not None:
            return played.epoch(until)
        case _:
            return None


def _turn(course: Sequence[Played], index: int) -> Turn:
    before, by = course[index - 1], course[index]
    cause, count, calls = _cause(before.breaker, by)
    return Turn(
        at=by.at,
        before=stand(before.breaker),
        after=stand(by.breaker),
        cause=cause,
        by=by,
        evidence=_evidence(course, index, cause),
        count=count,
        calls=calls,
        until=_until(by),
    )


def _cause(before: Breaker, by: Played) -> tuple[Cause, int, int]:
    """Why, how many there were of what it says, and of how many calls."""
    match by.step:
        case ("operate", *_):
            return "operator", 0, 0
        case ("forget", *_):
            return "forgotten", 0, 0
        case ("admit", *_):
            return "time_was_over", 0, 0
        case ("end", now, _, _, outcome, *_) if isinstance(before.state, Closed):
            return _too_bad(before, now, failed=outcome == "failure", slow=by.slow)
    if isinstance(by.breaker.state, Closed):
        good = before.state.good + 1 if isinstance(before.state, HalfOpen) else 1
        return "probes_were_good", good, good
    return ("probe_failed" if _outcome(by) == "failure" else "probe_was_slow"), 1, 1


def _too_bad(before: Breaker, now: float, *, failed: bool, slow: bool) -> tuple[Cause, int, int]:
    failures = before.consecutive_failures + 1
    if failed and failures >= before.policy.failure_threshold:
        return "failures_in_a_row", failures, failures
    buckets = before.window.add(now, before.policy, failed=failed, slow=slow).buckets
    calls, bad, late = (sum(bucket[column] for bucket in buckets) for column in (1, 2, 3))
    if bad >= before.policy.window_ratio * calls:
        return "failures_in_the_window", bad, calls
    return "slow_in_the_window", late, calls


def _outcome(played: Played) -> str | None:
    return played.step[4] if played.step is not None and played.step[0] == "end" else None


def _evidence(course: Sequence[Played], index: int, cause: Cause) -> tuple[Played, ...]:
    """The last of the steps that led to the change that ``course[index]`` is, the oldest first."""
    by, generation = course[index], course[index - 1].breaker.generation
    if cause not in ("failures_in_a_row", "failures_in_the_window", "slow_in_the_window", "probes_were_good"):
        return (by,)
    found = [by]
    policy = by.breaker.policy
    for place in range(index - 1, 0, -1):
        one, before = course[place], course[place - 1]
        if before.breaker.generation != generation or len(found) == _EVIDENCE:
            break
        if cause == "failures_in_a_row" and one.breaker.consecutive_failures < before.breaker.consecutive_failures:
            break
        if cause.endswith("in_the_window") and one.at <= by.at - policy.window_seconds:
            break
        if _counts(before, one, cause):
            found.append(one)
    return tuple(reversed(found))


def _counts(before: Played, one: Played, cause: Cause) -> bool:
    """Whether ``one`` is among what ``cause`` speaks of."""
    match cause:
        case "failures_in_a_row":
            return one.breaker.consecutive_failures > before.breaker.consecutive_failures
        case "failures_in_the_window":
            return one.breaker.window is not before.breaker.window and _outcome(one) == "failure"
        case "slow_in_the_window":
            return one.breaker.window is not before.breaker.window and one.slow
        case _:
            return _good(one) > _good(before)


def _good(played: Played) -> int:
    return played.breaker.state.good if isinstance(played.breaker.state, HalfOpen) else 0
