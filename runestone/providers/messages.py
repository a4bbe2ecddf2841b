"""The messages between a request, the failover actor and a provider actor, and the lease that they pass on.

request --Admit--> failover --forward: Acquire--> provider --> Lease, straight back to the request
                        ^-- forward: Declined ----'    (or back to failover, which forwards to the next)
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal

from attrs import define, field, frozen

from runestone.domain.chat import Api
from runestone.domain.errors import RunestoneError
from runestone.domain.failure import Failure
from runestone.domain.outcome import Outcome
from runestone.domain.routing import Choice, Plan
from runestone.telemetry.events import FailoverExhausted, Refusal
from supervisors import Call, Cast, MailboxFull, Via

if TYPE_CHECKING:
    from runestone.config.settings import ProviderSettings
    from runestone.providers.faulty import AnyTransport

RESTART_SECONDS: Final = 0.05  # after which one whose actor is being restarted may be asked again
Turn = tuple[Choice, Literal[1, 2], bool]  # a candidate, its tier, and whether it serves only for want of a better one
RefusalReason = Literal[
    "down",
    "maintenance",
    "draining",
    "leaving",
    "throttled",
    "quarantined",
    "not_found",
    "saturated",
    "breaker_open",
]
AdminState = Literal["ready", "draining", "maintenance"]
#: Refusals that are somebody's will, in words.
WILLED: Final[dict[RefusalReason, str]] = {
    "maintenance": "in maintenance by an operator",
    "draining": "drained by an operator",
    "leaving": "being taken out",
}


@frozen(kw_only=True)
class Refused:
    """A provider that would not take a request, and for how long.

    ``not_found``: it has said of late that it does not know the model. ``saturated``: it has as many calls out as it may have.
    ``leaving``: it is being removed, which no operator's ``ready`` takes back.
    """

    provider: str
    tier: Literal[1, 2]
    reason: RefusalReason
    retry_after_seconds: float | None = None


def told(refusals: tuple[Refused, ...]) -> tuple[Refusal, ...]:
    """``refusals`` for the bus."""
    return tuple(
        Refusal(provider=r.provider, reason=r.reason, retry_after_seconds=r.retry_after_seconds) for r in refusals
    )


@define(slots=True, eq=False)
class Lease:
    """The right to make one upstream call. It is given back exactly once; a late or second end changes nothing.

    ``release`` and ``first_content`` are casts to the provider's name, so they reach whatever incarnation lives there now.
    """

    id: int
    incarnation: int
    choice: Choice
    plan: Plan
    settings: ProviderSettings
    transport: AnyTransport
    provider: Via
    api: Api = "chat"
    tier: Literal[1, 2] = 1
    panic: bool = False  # no candidate was good enough by score; this was the best one admitted
    refusals: tuple[Refused, ...] = ()  # of those that were asked before
    _open: bool = field(default=True, init=False)

    def first_content(self, seconds: float, headroom: float | None = None, *, prompt: bool = True) -> None:
        """The commit point has come, ``seconds`` after the call began; ``headroom`` is what the answer says is left of the rate limit.

        ``prompt``: it was the first token of a stream, which says how quick the provider is; a whole answer, or one that was thought
        about first, takes as long as it takes.
        """
        if self._open:
            self._tell(FirstContent(self.id, seconds, headroom, prompt))

    def release(self, outcome: Outcome, failure: Failure | None = None) -> None:
        """Give the lease back. Never awaits, never fails; only the first call counts."""
        if self._open:
            self._open = False
            self._tell(Release(self.id, outcome, failure, self.choice.model, self.api))

    def _tell(self, message: FirstContent | Release) -> None:
        with suppress(MailboxFull):  # it is swamped: the end of the lease's owner will tell it
            self.provider.cast(message)


@frozen(kw_only=True)
class Wait:
    """Nobody else can serve: ask again after ``seconds``, the same provider may then be tried again."""

    seconds: float
    provider: str


@frozen(kw_only=True)
class Exhausted:
    """No candidate is left. ``refusals`` are those of this round; after ``again_seconds`` one of those that failed may be asked again."""

    group: str
    reason: Literal["refused", "attempts", "budget", "deadline"]
    refusals: tuple[Refused, ...] = ()
    again_seconds: float | None = None

    @property
    def restarting(self) -> bool:
        """Whether one of them is being restarted: it will be there in a moment."""
        return any(r.reason == "down" and r.retry_after_seconds == RESTART_SECONDS for r in self.refusals)

    @property
    def retry_after_seconds(self) -> float | None:
        """The soonest time at which one of them may take requests again."""
        times = (self.again_seconds, *(r.retry_after_seconds for r in self.refusals))
        return min((seconds for seconds in times if seconds is not None), default=None)

    def event(self, request_id: str) -> FailoverExhausted:
        """The same for the bus."""
        refusals = told(self.refusals)
        return FailoverExhausted(group=self.group, reason=self.reason, request_id=request_id, refusals=refusals)


@frozen
class Unroutable:
    """The model or the group leads nowhere; ``error`` says why."""

    error: RunestoneError


@frozen(kw_only=True)
class Tried:
    """One provider that has failed this request: how often it was called, and how it failed last."""

    choice: Choice
    tier: Literal[1, 2]
    kind: str  # of the provider: which wire its failure speaks
    calls: int
    failure: Failure


@frozen
class Quote:
    """The group's strategy goes by price: ask again with what the request would cost at each of these, a choice and its provider's kind."""

    choices: tuple[tuple[Choice, str], ...]


Admission = Lease | Wait | Quote | Exhausted | Unroutable


@frozen(kw_only=True)
class Admit(Call["Admission"]):
    """Ask for one attempt. Everything that failover must know of the request so far travels in it."""

    model: str
    group: str | None = None  # the header's; the model may name one too
    key: str = ""  # the name of the client's key: those who wait for the same provider take turns by it
    key_groups: tuple[str, ...] = ()  # those that the key may use, its own first; none: all
    api: Api = "chat"  # what is asked for
    prices: Mapping[str, float | None] | None = None  # dollars by provider, after a Quote; None: not known
    plan: Plan | None = None  # from the first lease on
    calls: int = 0
    tried: tuple[Tried, ...] = ()
    waited: bool = False  # a Wait for the last of ``tried`` is over
    trial: bool = False  # an operator's own call: it reaches a provider that he has drained, too
    request_id: str = ""
    deadline: float  # loop time

    def abandon(self, reply: Admission) -> None:
        """The request is gone: what it was given goes back."""
        if isinstance(reply, Lease):
            reply.release("neutral")


@frozen(kw_only=True)
class Round:
    """An :class:`Admit` on its way from candidate to candidate: who is still to be asked, and who would not.

    ``wait`` is what failover has decided for the case that all refuse; ``lined_up``: after that, one that was saturated was asked to let
    the request wait for a place.
    """

    admit: Admit
    plan: Plan
    left: tuple[Turn, ...]
    refusals: tuple[Refused, ...] = ()
    wait: float | None = None
    lined_up: bool = False

    def rest(self) -> Round:
        """The round without the candidate whose turn it is."""
        return Round(
            admit=self.admit,
            plan=self.plan,
            left=self.left[1:],
            refusals=self.refusals,
            wait=self.wait,
            lined_up=self.lined_up,
        )

    def refused(self, refused: Refused) -> Round:
        """The round after one more refusal. Where the model is not known in tier 1, tier 2 would answer another question."""
        left = self.left
        if refused.reason == "not_found" and refused.tier == 1:
            left = tuple(turn for turn in left if turn[1] == 1)
        refusals = (*(r for r in self.refusals if r.provider != refused.provider), refused)
        return Round(
            admit=self.admit, plan=self.plan, left=left, refusals=refusals, wait=self.wait, lined_up=self.lined_up
        )


@frozen(kw_only=True)
class Acquire(Call["Admission"]):
    """A round, forwarded to the candidate of its turn; those after it are in ``round.left``.

    ``patient``: it may wait for a place; a refusal then gives up one, or there was none to be had.
    """

    round: Round
    choice: Choice
    tier: Literal[1, 2]
    panic: bool
    patient: bool = False

    def abandon(self, reply: Admission) -> None:
        """As for the admission that it carries."""
        self.round.admit.abandon(reply)


@frozen(kw_only=True)
class Declined(Call["Admission"]):
    """The candidate of this turn refuses: forwarded back to failover, which owes the reply again.

    A cast would be lost with a failover actor that crashes before it reads it, and the caller would wait for nobody.
    """

    acquire: Acquire
    refused: Refused

    def abandon(self, reply: Admission) -> None:
        """As for the admission that it carries."""
        self.acquire.abandon(reply)


@frozen
class FirstContent(Cast):
    """A call has passed its commit point."""

    lease_id: int
    seconds: float
    headroom: float | None = None  # what is left of the rate limit, 0 to 1; None: the answer does not say
    prompt: bool = True  # the first token of a stream


@frozen
class Release(Cast):
    """A call has ended."""

    lease_id: int
    outcome: Outcome
    failure: Failure | None
    model: str
    api: Api = "chat"
