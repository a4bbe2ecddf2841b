"""What happens, as frozen records: the contract between the tree that emits them and everything that counts, books, logs or shows them.

Every event has a dotted ``name``, which is its type wherever it is written down. An event holds names, numbers and words of this
program: never a prompt, an answer, a key or what an upstream has said. Thousands are kept, so the garbage collector is told to pass them
by (``gc=False``): nothing that one holds could hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, get_args

from msgspec import Struct, field

from runestone.domain.chat import Api, Usage

#: The route of a chat that did not come in on the public port.
INSIDE: Final = "inside"


class RequestStarted(Struct, frozen=True, kw_only=True, gc=False):
    """A client request on the public port has been read and understood, or a chat begins by the console or from Python."""

    name: ClassVar[str] = "request.started"
    request_id: str
    route: str
    model: str  # what was asked for: the client's word
    stream: bool
    key: str  # the name of the client's key, "" without one
    traceparent: str | None = None  # the client's trace context, as it came
    tracestate: str | None = None


class RequestFinished(Struct, frozen=True, gc=False):
    """A client request on the public port, or a chat from inside, has its answer, or its end. Emitted once, before the last byte."""

    # not kw_only: CPython makes a dict for a call with more than fifteen names, which takes five times as long

    name: ClassVar[str] = "request.finished"
    request_id: str
    route: str
    stream: bool
    status: int  # 0: nothing was answered
    outcome: str  # "ok", "client_gone", or the code of the error
    duration_seconds: float
    provider: str | None
    model: str | None
    attempts: int
    asked: str | None = None  # the model that was asked for; None: it was refused before that was known
    group: str | None = None
    key: str = ""
    first_content_seconds: float | None = None  # since the request came, until the answer had its first content
    upstream_seconds: float = 0.0  # how long upstream calls were out for it
    usage: Usage | None = None  # of the call that answered
    method: str = "POST"
    kind: str | None = None  # of the provider, as it was when it was called


class Refusal(Struct, frozen=True, kw_only=True, gc=False):
    """A candidate that was asked and would not take a request: why, and for how many seconds (``None``: nobody knows)."""

    provider: str
    reason: str
    retry_after_seconds: float | None = None


class AttemptStarted(Struct, frozen=True, kw_only=True, gc=False):
    """A provider is called; ``refusals`` are those of the candidates that were asked before it."""

    name: ClassVar[str] = "attempt.started"
    request_id: str
    number: int  # 1 for the first call of a request
    provider: str
    model: str
    group: str
    refusals: tuple[Refusal, ...] = ()


class ContentBegan(Struct, frozen=True, kw_only=True, gc=False):
    """An upstream call has its first content, or its whole answer: this provider it is."""

    name: ClassVar[str] = "attempt.content"
    request_id: str
    number: int
    provider: str
    model: str
    seconds: float  # since the call


class AttemptFinished(Struct, frozen=True, kw_only=True, gc=False):
    """One upstream call is over."""

    name: ClassVar[str] = "attempt.finished"
    provider: str
    model: str
    stream: bool
    outcome: str  # "ok", "cancelled", or the kind of the failure
    duration_seconds: float
    first_content_seconds: float | None
    usage: Usage | None  # as far as the provider has told it
    request_id: str = ""
    number: int = 1
    kind: str = ""  # of the provider: a row of the catalogue
    api: Api = "chat"
    group: str = ""
    key: str = ""
    chunk_seconds: float | None = (
        None  # between two chunks of a stream that came whole, on average; a client that reads slowly is in it
    )


class Retry(Struct, frozen=True, kw_only=True, gc=False):
    """A provider is called again for the same request."""

    name: ClassVar[str] = "retry"
    provider: str
    reason: str
    request_id: str = ""
    waited_seconds: float = 0.0


class Failover(Struct, frozen=True, kw_only=True, gc=False):
    """Another provider is called for the same request."""

    name: ClassVar[str] = "failover"
    group: str
    origin: str
    target: str
    reason: str
    request_id: str = ""


class FailoverExhausted(Struct, frozen=True, kw_only=True, gc=False):
    """Nobody is left for a request; ``refusals`` are those of the candidates that were asked last."""

    name: ClassVar[str] = "failover.exhausted"
    group: str
    reason: str  # "refused", "attempts", "budget" or "deadline"
    request_id: str = ""
    refusals: tuple[Refusal, ...] = ()


class BreakerChanged(Struct, frozen=True, kw_only=True, gc=False):
    """A circuit breaker has changed its state."""

    name: ClassVar[str] = "breaker.changed"
    provider: str
    before: str
    after: str


class ProviderThrottled(Struct, frozen=True, kw_only=True, gc=False):
    """A provider has said 429; it is left alone for so long."""

    name: ClassVar[str] = "provider.throttled"
    provider: str
    seconds: float


class ProviderQuarantined(Struct, frozen=True, kw_only=True, gc=False):
    """A provider refuses our key or has no quota left (``model`` is ``None``), or will not serve a model; it is left alone for so long."""

    name: ClassVar[str] = "provider.quarantined"
    provider: str
    model: str | None
    reason: str
    seconds: float


class AdminStateChanged(Struct, frozen=True, kw_only=True, gc=False):
    """An operator has taken a provider out of service (``draining``, ``maintenance``), or put it back (``ready``)."""

    name: ClassVar[str] = "provider.admin_state"
    provider: str
    before: str
    after: str


class HealthChanged(Struct, frozen=True, kw_only=True, gc=False):
    """A provider's score has fallen below what its group asks for, or is above it again."""

    name: ClassVar[str] = "provider.health"
    provider: str
    group: str
    score: float
    healthy: bool


class ProcessRestarted(Struct, frozen=True, kw_only=True, gc=False):
    """A supervisor is about to restart a process of the tree, ``delay_seconds`` from now."""

    name: ClassVar[str] = "process.restarted"
    process: str  # its path
    reason: str
    delay_seconds: float


class SupervisorGaveUp(Struct, frozen=True, kw_only=True, gc=False):
    """A supervisor has met more restarts than it allows, and ends."""

    name: ClassVar[str] = "supervisor.gave_up"
    supervisor: str  # its path
    child: str


class LoopHeldUp(Struct, frozen=True, kw_only=True, gc=False):
    """The event loop was held up."""

    name: ClassVar[str] = "loop.held_up"
    seconds: float
    task: str


class ConfigChanged(Struct, frozen=True, kw_only=True, gc=False):
    """Other settings are in force: ``done`` says what has changed."""

    name: ClassVar[str] = "config.changed"
    done: tuple[str, ...]


class ConfigRefused(Struct, frozen=True, kw_only=True, gc=False):
    """New settings were refused; those before stay in force."""

    name: ClassVar[str] = "config.refused"
    reason: str


class AdminActed(Struct, frozen=True, kw_only=True, gc=False):
    """Somebody has changed something by the admin socket, or was refused: ``before`` and ``after`` hold what differs."""

    name: ClassVar[str] = "admin.acted"
    who: str  # by their own words
    action: str  # method and path
    outcome: str  # "ok", "dry_run", or the code of the refusal
    route: str = ""  # method and path with ``{name}`` for names
    uid: int | None = None  # of the process that asked, by the kernel
    pid: int | None = None
    reason: str | None = None  # theirs
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


class CallBooked(Struct, frozen=True, kw_only=True, gc=False):
    """What one upstream call has cost is known, or is known to be unknown. Emitted some time after its end."""

    name: ClassVar[str] = "call.booked"
    request_id: str
    provider: str
    model: str
    usage: Usage | None
    cost_usd: float | None = None  # for counting; the ledger holds it exactly


class ProbeFinished(Struct, frozen=True, kw_only=True, gc=False):
    """An active probe of a provider is over."""

    name: ClassVar[str] = "provider.probed"
    provider: str
    outcome: str  # one of resilience.probing.ProbeOutcome
    seconds: float


Event = (
    RequestStarted
    | RequestFinished
    | AttemptStarted
    | ContentBegan
    | AttemptFinished
    | Retry
    | Failover
    | FailoverExhausted
    | BreakerChanged
    | ProviderThrottled
    | ProviderQuarantined
    | AdminStateChanged
    | HealthChanged
    | ProcessRestarted
    | SupervisorGaveUp
    | LoopHeldUp
    | ConfigChanged
    | ConfigRefused
    | AdminActed
    | CallBooked
    | ProbeFinished
)
CATALOGUE: Final = {event.name: event for event in get_args(Event)}
