"""The commands that take providers, or the node, out of service and back, and the one that tries a provider."""

from __future__ import annotations

from runestone.console import bodies, render
from runestone.console.bodies import duration
from runestone.console.commands import PROVIDER, Argument, Command, plain
from runestone.operations import ceilings

_WAIT = Argument(
    name="--wait",
    key="idle",
    nargs="?",
    const=0.0,
    type=duration,
    metavar="TIME",
    help="return when its last call has ended, or after so long",
    most=ceilings.DRAIN_SECONDS,
)
_TIMEOUT = Argument(
    name="--timeout",
    key="seconds",
    type=duration,
    metavar="TIME",
    help="wait so long; without it, the drain timeout",
    most=ceilings.DRAIN_SECONDS,
)


COMMANDS: tuple[Command, ...] = (
    Command(
        path="provider drain",
        method="POST",
        route="/v1/providers/{name}/drain",
        help="send nothing new to a provider; what runs ends whole",
        arguments=(PROVIDER, _WAIT, _TIMEOUT),
        body=bodies.taken_out,
        render=plain,
        lasts=bodies.watched,
    ),
    Command(
        path="provider maint",
        method="POST",
        route="/v1/providers/{name}/maint",
        help="as drain; and it is not probed, and nothing that is wrong with it is an alert",
        arguments=(PROVIDER, _WAIT, _TIMEOUT),
        body=bodies.taken_out,
        render=plain,
        lasts=bodies.watched,
    ),
    Command(
        path="provider ready",
        method="POST",
        route="/v1/providers/{name}/ready",
        help="put a provider back into service, after drain or maint",
        arguments=(PROVIDER,),
        render=plain,
        then="provider show",
    ),
    Command(
        path="provider test",
        method="POST",
        route="/v1/providers/{name}/test",
        help="make one real, tiny call to a provider, in service or not: times, tokens, dollars, or the failure in its words",
        arguments=(
            PROVIDER,
            Argument(name="--model", help="with this model; its default one without it", metavar="MODEL"),
            Argument(name="--prompt", help="ask this, which nobody else is told", metavar="TEXT"),
            Argument(name="--stream", help="have the answer streamed", flag=True),
        ),
        render=lambda data: render.facts(data["test"]),
        verdict=lambda data: 0 if data["test"]["ok"] else 1,
    ),
    Command(
        path="breaker auto",
        method="POST",
        route="/v1/breakers/{name}/auto",
        help="let a breaker decide again that was tripped or disabled; what it has counted stays",
        arguments=(PROVIDER,),
        render=lambda data: render.facts(data["breaker"]),
        then="breaker show",
    ),
    Command(
        path="breaker disable",
        method="POST",
        route="/v1/breakers/{name}/disable",
        help="let a breaker measure and refuse nothing, until `breaker auto` or `reset`",
        arguments=(PROVIDER,),
        render=lambda data: render.facts(data["breaker"]),
    ),
    Command(
        path="drain",
        method="POST",
        route="/v1/drain",
        help="take no new requests; return when none is in flight",
        arguments=(_TIMEOUT,),
        render=plain,
        lasts=bodies.watched,
        asks=True,
    ),
    Command(
        path="undrain",
        method="POST",
        route="/v1/undrain",
        help="take requests again",
        render=plain,
    ),
    Command(
        path="shutdown",
        method="POST",
        route="/v1/shutdown",
        help="drain the node and end its process, as SIGTERM does",
        arguments=(_TIMEOUT,),
        render=plain,
        lasts=bodies.watched,
        asks=True,
    ),
)
