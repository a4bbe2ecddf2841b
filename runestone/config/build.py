"""From layers to settings: merged, structured, checked across keys. All that is wrong is told at once."""

from __future__ import annotations

import difflib
import importlib.util
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final

import attrs
from attrs import evolve, field, frozen

from runestone.config.document import (
    MEGABYTE,
    NAMED,
    TABLES,
    Document,
    GroupTable,
    OwnBreakerTable,
    ProviderTable,
)
from runestone.config.inbound import digest
from runestone.config.kinds import Duration, Invalid, is_name, plain_url, shown
from runestone.config.layers import Layer, Merged, MissingSecret, location, merge
from runestone.config.ledger import OFF, default_url, is_postgres, shown_url
from runestone.config.load import Sources, dotted, placed, read_text
from runestone.config.overlay import BREAKERS
from runestone.config.run_directory import admin_socket
from runestone.config.settings import (
    AuthSettings,
    ConfigurationError,
    EventSettings,
    GroupSettings,
    InboundKey,
    LedgerSettings,
    LogSettings,
    ModelAlias,
    Price,
    Problem,
    ProviderRefusal,
    ProviderSettings,
    ServerSettings,
    Settings,
    TimeoutSettings,
    TraceSettings,
)
from runestone.config.structure import kind_of, structure
from runestone.domain.catalogue import BUILT_IN, CATALOGUE, KINDS
from runestone.domain.routing import DEFAULT_GROUP, THROW_AWAY, is_throw_away
from runestone.domain.secret import Secret
from runestone.resilience.breaker import BreakerPolicy
from runestone.resilience.concurrency import ConcurrencyPolicy
from runestone.resilience.retry import RetryPolicy

Key = tuple[str, ...]

COST_GROUP: Final = "cost-optimized-service"
_EVERYBODY: Final = "all"  # a word of commands for every provider
_PROBE_GRACE_SECONDS: Final = 5.0  # a call's own timeout ends it before its breaker stops waiting for the probe
_SECRETS: Final = (("providers", "api_key"), ("keys", "key"))
_OTEL: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
_LEDGER_URL: Final = ("ledger", "url")  # it may hold a password
_MASKED: Final = frozenset({"api_key", "key", "sha256", "headers"})


@frozen(kw_only=True)
class Entry:
    """One value in force: its path, the value (a secret is a :class:`Secret`), and where it comes from (``default``: nobody set it)."""

    path: Key
    value: Any = field(repr=False)
    origin: str

    @property
    def key(self) -> str:
        """The path as people write it."""
        return dotted(self.path)

    @property
    def written(self) -> bool:
        """Whether some layer sets it."""
        return self.origin != "default"

    @property
    def shown(self) -> Any:
        """The value as it may be told."""
        if self.value is None or self.value == {}:
            return None
        if self.path == _LEDGER_URL:
            return shown_url(self.value)
        if self.path[-1] in _MASKED:
            return "***"
        return self.value if isinstance(self.value, bool | int | float | str) else _plain(self.value)


@frozen(kw_only=True)
class Loaded:
    """Settings, and every value that they are made of."""

    settings: Settings
    entries: tuple[Entry, ...] = field(repr=False)


def build(sources: Sources, overlay: Mapping[str, Any]) -> Loaded:
    """The settings of ``sources`` under what was changed at run time: the tables of an :class:`~runestone.config.overlay.Overlay`.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    merged = merge((*sources.layers, Layer("runtime", {k: v for k, v in overlay.items() if k != BREAKERS})))
    merged.mix(Layer("runtime", {"providers": _tuned(overlay.get(BREAKERS, {}), merged.table.get("providers"))}))
    builder = _Builder(sources, merged)
    settings = builder.settings()
    if builder.problems:
        raise ConfigurationError(tuple(builder.problems))
    return Loaded(settings=settings, entries=tuple(builder.entries()))


class _Builder:
    def __init__(self, sources: Sources, merged: Merged) -> None:
        self.sources = sources
        self.merged = merged
        self.problems: list[Problem] = list(sources.problems)
        self.warnings: list[str] = list(sources.warnings)
        self.missing: dict[str, str] = {}  # what would give a provider its key
        self._resolve_secrets()
        self.document = self._structured()

    def problem(self, path: Key, what: str, got: str, allowed: str) -> None:
        self.problems.append(placed(self.merged.origin(path), path, Invalid(what, got, allowed)))

    def warn(self, path: Key, text: str) -> None:
        origin = self.merged.origin(path)
        about = origin if origin.startswith("env:") else f"{origin}: {dotted(path)}"
        self.warnings.append(f"{about}: {text}")

    # -- tables --------------------------------------------------------------------------------------------------------

    def _resolve_secrets(self) -> None:
        for kind, key in _SECRETS:
            tables = self.merged.table.get(kind)
            for name, table in (tables if isinstance(tables, dict) else {}).items():
                if isinstance(table, dict):
                    if kind == "providers":
                        self._look_for_a_key(table)
                    if key in table:
                        self._resolve(table, (kind, name, key))
        ledger = self.merged.table.get("ledger")
        if isinstance(ledger, dict) and "url" in ledger:
            self._resolve(ledger, _LEDGER_URL)

    def _look_for_a_key(self, table: dict[str, Any]) -> None:
        """A key that is in its vendor's usual variable need not be named; it is sent nowhere but to its vendor."""
        kind = table.get("kind")
        row = CATALOGUE.get(kind) if isinstance(kind, str) else None
        if row is None or kind in BUILT_IN or row.key_variable is None or "base_url" in table:
            return
        if row.needs_key or self.sources.environ.get(row.key_variable):
            table.setdefault("api_key", {"env": row.key_variable})

    def _resolve(self, table: dict[str, Any], path: Key) -> None:
        try:
            table[path[-1]] = location(table[path[-1]], self.sources.environ, read_text)
        except MissingSecret as missing:
            del table[path[-1]]
            if path[0] == "providers":
                self.missing[path[1]] = str(missing)
            else:
                self.problem(path, "is not there", "an unset variable", str(missing))
        except Invalid as error:
            del table[path[-1]]
            self.problems.append(placed(self.merged.origin(path), path, error))

    def _structured(self) -> Document:
        """What is wrong is told and left out, so that the rest can be looked at too."""
        while not isinstance(document := structure(self.merged.table), Document):
            for path, invalid in document:
                if self._untold(path):
                    self.problems.append(placed(self.merged.origin(path), path, invalid))
                _drop(self.merged.table, path)
        self._look_at_what_is_hidden()
        return document

    def _look_at_what_is_hidden(self) -> None:
        """A value that a higher layer replaces is not in force, but wrong it may be all the same."""
        for layer in self.sources.layers:
            wrong = structure(_without_secrets(layer.table))
            for path, invalid in wrong if isinstance(wrong, list) else ():
                origin = layer.origin(path) or layer.name
                if self._untold(path, origin):
                    self.problems.append(placed(origin, path, invalid))

    # -- settings ------------------------------------------------------------------------------------------------------

    def settings(self) -> Settings:
        document = self.document
        keys = (*self.sources.inbound_keys, *self._keys())
        found = [self._provider(name, table) for name, table in document.providers.items()]
        providers = tuple(p for p in found if isinstance(p, ProviderSettings))
        groups = self._groups(tuple(p.name for p in providers))
        server = document.server
        settings = Settings(
            server=self._server(has_keys=bool(keys)),
            timeouts=TimeoutSettings(
                request_deadline_seconds=server.request_deadline_ms,
                first_token_seconds=server.first_token_timeout_ms,
                idle_seconds=server.idle_timeout_ms,
                connect_seconds=server.connect_timeout_ms,
            ),
            providers=providers,
            groups=groups,
            models=self._aliases({g.name for g in groups}),
            prices=self._prices(),
            auth=AuthSettings(keys=keys),
            logs=LogSettings(
                level=document.log.level,
                format=document.log.format,  # type: ignore[arg-type] # a choice
                access=document.log.access,
            ),
            events=EventSettings(
                keep=document.events.keep, file=document.events.file, file_bytes=document.events.file_bytes
            ),
            traces=self._traces(),
            ledger=self._ledger(),
            max_upstream_calls=max(
                server.max_upstream_calls,
                *(p.retry.max_attempts for p in providers if not is_throw_away(p.name)),
                *(g.max_attempts for g in groups if not is_throw_away(g.name)),
            ),
            refusals=tuple(p for p in found if isinstance(p, ProviderRefusal)),
        )
        self._check_names({g.name for g in groups})
        self._check_times()
        return evolve(settings, warnings=tuple(self.warnings))

    def _server(self, *, has_keys: bool) -> ServerSettings:
        server, health = self.document.server, self.document.health
        if not has_keys and not is_loopback(server.host):
            self.problem(
                ("server", "host"),
                "would serve other machines without any key",
                repr(server.host[:60]),
                "a loopback address, or set RUNESTONE_API_KEYS",
            )
        if server.port == health.port != 0:
            allowed = "another port, or 0 for a free one"
            self.problem(("health", "port"), "is the API's port too", str(server.port), allowed)
        socket = self.document.admin.socket
        return ServerSettings(
            host=server.host,
            port=server.port,
            health_port=health.port,
            admin_socket=admin_socket(self.sources.environ) if socket is None else socket,
            observe_group=self.document.admin.observe_group,
            drain_timeout_seconds=server.drain_timeout_ms,
            body_limit_bytes=min(server.body_limit_bytes, 1024 * MEGABYTE),
            body_timeout_seconds=server.body_timeout_ms,
            max_requests=server.max_requests,
            max_connections=server.max_connections,
            max_loop_lag_seconds=server.max_loop_lag_ms,
            mode=server.mode,  # type: ignore[arg-type] # a choice
        )

    def _traces(self) -> TraceSettings:
        table = self.document.traces
        if table.enabled and not has_otel():
            self.problem(
                ("traces", "enabled"), "needs the extra otel", "true", "pip install 'runestone[otel]', or false"
            )
        if table.propagate and not table.enabled:
            self.warn(("traces", "propagate"), "does nothing while traces.enabled is false")
        return TraceSettings(enabled=table.enabled, propagate=table.propagate)

    def _ledger(self) -> LedgerSettings:
        table = self.document.ledger
        url = Secret(default_url(self.sources.environ)) if table.url is None else table.url
        if is_postgres(url) and importlib.util.find_spec("asyncpg") is None:
            allowed = "a URL of SQLite, or: pip install 'runestone[postgres]'"
            self.problem(_LEDGER_URL, "needs the extra [postgres]", "no driver", allowed)
        return LedgerSettings(
            url=None if url.reveal() == OFF else url,
            interval_seconds=table.interval_ms,
            retention_days=table.retention_days,
        )

    def _provider(self, name: str, table: ProviderTable) -> ProviderSettings | ProviderRefusal | None:
        path = ("providers", name)
        if table.kind is None:
            if self._untold(path):
                self.problem(path, "needs a kind", "none", f"kind = one of {', '.join(KINDS)}")
            return None
        retry, breaker = self.document.retry, self.document.circuit_breaker
        own = table.circuit_breaker if isinstance(table.circuit_breaker, OwnBreakerTable) else OwnBreakerTable()
        settings = ProviderSettings(
            name=name,
            kind=table.kind,
            base_url=self._base_url(name, table),
            api_key=table.api_key,
            timeout_seconds=table.timeout_ms,
            retry=RetryPolicy(
                max_attempts=table.retry_attempts or retry.max_attempts,
                base_delay_seconds=retry.base_delay_ms,
                factor=retry.backoff_factor,
                jitter=retry.jitter,
            ),
            circuit_breaker=table.circuit_breaker is not False,
            breaker=BreakerPolicy(
                failure_threshold=own.failure_threshold or breaker.failure_threshold,
                recovery_timeout_seconds=own.recovery_timeout_ms or breaker.recovery_timeout_ms,
                half_open_limit=own.half_open_limit or breaker.half_open_limit,
                slow_first_token_seconds=(
                    breaker.slow_first_token_ms if own.slow_first_token_ms is None else own.slow_first_token_ms
                )
                or None,
                probe_deadline_seconds=table.timeout_ms + _PROBE_GRACE_SECONDS,
            ),
            concurrency=ConcurrencyPolicy(
                limit=table.max_concurrency,
                adaptive=table.adaptive_concurrency,
                queue=table.max_queue,
                queue_seconds=table.queue_timeout_ms,
            ),
            default_model=table.default_model or CATALOGUE[table.kind].default_model,
            models=table.models,
            headers=table.headers,
            telemetry=table.telemetry,
            probe_interval_seconds=(
                self.document.health.probe_interval_ms if table.probe_interval_ms is None else table.probe_interval_ms
            ),
        )
        if is_throw_away(name) and self.merged.origin(path) != "runtime":
            self.warn(path, f"serves only groups that name it, for its name begins with {THROW_AWAY}")
        if table.api_key is None and CATALOGUE[table.kind].needs_key:
            return ProviderRefusal(name, "missing_api_key", self._how_to_give_a_key(name, table.kind))
        if table.api_key is not None and table.api_key.reveal().lower().startswith("your_"):
            self.warn((*path, "api_key"), "looks like a placeholder; put the real key in its place")
        return settings

    def _how_to_give_a_key(self, name: str, kind: str) -> str:
        if name in self.missing:
            return self.missing[name]
        if name == f"{kind}-default":
            return f"set {BUILT_IN[kind]}_API_KEY, or {BUILT_IN[kind]}_API_KEY_FILE"
        return f"set {dotted(('providers', name, 'api_key'))}"

    def _base_url(self, name: str, table: ProviderTable) -> str:
        assert table.kind is not None
        if table.base_url is None:
            base_url = CATALOGUE[table.kind].base_url
            if base_url is None:
                what = f"needs a base_url: every customer of kind {table.kind} has another one"
                self.problem(("providers", name), what, "none", 'base_url = "https://..."')
            return base_url or ""
        url = plain_url(table.base_url)
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            self.warn(("providers", name, "base_url"), f"keys and prompts go over plain http to {url.hostname}")
        # Anthropic's own SDK is given its address without the version
        return table.base_url + ("/v1" if table.kind == "anthropic" and url.path in ("", "/") else "")

    def _groups(self, usable: tuple[str, ...]) -> tuple[GroupSettings, ...]:
        tables = {DEFAULT_GROUP: GroupTable(), COST_GROUP: GroupTable(strategy="cost_optimized")}
        for name, table in self.document.groups.items():
            if name == COST_GROUP and table.strategy is None:
                table = evolve(table, strategy="cost_optimized")  # noqa: PLW2901 - its own default
            tables[name] = table
        return tuple(self._group(name, table, usable) for name, table in tables.items())

    def _group(self, name: str, table: GroupTable, usable: tuple[str, ...]) -> GroupSettings:
        path, failover = ("groups", name), self.document.failover
        everybody = tuple(one for one in usable if not is_throw_away(one))
        members = everybody if table.members is None else table.members
        for key, named in (("members", members), ("weights", table.weights)):
            self._check_providers((*path, key), named)
        for model, equals in table.models.items():
            self._check_providers((*path, "models", model), equals, also=KINDS)
        if not members and name in self.document.groups:
            self.warn(path, "has no member: nobody serves what is asked of it")
        return GroupSettings(
            name=name,
            providers=tuple(member for member in members if member in usable),
            strategy=table.strategy or failover.strategy,  # type: ignore[arg-type] # a choice
            max_attempts=table.max_attempts or failover.max_attempts,
            health_threshold=failover.health_threshold if table.health_threshold is None else table.health_threshold,
            models=table.models,
            weights=table.weights,
            mode=table.mode,  # type: ignore[arg-type] # a choice
        )

    def _check_providers(self, path: Key, named: Iterable[str], also: tuple[str, ...] = ()) -> None:
        """All that is ``named`` must be there. With ``--demo`` the file's own providers are not looked at, so they may be named."""
        known = (*self.document.providers, *also, *self.sources.left_out)
        missing = [name for name in named if name not in known]
        if missing:
            near = difflib.get_close_matches(missing[0], known, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            self.problem(path, "names a provider that is not there", _listed(missing), ", ".join(known) + hint)

    def _aliases(self, groups: set[str]) -> dict[str, ModelAlias]:
        aliases = {}
        for name, table in self.document.models.items():
            path = ("models", name)
            if table.model is None:
                self.problem(path, "needs a model", "none", 'model = "..."')
                continue
            if table.group is not None and table.group not in groups:
                self.problem(
                    (*path, "group"), "names a group that is not there", repr(table.group[:60]), _listed(sorted(groups))
                )
            if name in groups or name in self.document.providers:
                self.problem(path, "is the name of a group or a provider", repr(name[:60]), "another name")
            if table.model in self.document.models:
                self.problem(path, "stands for another alias", repr(table.model[:60]), "a model, a pin or a group")
            aliases[name] = ModelAlias(model=table.model, group=table.group)
        return aliases

    def _prices(self) -> dict[str, Price]:
        prices = {}
        for model, table in self.document.prices.items():
            values = attrs.asdict(table)
            for key in ("input_per_million_usd", "output_per_million_usd"):
                if values[key] is None:
                    if self._untold(("prices", model, key)):
                        self.problem(("prices", model), f"needs {key}", "none", "dollars for a million tokens")
                    values[key] = 0
            prices[model] = Price(**values)
        return prices

    def _keys(self) -> Iterator[InboundKey]:
        groups = {DEFAULT_GROUP, COST_GROUP, *self.document.groups}
        for name, table in self.document.keys.items():
            path = ("keys", name)
            if (table.key is None) == (table.sha256 is None):
                got = "both" if table.key is not None else "none"
                if self._untold(path):
                    self.problem(path, "needs either key or sha256", got, "one of them")
                continue
            if missing := [group for group in table.groups if group not in groups]:
                self.problem(
                    (*path, "groups"), "names a group that is not there", _listed(missing), _listed(sorted(groups))
                )
            known = digest(table.key.reveal()) if table.key is not None else table.sha256
            assert known is not None
            yield InboundKey(name, known, table.groups)

    # -- across keys ---------------------------------------------------------------------------------------------------

    def _untold(self, path: Key, origin: str | None = None) -> bool:
        """Whether nothing is said yet of ``path``, or of what is in it (in the layer of ``origin``, or at all): a mistake is told once."""
        title = re.compile(re.escape(dotted(path)) + r"[.:]")
        at = self.merged.origin(path) if origin is None else origin
        if at.startswith("env:"):  # such a problem has no title: its place says all
            return all(problem.where != at for problem in self.problems)
        told = (p for p in self.problems if origin is None or p.where == origin)
        return not any(title.match(problem.what) for problem in told)

    def _check_names(self, groups: set[str]) -> None:
        for kind in ("providers", "groups", "keys"):
            for name in getattr(self.document, kind):
                if not is_name(name):
                    self.problem(
                        (kind, name), "is not a name", repr(name[:60]), "letters, digits, dots, dashes; 64 at most"
                    )
        for name in self.document.providers:
            if name in KINDS or name in groups or name == _EVERYBODY:
                what = "is named like a kind, a group or all of them"
                self.problem(("providers", name), what, repr(name[:60]), "another name")
        for name in self.document.groups:
            if name in KINDS:
                self.problem(("groups", name), "is named like a kind", repr(name[:60]), "another name")

    def _check_times(self) -> None:
        for path, cls, attribute, value in self._values():
            kind = kind_of(attrs.fields_dict(attrs.resolve_types(cls))[attribute].type)
            short = isinstance(kind, Duration) and kind.warn and value is not None and 0.0 < value < 1.0
            if short and path in self.merged.origins:
                self.warn(path, f"{value * 1000:g} ms is very short; did you mean seconds? The unit is milliseconds")

    def entries(self) -> Iterator[Entry]:
        """Every value in force."""
        for path, cls, attribute, value in self._values():
            unit = attrs.fields_dict(cls)[attribute].metadata.get("unit")
            told = round(value * 1000) if unit == "milliseconds" and value is not None else value
            # an alias may be a text instead of a table
            whole = path[:2] if path[0] == "models" and path[2] == "model" else path
            origin = self.merged.origins.get(path) or self.merged.origins.get(whole, "default")
            yield Entry(path=path, value=told, origin=origin)

    def _values(self) -> Iterator[tuple[Key, type, str, Any]]:
        for name in TABLES:
            yield from _fields((name,), getattr(self.document, name))
        for kind in NAMED:
            for name, table in getattr(self.document, kind).items():
                yield from _fields((kind, name), table)


def _tuned(breakers: Mapping[str, Any], providers: Any) -> dict[str, Any]:
    """What was tuned, for the providers that are there and whose breaker does more than measure; for the others it waits."""
    there = providers if isinstance(providers, dict) else {}
    acting = {
        name for name, table in there.items() if not (isinstance(table, dict) and table.get("circuit_breaker") is False)
    }
    return {name: {"circuit_breaker": own} for name, own in breakers.items() if name in acting}


def _fields(path: Key, table: Any) -> Iterator[tuple[Key, type, str, Any]]:
    for attribute in attrs.fields(type(table)):
        value = getattr(table, attribute.name)
        if isinstance(value, OwnBreakerTable):
            yield from _fields((*path, attribute.name), value)
        else:
            yield (*path, attribute.name), type(table), attribute.name, value


def _without_secrets(table: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` without the places of secrets, and without who was taken away."""
    kept = dict(table)
    for kind, key in _SECRETS:
        if isinstance(tables := kept.get(kind), Mapping):
            kept[kind] = {
                name: {k: v for k, v in inner.items() if k != key} if isinstance(inner, Mapping) else inner
                for name, inner in tables.items()
                if inner is not None
            }
    if isinstance(ledger := kept.get("ledger"), Mapping):
        kept["ledger"] = {k: v for k, v in ledger.items() if k != "url"}
    return kept


def _drop(table: dict[str, Any], path: Key) -> None:
    for name in path[:-1]:
        table = table[name]
    table.pop(path[-1], None)


def _listed(names: Any) -> str:
    return ", ".join(shown(str(name)) for name in names)


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case bool() | int() | float() | str() | None:
            return value
        case Secret():
            return "***"
        case _:
            return str(value)


def has_otel() -> bool:
    """Whether the extra ``otel`` is installed."""
    try:
        return all(find_spec(name) is not None for name in _OTEL)
    except ModuleNotFoundError:  # not even what these are parts of
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
