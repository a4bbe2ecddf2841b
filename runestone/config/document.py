"""``runestone.toml`` as frozen classes, one a table: every key with its kind, its default, its variable and what it means.

This is the one source for reading, for the variables, for ``config schema``, ``explain`` and ``init``. Once read, times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import attrs
from attrs import field, frozen

from runestone.config import kinds
from runestone.config.kinds import Duration, Flag, Whole
from runestone.config.ledger import LedgerUrl
from runestone.config.settings import LogFormat, Mode
from runestone.domain.catalogue import BUILT_IN, KINDS
from runestone.domain.secret import Secret
from runestone.resilience.selection import STRATEGIES

MEGABYTE: Final = 1024 * 1024
LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MOST_ATTEMPTS: Final = 100

Seconds = Annotated[float, Duration()]
LongSeconds = Annotated[float, Duration(warn=True)]
SecondsOrNone = Annotated[float, Duration(low=0.0)]
LongSecondsOrNone = Annotated[float, Duration(low=0.0, warn=True)]
Attempts = Annotated[int, Whole(1, MOST_ATTEMPTS)]
Port = Annotated[int, Whole(0, 65535)]
Yes = Annotated[bool, Flag()]
Ratio = Annotated[float, kinds.Number(0.0, 1.0)]
SecretText = Annotated[Secret, kinds.SecretValue()]
Name = Annotated[str, kinds.Text()]
Dollars = Annotated[Decimal, kinds.Money()]
Strategy = Annotated[str, kinds.Choice(STRATEGIES)]
ModeName = Annotated[str, kinds.Choice(get_args(Mode))]


def setting(default: Any, text: str, *, variable: str | None = None, unit: str | None = None) -> Any:
    """A key of a table: its default as the program has it, what it means, and the variable that sets it too."""
    metadata = {"text": text, "variable": variable, "unit": unit}
    if default == {}:
        return field(factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


_MS: Final = "milliseconds"


@frozen(kw_only=True)
class ServerTable:
    """The API: where it listens, what a client may send, how long things may take."""

    host: Name = setting("127.0.0.1", "The address of the API and of the health port.", variable="RUNESTONE_HOST")
    port: Port = setting(4003, "The API's port; 0 for a free one.", variable="RUNESTONE_PORT")
    mode: ModeName = setting(
        "enhanced", "enhanced, or legacy: direct calls without failover.", variable="RUNESTONE_PROVIDER_MODE"
    )
    request_deadline_ms: LongSeconds = setting(
        600.0, "One client request, retries and failover included.", variable="RUNESTONE_REQUEST_DEADLINE_MS", unit=_MS
    )
    first_token_timeout_ms: LongSeconds = setting(
        30.0, "In a stream, until the first content.", variable="RUNESTONE_FIRST_TOKEN_TIMEOUT_MS", unit=_MS
    )
    idle_timeout_ms: LongSeconds = setting(
        30.0, "In a stream, between two bytes.", variable="RUNESTONE_IDLE_TIMEOUT_MS", unit=_MS
    )
    connect_timeout_ms: Seconds = setting(
        5.0, "Until a connection to a provider stands.", variable="RUNESTONE_CONNECT_TIMEOUT_MS", unit=_MS
    )
    drain_timeout_ms: SecondsOrNone = setting(
        30.0, "What requests in flight get when the node stops.", variable="RUNESTONE_DRAIN_TIMEOUT_MS", unit=_MS
    )
    body_limit_bytes: Annotated[int, Whole(1, 1024 * MEGABYTE)] = setting(
        32 * MEGABYTE, "The largest body that a client may send.", variable="RUNESTONE_BODY_LIMIT_BYTES", unit="bytes"
    )
    body_timeout_ms: LongSeconds = setting(
        30.0, "Until a client has sent its body.", variable="RUNESTONE_BODY_TIMEOUT_MS", unit=_MS
    )
    max_requests: Annotated[int, Whole(1, 1_000_000)] = setting(
        2000, "Requests in flight; more are refused with 503 at once.", variable="RUNESTONE_MAX_REQUESTS"
    )
    max_connections: Annotated[int, Whole(1, 1_000_000)] = setting(
        10_000, "Open connections of clients; more are closed with 503.", variable="RUNESTONE_MAX_CONNECTIONS"
    )
    max_loop_lag_ms: SecondsOrNone = setting(
        0.2,
        "How late the event loop may stay, and how long newcomers may wait for it, before some are refused with 503; 0: any time.",
        variable="RUNESTONE_MAX_LOOP_LAG_MS",
        unit=_MS,
    )
    max_upstream_calls: Attempts = setting(
        4,
        "Upstream calls for one client request; a retry or failover setting above it raises it.",
        variable="RUNESTONE_MAX_UPSTREAM_CALLS",
    )


@frozen(kw_only=True)
class HealthTable:
    """The health port, and how the node looks after providers that nobody calls."""

    port: Port = setting(4004, "The port; 0 for a free one.", variable="RUNESTONE_HEALTH_PORT")
    probe_interval_ms: LongSecondsOrNone = setting(
        30.0,
        "How often an idle provider, or one whose breaker is open, is asked for its models; 0: never.",
        variable="RUNESTONE_PROBE_INTERVAL_MS",
        unit=_MS,
    )


@frozen(kw_only=True)
class AdminTable:
    """The console's way in."""

    socket: Annotated[Path | None, kinds.Location()] = setting(
        None, "The admin socket; without it, admin.sock in the run directory.", variable="RUNESTONE_ADMIN_SOCKET"
    )
    observe_group: Annotated[str | None, kinds.Text()] = setting(
        None,
        "The group, by name or number, whose members may look, and do nothing else, by observe.sock beside it.",
        variable="RUNESTONE_OBSERVE_GROUP",
    )


@frozen(kw_only=True)
class LogTable:
    """The log."""

    level: Annotated[str, kinds.Choice(LEVELS, upper=True)] = setting(
        "INFO", "From which level on there are lines.", variable="RUNESTONE_LOG_LEVEL"
    )
    format: Annotated[str, kinds.Choice(get_args(LogFormat))] = setting(
        "auto", "json, pretty, or auto: pretty on a terminal.", variable="RUNESTONE_LOG_FORMAT"
    )
    access: Yes = setting(True, "Whether there is a line for each request.", variable="RUNESTONE_LOG_ACCESS")


@frozen(kw_only=True)
class EventsTable:
    """The flight recorder: the last events, in memory and in a file."""

    keep: Annotated[int, Whole(1, 100_000)] = setting(10_000, "How many are kept in memory.")
    file: Annotated[Path | None, kinds.Location()] = setting(
        None, "A file for all of them, one JSON object a line; its predecessor is kept under its name and .1."
    )
    file_bytes: Annotated[int, Whole(10_000, 1024 * 1024 * MEGABYTE)] = setting(
        64 * MEGABYTE, "How large it grows before the next one begins.", unit="bytes"
    )


@frozen(kw_only=True)
class TracesTable:
    """OpenTelemetry traces, with the extra otel; where they are sent is told by its own variables (OTEL_EXPORTER_OTLP_ENDPOINT ...)."""

    enabled: Yes = setting(False, "Whether requests are traced.", variable="RUNESTONE_TRACES_ENABLED")
    propagate: Yes = setting(
        False, "Whether providers are told of the trace (traceparent).", variable="RUNESTONE_TRACES_PROPAGATE"
    )


@frozen(kw_only=True)
class LedgerTable:
    """What every upstream call has used and cost, kept for good."""

    url: Annotated[Secret | None, LedgerUrl()] = setting(
        None,
        "Where: sqlite:///path or postgresql://...; without it, ledger.sqlite in the state directory; none: nowhere.",
        variable="RUNESTONE_LEDGER_URL",
    )
    interval_ms: Annotated[float, Duration(low=0.01)] = setting(
        1.0, "How often it is written.", variable="RUNESTONE_LEDGER_INTERVAL_MS", unit=_MS
    )
    retention_days: Annotated[int, Whole(0, 36_500)] = setting(
        0, "After how many days a call is forgotten; 0: never.", variable="RUNESTONE_LEDGER_RETENTION_DAYS"
    )


@frozen(kw_only=True)
class RetryTable:
    """Attempts at one provider, and the back-off between them."""

    max_attempts: Attempts = setting(
        3, "Attempts at one provider; the first try counts.", variable="RETRY_MAX_ATTEMPTS"
    )
    base_delay_ms: SecondsOrNone = setting(
        1.0, "The longest wait before the first retry.", variable="RETRY_BASE_DELAY_MS", unit=_MS
    )
    backoff_factor: Annotated[float, kinds.Number(1.0, 100.0)] = setting(
        2.0, "By how much it grows with each.", variable="RETRY_BACKOFF_FACTOR"
    )
    jitter: Yes = setting(True, "Whether waits are random between 0 and that.", variable="RETRY_JITTER")


@frozen(kw_only=True)
class CircuitBreakerTable:
    """What opens a breaker, and what closes it again."""

    failure_threshold: Annotated[int, Whole(1, 10_000)] = setting(
        5, "Failures in a row that open it.", variable="CIRCUIT_BREAKER_FAILURE_THRESHOLD"
    )
    recovery_timeout_ms: LongSeconds = setting(
        60.0, "Until the provider is tried again.", variable="CIRCUIT_BREAKER_RECOVERY_TIMEOUT", unit=_MS
    )
    half_open_limit: Annotated[int, Whole(1, 1000)] = setting(3, "Probes that may be out at once.")
    slow_first_token_ms: SecondsOrNone = setting(
        0.0, "A stream's first token that comes later is slow; 8 of 10 slow ones open it. 0: none is.", unit=_MS
    )


@frozen(kw_only=True)
class OwnBreakerTable:
    """A provider's own; what is not set is as in [circuit_breaker]."""

    failure_threshold: Annotated[int | None, Whole(1, 10_000)] = setting(None, "Failures in a row that open it.")
    recovery_timeout_ms: Annotated[float | None, Duration(warn=True)] = setting(
        None, "Until the provider is tried again.", unit=_MS
    )
    half_open_limit: Annotated[int | None, Whole(1, 1000)] = setting(None, "Probes that may be out at once.")
    slow_first_token_ms: Annotated[float | None, Duration(low=0.0)] = setting(
        None, "A stream's first token that comes later is slow; 0: none is.", unit=_MS
    )


@frozen(kw_only=True)
class FailoverTable:
    """What groups do that do not say otherwise."""

    strategy: Strategy = setting("round_robin", "Who goes first.", variable="FAILOVER_STRATEGY")
    max_attempts: Attempts = setting(3, "Providers tried for one request.", variable="FAILOVER_MAX_ATTEMPTS")
    health_threshold: Ratio = setting(
        0.7, "A provider whose score is below is out, until it is 0.1 above.", variable="FAILOVER_HEALTH_THRESHOLD"
    )


@frozen(kw_only=True)
class ProviderTable:
    """A provider."""

    kind: Annotated[str | None, kinds.Choice(KINDS)] = setting(None, "Whose wire it speaks.")
    api_key: Annotated[Secret | None, kinds.SecretValue()] = setting(None, "Its key; without one it is not started.")
    base_url: Annotated[str | None, kinds.Address()] = setting(
        None, "Where it is, with the version; else its vendor's."
    )
    timeout_ms: LongSeconds = setting(
        120.0, "One attempt: the whole of it, or in a stream until the first content.", unit=_MS
    )
    retry_attempts: Annotated[int | None, Whole(1, MOST_ATTEMPTS)] = setting(
        None, "Attempts at it; else retry.max_attempts."
    )
    circuit_breaker: bool | OwnBreakerTable = setting(
        True, "false: it only measures; or a table with its own settings."
    )
    max_concurrency: Annotated[int | None, Whole(1, 100_000)] = setting(
        None, "Calls that may be out at once; unset: any number."
    )
    adaptive_concurrency: Yes = setting(
        False, "Whether answers of 429 and 529 lower that number, and successes raise it again."
    )
    max_queue: Annotated[int, Whole(0, 100_000)] = setting(100, "Requests that may wait for one of these calls to end.")
    queue_timeout_ms: SecondsOrNone = setting(5.0, "How long each of them waits at most.", unit=_MS)
    default_model: Annotated[str | None, kinds.Text()] = setting(
        None, "What it serves when another model was asked for; else its vendor's usual one."
    )
    models: Annotated[tuple[str, ...], kinds.Names()] = setting((), "Further models that it serves.")
    headers: Annotated[Mapping[str, str], kinds.Headers()] = setting({}, "Headers that it is sent.")
    telemetry: Yes = setting(True, "false: it is not counted by name.")
    probe_interval_ms: Annotated[float | None, Duration(low=0.0, warn=True)] = setting(
        None, "How often it is probed; else health.probe_interval_ms. 0: never.", unit=_MS
    )


@frozen(kw_only=True)
class GroupTable:
    """A failover group."""

    members: Annotated[tuple[str, ...] | None, kinds.Names()] = setting(None, "Its providers in order; else all.")
    strategy: Annotated[str | None, kinds.Choice(STRATEGIES)] = setting(None, "Who goes first.")
    max_attempts: Annotated[int | None, Whole(1, MOST_ATTEMPTS)] = setting(None, "Providers tried for one request.")
    health_threshold: Annotated[float | None, kinds.Number(0.0, 1.0)] = setting(None, "Out below this score.")
    models: Annotated[Mapping[str, Mapping[str, str]], kinds.Equals()] = setting(
        {}, "Models that are equal: by model, then by provider or kind, the model there."
    )
    weights: Annotated[Mapping[str, float], kinds.Shares()] = setting({}, "Shares by provider, for load_balanced.")
    mode: Annotated[str | None, kinds.Choice(get_args(Mode))] = setting(None, "legacy or enhanced; else server.mode.")


@frozen(kw_only=True)
class AliasTable:
    """A model name of your own."""

    model: Annotated[str | None, kinds.Text()] = setting(None, "The model that it stands for.")
    group: Annotated[str | None, kinds.Text()] = setting(None, "The group that serves it.")


@frozen(kw_only=True)
class PriceTable:
    """What a model costs, in US dollars for a million tokens."""

    input_per_million_usd: Annotated[Decimal | None, kinds.Money()] = setting(None, "Input.")
    output_per_million_usd: Annotated[Decimal | None, kinds.Money()] = setting(None, "Output.")
    cached_input_per_million_usd: Annotated[Decimal | None, kinds.Money()] = setting(None, "Input read from a cache.")
    cache_write_per_million_usd: Annotated[Decimal | None, kinds.Money()] = setting(None, "Input written to a cache.")
    cache_write_1h_per_million_usd: Annotated[Decimal | None, kinds.Money()] = setting(
        None, "Input written to a cache for an hour."
    )
    audio_input_per_million_usd: Annotated[Decimal | None, kinds.Money()] = setting(None, "Input that is audio.")
    audio_output_per_million_usd: Annotated[Decimal | None, kinds.Money()] = setting(None, "Output that is audio.")
    web_search_per_thousand_usd: Annotated[Decimal | None, kinds.Money()] = setting(
        None, "A thousand searches of the web by the provider's own tool."
    )
    factors: Annotated[Mapping[str, Decimal], kinds.Factors()] = setting(
        {}, "How many times as dear a token is in a tier or a region."
    )


@frozen(kw_only=True)
class KeyTable:
    """A key that clients send."""

    key: Annotated[Secret | None, kinds.SecretValue()] = setting(None, "The key itself.")
    sha256: Annotated[bytes | None, kinds.Digest()] = setting(None, "Or the SHA-256 of it.")
    groups: Annotated[tuple[str, ...], kinds.Names()] = setting(
        (), "The groups that it may use, its own first; else all."
    )


@frozen(kw_only=True)
class Document:
    """The whole file."""

    server: ServerTable = field(factory=ServerTable)
    health: HealthTable = field(factory=HealthTable)
    admin: AdminTable = field(factory=AdminTable)
    log: LogTable = field(factory=LogTable)
    events: EventsTable = field(factory=EventsTable)
    traces: TracesTable = field(factory=TracesTable)
    ledger: LedgerTable = field(factory=LedgerTable)
    retry: RetryTable = field(factory=RetryTable)
    circuit_breaker: CircuitBreakerTable = field(factory=CircuitBreakerTable)
    failover: FailoverTable = field(factory=FailoverTable)
    providers: dict[str, ProviderTable] = field(factory=dict)
    groups: dict[str, GroupTable] = field(factory=dict)
    models: dict[str, AliasTable] = field(factory=dict)
    prices: dict[str, PriceTable] = field(factory=dict)
    keys: dict[str, KeyTable] = field(factory=dict)


TABLES: Final[dict[str, type]] = {
    "server": ServerTable,
    "health": HealthTable,
    "admin": AdminTable,
    "log": LogTable,
    "events": EventsTable,
    "traces": TracesTable,
    "ledger": LedgerTable,
    "retry": RetryTable,
    "circuit_breaker": CircuitBreakerTable,
    "failover": FailoverTable,
}
NAMED: Final[dict[str, type]] = {
    "providers": ProviderTable,
    "groups": GroupTable,
    "models": AliasTable,
    "prices": PriceTable,
    "keys": KeyTable,
}
_PROVIDER_VARIABLES: Final = {
    "API_KEY": "api_key",
    "BASE_URL": "base_url",
    "TIMEOUT": "timeout_ms",
    "RETRY_ATTEMPTS": "retry_attempts",
    "CIRCUIT_BREAKER": "circuit_breaker",
}
_OWN_READERS: Final = ("RUNESTONE_API_KEYS", "RUNESTONE_API_KEYS_FILE", "RUNESTONE_CONFIG")


def variables() -> dict[str, tuple[str, ...]]:
    """Every variable that sets one key, and the path of that key."""
    found: dict[str, tuple[str, ...]] = {}
    for table, cls in TABLES.items():
        for attribute in attrs.fields(cls):
            if (variable := attribute.metadata["variable"]) is not None:
                found[variable] = (table, attribute.name)
    for kind, prefix in BUILT_IN.items():
        for suffix, key in _PROVIDER_VARIABLES.items():
            found[f"{prefix}_{suffix}"] = ("providers", f"{kind}-default", key)
    return found


def known_variables() -> frozenset[str]:
    """Every name that begins with ``RUNESTONE_`` and means something, ``_FILE`` aside."""
    return frozenset(name for name in (*variables(), *_OWN_READERS) if name.startswith("RUNESTONE_"))
