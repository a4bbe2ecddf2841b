"""What is wrong with a node, or may become so, each with the command that mends it or shows more: rules over one snapshot.

An error is something that clients notice or that is lost for good, a warning what wants somebody, an information what is good to know.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from shlex import quote
from typing import Final

import httpx
from attrs import evolve

from runestone.config.build import is_loopback
from runestone.config.worst_case import most_calls
from runestone.operations import strains
from runestone.operations.findings import LEVELS, Finding, Rule, about, of_settings
from runestone.operations.snapshot import ProviderSight, Snapshot
from runestone.telemetry.alerts import Alert
from runestone.telemetry.logs import masked

BREAKER_SECONDS: Final = 300.0  # open for longer, it is no passing trouble
MANY_CALLS: Final = 8  # upstream calls that one request may cause
_EASIER: Final = ("recovering", "throttled")  # alerts about what mends itself
_TOLD_APART: Final = "over plain http"  # a warning of the settings that has a rule of its own


def examine(snapshot: Snapshot) -> list[Finding]:
    """What all rules find, the worst first."""
    found = [finding for rule in RULES for finding in rule(snapshot)]
    return sorted(found, key=lambda f: (LEVELS.index(f.level), f.rule, f.about))


# -- what the alerts say ------------------------------------------------------------------------------------------------------


def alerts(seen: Snapshot) -> Iterator[Finding]:
    """Each alert, as grave as it is to somebody who looks: an outage that is being tried again is young before it is old."""
    by_name = {provider.name: provider for provider in seen.providers}
    for alert in seen.alerts:
        condition = alert.condition
        finding = Finding(
            rule=condition.kind,
            level=condition.severity,
            about=condition.about,
            message=condition.message,
            command=condition.command,
            since=alert.since,
        )
        provider = by_name.get(condition.about)
        if condition.kind == "breaker_open" and provider is not None:
            yield _open_breaker(seen, alert, finding, provider)
        elif condition.kind == "missing_api_key" and seen.providers:
            yield evolve(finding, level="warning")  # others serve
        elif condition.kind == "saturated" and provider is not None and provider.limit is not None:
            command = f"runestone ctl provider set {quote(provider.name)} --max-concurrency {2 * provider.limit}"
            yield evolve(finding, command=command)
        elif condition.kind in _EASIER:
            yield evolve(finding, level="info" if condition.kind == "recovering" else "warning")
        else:
            yield finding


def _open_breaker(seen: Snapshot, alert: Alert, finding: Finding, provider: ProviderSight) -> Finding:
    """Young, and tried again by itself, it is a warning; forced without an end, or old, an error."""
    seconds = seen.now - alert.since
    if provider.mode == "forced_open":
        ends = provider.forced_for_seconds
        left = "until `breaker auto` or `reset`" if ends is None else f"for {ends:.0f} s more"
        return evolve(
            finding,
            rule="breaker_forced_open",
            level="error" if ends is None else "warning",
            message=f"{provider.name} is out: somebody has forced its breaker open, {left}",
        )
    if seconds < BREAKER_SECONDS:
        return evolve(finding, level="warning")
    return evolve(finding, level="error", message=f"for {seconds / 60:.0f} min: {finding.message}")


# -- what operators leave behind ----------------------------------------------------------------------------------------------


def breakers_that_only_measure(seen: Snapshot) -> Iterator[Finding]:
    """A breaker that refuses nobody, by command or by its settings."""
    for provider in seen.providers:
        name = quote(provider.name)
        if provider.mode == "disabled":
            message = f"the breaker of {provider.name} is disabled: it measures, and refuses nobody"
            yield about(provider, "breaker_disabled", "warning", message, f"breaker reset {name}")
        elif not provider.circuit_breaker:
            message = f"{provider.name} is set to have no circuit breaker: it is asked however often it fails"
            yield about(provider, "no_breaker", "info", message, f"provider set {name} --circuit-breaker true")


def suspended_actors(seen: Snapshot) -> Iterator[Finding]:
    """An actor whose messages wait."""
    for actor in seen.actors:
        if actor.state == "suspended":
            message = f"{actor.path} is suspended: {actor.depth} messages wait for it"
            yield Finding(
                rule="actor_suspended",
                level="warning",
                about=actor.path,
                message=message,
                command=f"runestone ctl actor resume {quote(actor.path)}",
            )


def unsaved_changes(seen: Snapshot) -> Iterator[Finding]:
    """What was changed at run time ends with the process."""
    if seen.unsaved:
        where = "a file for --config" if seen.config_file is None else f"{seen.config_file}, then `config reload`"
        listed = ", ".join(seen.unsaved[:5]) + (" …" if len(seen.unsaved) > 5 else "")
        count = len(seen.unsaved)
        message = (
            f"{count} settings changed at run time end with the process ({listed}): put what this prints into {where}"
        )
        yield of_settings("unsaved_changes", "warning", message, "runestone ctl config export")


def changes_for_the_next_start(seen: Snapshot) -> Iterator[Finding]:
    """What is set and not in force."""
    if seen.needs_restart:
        message = f"set, and not in force before the process is started anew: {', '.join(seen.needs_restart)}"
        yield of_settings("needs_restart", "warning", message, "runestone ctl config diff")


def a_talkative_log(seen: Snapshot) -> Iterator[Finding]:
    """A level that somebody has turned up while the node ran."""
    level = seen.settings.logs.level.upper()
    if level in ("DEBUG", "TRACE") and seen.log_level_origin == "runtime":
        message = f"the log's level was turned to {level} while the node ran"
        yield of_settings("log_level", "info", message, "runestone ctl log level info")


def faults_on_request(seen: Snapshot) -> Iterator[Finding]:
    """Whoever has the admin socket may break things."""
    if seen.demo:
        message = "its providers are simulated (serve --demo): nothing of what it answers is real"
        yield of_settings("demo", "info", message, "runestone serve")
    elif seen.allow_faults:
        message = "faults and crashes on request are allowed (serve --allow-faults)"
        yield of_settings("faults_allowed", "info", message, "runestone serve")


# -- the settings -------------------------------------------------------------------------------------------------------------


def nobody_to_ask(seen: Snapshot) -> Iterator[Finding]:
    """No provider at all."""
    if not seen.providers:
        message = "there is no provider: set OPENAI_API_KEY or ANTHROPIC_API_KEY, or add one"
        yield of_settings("no_provider", "error", message, "runestone config check")


def nobody_to_stand_in(seen: Snapshot) -> Iterator[Finding]:
    """One provider alone."""
    if len(seen.providers) == 1:
        message = f"there is {seen.providers[0].name} alone: when it fails, nobody stands in"
        yield of_settings("no_failover", "info", message, "runestone ctl provider add --help")


def everybody_throttled(seen: Snapshot) -> Iterator[Finding]:
    """All of them have said 429."""
    if seen.providers and all(provider.status == "throttled" for provider in seen.providers):
        message = "every provider has said 429: ask the vendors for higher limits, or add another one"
        yield of_settings("all_throttled", "error", message, "runestone ctl providers")


def no_inbound_keys(seen: Snapshot) -> Iterator[Finding]:
    """Anybody who reaches it may spend the providers' keys."""
    if not seen.settings.auth.keys:
        host = seen.settings.server.host
        near = is_loopback(host)
        whom = "any program on this machine may ask" if near else f"anybody who reaches {host} may ask"
        message = f"no inbound keys are set: {whom}; set RUNESTONE_API_KEYS"
        yield of_settings(
            "no_inbound_keys", "warning" if near else "error", message, "runestone config explain keys.NAME.key"
        )


def plain_http(seen: Snapshot) -> Iterator[Finding]:
    """Keys and prompts that others can read on their way."""
    for provider in seen.providers:
        url = httpx.URL(provider.base_url)
        if url.scheme == "http" and not is_loopback(url.host):
            message = f"keys and prompts go to {provider.name} over plain http ({url.host})"
            safe = url.copy_with(scheme="https", port=url.port)
            command = f"provider set {quote(provider.name)} --base-url {quote(str(safe))}"
            yield about(provider, "plain_http", "warning", message, command)


def many_calls(seen: Snapshot) -> Iterator[Finding]:
    """Retries times failover: in an outage, the load that a node makes of its own."""
    calls = most_calls(seen.settings)
    if calls > MANY_CALLS and seen.providers:
        most = max(seen.providers, key=lambda p: p.attempts)
        message = f"one request may cause {calls} upstream calls: {most.name} is tried {most.attempts} times, in an outage too"
        fewer = max(1, min(3, most.attempts - 1))
        command = f"provider set {quote(most.name)} --retry-attempts {fewer}"
        yield about(most, "many_calls", "warning", message, command)


def timeouts_beyond_the_deadline(seen: Snapshot) -> Iterator[Finding]:
    """Who comes last never gets its turn."""
    deadline = seen.settings.timeouts.request_deadline_seconds
    by_name, told = {p.name: p for p in seen.providers}, set[str]()
    for group in seen.settings.groups:
        members = sorted((by_name[n] for n in group.providers if n in by_name), key=lambda p: -p.timeout_seconds)
        tried = members[: group.max_attempts]
        seconds = sum(provider.timeout_seconds for provider in tried)
        if seconds > deadline and tried[0].name not in told:
            slowest = tried[0]
            told.add(slowest.name)
            share = math.floor(deadline / len(tried) * 1000)
            message = (
                f"the timeouts of those whom {group.name} tries one after the other make {seconds:g} s, more than the {deadline:g} s of a "
                f"request: who comes last may not get its turn ({slowest.name} has {slowest.timeout_seconds:g} s)"
            )
            command = f"provider set {quote(slowest.name)} --timeout {share}"
            yield about(slowest, "timeouts_beyond_deadline", "warning", message, command)


def odd_settings(seen: Snapshot) -> Iterator[Finding]:
    """What the settings themselves are warned about."""
    for warning in seen.settings.warnings:
        if _TOLD_APART not in warning:
            yield of_settings("odd_setting", "warning", warning, "runestone config check")


def unknown_prices(seen: Snapshot) -> Iterator[Finding]:
    """Models in use whose cost nobody knows."""
    for model in map(masked, seen.unpriced):  # the words of clients
        message = f"the price of {model!r} is not known, so its calls have no cost: set [prices.{model!r}] and reload"
        yield Finding(
            rule="unknown_price",
            level="warning",
            about=model,
            message=message,
            command="runestone config explain prices.NAME.input_per_million_usd",
        )


RULES: Final[tuple[Rule, ...]] = (
    alerts,
    breakers_that_only_measure,
    suspended_actors,
    unsaved_changes,
    changes_for_the_next_start,
    a_talkative_log,
    faults_on_request,
    nobody_to_ask,
    nobody_to_stand_in,
    everybody_throttled,
    no_inbound_keys,
    plain_http,
    many_calls,
    timeouts_beyond_the_deadline,
    odd_settings,
    unknown_prices,
    *strains.RULES,
)
