"""The tree as data. It is read from plain fields and never waits, not even during a slow start or stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from supervisors.dynamic_supervisor import DynamicSupervisor
from supervisors.gen_server import Task
from supervisors.keeper import ChildKeeper

if TYPE_CHECKING:
    from supervisors.child import Child
    from supervisors.exit import ExitReason
    from supervisors.process import Process
    from supervisors.ref import ActorRef

_ADOPTED_SHOWN = 100
Kind = Literal["supervisor", "worker", "task"]


@frozen(kw_only=True)
class TreeNode:
    """One process, or the place of one.

    * ``kind`` - ``"supervisor"``, ``"worker"`` (an actor) or ``"task"`` (no mailbox: a :class:`~supervisors.Task`, spawned, adopted).
    * ``state`` - ``"starting"``, ``"running"``, ``"suspended"``, ``"restarting"``, ``"stopping"``, ``"stopped"``, or ``"unkillable"``:
      killed, given up, and still running.
    * ``mailbox`` - ``depth``, ``high_water``, ``drops`` and ``age_seconds`` (how long the oldest message has waited, at least).
    * ``status`` - what ``status()`` of the behaviour returns.
    """

    id: str
    path: str
    kind: Kind
    name: str | None
    state: str
    incarnation: int
    restarts: int
    strategy: str | None
    mailbox: dict[str, float]
    last_exit: str | None
    status: dict[str, object]
    children: tuple[TreeNode, ...]


def tree(root: ActorRef) -> TreeNode:
    """The tree under ``root`` at this moment. A dynamic supervisor shows at most 100 of its adopted tasks; its status counts them."""
    process = root.process
    state = "stopped" if process.reason is not None else "stopping" if process.stopping else "running"
    return _node(process.path.rpartition("/")[2], process, state=state, last_exit=process.reason)


def processes(root: ActorRef) -> Iterator[Process]:
    """Every living process under ``root``, itself first, each before those that it has started."""
    waiting = [root.process] if root.process.reason is None else []
    while waiting:
        process = waiting.pop()
        yield process
        waiting += reversed(list(process.children or ()))


def dead_letters(root: ActorRef) -> Mapping[str, int]:
    """Messages that reached nobody, by cause: ``noproc``, ``late_reply``, ``mailbox_full``. A view that goes on counting."""
    return MappingProxyType(root.process.system.dead_letters)


def _node(
    id_: str, process: Process, *, state: str = "running", restarts: int = 0, last_exit: ExitReason | None = None
) -> TreeNode:
    if state == "running" and process.mailbox is not None and process.mailbox.suspended:
        state = "suspended"
    return TreeNode(
        id=id_,
        path=process.path,
        kind=_kind(process),
        name=process.name,
        state=state,
        incarnation=process.incarnation,
        restarts=restarts,
        strategy=getattr(process.behaviour, "strategy", None),
        mailbox=_mailbox(process),
        last_exit=None if last_exit is None else str(last_exit),
        status=_status(process) if process.reason is None else {},
        children=_children(process) if process.reason is None else _zombies(process.path, process),
    )


def _kind(process: Process) -> Kind:
    if isinstance(process.behaviour, ChildKeeper):
        return "supervisor"
    return "task" if process.behaviour is None or isinstance(process.behaviour, Task) else "worker"


def _mailbox(process: Process) -> dict[str, float]:
    box = process.mailbox
    if box is None:
        return {}
    return {"depth": box.depth, "high_water": box.high_water, "drops": box.drops, "age_seconds": box.age()}


def _status(process: Process) -> dict[str, object]:
    if process.behaviour is None:
        return {}
    try:
        return dict(process.behaviour.status())
    except Exception as error:  # noqa: BLE001 - one that cannot describe itself must not hide the tree
        return {"error": f"{type(error).__name__}: {error}"}


def _children(process: Process) -> tuple[TreeNode, ...]:
    behaviour = process.behaviour
    nodes: list[TreeNode] = []
    shown: set[Process] = set()
    if isinstance(behaviour, ChildKeeper):
        for child in behaviour.children():
            nodes.append(_child(process, child))
            if child.process is not None:
                shown.add(child.process)
    others = [p for p in process.children or () if p not in shown and p.parent is process]
    limit = _ADOPTED_SHOWN if isinstance(behaviour, DynamicSupervisor) else len(others)
    nodes += [_node(p.label, p, state="stopping" if p.stopping else "running") for p in others[:limit]]
    return (*nodes, *_zombies(process.path, process))


def _child(parent: Process, child: Child) -> TreeNode:
    process = child.process
    if process is not None:
        state = "stopping" if process.stopping and child.state == "running" else child.state
        return _node(child.id, process, state=state, restarts=child.restarts, last_exit=child.last_exit)
    return TreeNode(
        id=child.id,
        path=f"{parent.path}/{child.id}",
        kind="supervisor" if child.spec.type == "supervisor" else "worker",
        name=child.spec.name,
        state=child.state,
        incarnation=child.lives,
        restarts=child.restarts,
        strategy=None,
        mailbox={},
        last_exit=None if child.last_exit is None else str(child.last_exit),
        status={},
        children=(),
    )


def _zombies(path: str, process: Process) -> tuple[TreeNode, ...]:
    return tuple(
        _node(f"{zombie.label}#{zombie.incarnation}", zombie, state="unkillable", last_exit=zombie.reason)
        for zombie in process.system.zombies
        if zombie.path == f"{path}/{zombie.label}"
    )
