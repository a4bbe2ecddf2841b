"""The actors of a running node, one by one: how they are, what they hold, and what an operator may do to them."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, get_args

from attrs import evolve, frozen

from runestone.domain.catalogue import KINDS
from runestone.operations import ceilings, stacks
from runestone.operations.errors import OperationError
from runestone.operations.node import Node, tree_as_data
from runestone.operations.operation import Operation
from runestone.operations.redaction import redacted
from runestone.resilience.selection import Strategy
from supervisors import (
    Activity,
    ActorError,
    ActorRef,
    CallTimeout,
    Ignored,
    Restarting,
    StartFailed,
    Trace,
    TraceEvent,
    TreeNode,
    activity,
    get_state,
    get_status,
    processes,
    resume,
    suspend,
    trace,
)

Body = Mapping[str, Any]
Answer = dict[str, Any]
SORTS: Final = ("mailbox", "busy", "rate", "restarts")
_ASK_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0  # one that answers later is at one message all the time
_RESTART_SECONDS: Final = 60.0
_BUFFER: Final = 256  # messages of a trace that wait for its reader
_LAST_EXIT: Final = 200  # characters
_BEARING: Final = (
    "",
    "/registry",
    "/state",
    "/node",
    "/node/servers",
    "/node/requests",
)  # the requests in flight stand on these


@frozen
class ActorActions:
    """What may be asked of the actors of ``node``. A name is a registered one, a path, or the end of a path."""

    node: Node

    def table(self) -> list[Operation]:
        """All of them."""
        return [
            Operation("GET", "/v1/actors", self.top),
            Operation("GET", "/v1/actors/{name}", self.show),
            Operation("GET", "/v1/actors/{name}/state", self.state),
            Operation("POST", "/v1/actors/{name}/suspend", self.suspend),
            Operation("POST", "/v1/actors/{name}/resume", self.resume),
            Operation("POST", "/v1/actors/{name}/restart", self.restart),
            Operation("GET", "/v1/stacks", self.stacks),
            Operation("POST", "/v1/block", self.block),
        ]

    # -- reading -------------------------------------------------------------------------------------------------------

    def tree(self, body: Body) -> Answer:
        """The tree, or what is under ``path`` in it, ``depth`` levels of it."""
        node = self.node.tree() if body.get("path") is None else self._find(str(body["path"]))[0]
        depth = _number(body, "depth", ceilings.LEVELS_OF_TREE, default=math.inf)
        return tree_as_data(_cut(node, depth))

    async def top(self, _: str, body: Body) -> Answer:
        """The ``n`` actors with the most of what ``sort`` names, watched for ``seconds``."""
        sort, count = str(body.get("sort", "mailbox")), int(_number(body, "n", ceilings.ACTORS, default=20))
        if sort not in SORTS:
            raise OperationError("refused", f"sort must be one of {', '.join(SORTS)}")
        told = await activity(self.node.top(), seconds=_number(body, "seconds", ceilings.ACTIVITY_SECONDS, default=1.0))
        known = {(node.path, node.incarnation): node for node, _ in _walk(self.node.tree())}
        rows = [_row(one, node) for one in told if (node := known.get((one.ref.path, one.ref.incarnation))) is not None]
        rows.sort(key=lambda row: row["path"])
        rows.sort(key=lambda row: row[_COLUMN[sort]] or 0, reverse=True)
        return {"actors": rows[:count], "all": len(rows), "sort": sort}

    async def show(self, name: str, _: Body) -> Answer:
        """One actor: who it is, its mailbox, its last exit, what it tells of itself."""
        node, _parent = self._find(name)
        data = tree_as_data(node)
        children = data.pop("children")
        last_exit = None if node.last_exit is None else node.last_exit[:_LAST_EXIT]
        told = {
            **data,
            "last_exit": last_exit,
            "children": len(children),
            "status": redacted(node.status, self._words()),
        }
        return {"actor": {**told, **await self._looked(node)}}

    async def state(self, name: str, _: Body) -> Answer:
        """What one actor holds: shapes, numbers and names."""
        node, _parent = self._find(name)
        held = await _asked(node.path, get_state(self._ref(node), timeout=_ASK_SECONDS))
        return {"actor": node.path, "incarnation": node.incarnation, "state": redacted(held, self._words())}

    def trace(self, name: str, body: Body) -> AsyncGenerator[Answer, None]:
        """The messages that one actor handles, types alone: ``max`` of them at most, for ``seconds`` at most; both must be given."""
        count = int(_number(body, "max", ceilings.TRACED_MESSAGES))
        seconds = _number(body, "seconds", ceilings.TRACE_SECONDS)
        node, _parent = self._find(name)
        following = trace(self._ref(node), max_events=count, seconds=seconds, payloads=False, buffer=_BUFFER)
        return _lines(following)

    async def stacks(self, _: str, body: Body) -> Answer:
        """Where the tasks are."""
        task = body.get("task")
        return stacks.answer(asyncio.get_running_loop(), threading.get_ident(), None if task is None else str(task))

    # -- acting --------------------------------------------------------------------------------------------------------

    async def suspend(self, name: str, body: Body) -> Answer:
        """Let the messages of one actor wait for ``seconds``, 60 by default, or until it is resumed."""
        node, _parent = self._find(name)
        seconds = _number(body, "seconds", ceilings.SUSPENSION_SECONDS, default=60.0)
        await _asked(node.path, suspend(self._ref(node), seconds=seconds, timeout=_ASK_SECONDS))
        return await self._standing(node)

    async def resume(self, name: str, _: Body) -> Answer:
        """Let one actor go on."""
        node, _parent = self._find(name)
        await _asked(node.path, resume(self._ref(node), timeout=_ASK_SECONDS))
        return await self._standing(node)

    async def restart(self, name: str, _: Body) -> Answer:
        """Restart one actor by its supervisor. It counts as nobody's failure; what a crash of it takes along goes along."""
        node, parent = self._find(name)
        if node.path.removeprefix(self.node.top().path) in _BEARING:
            message = f"{node.path} carries the requests in flight; restart the process instead, which drains them"
            raise OperationError("refused", message)
        if parent is None or parent.kind != "supervisor" or node.kind == "task":
            raise OperationError("refused", f"{node.path} is no child that its supervisor could restart")
        above = self._ref(parent)
        outcome = await _asked(parent.path, above.restart_child(node.id, stop=True, timeout=_RESTART_SECONDS))
        match outcome:
            case ActorRef():
                return {"actor": node.path, "incarnation_before": node.incarnation, "incarnation": outcome.incarnation}
            case StartFailed(reason):
                raise OperationError(
                    "failed", f"{node.path} did not start: {type(reason).__name__}; its supervisor tries on"
                )
            case Restarting():
                raise OperationError("conflict", f"{node.path} is being restarted")
            case Ignored():
                raise OperationError("failed", f"{node.path} is not wanted, it says")
            case _:
                raise OperationError("refused", f"{node.path} comes and goes; {parent.path} restarts nobody on request")

    def crash(self, name: str) -> Answer:
        """Make one actor crash as a bug would. Who serves then is not waited for: the crash may end who would tell."""
        self._check_faults()
        node, _parent = self._find(name)
        self._ref(node).process.crash(RuntimeError("crashed on request"))
        return {"name": name, "actor": node.path, "incarnation_before": node.incarnation}

    async def block(self, _: str, body: Body) -> Answer:
        """Hold the event loop up for ``seconds``, as a handler with a bug would."""
        self._check_faults()
        seconds = _number(body, "seconds", ceilings.BLOCK_SECONDS, default=1.0)
        _hold_up(seconds)
        return {"blocked_seconds": seconds}

    def standing(self, name: str) -> Answer:
        """Its path, state and incarnation, without asking it."""
        node, _parent = self._find(name)
        return {"actor": node.path, "state": node.state, "incarnation": node.incarnation}

    # -- within --------------------------------------------------------------------------------------------------------

    def _check_faults(self) -> None:
        if not self.node.allow_faults:
            raise OperationError("not_enabled", "faults on request are off; start the node with serve --allow-faults")

    def _find(self, name: str) -> tuple[TreeNode, TreeNode | None]:
        """The node that ``name`` means, and the one above it."""
        pairs = list(_walk(self.node.tree()))
        by_path = [pair for pair in pairs if pair[0].path == name]
        by_name = [pair for pair in pairs if pair[0].name == name]
        by_end = [pair for pair in pairs if pair[0].path.endswith(f"/{name}")]
        for found in (by_path, by_name, by_end):
            actors = [pair for pair in found if pair[0].kind != "task"] or found
            if len(actors) == 1:
                return actors[0]
            if actors:
                which = ", ".join(pair[0].path for pair in actors[:10])
                raise OperationError("conflict", f"{name!r} may be one of {which}")
        known = [node.path for node, _ in pairs] + [node.name for node, _ in pairs if node.name]
        close = get_close_matches(name, [*known, *(path.rpartition("/")[2] for path in known)], 1)
        hint = f"; did you mean {close[0]}?" if close else "; `tree` shows who there is"
        raise OperationError("not_found", f"there is no actor {name[:100]!r}{hint}")

    def _ref(self, node: TreeNode) -> ActorRef:
        for process in processes(self.node.top()):
            if process.path == node.path and process.incarnation == node.incarnation:
                if process.mailbox is None:
                    raise OperationError("refused", f"{node.path} is a task and has no mailbox")
                return ActorRef(process)
        raise OperationError("conflict", f"{node.path} does not run now; it is {node.state}")

    async def _standing(self, node: TreeNode) -> Answer:
        told = await _asked(node.path, get_status(self._ref(node), timeout=_ASK_SECONDS))
        return {
            "actor": node.path,
            "state": told["state"],
            "resumes_in_seconds": _rounded(told["resumes_in_seconds"]),
            "mailbox": told["mailbox"],
        }

    async def _looked(self, node: TreeNode) -> Answer:
        """What only the actor itself tells, if it is free to."""
        if node.kind == "task" or node.state in ("stopped", "restarting", "starting", "unkillable"):
            return {}
        try:
            told = await get_status(self._ref(node), timeout=_LOOK_SECONDS)
        except CallTimeout:
            return {"busy": "it is at one message for a while"}
        except ActorError:
            return {}
        return {
            "behaviour": told["behaviour"],
            "mailbox_limit": told["mailbox"]["limit"],
            "resumes_in_seconds": _rounded(told["resumes_in_seconds"]),
        }

    def _words(self) -> frozenset[str]:
        """The words that are no secret: names of this node, and of this program."""
        settings = self.node.settings
        providers = [word for p in settings.providers for word in (p.name, p.default_model, *p.models)]
        groups = [group.name for group in settings.groups]
        return frozenset(
            [*self.node.memories, *providers, *groups, *self.node.registry.names(), *KINDS, *get_args(Strategy)]
        )


_COLUMN: Final = {"mailbox": "mailbox", "busy": "busy_percent", "rate": "messages_per_second", "restarts": "restarts"}


def _row(one: Activity, node: TreeNode) -> dict[str, Any]:
    busy = None if one.busy_seconds is None else round(100 * one.busy_seconds / one.seconds, 2)
    return {
        "path": node.path,
        "state": node.state,
        "mailbox": int(node.mailbox["depth"]),
        "oldest_seconds": round(node.mailbox["age_seconds"], 3),
        "high_water": int(node.mailbox["high_water"]),
        "drops": int(node.mailbox["drops"]),
        "messages_per_second": round(one.messages / one.seconds, 1),
        "busy_percent": busy,
        "restarts": node.restarts,
        "incarnation": node.incarnation,
    }


async def _lines(following: Trace) -> AsyncGenerator[Answer, None]:
    loop, told = asyncio.get_running_loop(), 0
    try:
        async for event in following:
            told += 1
            yield _line(event, time.time() - loop.time())
    finally:
        following.close()
    yield {"v": 1, "type": "end", "reason": following.ended, "messages": told, "dropped": following.dropped}


def _line(event: TraceEvent, epoch: float) -> Answer:
    seconds = epoch + event.at
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"
    return {
        "v": 1,
        "type": "message",
        "at": at,
        "kind": event.kind,
        "message": event.type,
        "sender": event.sender,
        "waited_ms": None if event.waited_seconds is None else round(event.waited_seconds * 1000, 3),
        "handled_ms": round(event.handled_seconds * 1000, 3),
        "outcome": event.outcome,
    }


def _walk(node: TreeNode, parent: TreeNode | None = None) -> Iterator[tuple[TreeNode, TreeNode | None]]:
    yield node, parent
    for child in node.children:
        yield from _walk(child, node)


def _cut(node: TreeNode, depth: float) -> TreeNode:
    return evolve(node, children=tuple(_cut(child, depth - 1) for child in node.children) if depth > 1 else ())


async def _asked(path: str, asking: Awaitable[Any]) -> Any:
    try:
        return await asking
    except CallTimeout:
        raise OperationError("timeout", f"{path} did not answer in time; it is at one message for a while") from None
    except ActorError as error:
        raise OperationError("unavailable", f"{path} does not answer: {error}") from error


def _number(body: Body, key: str, most: float, default: float | None = None) -> float:
    """A number above 0; of a query it comes as text."""
    value = body.get(key, default)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if value is not None and value is default:
        return number
    if not 0 < number <= most:
        raise OperationError("refused", f"{key} must be a number above 0, {most:g} at most")
    return number


def _hold_up(seconds: float) -> None:
    time.sleep(seconds)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
