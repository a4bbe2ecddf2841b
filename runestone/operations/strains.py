"""The doctor's rules about what a node is near the end of: processes, mailboxes, limits, patience, memory, its clock."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import Final

from runestone.operations.findings import Finding, Rule, about
from runestone.operations.snapshot import Snapshot

RESTARTS: Final = 3
DEEP: Final = 1000  # messages
OLD_SECONDS: Final = 5.0  # of a message that waits
NEAR: Final = 0.8  # of a limit
SLOW_SECONDS: Final = 10.0  # to the first content
STREAMS: Final = 10  # before that is said
REACH_SECONDS: Final = 300.0
JUMP_SECONDS: Final = 3600.0  # for which a jump of the clock is told


def restarts_again_and_again(seen: Snapshot) -> Iterator[Finding]:
    """What crashes, comes back and crashes."""
    for path, count in seen.restarted.items():
        if count >= RESTARTS:
            parts = path.split("/")
            provider = next((p for p in seen.providers if p.name in parts), None)
            helps = (
                f"actor show {quote(path)}" if provider is None else f"provider restart {quote(provider.name)} --hard"
            )
            yield Finding(
                rule="restarts_again",
                level="warning",
                about=path,
                message=f"{path} was restarted {count} times within ten minutes",
                command=f"runestone ctl {helps}",
            )


def deep_mailboxes(seen: Snapshot) -> Iterator[Finding]:
    """An actor that does not keep up."""
    for actor in seen.actors:
        if actor.state != "suspended" and (actor.depth >= DEEP or actor.age_seconds >= OLD_SECONDS):
            message = (
                f"{actor.path} does not keep up: {actor.depth} messages wait, the oldest for {actor.age_seconds:.1f} s"
            )
            yield Finding(
                rule="mailbox_deep",
                level="warning",
                about=actor.path,
                message=message,
                command=f"runestone ctl actor show {quote(actor.path)}",
            )


def near_its_limits(seen: Snapshot) -> Iterator[Finding]:
    """File descriptors, and requests in flight."""
    if seen.descriptors is not None and seen.descriptors[0] >= NEAR * seen.descriptors[1]:
        opened, most, allowed = seen.descriptors
        message = f"{opened} of {most} file descriptors are in use: connections will fail"
        wanted = max(65536, 4 * most)
        raised = f"{min(wanted, allowed)}:" if allowed > most else str(wanted)  # both limits take privileges
        command = f"prlimit --pid {seen.pid} --nofile={raised}"
        yield Finding(rule="descriptors", level="error", about="process", message=message, command=command)
    if seen.connections is not None and seen.connections[0] >= NEAR * seen.connections[1]:
        opened, most = seen.connections
        message = f"{opened} of {most} connections of clients are open: beyond that they are refused"
        command = "runestone config explain server.max_connections"
        yield Finding(rule="max_connections", level="warning", about="load", message=message, command=command)
    most = seen.settings.server.max_requests
    if seen.in_flight >= NEAR * most:
        message = f"{seen.in_flight} of {most} requests are in flight: beyond that they are refused"
        command = "runestone config explain server.max_requests"
        yield Finding(rule="max_requests", level="warning", about="load", message=message, command=command)


def slow_providers(seen: Snapshot) -> Iterator[Finding]:
    """Who keeps clients waiting."""
    for provider in seen.providers:
        p95 = provider.first_content_p95_seconds
        if p95 is not None and p95 >= SLOW_SECONDS and provider.streams >= STREAMS:
            message = f"{provider.name} is slow: one stream in twenty has its first content after {p95:.1f} s or more"
            yield about(provider, "slow", "warning", message, f"requests --slow --provider {quote(provider.name)}")


def a_short_memory(seen: Snapshot) -> Iterator[Finding]:
    """A flight recorder that forgets what happened a moment ago."""
    if seen.reach_seconds is not None and seen.reach_seconds < REACH_SECONDS:
        message = f"the memory of events reaches back {seen.reach_seconds:.0f} s only, at this load: raise events.keep, or set events.file"
        yield Finding(
            rule="short_memory",
            level="info",
            about="events",
            message=message,
            command="runestone config explain events.keep",
        )


def clock_jumps(seen: Snapshot) -> Iterator[Finding]:
    """A system clock that was set, or a machine that slept."""
    if seen.jump is not None and 0 <= seen.now - seen.jump.at < JUMP_SECONDS:
        message = f"the system's clock jumped by {seen.jump.seconds:+.1f} s: times in the log, events and the ledger jump with it"
        yield Finding(
            rule="clock_jump",
            level="warning",
            about="clock",
            message=message,
            command="timedatectl timesync-status",
            since=seen.jump.at,
        )


RULES: Final[tuple[Rule, ...]] = (
    restarts_again_and_again,
    deep_mailboxes,
    near_its_limits,
    slow_providers,
    a_short_memory,
    clock_jumps,
)
