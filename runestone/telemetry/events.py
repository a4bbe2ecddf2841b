"""What happens, as frozen records: the contract between the tree that emits them and everything that counts, logs or shows them."""

from __future__ import annotations

from attrs import frozen

from runestone.domain.chat import Usage


@frozen(kw_only=True)
class RequestFinished:
    """A client request on the public port has its answer, or its end. Emitted once, before the last byte."""

    request_id: str
    route: str
    stream: bool
    status: int  # 0: nothing was answered
    outcome: str  # "ok", "client_gone", or the code of the error
    duration_seconds: float
    provider: str | None
    model: str | None
    attempts: int


@frozen(kw_only=True)
class AttemptFinished:
    """One upstream call is over."""

    provider: str
    model: str
    stream: bool
    outcome: str  # "ok", "cancelled", or the kind of the failure
    duration_seconds: float
    first_content_seconds: float | None
    usage: Usage | None


@frozen(kw_only=True)
class Retry:
    """A provider is called again for the same request."""

    provider: str
    reason: str


@frozen(kw_only=True)
class Failover:
    """Another provider is called for the same request."""

    group: str
    origin: str
    target: str
    reason: str


@frozen(kw_only=True)
class FailoverExhausted:
    """Nobody is left for a request."""

    group: str
    reason: str


@frozen(kw_only=True)
class BreakerChanged:
    """A circuit breaker has changed its state."""

    provider: str
    before: str
    after: str


@frozen(kw_only=True)
class ProviderThrottled:
    """A provider has said 429; it is left alone for so long."""

    provider: str
    seconds: float


@frozen(kw_only=True)
class ProbeFinished:
    """An active probe of a provider is over."""

    provider: str
    outcome: str  # one of resilience.probing.ProbeOutcome
    seconds: float


Event = (
    RequestFinished
    | AttemptFinished
    | Retry
    | Failover
    | FailoverExhausted
    | BreakerChanged
    | ProviderThrottled
    | ProbeFinished
)
