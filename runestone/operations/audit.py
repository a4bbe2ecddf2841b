"""The record of what an operator does: who, what, why, and what was otherwise before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen
from loguru import logger

from runestone.operations.actors import ActorActions
from runestone.operations.errors import OperationError
from runestone.operations.fleet import Fleet
from runestone.operations.node import Node
from runestone.telemetry.events import AdminActed
from runestone.telemetry.logs import masked

Facts = Mapping[
    str, tuple[Any, Any, bool]
]  # by name: the value, as it may be told, and whether somebody has made it so
_WORDS: Final = 200  # characters of what a caller says, and of a value
_POLICY: Final = ("failure_threshold", "recovery_timeout_seconds", "half_open_limit")
_MOST: Final = 20  # differences that are told
_SETTINGS: Final = ("providers", "breakers", "mode", "config")


@frozen(kw_only=True)
class Who:
    """Who asks. ``claimed`` and ``reason`` are their own words; ``uid`` and ``pid`` the kernel's, where it was a unix socket."""

    claimed: str
    uid: int | None = None
    pid: int | None = None
    reason: str | None = None


@frozen
class Record:
    """One act, from before it is done until it is told. ``subject`` is the name that its path or its body has."""

    node: Node
    who: Who
    action: str
    route: str
    look: Callable[[], Facts]
    before: Facts

    @classmethod
    def begin(cls, fleet: Fleet, who: Who, action: str, route: str, subject: str | None) -> Record:
        """Look how things are."""

        def look() -> Facts:
            return facts(fleet, route.split("/")[2], subject)

        return cls(fleet.node, who, action, route, look, look())

    def end(self, outcome: str) -> None:
        """Look again, and tell: as a line of the log, and as the event ``admin.acted``."""
        before, after = different(self.before, self.look())
        who, action = self.who, self.action[:_WORDS]
        claimed, reason = who.claimed[:_WORDS], None if who.reason is None else who.reason[:_WORDS]
        by_kernel = "" if who.uid is None else f", uid {who.uid}, pid {who.pid}"
        more = [f"{key}: {before[key]} -> {after[key]}" for key in after] + ([f"reason: {reason}"] if reason else [])
        logger.info("admin: {} by {} (claimed){}: {}", action, claimed, by_kernel, "; ".join((outcome, *more)))
        self.node.bus.emit(
            AdminActed(
                who=claimed,
                action=action,
                outcome=outcome,
                route=self.route,
                uid=who.uid,
                pid=who.pid,
                reason=reason,
                before=before,
                after=after,
            )
        )


def facts(fleet: Fleet, kind: str, subject: str | None) -> Facts:
    """What an act on ``subject``, which is of ``kind`` (the second part of a route), may change."""
    found = {key: (value, value, True) for key, value in _running(fleet, kind, subject).items()}
    told_already = found and kind in ("breakers", "mode")
    return {**found, **_set(fleet, kind, subject)} if kind in _SETTINGS and not told_already else found


def different(before: Facts, after: Facts) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of both what differs, small enough to be told. Defaults that come or go with a thing are not."""
    pairs = {key: (before.get(key, _ABSENT), after.get(key, _ABSENT)) for key in {**before, **after}}
    keys = [key for key, (was, now) in pairs.items() if was[0] != now[0] and (was[2] or now[2])][:_MOST]
    was, now = ({key: _told(pairs[key][side][1]) for key in keys} for side in (0, 1))
    return was, now


_ABSENT: Final = (None, None, False)


def _told(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else masked(str(value))[:_WORDS]


def _running(fleet: Fleet, kind: str, subject: str | None) -> dict[str, Any]:  # noqa: PLR0911 - one for each kind
    """How a provider, a group, an actor or the node is."""
    node = fleet.node
    match kind:
        case "providers" | "breakers" if subject is not None and subject in node.memories:
            memory, breaker = node.memories[subject], node.breaker(subject)
            policy = {key: breaker[key] for key in _POLICY} if kind == "breakers" else {}
            return {
                "status": node.status_of(memory),
                "breaker": breaker["state"],
                "breaker_mode": breaker["mode"],
                "incarnation": memory.incarnation,
                **policy,
            }
        case "mode" if subject is not None:
            return {key: value for key, value in _group(fleet, subject).items() if key.endswith(".mode")}
        case "groups" if subject is not None:
            return _group(fleet, subject)
        case "actors" | "crash" if subject is not None:
            return _actor(node, subject)
        case "log":
            return {f"log.{key}": value for key, value in node.log_level().items()}
        case "drain" | "undrain" | "shutdown":
            return {"phase": "draining" if node.phase.draining else "ready"}
        case _:
            return {}


def _group(fleet: Fleet, name: str) -> dict[str, Any]:
    try:
        return {f"groups.{name}.{key}": value for key, value in fleet.group(name).items() if value}
    except OperationError:
        return {}


def _actor(node: Node, name: str) -> dict[str, Any]:
    try:
        return ActorActions(node).standing(name)
    except OperationError:
        return {}


def _set(fleet: Fleet, kind: str, subject: str | None) -> Facts:
    """The settings of ``subject``, or all."""
    match kind:
        case "providers" | "breakers":
            path: tuple[str | None, ...] = ("providers", subject)
        case "mode":
            path = ("server", "mode")
        case _:
            path = ()
    entries = fleet.memory.loaded.entries
    return {e.key: (e.value, e.shown, e.written) for e in entries if e.path[: len(path)] == path}
