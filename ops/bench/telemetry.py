"""What telemetry costs of a request's CPU: nodes with some of it beside one with nothing of it, in one run.

    python ops/bench/telemetry.py [--requests N] [--tokens N] [--rounds N] [--starts N] [--rate N] [--nodes NAME ...]

Each node is a process of its own before the same provider, and all are asked in turn, round by round, so that what disturbs the
machine disturbs all alike. They are started several times, for two processes of the same code differ by five percent: where their code
and their names lie in memory is drawn anew at each start. Figures are CPU time of the whole process (all its threads) for a request: the
mean over the starts of the median of the rounds, with its least and its most; then which share of it ``nothing`` does without, in the
mean and at each start. A round lasts until the node's next one, so that what is done later is in it.
``nothing`` has no handler on its bus, makes no events and times no messages; ``all`` is a node as it comes (metrics, the last events,
access lines in JSON to a file, the ledger in SQLite), ``all, and a file of events`` has that too.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import light
import wires

_LATER_SECONDS = 2.0  # the ledger is written once a second
_PARTS = {"metrics": "Metrics", "recorder": "Recorder", "access": "AccessLog", "ledger": "Books"}
_FILE = "all, and a file of events"
NODES = ("nothing", *_PARTS, "all", _FILE)
_MODEL = "openai-default/gpt-4o-mini"
Costs = dict[bool, dict[str, list[float]]]  # by whether streamed, by node: microseconds, of each start
_EVENTS = {  # the modules whose events are made for each request
    "runestone.http.exchange": ("RequestStarted", "RequestFinished"),
    "runestone.failover.attempts": ("AttemptStarted", "ContentBegan"),
    "runestone.failover.call": ("AttemptFinished",),
}


def main() -> int:
    """Measure and print. The exit code says whether it ran, never how much it was."""
    parser = argparse.ArgumentParser(prog="telemetry", description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="of a round")
    parser.add_argument("--tokens", type=int, default=20, help="of an answer")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--rate", type=float, help="requests that begin in a second; as many as can be without it")
    parser.add_argument("--nodes", nargs="+", choices=NODES, default=["nothing", "all", _FILE])
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        return _serve(arguments.serve)
    costs: Costs = {stream: {name: [] for name in arguments.nodes} for stream in (False, True)}
    for _ in range(arguments.starts):
        _start(arguments, costs)
    print(
        f"CPU of the node per request, {arguments.tokens} tokens, {arguments.starts} starts of {arguments.rounds} rounds"
    )
    for stream, found in costs.items():
        print("streamed" if stream else "whole")
        for line in _lines(found):
            print(f"  {line}")
    return 0


def _start(arguments: argparse.Namespace, costs: Costs) -> None:
    """One start of all nodes; the median of each goes to ``costs``."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(light.provider(arguments.tokens))
        nodes = {}
        for number, name in enumerate(arguments.nodes):
            nodes[name] = _node(stack, folder / str(number), url, name)
        for stream, found in costs.items():
            for name, values in _measured(nodes, arguments, stream=stream).items():
                found[name].append(statistics.median(values))


def _node(stack: ExitStack, folder: Path, url: str, name: str) -> tuple[int, str]:
    folder.mkdir()
    log = stack.enter_context((folder / "log").open("wb"))
    environ = {
        "RUNESTONE_LOG_FORMAT": "json",
        "RUNESTONE_LEDGER_URL": f"sqlite:///{folder}/ledger.db",
    }
    if name == _FILE:
        (folder / "runestone.toml").write_text(f'[events]\nfile = "{folder}/events.jsonl"\n')
        environ["RUNESTONE_CONFIG"] = str(folder / "runestone.toml")
    command = ["-m", "runestone", "serve"] if name in ("all", _FILE) else [__file__, "--serve", name]
    urls = {"openai": url, "anthropic": url}
    return stack.enter_context(wires.gateway(folder, urls, command, log, **environ))


def _measured(
    nodes: dict[str, tuple[int, str]], arguments: argparse.Namespace, *, stream: bool
) -> dict[str, list[float]]:
    """Microseconds for a request, of each node in each round."""
    taken: dict[str, list[float]] = {name: [] for name in nodes}

    def load(url: str) -> None:
        asked = f"{url}/v1/chat/completions"
        asyncio.run(light.load(asked, _MODEL, arguments.requests, stream=stream, rate=arguments.rate))

    for _, url in nodes.values():  # prices are loaded by then
        load(url)
    for each in range(arguments.rounds):
        for name, (process, url) in _turned(nodes, each):
            taken[name].append(wires.cpu_seconds(process))
            load(url)
    time.sleep(_LATER_SECONDS)
    for name, (process, _) in nodes.items():
        taken[name].append(wires.cpu_seconds(process))
    return {
        name: [(end - begin) / arguments.requests * 1e6 for begin, end in pairwise(seconds)]
        for name, seconds in taken.items()
    }


def _lines(costs: dict[str, list[float]]) -> Iterator[str]:
    bare = costs.get("nothing")
    for name, values in costs.items():
        line = f"{name:28}{statistics.mean(values):7.0f} us  ({min(values):.0f} to {max(values):.0f})"
        if bare is not None and values is not bare:
            shares = [1 - own / mine for mine, own in zip(values, bare, strict=True)]
            each = " ".join(f"{share:.1%}" for share in shares)
            line += f"  {1 - sum(bare) / sum(values):6.1%} ({each})"
        yield line


def _turned(nodes: dict[str, tuple[int, str]], by: int) -> Iterator[tuple[str, tuple[int, str]]]:
    """Each round begins with another one, so that nobody is always asked after the same."""
    names = [*nodes]
    for offset in range(len(names)):
        name = names[(by + offset) % len(names)]
        yield name, nodes[name]


# -- a node with less ----------------------------------------------------------------------------------------------------


def _serve(name: str) -> int:
    """A node whose bus has one handler (``name``), or none, and makes no events then."""
    from importlib import import_module

    from runestone import serve
    from runestone.telemetry.bus import Bus
    from runestone.telemetry.metrics import Metrics

    kept = _PARTS.get(name)

    def chosen(subscribe: Callable[..., object]) -> Callable[..., object]:
        def some(self: Bus, handler: Any, *kinds: Any) -> object:
            owner = type(getattr(handler, "__self__", None)).__name__
            return subscribe(self, handler, *kinds) if owner == kept else lambda: None

        return some

    for method in ("subscribe", "subscribe_later"):
        setattr(Bus, method, chosen(getattr(Bus, method)))
    if kept is None:
        for module, events in _EVENTS.items():
            for event in events:
                setattr(import_module(module), event, _no_event)
        Bus.emit = _nobody_hears
        Metrics.handling = _nobody_hears
    return serve.run(demo=False, allow_faults=False)


def _nobody_hears(_bus: object, _event: object) -> None:
    """What it costs to tell nobody."""


def _no_event(*_: object, **__: object) -> None:
    """What an event costs that is not made."""


if __name__ == "__main__":
    sys.exit(main())
