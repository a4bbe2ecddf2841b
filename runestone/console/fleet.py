"""The commands about providers and their circuit breakers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runestone.console import bodies, render
from runestone.console.bodies import duration, seconds
from runestone.console.commands import PROVIDER, Argument, Command, changed, plain
from runestone.domain.catalogue import KINDS
from runestone.domain.faults import words

_COLUMNS = (
    "name",
    "kind",
    "status",
    "health_score",
    "in_flight",
    "waiting",
    "calls",
    "failures",
    "incarnation",
    "fault",
    "base_url",
)
_BREAKER_COLUMNS = ("provider", "state", "mode", "consecutive_failures", "failure_threshold", "retry_in_seconds")
_OPTIONS = (
    Argument(name="--base-url", help="where it is, with the version: https://host/v1", metavar="URL"),
    Argument(name="--default-model", help="the model that it serves when another one was asked for", metavar="MODEL"),
    Argument(name="--models", help="further models that it serves, with commas between them", metavar="A,B"),
    Argument(name="--timeout", help="of one attempt: milliseconds, or such as 120s", metavar="TIME"),
    Argument(name="--retry-attempts", help="attempts at it for one request", type=int, metavar="N"),
    Argument(name="--max-concurrency", help="calls that may be out at once", type=int, metavar="N"),
    Argument(name="--adaptive-concurrency", help="whether 429 and 529 lower that", choices=("true", "false")),
    Argument(name="--max-queue", help="requests that may wait for a call to end", type=int, metavar="N"),
    Argument(name="--queue-timeout", help="how long they wait: milliseconds, or such as 5s", metavar="TIME"),
    Argument(name="--circuit-breaker", help="whether its breaker may refuse", choices=("true", "false")),
    Argument(name="--telemetry", help="whether it is counted by name", choices=("true", "false")),
    Argument(name="--probe-interval", help="0 for never; milliseconds, or such as 30s", metavar="TIME"),
    Argument(name="--key-env", help="the variable of this command that holds its API key", metavar="VARIABLE"),
    Argument(name="--key-file", help="the file that holds its API key", metavar="PATH"),
    Argument(name="--key-stdin", help="read its API key from standard input", flag=True),
)

_OF_PROVIDER = changed("provider")


def _standing(provider: Mapping[str, Any]) -> dict[str, Any]:
    """A provider for people, to whom one word says whether an operator has it out of service; programs have ``draining`` too."""
    return {key: value for key, value in provider.items() if key != "draining"}


def _changed(data: Mapping[str, Any]) -> str:
    """A provider that was made or changed, and what was done for it."""
    about = data.get("provider")
    return _OF_PROVIDER({**data, "provider": _standing(about) if isinstance(about, Mapping) else about})


def _restarted(data: Mapping[str, Any]) -> str:
    """One, or a line for each."""
    if "restarted" not in data:
        return plain(data)
    rows = [{**one, "error": one["error"] and one["error"]["message"]} for one in data["restarted"]]
    return render.table(rows, ("provider", "incarnation_before", "incarnation", "hard", "error"))


COMMANDS: tuple[Command, ...] = (
    Command(
        path="providers",
        method="GET",
        route="/v1/providers",
        help="all providers and how they are",
        render=lambda data: render.table([_standing(one) for one in data["providers"]], _COLUMNS),
        good=lambda data: all(provider["usable"] for provider in data["providers"]),
    ),
    Command(
        path="provider show",
        method="GET",
        route="/v1/providers/{name}",
        help="one provider, with its last success and error",
        arguments=(PROVIDER,),
        render=lambda data: render.facts(_standing(data["provider"])),
        good=lambda data: data["provider"]["status"] == "up",
    ),
    Command(
        path="provider add",
        method="POST",
        route="/v1/providers",
        help="register a provider; its key comes from a variable, a file or standard input",
        arguments=(
            PROVIDER,
            Argument(name="--kind", help="whose wire it speaks", choices=KINDS, required=True),
            *_OPTIONS,
        ),
        body=bodies.new_provider,
        render=_changed,
        then="provider show",
    ),
    Command(
        path="provider set",
        method="POST",
        route="/v1/providers/{name}",
        help="change settings of a provider; its actor is restarted, its streams run on",
        arguments=(PROVIDER, *_OPTIONS),
        body=bodies.changed_provider,
        render=_changed,
        then="provider show",
    ),
    Command(
        path="provider remove",
        method="POST",
        route="/v1/providers/{name}/remove",
        help="take a provider out; returns when its streams have ended",
        arguments=(PROVIDER,),
        render=_changed,
        asks=True,
    ),
    Command(
        path="provider restart",
        method="POST",
        route="/v1/providers/{name}/restart",
        help="a clean slate for one provider, for all, or for those whose names match; their streams run on",
        arguments=(
            Argument(name="name", help="the provider, all, or a pattern such as 'openai-*'", complete="providers"),
            Argument(
                name="--hard", help="replace its connections too; the old ones close with their last stream", flag=True
            ),
        ),
        render=_restarted,
        verdict=lambda data: int(any(one["error"] for one in data.get("restarted", ()))),
        then="provider show",
    ),
    Command(
        path="fault",
        method="POST",
        route="/v1/providers/{name}/fault",
        help="put a fault in front of a provider (serve --allow-faults or --demo): '503 30%', 'cut at=1234', 'none' …",
        arguments=(PROVIDER, Argument(name="spec", help="the fault, in words", nargs="+", offers=words)),
        render=plain,
    ),
    Command(
        path="breaker show",
        method="GET",
        route="/v1/breakers/{name}",
        help="one provider's circuit breaker",
        arguments=(PROVIDER,),
        render=lambda data: render.facts(data["breaker"]),
        good=lambda data: data["breaker"]["state"] == "closed",
    ),
    Command(
        path="breaker list",
        method="GET",
        route="/v1/breakers",
        help="all circuit breakers",
        render=lambda data: render.table(data["breakers"], _BREAKER_COLUMNS),
        good=lambda data: all(breaker["state"] == "closed" for breaker in data["breakers"]),
    ),
    Command(
        path="breaker reset",
        method="POST",
        route="/v1/breakers/{name}/reset",
        help="close it, clear its counters, lift what was forced",
        arguments=(PROVIDER,),
        render=lambda data: render.facts(data["breaker"]),
        then="breaker show",
    ),
    Command(
        path="breaker trip",
        method="POST",
        route="/v1/breakers/{name}/trip",
        help="force it open",
        arguments=(
            PROVIDER,
            Argument(name="--seconds", help="for so long; without it, until `breaker auto` or `reset`", type=seconds),
            Argument(name="--for", key="seconds", type=duration, metavar="TIME", help="the same, such as 5m"),
        ),
        render=lambda data: render.facts(data["breaker"]),
    ),
    Command(
        path="breaker set",
        method="POST",
        route="/v1/breakers/{name}",
        help="tune a breaker; for a provider that is not there yet it is kept",
        arguments=(
            PROVIDER,
            Argument(name="--failure-threshold", help="failures in a row that open it", type=int, metavar="N"),
            Argument(
                name="--recovery-timeout", help="until it is tried again: milliseconds, or such as 60s", metavar="TIME"
            ),
            Argument(name="--half-open-limit", help="probes out at once", type=int, metavar="N"),
            Argument(name="--slow-first-token", help="later is slow: milliseconds, or such as 10s", metavar="TIME"),
        ),
        body=bodies.config,
        render=changed("breaker"),
    ),
)
