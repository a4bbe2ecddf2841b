"""Every operation by method and path: one table for the admin socket and for callers in the process, so that both behave alike."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from attrs import field, frozen
from loguru import logger
from starlette.routing import compile_path

from runestone.operations import chat, export
from runestone.operations.actors import ActorActions
from runestone.operations.errors import OperationError
from runestone.operations.fleet import Fleet
from runestone.operations.node import Node
from runestone.telemetry.events import AdminActed

Body = Mapping[str, Any]
Answer = dict[str, Any]
Action = Callable[[str, Body], Awaitable[Answer]]


@frozen
class Actions:
    """What can be asked of one node. Each action gets the name in its path, and the body."""

    node: Node
    fleet: Fleet

    def table(self) -> list[tuple[str, str, Action]]:
        """All of them: method, path, action. GET reads, POST acts."""
        return [
            ("GET", "/v1/status", self._status),
            ("GET", "/v1/dashboard", self._dashboard),
            ("GET", "/v1/tree", self._tree),
            ("GET", "/v1/metrics/{name}", self._metrics),
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
            ("GET", "/v1/config", self._config),
            ("GET", "/v1/config/diff", self._config_diff),
            ("GET", "/v1/config/export", self._config_export),
            ("POST", "/v1/config/reload", self._reload),
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

    async def _mode(self, _: str, body: Body) -> Answer:
        return await self.fleet.set_mode(
            _text(body, "mode"), None if body.get("group") is None else _text(body, "group")
        )

    async def _reload(self, _: str, __: Body) -> Answer:
        return await self.fleet.reload()

    async def _crash(self, _: str, body: Body) -> Answer:
        return self.node.crash(_text(body, "name"))


@frozen
class Dispatch:
    """Finds an action and does it."""

    actions: Actions
    _routes: list[tuple[str, Any, Action]] = field(init=False)

    @_routes.default
    def _compiled(self) -> list[tuple[str, Any, Action]]:
        return [(method, compile_path(path)[0], action) for method, path, action in self.actions.table()]

    async def __call__(self, method: str, path: str, body: Body, who: str) -> Answer:
        """The answer of what ``method`` and ``path`` name. ``who`` asks, for the record. Raises :class:`OperationError`."""
        for known, pattern, action in self._routes:
            if known == method and (match := pattern.fullmatch(path)) is not None:
                name = unquote(match.groupdict().get("name", ""))
                return await self._done(method, path, who, action(name, body))
        raise OperationError("not_found", f"there is no {method} {path[:100]}")

    async def _done(self, method: str, path: str, who: str, doing: Awaitable[Answer]) -> Answer:
        if method == "GET":
            return await doing
        try:
            answer = await doing
        except OperationError as error:
            self._tell(who, f"{method} {path}", error.reason)
            raise
        self._tell(who, f"{method} {path}", "ok")
        return answer

    def _tell(self, who: str, action: str, outcome: str) -> None:
        logger.info("admin: {} by {} (claimed): {}", action, who, outcome)
        self.actions.node.bus.emit(AdminActed(who=who, action=action, outcome=outcome))


def _text(body: Body, key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value:
        raise OperationError("refused", f"{key} must be a string that is not empty")
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
