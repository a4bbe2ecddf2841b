"""The tree as data, read from plain fields: it never blocks, not even during a slow stop."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from supervisors.ref import ActorRef


@frozen(kw_only=True)
class TreeNode:
    """One process, or the place of one."""

    id: str
    path: str
    kind: str
    name: str | None
    state: str
    incarnation: int
    restarts: int
    strategy: str | None
    mailbox: dict[str, int]
    last_exit: str | None
    status: dict[str, object]
    children: tuple[TreeNode, ...]


def tree(root: ActorRef) -> TreeNode:
    """The tree under ``root``."""
    process = root.process
    return _node(process.path, process, "running" if process.alive else "stopped", 0, None)


def _node(id_: str, process: Any, state: str, restarts: int, last_exit: Any) -> TreeNode:
    behaviour = process.behaviour if process is not None else None
    children = behaviour.children() if hasattr(behaviour, "children") else ()
    box = process.mailbox if process is not None else None
    strategy = getattr(behaviour, "strategy", None)
    spawned = getattr(behaviour, "_spawned", {})
    return TreeNode(
        id=id_,
        path=process.path if process is not None else id_,
        kind="supervisor" if strategy else "worker",
        name=process.name if process is not None else None,
        state=state,
        incarnation=process.incarnation if process is not None else 0,
        restarts=restarts,
        strategy=strategy,
        mailbox={"depth": len(box.messages), "high_water": box.high_water, "drops": box.drops}
        if box is not None
        else {},
        last_exit=None if last_exit is None else str(last_exit),
        status=dict(behaviour.status()) if behaviour is not None and state == "running" else {},
        children=tuple(
            [_node(c.id, c.process, c.state, c.restarts, c.last_exit) for c in children]
            + [_node(p.name or "task", p, "running", 0, None) for p in spawned]
        ),
    )
