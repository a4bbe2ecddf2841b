"""Runestone from Python, with the migration guide's names: a gateway in this process, or one that runs elsewhere.

:class:`Node` is a gateway in this process, :class:`RemoteNode` one that is reached by its admin socket; every façade takes either, and
behaves alike. What is refused or fails is an :class:`OperationError`; its ``reason`` is the guide's atom.

The guide, from its first call to its last, on a gateway in this process with simulated providers and free ports:

>>> import asyncio, os, tempfile
>>> from runestone.api import (
...     CircuitBreakerManager, FailoverManager, Finished, Node, OperationError, ProviderAdapter, ProviderFactory, ProviderPool,
...     RemoteNode, TelemetryHandler, TextDelta,
... )
>>> folder = tempfile.TemporaryDirectory()
>>> environ = {
...     "RUNESTONE_PORT": "0", "RUNESTONE_HEALTH_PORT": "0", "RUNESTONE_ADMIN_SOCKET": f"{folder.name}/admin.sock",
...     "RUNESTONE_LEDGER_URL": f"sqlite://{folder.name}/ledger.sqlite",
... }
>>> loop = asyncio.Runner()
>>> do = loop.run
>>> node = do(Node(environ=environ, demo=True).start())

3.1, custom provider registration:

>>> openai_config = {
...     "api_key": "custom-key",
...     "base_url": "https://custom-openai-endpoint.com/v1",
...     "timeout": 180_000,
...     "retry_attempts": 5,
...     "circuit_breaker": True,
...     "telemetry": True,
... }
>>> do(ProviderFactory(node).register_provider("openai-custom", "openai", openai_config))["status"]
'up'
>>> for name, kind in [
...     ("openai-premium", "openai"), ("anthropic-premium", "anthropic"),
...     ("openai-cost-optimized", "openai"), ("anthropic-cost-optimized", "anthropic"),
... ]:
...     _ = do(ProviderFactory(node).register_provider(name, kind, {"api_key": "custom-key"}))

What the guide's troubleshooting begins with, and its like:

>>> def reason(call):
...     try:
...         do(call)
...     except OperationError as error:
...         return error.reason
>>> reason(ProviderFactory(node).register_provider("keyless", "openai", {}))
'missing_api_key'
>>> reason(ProviderFactory(node).register_provider("odd", "carrier-pigeon", {"api_key": "k"}))
'unsupported_provider'
>>> reason(ProviderFactory(node).register_provider("openai-custom", "openai", openai_config))
'conflict'

3.2, failover groups:

>>> critical = do(ProviderFactory(node).create_failover_group(
...     "critical-service",
...     ["openai-premium", "anthropic-premium"],
...     {"strategy": "fastest_first", "max_attempts": 5, "health_threshold": 0.9},
... ))
>>> critical["strategy"], critical["members"]
('fastest_first', ['openai-premium', 'anthropic-premium'])
>>> bulk = do(ProviderFactory(node).create_failover_group(
...     "bulk-service",
...     ["openai-cost-optimized", "anthropic-cost-optimized"],
...     {"strategy": "load_balanced", "max_attempts": 3, "health_threshold": 0.7},
... ))
>>> reason(ProviderFactory(node).create_failover_group("typo", ["openai-premum"]))
'missing_providers'

3.3, circuit breaker tuning: for a provider that is not there yet it is kept.

>>> circuit_config = {"failure_threshold": 10, "recovery_timeout": 120_000, "half_open_limit": 5}
>>> do(CircuitBreakerManager(node).register_provider("stable-provider", circuit_config))["kept"]
{'failure_threshold': 10, 'recovery_timeout_ms': 120000, 'half_open_limit': 5}
>>> do(ProviderFactory(node).register_provider("stable-provider", "openai", {"api_key": "k"}))["breaker"]["half_open_limit"]
5

4.2, telemetry, after a chat:

>>> async def chat(request):
...     return [event async for event in ProviderAdapter(node).stream_chat(request)]
>>> hello = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}
>>> pinned = {**hello, "model": "openai-default/gpt-4o-mini"}
>>> events = do(chat(pinned))
>>> events[0].provider, "".join(event.text for event in events if isinstance(event, TextDelta))[:14], events[-1].reason
('openai-default', 'openai-default', 'stop')
>>> metrics = do(ProviderFactory(node).get_metrics("all"))
>>> sorted(metrics["providers"])[:2]
['anthropic-cost-optimized', 'anthropic-default']
>>> one = do(ProviderFactory(node).get_metrics("openai-default"))
>>> one["outcomes"], one["success_rate"], sorted(one["latency_ms"])
({'ok': 1}, 1.0, ['p50', 'p95', 'p99'])
>>> health_data = do(TelemetryHandler(node).get_health_dashboard())
>>> health_data["overall_health"], [alert for alert in health_data["alerts"] if alert["severity"] == "error"]
('healthy', [])

What happens can be listened to, and looked up afterwards:

>>> heard = []
>>> detach = TelemetryHandler(node).attach(heard.append)
>>> events = do(chat(pinned))
>>> detach()
>>> [event.name for event in heard if event.name.startswith("attempt.")]
['attempt.started', 'attempt.content', 'attempt.finished']
>>> [event["provider"] for event in do(TelemetryHandler(node).get_events("attempt.*", limit=3))["events"]]
['openai-default', 'openai-default', 'openai-default']

The pool runs a chat by itself:

>>> async def pooled():
...     told = []
...     async with ProviderPool(node) as pool:
...         request_id = await pool.stream_request(pinned, told.append)
...         await pool.wait(request_id)
...     return isinstance(told[-1], Finished)
>>> do(pooled())
True

4.3, costs:

>>> costs = do(ProviderFactory(node).estimate_costs(hello))
>>> costs["openai-default"] < costs["anthropic-default"]
True

>>> booked = do(ProviderFactory(node).get_costs(since="1h", by="group"))["default-chat-service"]
>>> booked["calls"], booked["unknown_cost_calls"] < 2
(3, True)

Troubleshooting, 2 to 4. A breaker that is stuck open, a group, the providers:

>>> do(CircuitBreakerManager(node).get_circuit_state("openai-default"))
'closed'
>>> do(CircuitBreakerManager(node).reset_circuit("openai-default"))
>>> [turn["words"] for turn in do(CircuitBreakerManager(node).why("openai-default"))["breaker"]["turns"]]
['an operator has reset it']
>>> do(CircuitBreakerManager(node).what_if("openai-default", circuit_config))["same"]
True
>>> do(ProviderFactory(node).drain_provider("openai-default"))["state"]
'draining'
>>> do(ProviderFactory(node).test_provider("openai-default"))["ok"]
True
>>> do(ProviderFactory(node).ready_provider("openai-default"))["state"]
'ready'
>>> do(FailoverManager(node).get_failover_stats("default-chat-service"))["strategy"]
'round_robin'
>>> do(ProviderFactory(node).health_check("openai-default"))["openai-default"]["ok"]
True

From another process it is the same, by the admin socket:

>>> async def remotely():
...     async with RemoteNode(f"{folder.name}/admin.sock") as remote:
...         return await CircuitBreakerManager(remote).get_circuit_state("openai-default")
>>> do(remotely())
'closed'
>>> do(node.stop())
>>> loop.close()
>>> folder.cleanup()
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from decimal import Decimal
from inspect import isawaitable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypedDict, cast
from urllib.parse import quote

import httpx
from attrs import field, frozen

from runestone import app
from runestone.config.load import Sources, read
from runestone.config.run_directory import admin_socket
from runestone.operations.actions import Dispatch
from runestone.operations.audit import Who
from runestone.operations.errors import OperationError
from runestone.telemetry.events import Event

__all__ = [
    "Acting",
    "Actors",
    "CircuitBreakerManager",
    "FailoverManager",
    "Finished",
    "Node",
    "OperationError",
    "ProviderAdapter",
    "ProviderFactory",
    "ProviderPool",
    "RemoteNode",
    "Started",
    "TelemetryHandler",
    "TextDelta",
    "ThinkingDelta",
    "ToolCallDelta",
]

Options = Mapping[str, Any]
CircuitState = Literal["closed", "open", "half_open"]


class ProbeResult(TypedDict):
    """What a provider answered to a free question: whether it serves, the HTTP status, words, and how long it took."""

    ok: bool
    status: int | None
    message: str
    seconds: float


class TrialResult(TypedDict, total=False):
    """How a call for a try went: times in milliseconds, tokens and dollars where it is ``ok``, else why not, in the provider's words."""

    provider: str
    model: str
    stream: bool
    ok: bool
    outcome: str
    status: int | None
    message: str | None
    first_content_ms: float | None
    total_ms: float
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: str | None


class Alert(TypedDict):
    """One thing that needs somebody: a word for programs, ``error`` or ``warning``, what it is about, a sentence, since when (RFC 3339),
    and the command that helps.
    """

    kind: str
    severity: Literal["error", "warning"]
    about: str
    message: str
    since: str
    command: str


class Dashboard(TypedDict):
    """The health dashboard."""

    overall_health: Literal["healthy", "degraded", "unhealthy", "draining"]
    provider_health: dict[str, dict[str, Any]]
    alerts: list[Alert]


class EventPage(TypedDict):
    """Events, the ``since`` of those that come after, and how many that would have been looked at are gone from the memory."""

    events: list[dict[str, Any]]
    next: int
    missed: int


class Finding(TypedDict):
    """One thing that the doctor has found: the rule, how grave it is, what it is about, a sentence, since when (RFC 3339), what helps."""

    rule: str
    level: Literal["error", "warning", "info"]
    about: str
    message: str
    since: str | None
    command: str


class LogPage(TypedDict):
    """Lines of the log, each with its ``seq``, the ``since`` of those that come after, and how many that were looked for are gone."""

    lines: list[dict[str, Any]]
    next: int
    missed: int


@frozen
class Started:
    """The answer begins: the request's id, who gives it, and with which model."""

    id: str
    provider: str
    model: str


@frozen
class TextDelta:
    """More of the text."""

    text: str


@frozen
class ThinkingDelta:
    """More of what the model tells of its reasoning."""

    text: str


@frozen
class ToolCallDelta:
    """More of a tool call: id and name come first, the JSON of its arguments in pieces."""

    index: int
    id: str | None
    name: str | None
    arguments: str


@frozen
class Finished:
    """The answer is whole: why it ended, and the tokens as OpenAI counts them (``None``: not told)."""

    reason: str | None
    usage: Mapping[str, Any] | None


ChatEvent = Started | TextDelta | ThinkingDelta | ToolCallDelta | Finished
OnEvent = Callable[[ChatEvent], Awaitable[None] | None]


class AnyNode(Protocol):
    """What the façades need of a node."""

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, lasts: float = 0.0
    ) -> dict[str, Any]:
        """One operation; ``lasts``: seconds that it may take by what is asked. Raises :class:`OperationError`."""
        ...

    def chat(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one chat."""
        ...

    def trace(self, name: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The messages that one actor handles."""
        ...


class Node:
    """A gateway in this process: an asynchronous context manager, or :meth:`start` and :meth:`stop`.

    ``config`` is the path of a ``runestone.toml``, ``environ`` the variables (this process's own by default); ``demo`` takes simulated
    providers instead of real ones. Raises :class:`~runestone.config.settings.ConfigurationError` and
    :class:`~runestone.http.sockets.BindError` on entering.
    """

    def __init__(
        self, *, config: Path | str | None = None, environ: Mapping[str, str] | None = None, demo: bool = False
    ) -> None:
        self._config = None if config is None else Path(config)
        self._environ = dict(os.environ if environ is None else environ)
        self._demo = demo
        self._running: app.Running | None = None
        self._dispatch: Dispatch | None = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> Self:
        """Start it, as entering does."""
        sources = self._read()
        self._running = await app.launch(sources, self._read, demo=self._demo)
        self._dispatch = Dispatch(self._running.actions)
        return self

    async def stop(self) -> None:
        """Drain and stop it, as leaving does."""
        assert self._running is not None
        running, self._running, self._dispatch = self._running, None, None
        await running.drain(asyncio.Event())
        await running.stop()

    @property
    def url(self) -> str:
        """The base URL for OpenAI's SDKs."""
        assert self._running is not None
        return f"{self._running.node.listeners['public']}/v1"

    @property
    def socket(self) -> Path:
        """Its admin socket."""
        assert self._running is not None
        return Path(self._running.node.listeners["admin"])

    async def drain(self, timeout: float | None = None) -> None:
        """Take nothing new, and return when nothing is in flight; see :meth:`RemoteNode.drain`."""
        await _drain(self, timeout)

    async def undrain(self) -> None:
        """Take requests again. Reason: ``conflict`` while it stops."""
        await self.ask("POST", "/v1/undrain")

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        lasts: float = 0.0,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """One operation, by the method and path that it has on the admin socket. ``reason``, ``dry_run``: see :class:`Acting`."""
        who = Who(claimed=f"{getpass.getuser()} in process", uid=os.getuid(), pid=os.getpid(), reason=reason)
        return await self._started()(method, path, body or {}, who, dry_run=dry_run)

    def chat(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one chat."""
        return self._started().actions.chat(body)

    def subscribe(self, handler: Callable[[Event], None], *, apart: bool = False) -> Callable[[], None]:
        """See :meth:`TelemetryHandler.attach`."""
        bus = self._started().actions.node.bus
        return bus.subscribe_apart(handler) if apart else bus.subscribe(handler)

    def trace(self, name: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The messages that one actor handles."""
        return self._started().actions.trace(name, body)

    def _read(self) -> Sources:
        return read(self._environ, self._config)

    def _started(self) -> Dispatch:
        if self._dispatch is None:
            raise OperationError("unavailable", "the node is not running; enter it with `async with`")
        return self._dispatch


class RemoteNode:
    """A gateway that runs in another process, reached by its admin socket."""

    def __init__(self, socket: Path | str | None = None, *, timeout: float = 120.0) -> None:
        self._socket = admin_socket() if socket is None else Path(socket)
        self._timeout = timeout
        self._client = httpx.AsyncClient(
            # There is no TLS, and so no certificates to read.
            transport=httpx.AsyncHTTPTransport(uds=str(self._socket), verify=False),
            base_url="http://runestone",
            timeout=timeout,
            trust_env=False,
            headers={"x-runestone-actor": f"{getpass.getuser()}:{os.getpid()}"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def drain(self, timeout: float | None = None) -> None:
        """Take nothing new, and return when nothing is in flight, or raise after ``timeout`` seconds (without one, the drain timeout).

        Clients get 503 with ``Retry-After``; the node goes on draining, however this ends, until :meth:`undrain`. Reasons: ``timeout``,
        ``conflict`` (it was taken back meanwhile).
        """
        await _drain(self, timeout)

    async def undrain(self) -> None:
        """Take requests again. Reason: ``conflict`` while it shuts down."""
        await self.ask("POST", "/v1/undrain")

    async def shutdown(self, timeout: float | None = None) -> int:
        """Drain for ``timeout`` seconds at most (without one, the drain timeout), then end the process as SIGTERM does.

        Returns how many requests were ended before they were over; the process ends right after. Reasons: ``conflict`` (it does already),
        ``refused`` (it runs in another program, which alone can end it).
        """
        body = {} if timeout is None else {"seconds": timeout}
        return int((await self.ask("POST", "/v1/shutdown", body, lasts=timeout or 0.0))["cut"])

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        lasts: float = 0.0,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """One operation; ``lasts``: seconds that it may take by what is asked, on top of the timeout of all.

        ``reason``, ``dry_run``: see :class:`Acting`.
        """
        content = None if method == "GET" else json.dumps(body or {})
        about = ({} if reason is None else {"reason": reason}) | ({"dry_run": "true"} if dry_run else {})
        query = dict(body or {}) if method == "GET" else about
        try:
            answer = await self._client.request(
                method, path, content=content, params=query, timeout=self._timeout + lasts
            )
            data: dict[str, Any] = answer.json()
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise self._unreachable(error) from None
        if "error" in data:
            raise _refusal(data["error"])
        data.pop("v", None)
        return data

    async def chat(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one chat."""
        async with aclosing(self._lines("POST", "/v1/chat", content=json.dumps(body))) as events:
            async for event in events:
                if event["type"] == "error":
                    raise _refusal(event)
                yield event

    async def trace(self, name: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The messages that one actor handles."""
        async with aclosing(self._lines("GET", _at("/v1/actors", name, "trace"), params=dict(body))) as lines:
            async for line in lines:
                yield line

    async def _lines(self, method: str, path: str, **options: Any) -> AsyncGenerator[dict[str, Any], None]:
        try:
            async with self._client.stream(method, path, timeout=None, **options) as answer:
                if answer.status_code != 200:
                    raise _refusal(json.loads(await answer.aread())["error"])
                async with aclosing(cast("AsyncGenerator[str, None]", answer.aiter_lines())) as lines:
                    async for line in lines:
                        yield json.loads(line)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> OperationError:
        if _not_permitted(error):
            return OperationError("denied", f"{self._socket}: Permission denied")
        what = str(error) or type(error).__name__
        return OperationError("unreachable", f"no running node answers on {self._socket}: {what}")


@frozen
class Acting:
    """``node``, each act on which has a ``reason``, which goes to its log and into its event ``admin.acted``.

    With ``dry_run`` an edit of the settings is checked as if it were made, and nothing is in force: what is made of it then returns what
    would be ``done`` and the ``warnings``. Any other act is refused with ``usage``.
    """

    node: Node | RemoteNode
    reason: str | None = field(default=None, kw_only=True)
    dry_run: bool = field(default=False, kw_only=True)

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, lasts: float = 0.0
    ) -> dict[str, Any]:
        """One operation, as of the node; one that reads is as ever."""
        acts = method != "GET"
        return await self.node.ask(
            method, path, body, lasts=lasts, reason=self.reason if acts else None, dry_run=self.dry_run and acts
        )

    def chat(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one chat."""
        return self.node.chat(body)

    def trace(self, name: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The messages that one actor handles."""
        return self.node.trace(name, body)


@frozen
class ProviderFactory:
    """Providers and groups of a running node."""

    node: AnyNode

    async def register_provider(self, name: str, kind: str, config: Options) -> dict[str, Any]:
        """Add a provider of ``kind`` and start it.

        ``config``: ``api_key``, ``base_url``, ``timeout`` (ms), ``retry_attempts``, ``circuit_breaker``, ``telemetry``, ``default_model``,
        ``models``, ``headers``. Reasons of a refusal: ``missing_api_key``, ``unsupported_provider``, ``conflict``, ``invalid``.
        """
        body = {"name": name, "kind": kind, "config": dict(config)}
        return _edited(await self.node.ask("POST", "/v1/providers", body), "provider")

    async def set_provider(self, name: str, config: Options) -> dict[str, Any]:
        """Change settings of one that is there. Reasons: ``not_found``, ``invalid``."""
        return _edited(await self.node.ask("POST", _at("/v1/providers", name), {"config": dict(config)}), "provider")

    async def unregister_provider(self, name: str) -> None:
        """Take one out; returns when its streams have ended, or the drain time has. Reason: ``not_found``."""
        await self.node.ask("POST", _at("/v1/providers", name, "remove"))

    async def restart_provider(self, name: str, *, hard: bool = False) -> list[dict[str, Any]]:
        """A clean slate for one provider, for ``"all"`` one after the other, or for those that match a pattern (``"openai-*"``).

        One answer for each: ``provider``, ``incarnation_before``, ``incarnation``, and ``error`` where it was one of several and failed.
        ``hard`` replaces the connections too. Streams run on. Reasons: ``not_found``, ``failed``.
        """
        answer = await self.node.ask("POST", _at("/v1/providers", name, "restart"), {"hard": hard})
        return list(answer["restarted"]) if "restarted" in answer else [answer]

    async def drain_provider(self, name: str, *, wait: bool = False, timeout: float | None = None) -> dict[str, Any]:
        """Send nothing new there, until :meth:`ready_provider`; what runs ends whole. That outlasts crashes, restarts and new settings.

        The answer tells ``state``, the one ``before``, and how many calls are ``in_flight``. With ``wait`` it comes when none is, or is
        refused after ``timeout`` seconds (without one, the drain timeout), and it goes on draining. Reasons: ``not_found``, ``timeout``,
        ``conflict`` (it is being removed, or was made ready meanwhile).
        """
        return await self._take_out(name, "drain", wait=wait, timeout=timeout)

    async def maintain_provider(self, name: str, *, wait: bool = False, timeout: float | None = None) -> dict[str, Any]:
        """As :meth:`drain_provider`; and it is not probed, and nothing that is wrong with it is an alert."""
        return await self._take_out(name, "maint", wait=wait, timeout=timeout)

    async def ready_provider(self, name: str) -> dict[str, Any]:
        """Put one back into service. Reasons: ``not_found``, ``conflict`` (it is being removed)."""
        return await self.node.ask("POST", _at("/v1/providers", name, "ready"))

    async def test_provider(
        self, name: str, *, model: str | None = None, prompt: str | None = None, stream: bool = False
    ) -> TrialResult:
        """One real, tiny call to one provider, also while it is out of service: with its default model, if no other is named.

        It is booked as every call. What goes wrong there is no exception: ``ok`` is false, and ``message`` has the provider's words.
        Reasons: ``not_found``, ``refused`` (it has no default model), ``unavailable``.
        """
        given = {"model": model, "prompt": prompt, "stream": stream}
        body = {key: value for key, value in given.items() if value is not None}
        return cast("TrialResult", (await self.node.ask("POST", _at("/v1/providers", name, "test"), body))["test"])

    async def _take_out(self, name: str, verb: str, *, wait: bool, timeout: float | None) -> dict[str, Any]:
        body = {"wait": wait, **({} if timeout is None else {"seconds": timeout})}
        return await self.node.ask("POST", _at("/v1/providers", name, verb), body, lasts=timeout or 0.0)

    async def create_failover_group(
        self, name: str, providers: Sequence[str], options: Options | None = None
    ) -> dict[str, Any]:
        """Make a group of ``providers``.

        ``options``: ``strategy``, ``max_attempts``, ``health_threshold``, ``models``, ``weights``, ``mode``.
        Reasons: ``missing_providers``, ``conflict``, ``invalid``.
        """
        body = {"name": name, "providers": list(providers), "options": dict(options or {})}
        return _edited(await self.node.ask("POST", "/v1/groups", body), "group")

    async def delete_failover_group(self, name: str) -> None:
        """Take a group away. Reasons: ``not_found``, ``refused`` (the default group)."""
        await self.node.ask("POST", _at("/v1/groups", name, "delete"))

    async def get_metrics(self, name: str = "all") -> dict[str, Any]:
        """What one provider has done, or ``"all"`` of them (``providers``) and the node (``node``). Reason: ``not_found``.

        Counts, tokens and dollars since the start; ``latency_ms`` and ``first_content_ms`` as p50, p95 and p99 of the last minute.
        """
        return dict((await self.node.ask("GET", _at("/v1/metrics", name)))["metrics"])

    async def estimate_costs(self, request: Mapping[str, Any]) -> dict[str, Decimal | None]:
        """An estimate of what ``request`` would cost at each provider in US dollars, with the model that it would use.

        ``None``: no price is known. The input is counted, with the extra ``tokens`` and where that can be, or estimated by its bytes, as
        far off as the model's requests so far were; the output is its limit.
        """
        costs = (await self.node.ask("POST", "/v1/costs/estimate", {"request": dict(request)}))["costs"]
        return {name: None if cost is None else Decimal(cost) for name, cost in costs.items()}

    async def get_costs(
        self, *, since: str = "24h", until: str | None = None, by: str = "provider"
    ) -> dict[str, dict[str, Any]]:
        """What calls have used and cost, by ``"provider"``, ``"model"``, ``"key"``, ``"group"``, ``"outcome"``, ``"tier"``, ``"day"`` or
        ``"hour"``.

        ``since`` and ``until`` are times ago (``"90m"``) or dates. ``cost_usd`` is exact, ``None`` where no cost is known; calls of unknown
        cost are counted in ``unknown_cost_calls``. Reasons: ``refused``, ``unavailable``.
        """
        body = {"since": since, "by": by, **({} if until is None else {"until": until})}
        lines = (await self.node.ask("GET", "/v1/costs", body))["costs"]
        return {
            line.pop("name"): {**line, "cost_usd": None if line["cost_usd"] is None else Decimal(line["cost_usd"])}
            for line in lines
        }

    async def health_check(self, name: str = "all") -> dict[str, ProbeResult]:
        """Ask one provider, or ``"all"``, really and for free, whether it answers. Reason: ``not_found``."""
        return dict((await self.node.ask("POST", _at("/v1/health", name)))["health"])


@frozen
class CircuitBreakerManager:
    """The circuit breakers of a running node."""

    node: AnyNode

    async def register_provider(self, name: str, config: Options) -> dict[str, Any]:
        """Tune a provider's breaker: ``failure_threshold``, ``recovery_timeout`` (ms), ``half_open_limit``.

        For a name that is not registered yet it is kept, and applied on registration. Reason: ``invalid``.
        """
        return _edited(await self.node.ask("POST", _at("/v1/breakers", name), {"config": dict(config)}), "breaker")

    async def get_circuit_state(self, name: str) -> CircuitState:
        """``closed``, ``open`` or ``half_open``. Reason: ``not_found``."""
        state: CircuitState = (await self.node.ask("GET", _at("/v1/breakers", name)))["breaker"]["state"]
        return state

    async def reset_circuit(self, name: str) -> None:
        """Close it, clear its counters and back-off, lift what was forced. Reason: ``not_found``."""
        await self.node.ask("POST", _at("/v1/breakers", name, "reset"))

    async def trip_circuit(self, name: str, *, seconds: float | None = None) -> None:
        """Force it open, for ``seconds`` or until :meth:`auto_circuit` or :meth:`reset_circuit`. Reasons: ``not_found``, ``refused``."""
        body = {} if seconds is None else {"seconds": seconds}
        await self.node.ask("POST", _at("/v1/breakers", name, "trip"), body)

    async def disable_circuit(self, name: str) -> None:
        """Have it measure and refuse nothing, until :meth:`auto_circuit` or :meth:`reset_circuit`. Reason: ``not_found``."""
        await self.node.ask("POST", _at("/v1/breakers", name, "disable"))

    async def auto_circuit(self, name: str) -> None:
        """Let it decide again after :meth:`trip_circuit` or :meth:`disable_circuit`; what was counted stays. Reason: ``not_found``."""
        await self.node.ask("POST", _at("/v1/breakers", name, "auto"))

    async def why(self, name: str, *, last: int = 5) -> dict[str, Any]:
        """Why a provider is as it is: what has moved its breaker (the ``last`` changes) and its score. Reason: ``not_found``."""
        return dict((await self.node.ask("GET", _at("/v1/providers", name, "why"), {"last": last}))["why"])

    async def what_if(self, name: str, config: Options) -> dict[str, Any]:
        """What its breaker would have done with ``config``, beside what it has done. It changes nothing.

        Options are those of :meth:`register_provider`. Reasons: ``not_found``, ``usage`` for an option that there is not, ``refused``.
        """
        return dict((await self.node.ask("GET", _at("/v1/breakers", name, "what-if"), dict(config)))["what_if"])


@frozen
class FailoverManager:
    """The failover groups of a running node."""

    node: AnyNode

    async def get_failover_stats(self, group: str) -> dict[str, Any]:
        """A group's settings, members and where they stand, and what has happened in it. Reason: ``not_found``."""
        return dict((await self.node.ask("GET", _at("/v1/failover", group)))["failover"])

    async def add_providers(self, group: str, providers: Sequence[str]) -> dict[str, Any]:
        """Take ``providers`` into a group, and tell its settings. Reasons: ``not_found``, ``missing_providers``."""
        body = {"providers": [*providers]}
        return _edited(await self.node.ask("POST", _at("/v1/groups", group, "add"), body), "group")

    async def remove_providers(self, group: str, providers: Sequence[str]) -> dict[str, Any]:
        """Take ``providers`` out of a group, and tell its settings.

        Reasons: ``not_found``, ``missing_providers`` (one is not in it), ``refused`` (nobody would be left).
        """
        body = {"providers": [*providers]}
        return _edited(await self.node.ask("POST", _at("/v1/groups", group, "remove"), body), "group")

    async def explain(self, group: str, model: str) -> dict[str, Any]:
        """Who would be asked for ``model``, in which order, who would not, and why."""
        return dict(
            (await self.node.ask("GET", _at("/v1/failover", group, "explain"), {"model": model}))["explanation"]
        )


@frozen
class Actors:
    """The actors of a running node: by a registered name, a path of the tree, or the end of one. Reason: ``not_found``.

    The guide has none of this; it is what Elixir's operators have of ``:sys``.
    """

    node: AnyNode

    async def top(self, *, sort: str = "mailbox", n: int = 20, seconds: float = 1.0) -> list[dict[str, Any]]:
        """The ``n`` with the most of ``mailbox``, ``busy``, ``rate`` or ``restarts``, watched for ``seconds``."""
        return list((await self.node.ask("GET", "/v1/actors", {"sort": sort, "n": n, "seconds": seconds}))["actors"])

    async def show(self, name: str) -> dict[str, Any]:
        """State, mailbox, incarnation, last exit, what it tells of itself."""
        return dict((await self.node.ask("GET", _at("/v1/actors", name)))["actor"])

    async def state(self, name: str) -> dict[str, Any]:
        """What it holds: shapes, numbers and names; other texts are left out."""
        return dict((await self.node.ask("GET", _at("/v1/actors", name, "state")))["state"])

    async def suspend(self, name: str, *, seconds: float = 60.0) -> dict[str, Any]:
        """Let its messages wait for ``seconds``, or until :meth:`resume`."""
        return await self.node.ask("POST", _at("/v1/actors", name, "suspend"), {"seconds": seconds})

    async def resume(self, name: str) -> dict[str, Any]:
        """End its suspension."""
        return await self.node.ask("POST", _at("/v1/actors", name, "resume"))

    async def restart(self, name: str) -> dict[str, Any]:
        """Restart it by its supervisor, and tell both incarnations. Reasons: ``refused``, ``failed``, ``conflict``."""
        return await self.node.ask("POST", _at("/v1/actors", name, "restart"))

    async def trace(self, name: str, *, most: int, seconds: float) -> AsyncIterator[dict[str, Any]]:
        """The messages that it handles, types and times alone, ``most`` of them within ``seconds``; the last line says why it is over."""
        async with aclosing(self.node.trace(name, {"max": most, "seconds": seconds})) as lines:
            async for line in lines:
                yield line


@frozen
class TelemetryHandler:
    """What a running node knows of itself."""

    node: AnyNode

    async def get_health_dashboard(self) -> Dashboard:
        """Overall health, each provider's, and alerts."""
        return cast("Dashboard", (await self.node.ask("GET", "/v1/dashboard"))["dashboard"])

    async def get_events(
        self,
        name: str | None = None,
        *,
        provider: str | None = None,
        request: str | None = None,
        since: int | None = None,
        limit: int = 100,
    ) -> EventPage:
        """What has happened, from the flight recorder: the last ``limit`` events, or the first behind the number ``since``.

        ``name`` may be a pattern, such as ``breaker.*``. Reason: ``not_found`` for one that no event has.
        """
        wanted = {"name": name, "provider": provider, "request": request, "since": since, "limit": limit}
        query = {key: value for key, value in wanted.items() if value is not None}
        return cast("EventPage", await self.node.ask("GET", "/v1/events", query))

    async def get_requests(
        self,
        *,
        n: int = 20,
        slow: bool = False,
        failed: bool = False,
        provider: str | None = None,
        key: str | None = None,
        since: str | None = None,
    ) -> list[dict[str, Any]]:
        """The last ``n`` requests of a node, the newest first, as far as the flight recorder remembers them; times are milliseconds.

        ``slow``: the slowest first; ``failed``: those alone; ``provider``: that it was called for, or refused; ``key``: of that inbound
        key; ``since``: a time ago (``"10m"``) or a date. Reason: ``refused``.
        """
        wanted = {
            "n": n,
            "slow": slow or None,
            "failed": failed or None,
            "provider": provider,
            "key": key,
            "since": since,
        }
        query = {name: value for name, value in wanted.items() if value is not None}
        return list((await self.node.ask("GET", "/v1/requests", query))["requests"])

    async def examine(self) -> list[Finding]:
        """What is wrong with a node or may become so, the worst first, each with the command that mends it or shows more."""
        return list((await self.node.ask("GET", "/v1/doctor"))["findings"])

    async def get_request(self, request_id: str) -> dict[str, Any]:
        """The way of one request: ``request``, its ``attempts``, who was ``passed_over`` and why, what happened ``meanwhile``.

        Reason: ``not_found``, also for one that the flight recorder has forgotten.
        """
        return await self.node.ask("GET", _at("/v1/requests", request_id))

    async def get_log(
        self,
        *,
        level: str = "debug",
        logger: str | None = None,
        request: str | None = None,
        since: int | None = None,
        limit: int = 50,
    ) -> LogPage:
        """Lines of the log of a node that :program:`runestone serve` runs: the last ``limit``, or the first behind the number ``since``.

        ``level``: the least grave; ``logger``: who says it, or the beginning of that name; ``request``: whom it is about. Reasons:
        ``refused``; ``unavailable`` for a node in this process, whose log is this program's.
        """
        wanted = {"level": level, "logger": logger, "request": request, "since": since, "limit": limit}
        query = {key: value for key, value in wanted.items() if value is not None}
        return cast("LogPage", await self.node.ask("GET", "/v1/log/lines", query))

    async def set_log_level(self, level: str, *, seconds: float | None = None) -> dict[str, Any]:
        """From which level on there are lines, for ``seconds`` or for good. Reasons: ``invalid``, ``refused``."""
        body = {"level": level, **({} if seconds is None else {"seconds": seconds})}
        return dict((await self.node.ask("POST", "/v1/log/level", body))["log"])

    def attach(self, handler: Callable[[Event], None], *, apart: bool = False) -> Callable[[], None]:
        """Have ``handler`` called with every event of a node in this process; the result ends that.

        It is called in the task that emits, a client's request for one, so it must be quick: count, or queue. With ``apart`` it is called
        in a thread of its own, a moment later, and may take its time: while 10,000 events wait for it, what comes is dropped, and counted.
        One that raises is counted and told in the log, and harms nobody. Events are the frozen classes of
        :mod:`runestone.telemetry.events`. Reason: ``refused`` for a node in another process, whose events :meth:`get_events` gives.
        """
        if not isinstance(self.node, Node):
            raise OperationError("refused", "a handler needs a node in this process; ask get_events of one elsewhere")
        return self.node.subscribe(handler, apart=apart)


@frozen
class ProviderAdapter:
    """Chats through a running node, with its failover."""

    node: AnyNode

    async def stream_chat(
        self, request: Mapping[str, Any], on_event: OnEvent | None = None, *, group: str | None = None
    ) -> AsyncIterator[ChatEvent]:
        """The events of one chat; ``request`` is a body of OpenAI's chat completions. ``on_event`` is told each, too.

        The first is :class:`Started`; :class:`Finished` is the last, and comes after a real end only. Reasons: ``no_providers_available``,
        ``model_not_found``, ``unknown_group``, the kind of the last failure, and others of the HTTP API's codes.
        """
        async with aclosing(self.node.chat({"request": dict(request), "group": group})) as events:
            async for data in events:
                event = _event(data)
                if on_event is not None and isawaitable(told := on_event(event)):
                    await told
                yield event


class ProviderPool:
    """Chats that run by themselves: each in a task of this pool, which ends with it, and is remembered until it is waited for."""

    def __init__(self, node: AnyNode) -> None:
        self._adapter = ProviderAdapter(node)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def stream_request(self, request: Mapping[str, Any], on_event: OnEvent, *, group: str | None = None) -> str:
        """Start one chat, whose events ``on_event`` is told, and give the request's id when its answer begins.

        While it runs it stands in the node's tree, adopted under ``requests``. Raises what :meth:`ProviderAdapter.stream_chat` does before
        its first event.
        """
        started: asyncio.Future[Started] = asyncio.get_running_loop().create_future()

        async def run() -> None:
            try:
                async with aclosing(_generator(self._adapter.stream_chat(request, on_event, group=group))) as events:
                    async for event in events:
                        if isinstance(event, Started):
                            started.set_result(event)
            except OperationError as error:
                if started.done():
                    raise
                started.set_exception(error)

        task = asyncio.ensure_future(run())
        try:
            id_ = (await started).id
        except asyncio.CancelledError:
            task.cancel()
            raise
        self._tasks[id_] = task
        return id_

    async def wait(self, request_id: str) -> None:
        """Until that chat has ended. Raises :class:`OperationError` if it broke, ``not_found`` if there is none."""
        if (task := self._tasks.pop(request_id, None)) is None:
            raise OperationError("not_found", f"there is no request {request_id!r}")
        await task


def _edited(answer: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What was edited; of a dry run, all that is told."""
    about = answer[kind]
    return {**(about if isinstance(about, Mapping) else {}), **answer} if answer.get("dry_run") else dict(about)


def _not_permitted(error: BaseException | None) -> bool:
    """Whether the system has refused it: that is told by what was the cause of the cause."""
    while error is not None and not isinstance(error, PermissionError):
        error = error.__cause__ or error.__context__
    return error is not None


async def _drain(node: AnyNode, timeout: float | None) -> None:
    body = {} if timeout is None else {"seconds": timeout}
    await node.ask("POST", "/v1/drain", body, lasts=timeout or 0.0)


def _generator(events: AsyncIterator[ChatEvent]) -> AsyncGenerator[ChatEvent, None]:
    return cast("AsyncGenerator[ChatEvent, None]", events)


def _event(data: Mapping[str, Any]) -> ChatEvent:
    match data:
        case {"type": "started", "id": id_, "provider": provider, "model": model}:
            return Started(id_, provider, model)
        case {"type": "text", "text": text}:
            return TextDelta(text)
        case {"type": "thinking", "text": text}:
            return ThinkingDelta(text)
        case {"type": "tool_call", "index": index, "id": id_, "name": name, "arguments": arguments}:
            return ToolCallDelta(index, id_, name, arguments)
        case {"type": "finished", "reason": reason, "usage": usage}:
            return Finished(reason, usage)
        case _:
            raise TypeError(data)


def _at(*parts: str) -> str:
    first, *rest = parts
    return "/".join((first, *(quote(part, safe="") for part in rest)))


def _refusal(error: Mapping[str, Any]) -> OperationError:
    return OperationError(error["code"], error["message"], error.get("problems", ()))
