"""The settings in force: frozen, validated, with no secret in any rendering. Times are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Literal

from attrs import field, frozen, validators

from runestone.domain.secret import Secret
from runestone.resilience.breaker import BreakerPolicy
from runestone.resilience.concurrency import ConcurrencyPolicy
from runestone.resilience.retry import RetryPolicy
from runestone.resilience.selection import Strategy

Mode = Literal["enhanced", "legacy"]
LogFormat = Literal["auto", "json", "pretty"]
_positive = validators.gt(0.0)


@frozen(kw_only=True)
class ServerSettings:
    """Where the node listens, what a client may send, and whether providers stand in for each other (``mode``).

    More than ``max_requests`` in flight, or what comes while the event loop stays later than ``max_loop_lag_seconds`` (0: any) or
    newcomers would wait longer for it, are refused at once, and newcomers in any case before the system has no room for them; connections
    above ``max_connections`` are closed with a refusal.
    """

    host: str = "127.0.0.1"
    port: int = field(default=4003, validator=[validators.ge(0), validators.le(65535)])
    health_port: int = field(default=4004, validator=[validators.ge(0), validators.le(65535)])
    admin_socket: Path
    observe_group: str | None = None
    drain_timeout_seconds: float = field(default=30.0, validator=validators.ge(0.0))
    body_limit_bytes: int = field(default=32 * 1024 * 1024, validator=validators.ge(1))
    body_timeout_seconds: float = field(default=30.0, validator=_positive)
    max_requests: int = field(default=2000, validator=validators.ge(1))
    max_connections: int = field(default=10_000, validator=validators.ge(1))
    max_loop_lag_seconds: float = field(default=0.2, validator=validators.ge(0.0))
    mode: Mode = "enhanced"


@frozen(kw_only=True)
class TimeoutSettings:
    """How long things may take: a client's whole request; in a stream the first content, then a silence; a connection."""

    request_deadline_seconds: float = field(default=600.0, validator=_positive)
    first_token_seconds: float = field(default=30.0, validator=_positive)
    idle_seconds: float = field(default=30.0, validator=_positive)
    connect_seconds: float = field(default=5.0, validator=_positive)


@frozen(kw_only=True)
class ProviderSettings:
    """One provider. ``timeout_seconds`` bounds one attempt: the whole of it, or in a stream what comes before the first content.

    Without ``circuit_breaker`` its breaker, throttle, quarantine and score measure and never refuse. Without ``telemetry`` nothing is
    told or counted of it by name. It is probed every ``probe_interval_seconds`` while nobody calls it; 0: never.
    """

    name: str
    kind: str  # a row of the catalogue
    base_url: str
    api_key: Secret | None = None
    timeout_seconds: float = field(default=120.0, validator=_positive)
    retry: RetryPolicy = field(factory=RetryPolicy)
    circuit_breaker: bool = True
    breaker: BreakerPolicy = field(factory=BreakerPolicy)
    concurrency: ConcurrencyPolicy = field(factory=ConcurrencyPolicy)
    default_model: str | None  # None: it serves in place of nobody
    models: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    telemetry: bool = True
    probe_interval_seconds: float = field(default=0.0, validator=validators.ge(0.0))

    def reaches_elsewhere_than(self, other: ProviderSettings) -> bool:
        """Whether calls go to another place than with ``other``, or as somebody else: nothing known of that one holds here."""
        return (self.kind, self.base_url, self.api_key, self.headers) != (
            other.kind,
            other.base_url,
            other.api_key,
            other.headers,
        )


@frozen(kw_only=True)
class GroupSettings:
    """One failover group.

    ``max_attempts`` providers are tried for one request. One whose score falls below ``health_threshold`` is out, until it is 0.1 above.
    ``models`` makes models equal: model -> provider name or kind -> the model there. ``weights`` by provider name. ``mode`` is the
    group's own; ``None``: the node's.
    """

    name: str
    providers: tuple[str, ...]
    strategy: Strategy = "round_robin"
    max_attempts: int = field(default=3, validator=validators.ge(1))
    health_threshold: float = field(default=0.7, validator=[validators.ge(0), validators.le(1)])
    models: Mapping[str, Mapping[str, str]] = field(factory=dict)
    weights: Mapping[str, float] = field(factory=dict)
    mode: Mode | None = None


@frozen(kw_only=True)
class ModelAlias:
    """A name that clients may ask for instead of ``model``, in ``group`` if it names one."""

    model: str
    group: str | None = None


@frozen(kw_only=True)
class Price:
    """What a model costs, in US dollars for a million tokens; ``None``: not known, or as the input.

    ``factors`` are how many times as dear a token is by tier (``priority``, ``fast``, ``flex``, ``scale``, ``batch``) and region (``us``).
    """

    input_per_million_usd: Decimal
    output_per_million_usd: Decimal
    cached_input_per_million_usd: Decimal | None = None
    cache_write_per_million_usd: Decimal | None = None
    cache_write_1h_per_million_usd: Decimal | None = None
    audio_input_per_million_usd: Decimal | None = None
    audio_output_per_million_usd: Decimal | None = None
    web_search_per_thousand_usd: Decimal | None = None
    factors: Mapping[str, Decimal] = field(factory=dict)


@frozen
class InboundKey:
    """A key that clients send: its name, the SHA-256 of it, and the groups that it may use, its own one first (none: all of them)."""

    name: str
    digest: bytes = field(repr=False)
    groups: tuple[str, ...] = ()


@frozen(kw_only=True)
class AuthSettings:
    """Inbound keys; none: only this machine may ask."""

    keys: tuple[InboundKey, ...] = ()


@frozen(kw_only=True)
class LogSettings:
    """How much is logged, in which form, and whether each request gets a line."""

    level: str = "INFO"
    format: LogFormat = "auto"
    access: bool = True


@frozen(kw_only=True)
class EventSettings:
    """How many events are kept in memory; the file that gets all of them, and how large it grows."""

    keep: int = field(default=10_000, validator=validators.ge(1))
    file: Path | None = None
    file_bytes: int = field(default=64 * 1024 * 1024, validator=validators.ge(1))


@frozen(kw_only=True)
class TraceSettings:
    """Whether requests are traced, and whether providers are told of the trace."""

    enabled: bool = False
    propagate: bool = False


@frozen(kw_only=True)
class LedgerSettings:
    """Where calls are booked (``None``: nowhere), how often, and after how many days they are forgotten (0: never)."""

    url: Secret | None = None
    interval_seconds: float = field(default=1.0, validator=_positive)
    retention_days: int = field(default=0, validator=validators.ge(0))


@frozen
class ProviderRefusal:
    """A provider that is not started, and why."""

    name: str
    code: str
    message: str


@frozen(kw_only=True)
class Settings:
    """Everything. ``warnings`` are what is odd about it, ``refusals`` the providers that are not started."""

    server: ServerSettings
    timeouts: TimeoutSettings = TimeoutSettings()
    providers: tuple[ProviderSettings, ...] = ()
    groups: tuple[GroupSettings, ...] = ()
    models: Mapping[str, ModelAlias] = field(factory=dict)
    prices: Mapping[str, Price] = field(factory=dict)
    auth: AuthSettings = AuthSettings()
    logs: LogSettings = LogSettings()
    events: EventSettings = EventSettings()
    traces: TraceSettings = TraceSettings()
    ledger: LedgerSettings = LedgerSettings()
    max_upstream_calls: int = field(default=4, validator=validators.ge(1))  # for one client request
    warnings: tuple[str, ...] = ()
    refusals: tuple[ProviderRefusal, ...] = ()


@frozen(kw_only=True)
class Problem:
    """One thing that is wrong with the settings."""

    where: str
    what: str
    got: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; got {self.got}; allowed: {self.allowed}"


class ConfigurationError(Exception):
    """The settings cannot be used; all that is wrong with them, at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
