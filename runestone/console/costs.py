"""The commands about what requests cost."""

from __future__ import annotations

from runestone.console import bodies, render
from runestone.console.commands import Argument, Command, plain
from runestone.ledger.report import BY, MOMENT

COMMANDS: tuple[Command, ...] = (
    Command(
        path="cost estimate",
        method="POST",
        route="/v1/costs/estimate",
        help="an estimate of what a request would cost at each provider",
        arguments=(
            Argument(
                name="--request", help="the file with its JSON, - for standard input", metavar="FILE", required=True
            ),
        ),
        body=bodies.request,
        render=render.estimates,
        rows=render.estimated,
        reads=True,
        acts=False,
    ),
    Command(
        path="cost show",
        method="GET",
        route="/v1/costs",
        help="what upstream calls have used and cost, by the ledger",
        arguments=(
            Argument(name="--since", help=f"from when on; without it 24h: {MOMENT}", metavar="TIME"),
            Argument(name="--until", help="until when; without it now", metavar="TIME"),
            Argument(name="--by", help="what is added up; without it by provider", choices=BY),
        ),
        render=render.costs,
        rows=lambda data: data["costs"],
    ),
    Command(
        path="cost prune",
        method="POST",
        route="/v1/costs/prune",
        help="forget the calls that ended before a time",
        arguments=(Argument(name="--before", help=MOMENT, metavar="TIME", required=True),),
        render=plain,
    ),
)
