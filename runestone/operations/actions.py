"""Every operation by method and path: one table for the admin socket and for callers in the process, so that both behave alike."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

from attrs import field, frozen
from loguru import logger
from starlette.routing import compile_path

from runestone.operations import chat, costs, export
from runestone.operations.actors import ActorActions
from runestone.operations.errors import OperationError
from runestone.operations.fleet import Fleet
from runestone.operations.node import Node
from runestone.telemetry.events import AdminActed

Body = Mapping[str, Any]
Answer = dict[str, Any]
Action = Callable[[str, Body], Awaitable[Answer]]
_EVENTS: Final = 100  # without a limit
_MOST_EVENTS: Final = 1000
_DIGITS: Final = 20
_WORDS: Final = 200  # characters of what a caller says of itself


@frozen
class Actions:
    """What can be asked of one node. Each action gets the name in its path, and the body; one that reads, the query in its place."""

    node: Node
    fleet: Fleet

    def table(self) -> list[tuple[str, str, Action]]:
        """All of them: method, path, action. GET reads, POST acts."""
        return [
            ("GET", "/v1/status", self._status),
            ("GET", "/v1/dashboard", self._dashboard),
            ("GET", "/v1/tree", self._tree),
            ("GET", "/v1/metrics/{name}", self._metrics),
            ("GET", "/v1/events", self._events),
            ("POST", "/v1/health/{name}", self._probe),
            ("GET", "/v1/providers", self._providers),
            ("POST", "/v1/providers", self._register),
            ("GET", "/v1/providers/{name}", self._provider),
            ("POST", "/v1/providers/{name}", self._set_provider),
            ("POST", "/v1/providers/{name}/remove", self._unregister),
            ("POST", "/v1/providers/{name}/restart", self._restart),
            ("POST", "/v1/providers/{name}/fault", self._fault),
            ("GET", "/v1/breakers", self._breakers),
            ("GET", "/v1/breakers/{name}", self._breaker),
            ("POST", "/v1/breakers/{name}", self._tune),
            ("POST", "/v1/breakers/{name}/reset", self._reset),
            ("POST", "/v1/breakers/{name}/trip", self._trip),
            ("GET", "/v1/groups", self._groups),
            ("POST", "/v1/groups", self._create_group),
            ("POST", "/v1/groups/{name}", self._set_group),
            ("POST", "/v1/groups/{name}/delete", self._delete_group),
            ("GET", "/v1/failover/{name}", self._failover),
            ("POST", "/v1/failover/{name}/explain", self._explain),
            ("POST", "/v1/mode", self._mode),
            ("POST", "/v1/costs/estimate", self._estimate),
            ("GET", "/v1/costs", self._costs),
            ("POST", "/v1/costs/prune", self._prune_costs),
            ("GET", "/v1/config", self._config),
            ("GET", "/v1/config/diff", self._config_diff),
            ("GET", "/v1/config/export", self._config_export),
            ("POST", "/v1/config/reload", self._reload),
            ("POST", "/v1/log/level", self._log_level),
            ("POST", "/v1/crash", self._crash),
            *ActorActions(self.node).table(),
        ]

    def chat(self, body: Body) -> AsyncGenerator[Answer, None]:
        """``POST /v1/chat``: the events of one chat."""
        group = body.get("group")
        return chat.stream(
            self.node.gateway, _mapping(body, "request"), None if group is None else _text(body, "group")
        )

    def trace(self, name: str, body: Body) -> AsyncGenerator[Answer, None]:
        """``GET /v1/actors/NAME/trace``: the messages that an actor handles, as it does."""
        return ActorActions(self.node).trace(name, body)

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _status(self, _: str, __: Body) -> Answer:
        return self.node.status()

    async def _dashboard(self, _: str, __: Body) -> Answer:
        return {"dashboard": self.node.dashboard()}

    async def _tree(self, _: str, body: Body) -> Answer:
        return {"tree": ActorActions(self.node).tree(body)}

    async def _metrics(self, name: str, _: Body) -> Answer:
        return {"metrics": self.node.provider_metrics(name)}

    async def _events(self, _: str, query: Body) -> Answer:
        return self.node.events(
            name=_filter(query, "name"),
            since=_count(query, "since", 0),
            limit=_count(query, "limit", 1, _MOST_EVENTS) or _EVENTS,
            provider=_filter(query, "provider"),
            request=_filter(query, "request"),
        )

    async def _probe(self, name: str, _: Body) -> Answer:
        return {"health": await self.node.probe(name)}

    async def _providers(self, _: str, __: Body) -> Answer:
        return {"providers": self.node.providers()}

    async def _provider(self, name: str, _: Body) -> Answer:
        return {"provider": self.node.provider(name)}

    async def _breakers(self, _: str, __: Body) -> Answer:
        return {"breakers": [self.node.breaker(name) for name in sorted(self.node.memories)]}

    async def _breaker(self, name: str, _: Body) -> Answer:
        return {"breaker": self.node.breaker(name)}

    async def _groups(self, _: str, __: Body) -> Answer:
        return {"groups": self.fleet.groups()}

    async def _failover(self, name: str, _: Body) -> Answer:
        return {"failover": await self.node.failover_stats(name)}

    async def _explain(self, name: str, body: Body) -> Answer:
        return {"explanation": await self.node.explain(_text(body, "model"), name)}

    async def _estimate(self, _: str, body: Body) -> Answer:
        return {"costs": await self.node.estimate_costs(_mapping(body, "request"))}

    async def _costs(self, _: str, body: Body) -> Answer:
        return await costs.shown(self.node, body)

    async def _config(self, _: str, __: Body) -> Answer:
        return self.fleet.configuration()

    async def _config_diff(self, _: str, __: Body) -> Answer:
        return self.fleet.changed_at_run_time()

    async def _config_export(self, _: str, __: Body) -> Answer:
        return {"toml": export.toml(self.fleet.memory)}

    # -- acting --------------------------------------------------------------------------------------------------------

    async def _register(self, _: str, body: Body) -> Answer:
        return await self.fleet.register_provider(_text(body, "name"), _text(body, "kind"), _mapping(body, "config"))

    async def _set_provider(self, name: str, body: Body) -> Answer:
        return await self.fleet.set_provider(name, _mapping(body, "config"))

    async def _unregister(self, name: str, _: Body) -> Answer:
        return await self.fleet.unregister_provider(name)

    async def _restart(self, name: str, body: Body) -> Answer:
        return await self.node.restart_provider(name, hard=_flag(body, "hard"))

    async def _fault(self, name: str, body: Body) -> Answer:
        return await self.node.set_fault(name, _text(body, "spec"))

    async def _tune(self, name: str, body: Body) -> Answer:
        return await self.fleet.tune_breaker(name, _mapping(body, "config"))

    async def _reset(self, name: str, _: Body) -> Answer:
        return {"breaker": await self.node.reset_breaker(name)}

    async def _trip(self, name: str, body: Body) -> Answer:
        return {"breaker": await self.node.trip_breaker(name, body.get("seconds"))}

    async def _create_group(self, _: str, body: Body) -> Answer:
        options = _mapping(body, "options")
        return await self.fleet.create_failover_group(_text(body, "name"), _texts(body, "providers"), options)

    async def _set_group(self, name: str, body: Body) -> Answer:
        providers = _texts(body, "providers") if "providers" in body else None
        return await self.fleet.set_group(name, _mapping(body, "options"), providers)

    async def _delete_group(self, name: str, _: Body) -> Answer:
        return await self.fleet.delete_failover_group(name)

    async def _prune_costs(self, _: str, body: Body) -> Answer:
        return await costs.pruned(self.node, body)

    async def _mode(self, _: str, body: Body) -> Answer:
        return await self.fleet.set_mode(
            _text(body, "mode"), None if body.get("group") is None else _text(body, "group")
        )

    async def _reload(self, _: str, __: Body) -> Answer:
        return await self.fleet.reload()

    async def _log_level(self, _: str, body: Body) -> Answer:
        return await self.fleet.set_log_level(_text(body, "level"))

    async def _crash(self, _: str, body: Body) -> Answer:
        return ActorActions(self.node).crash(_text(body, "name"))


@frozen
class Dispatch:
    """Finds an action and does it."""

    actions: Actions
    _routes: list[tuple[str, str, Any, Action]] = field(init=False)

    @_routes.default
    def _compiled(self) -> list[tuple[str, str, Any, Action]]:
        return [(method, path, compile_path(path)[0], action) for method, path, action in self.actions.table()]

    async def __call__(self, method: str, path: str, body: Body, who: str) -> Answer:
        """The answer of what ``method`` and ``path`` name. ``who`` asks, for the record. Raises :class:`OperationError`."""
        for known, route, pattern, action in self._routes:
            if known == method and (match := pattern.fullmatch(path)) is not None:
                name = unquote(match.groupdict().get("name", ""))
                if method == "GET":
                    return await action(name, body)
                return await self._done(
                    partial(self._tell, who, f"{method} {path}", f"{method} {route}"), action(name, body)
                )
        raise OperationError("not_found", f"there is no {method} {path[:100]}")

    async def _done(self, tell: Callable[[str], None], doing: Awaitable[Answer]) -> Answer:
        try:
            answer = await doing
        except OperationError as error:
            tell(error.reason)
            raise
        tell("ok")
        return answer

    def _tell(self, who: str, action: str, route: str, outcome: str) -> None:
        logger.info("admin: {} by {} (claimed): {}", action, who, outcome)
        who, action = who[:_WORDS], action[:_WORDS]
        self.actions.node.bus.emit(AdminActed(who=who, action=action, outcome=outcome, route=route))


def _text(body: Body, key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise OperationError("refused", f"{key} must be a string that is not empty")
    return value


def _filter(query: Body, key: str) -> str | None:
    return _text(query, key) if key in query else None


def _count(query: Body, key: str, least: int, most: int | None = None) -> int | None:
    value = query.get(key)
    if isinstance(value, str) and value.isdecimal() and len(value) < _DIGITS:
        value = int(value)
    if value is not None and (type(value) is not int or value < least or (most is not None and value > most)):
        raise OperationError("refused", f"{key} must be a whole number from {least}" + (f" to {most}" if most else ""))
    return value


def _flag(body: Body, key: str) -> bool:
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise OperationError("refused", f"{key} must be true or false")
    return value


def _texts(body: Body, key: str) -> list[str]:
    value = body.get(key)
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise OperationError("refused", f"{key} must be a list of strings")
    return list(value)


def _mapping(body: Body, key: str) -> Body:
    value = body.get(key, {})
    if not isinstance(value, Mapping):
        raise OperationError("refused", f"{key} must be an object")
    return value
