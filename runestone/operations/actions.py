"""Every operation by method and path: one table for the admin socket and for callers in the process, so that both behave alike."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from attrs import evolve, field, frozen
from starlette.routing import compile_path

from runestone.operations import ceilings, chat, costs, export, given
from runestone.operations.actors import ActorActions
from runestone.operations.audit import Record, Who
from runestone.operations.diagnosis import DoctorActions
from runestone.operations.edits import EDITS
from runestone.operations.errors import OperationError
from runestone.operations.evaluation import EvaluationActions
from runestone.operations.fleet import Fleet
from runestone.operations.history import HistoryActions
from runestone.operations.lifecycle import LifecycleActions
from runestone.operations.limits import LimitActions
from runestone.operations.log import LogActions
from runestone.operations.node import Node
from runestone.operations.operation import Action, Body, Operation
from runestone.operations.requests import RequestActions
from runestone.operations.service import ServiceActions

Answer = dict[str, Any]
_EVENTS: Final = 100  # without a limit
_DIGITS: Final = 20


@frozen
class Actions:
    """What can be asked of one node. Each action gets the name in its path, and the body; one that reads, the query in its place."""

    node: Node
    fleet: Fleet

    def table(self) -> list[Operation]:
        """All of them."""
        return [
            Operation("GET", "/v1/status", self._status),
            Operation("GET", "/v1/dashboard", self._dashboard),
            Operation("GET", "/v1/tree", self._tree),
            Operation("GET", "/v1/metrics/{name}", self._metrics),
            Operation("GET", "/v1/events", self._events),
            Operation("POST", "/v1/health/{name}", self._probe),
            Operation("GET", "/v1/providers", self._providers),
            Operation("POST", "/v1/providers", self._register),
            Operation("GET", "/v1/providers/{name}", self._provider),
            Operation("POST", "/v1/providers/{name}", self._set_provider),
            Operation("POST", "/v1/providers/{name}/remove", self._unregister),
            Operation("POST", "/v1/providers/{name}/fault", self._fault),
            Operation("GET", "/v1/breakers", self._breakers),
            Operation("GET", "/v1/breakers/{name}", self._breaker),
            Operation("POST", "/v1/breakers/{name}", self._tune),
            Operation("POST", "/v1/breakers/{name}/reset", self._reset),
            Operation("POST", "/v1/breakers/{name}/trip", self._trip),
            Operation("GET", "/v1/groups", self._groups),
            Operation("POST", "/v1/groups", self._create_group),
            Operation("POST", "/v1/groups/{name}", self._set_group),
            Operation("POST", "/v1/groups/{name}/add", self._add_members),
            Operation("POST", "/v1/groups/{name}/remove", self._remove_members),
            Operation("POST", "/v1/groups/{name}/delete", self._delete_group),
            Operation("GET", "/v1/failover/{name}", self._failover),
            Operation("GET", "/v1/failover/{name}/explain", self._explain),
            Operation("POST", "/v1/mode", self._mode, about="group"),
            Operation("POST", "/v1/costs/estimate", self._estimate, reads=True),
            Operation("GET", "/v1/costs", self._costs),
            Operation("POST", "/v1/costs/prune", self._prune_costs),
            Operation("GET", "/v1/config", self._config),
            Operation("GET", "/v1/config/diff", self._config_diff),
            Operation("GET", "/v1/config/export", self._config_export),
            Operation("POST", "/v1/config/reload", self._reload),
            Operation("POST", "/v1/log/level", self._log_level),
            Operation("POST", "/v1/crash", self._crash),
            *ActorActions(self.node).table(),
            *DoctorActions(self.node, self.fleet).table(),
            *RequestActions(self.node).table(),
            *LogActions(self.node).table(),
            *LimitActions(self.node).table(),
            *HistoryActions(self.node).table(),
            *ServiceActions(self.node).table(),
            *LifecycleActions(self.node).table(),
            *EvaluationActions(self.node, self.fleet).table(),
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

    def export(self, body: Body) -> AsyncGenerator[Answer, None]:
        """``GET /v1/events/export``: all that is recorded."""
        return HistoryActions(self.node).export(body)

    # -- reading -------------------------------------------------------------------------------------------------------

    async def _status(self, _: str, __: Body) -> Answer:
        unsaved = {"changes": len(self.fleet.unsaved()), "needs_restart": list(self.fleet.memory.needs_restart)}
        return {**self.node.status(), "unsaved": unsaved}

    async def _dashboard(self, _: str, __: Body) -> Answer:
        return {"dashboard": self.node.dashboard()}

    async def _tree(self, _: str, body: Body) -> Answer:
        return {"tree": ActorActions(self.node).tree(body)}

    async def _metrics(self, name: str, query: Body) -> Answer:
        if str(query.get("prom", "")).lower() != "true":
            return {"metrics": self.node.provider_metrics(name)}
        return {"prometheus": await self.node.prometheus(name)}

    async def _events(self, _: str, query: Body) -> Answer:
        return self.node.events(
            name=_filter(query, "name"),
            since=_count(query, "since", 0),
            limit=_count(query, "limit", 1, ceilings.LISTED) or _EVENTS,
            provider=_filter(query, "provider"),
            request=_filter(query, "request"),
        )

    async def _probe(self, name: str, _: Body) -> Answer:
        return {"health": await self.node.probe(name)}

    async def _providers(self, _: str, __: Body) -> Answer:
        self.node.top()
        return {"providers": self.node.providers()}

    async def _provider(self, name: str, _: Body) -> Answer:
        return {"provider": self.node.provider(name)}

    async def _breakers(self, _: str, __: Body) -> Answer:
        self.node.top()
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
        return await self.node.estimate_costs(_mapping(body, "request"))

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

    async def _add_members(self, name: str, body: Body) -> Answer:
        return await self.fleet.change_members(name, add=given.texts(body, "providers"))

    async def _remove_members(self, name: str, body: Body) -> Answer:
        return await self.fleet.change_members(name, remove=given.texts(body, "providers"))

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
        return await self.fleet.set_log_level(_text(body, "level"), given.seconds(body, ceilings.LOG_LEVEL_SECONDS))

    async def _crash(self, _: str, body: Body) -> Answer:
        return ActorActions(self.node).crash(_text(body, "name"))


@frozen
class Dispatch:
    """Finds an action and does it."""

    actions: Actions
    _routes: list[tuple[Operation, re.Pattern[str]]] = field(init=False)
    _dry: Mapping[str, Action] = field(init=False)  # edits by route, as far as they can be tried

    @_routes.default
    def _compiled(self) -> list[tuple[Operation, re.Pattern[str]]]:
        return [(one, compile_path(one.path)[0]) for one in self.actions.table()]

    @_dry.default
    def _edits(self) -> Mapping[str, Action]:
        dry = evolve(self.actions, fleet=evolve(self.actions.fleet, dry=True))
        return {one.route: one.action for one in dry.table() if one.route in EDITS}

    def reads(self, method: str, path: str) -> bool:
        """Whether what they name only looks. What there is not would act, if it came by POST."""
        found = self._found(method, path)
        return method == "GET" if found is None else found[0].reads

    async def __call__(self, method: str, path: str, body: Body, who: Who, *, dry_run: bool = False) -> Answer:
        """The answer of what ``method`` and ``path`` name. ``who`` asks, for the record. Raises :class:`OperationError`.

        ``dry_run``: an edit of the settings is checked and told, and not made; anything else is refused.
        """
        if (found := self._found(method, path)) is None:
            raise OperationError("not_found", f"there is no {method} {path[:100]}")
        one, name = found
        if one.reads:
            return await one.action(name, body)
        subject = name or body.get(one.about)
        record = Record.begin(
            self.actions.fleet,
            who,
            one.told(path, body),
            one.route,
            subject if isinstance(subject, str) else None,
        )
        if dry_run:
            return await self._recorded(record, self._tried(record.route, name, body), "dry_run")
        return await self._recorded(record, one.action(name, body), "ok")

    def _found(self, method: str, path: str) -> tuple[Operation, str] | None:
        """What is asked for, and the name in its path."""
        for one, pattern in self._routes:
            if one.method == method and (match := pattern.fullmatch(path)) is not None:
                return one, unquote(match.groupdict().get("name", ""))
        return None

    async def _tried(self, route: str, name: str, body: Body) -> Answer:
        if (action := self._dry.get(route)) is None:
            raise OperationError("usage", f"{route} is no edit of the settings, so there is nothing to try")
        return {**await action(name, body), "dry_run": True}

    async def _recorded(self, record: Record, doing: Awaitable[Answer], outcome: str) -> Answer:
        told = "broken_off"
        try:
            answer = await doing
            told = outcome
        except OperationError as error:
            told = error.reason
            raise
        finally:
            record.end(told)
        return answer


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
