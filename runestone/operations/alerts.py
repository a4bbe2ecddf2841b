"""What is wrong with a node now, in sentences, each with the command that helps."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING, Final

from runestone.domain.routing import is_throw_away
from runestone.providers.memory import ProviderMemory
from runestone.telemetry.alerts import Condition, Severity
from runestone.telemetry.logs import masked
from runestone.telemetry.windows import LONGEST_SECONDS

if TYPE_CHECKING:
    from runestone.operations.node import Node

_STORM: Final = 5  # restarts within a minute
_LATE_SECONDS: Final = 0.2  # one look in twenty, if the settings name no other time
_HELD_UP_SECONDS: Final = 1.0  # once
_LATE_SHARE: Final = 0.95
_LOOKS: Final = 100  # before that is said: a third of a minute's
_CHARACTERS: Final = 200  # of what an upstream or a client has said
#: By the word for how a provider stands: severity, what is said of it, what helps, and the kind of the alert.
_STANDING: Final[dict[str, tuple[Severity, str, str, str]]] = {
    "down": ("error", "is down", "provider restart {}", "down"),
    "open": (
        "error",
        "is out: its breaker is open, and it is tried again by itself",
        "breaker reset {}",
        "breaker_open",
    ),
    "recovering": ("warning", "is being tried again: its breaker is half-open", "breaker show {}", "recovering"),
    "throttled": ("warning", "is left alone for a while: it has said 429", "provider show {}", "throttled"),
    "saturated": (
        "warning",
        "has as many calls out as it may have",
        "provider set {} --max-concurrency N",
        "saturated",
    ),
    "draining": ("warning", "takes nothing new: an operator has drained it", "provider ready {}", "draining"),
    "maintenance": (
        "warning",
        "takes nothing new: an operator has it in maintenance",
        "provider ready {}",
        "maintenance",
    ),
    "leaving": ("warning", "takes nothing new: it is being removed", "provider show {}", "leaving"),
}
_NO_FAULT: Final = ("saturated", "draining", "maintenance", "leaving")  # its last failure has nothing to do with it
_QUARANTINED: Final = {
    "credentials": "it refuses the gateway's key: give it another one",
    "quota_exceeded": "its quota is spent: raise it at the vendor, then restart it here",
}
_LOST: Final = {
    "log": (
        "log_dropped",
        "log lines were dropped: whatever reads them is too slow",
        "runestone config explain log.level",
    ),
    "handlers": (
        "events_lost",
        "a handler of events fails: metrics and the ledger may lack some",
        "runestone ctl tree",
    ),
}


def conditions(node: Node, now: float) -> Iterator[Condition]:
    """All of it at ``now`` (loop time)."""
    for refusal in node.settings.refusals:
        yield Condition(
            kind=refusal.code,
            about=refusal.name,
            severity="error",
            message=f"{refusal.name} is not started: {refusal.message}",
            command="runestone config check",
        )
    for name, memory in sorted(node.memories.items()):
        if not is_throw_away(name):
            yield from _of_provider(node, memory, now)
    yield from _of_groups(node)
    yield from _of_settings(node)
    yield from _of_process(node)
    yield from _of_ledger(node)


def _of_provider(node: Node, memory: ProviderMemory, now: float) -> Iterator[Condition]:
    status = node.status_of(memory)
    if status in _STANDING:
        severity, message, verb, kind = _STANDING[status]
        if status == "open" and memory.breaker.mode == "forced_open":
            message = "is out: its breaker was forced open"
        yield _about(memory, kind, severity, message, verb, last=status not in _NO_FAULT)
    elif (trouble := memory.probing.trouble(now, memory.last_call)) is not None and memory.last_probe is not None:
        severity = "error" if trouble == "credentials" else "warning"
        message = f"has not taken a probe well: {_said(memory.last_probe.what)}"
        yield _about(memory, "probe_failed", severity, message, "health check {}", last=False)
    elif status == "up":
        yield from _of_score(node, memory, now)
    if (fault := node.fault_of(memory)) is not None:
        yield _about(memory, "fault_on", "warning", f"has a fault switched on: {fault}", "fault {} none", last=False)
    if memory.settings.circuit_breaker and status != "maintenance":
        yield from _of_quarantine(memory, now)


def _of_quarantine(memory: ProviderMemory, now: float) -> Iterator[Condition]:
    for model, (until, reason) in memory.quarantine.entries.items():
        if until <= now:
            continue
        if model is None:
            verb = "provider set {} --key-env VARIABLE" if reason == "credentials" else "provider restart {}"
            message = f"is quarantined: {_QUARANTINED.get(reason, reason)}"
            yield _about(memory, "quarantined", "error", message, verb)
        else:
            message = f"will not serve the model '{_said(model)}' ({reason}), and is not asked for it for a while"
            yield _about(memory, "model_quarantined", "warning", message, "provider restart {}", last=False)


def _about(
    memory: ProviderMemory, kind: str, severity: Severity, message: str, verb: str, *, last: bool = True
) -> Condition:
    failure = memory.last_failure
    why = f"; its last failure: {_said(failure.what)}" if last and failure is not None else ""
    return Condition(
        kind=kind,
        about=memory.name,
        severity=severity,
        message=f"{memory.name} {message}{why}",
        command=f"runestone ctl {verb.format(quote(memory.name))}",
    )


def _of_score(node: Node, memory: ProviderMemory, now: float) -> Iterator[Condition]:
    score = memory.score(now)
    for group in node.settings.groups:
        if memory.settings.circuit_breaker and memory.name in group.providers and score < group.health_threshold:
            message = f"has a score below {group.health_threshold:g} and is out of {group.name}"
            yield _about(memory, "unhealthy", "warning", message, "provider show {}")
            return


def _of_groups(node: Node) -> Iterator[Condition]:
    for group in node.settings.groups:
        if not is_throw_away(group.name) and not any(
            name in node.memories and node.usable(node.memories[name]) for name in group.providers
        ):
            yield Condition(
                kind="group_out",
                about=group.name,
                severity="error",
                message=f"nobody in {group.name} takes requests",
                command=f"runestone ctl failover show {quote(group.name)}",
            )


def _of_settings(node: Node) -> Iterator[Condition]:
    if node.phase.draining and not node.phase.stopping:
        yield Condition(
            kind="node_draining",
            about="node",
            severity="warning",
            message="the node is drained by an operator: it takes no requests",
            command="runestone ctl undrain",
        )
    if node.settings.server.mode == "legacy":
        yield Condition(
            kind="legacy_mode",
            about="mode",
            severity="warning",
            message="legacy mode: there is no failover",
            command="runestone ctl mode enhanced",
        )
    else:
        for group in node.settings.groups:
            if group.mode == "legacy":
                yield Condition(
                    kind="legacy_mode",
                    about=group.name,
                    severity="warning",
                    message=f"{group.name} is in legacy mode: it has no failover",
                    command=f"runestone ctl mode enhanced --group {quote(group.name)}",
                )
    if (refused := node.last_reload().refused) is not None:
        first, *others = refused.message.splitlines() or [refused.reason]
        more = f" (and {len(others)} more)" if others else ""
        yield Condition(
            kind="config_refused",
            about="settings",
            severity="warning",
            message=f"new settings were refused, those before stay in force: {_said(first)}{more}",
            command="runestone config check",
        )


def _of_process(node: Node) -> Iterator[Condition]:
    metrics = node.metrics
    if node.unsafe_eval:
        yield Condition(
            kind="unsafe_eval",
            about="node",
            severity="warning",
            message="serve --unsafe-eval: whoever may open the admin socket may run any Python in the node",
            command="runestone serve",
        )
    now = metrics.clock()
    if metrics.gave_up_window.count(now, LONGEST_SECONDS):
        message = "a supervisor gave up within the last five minutes: a part of the node has crashed again and again"
        yield _of_tree("supervisor_gave_up", "error", message)
    elif (restarts := metrics.restart_window.count(now)) >= _STORM:
        yield _of_tree("restart_storm", "warning", f"{restarts} processes were restarted within a minute")
    late, (usual,) = node.lag.worst, metrics.lag_window.quantiles(now, wanted=[_LATE_SHARE])
    steady = metrics.lag_window.count(now) >= _LOOKS
    if steady and usual is not None and usual > (node.settings.server.max_loop_lag_seconds or _LATE_SECONDS):
        yield _of_loop(f"the event loop is late: by {usual:.2f} s or more at one look in twenty")
    elif late > _HELD_UP_SECONDS:
        yield _of_loop(f"the event loop was held up for {late:.1f} s within the last minute")
    for what, (kind, message, command) in _LOST.items():
        if metrics.lost_of_late(what):
            yield Condition(kind=kind, about=what, severity="warning", message=message, command=command)
    for queue in metrics.queues():
        if metrics.lost_of_late(queue):
            message = f"{queue} is behind and has lost events: it takes longer than they come"
            yield Condition(
                kind="events_lost", about=queue, severity="warning", message=message, command="runestone ctl metrics"
            )


def _of_ledger(node: Node) -> Iterator[Condition]:
    books, command = node.books, "runestone ctl status"
    if (failing := books.failing) is not None:
        message = f"the ledger cannot be written, {books.waiting} calls wait for it: {_said(failing)}"
        yield Condition(kind="ledger_failing", about="ledger", severity="warning", message=message, command=command)
    if books.dropped:
        message = f"{books.dropped} calls are not in the ledger and never will be: too many have waited for it"
        yield Condition(kind="ledger_lost", about="ledger", severity="error", message=message, command=command)


def _of_tree(kind: str, severity: Severity, message: str) -> Condition:
    return Condition(kind=kind, about="tree", severity=severity, message=message, command="runestone ctl tree")


def _of_loop(message: str) -> Condition:
    command = "runestone ctl top --sort busy"
    return Condition(kind="loop_lag", about="loop", severity="warning", message=message, command=command)


def _said(text: str) -> str:
    """What somebody else has said, on one line and no longer than anybody reads."""
    return masked(text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]} …")
