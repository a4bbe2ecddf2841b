"""The benchmark of ``supervisors`` beside its peers: one command, one table.

    python ops/bench [--quick] [--only COLUMN ...]

Each cell is measured in a process of its own. The rounds are interleaved, so that what disturbs the machine disturbs all columns alike,
and each figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import ours
from peers import LIBRARIES, PEERS, ROWS

_COUNTS = {"call": 20_000, "cast": 20_000, "spawn": 3_000, "idle": 3_000, "restart": 1_000, "children": 100_000}
_QUICK = {"call": 500, "cast": 500, "spawn": 100, "idle": 200, "restart": 50, "children": 500}
_ROUNDS = 3
_NO_ACTOR = {
    ("spawn", "mode"),
    ("children", "mode"),
    ("idle", "xoscar"),
}  # nothing runs there, and nothing has a mailbox
_NOTES = """\
Not among the peers of a goal: mode's start and stop and xoscar's idle actor, for there neither a task nor a mailbox is made.
asyncio: the bare primitives, two queues and a task, without names, monitors, deadlines or supervision.
pykka: each actor is a thread, whose stack tracemalloc does not see; 1,000 children at most.
xoscar: an actor is an object in its pool, without a task or mailbox of its own, so an idle one is small.
mode: a service has no mailbox and, idle, no task; 2,000 children at most. Its supervisor looks every 5 s.
triotp: a stop is the cancellation of a nursery; no child is stopped in order."""


def main() -> int:
    """Measure and print. The exit code says whether every cell ran, never how fast."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions: whether it runs, not how fast")
    parser.add_argument("--only", nargs="+", choices=tuple(LIBRARIES), help="these columns alone")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--ours", choices=("admission", "beside"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(_cell(*arguments.cell, _QUICK if arguments.quick else _COUNTS)))
        return 0
    if arguments.ours:
        print(json.dumps(_ours(arguments.ours)))
        return 0
    columns = arguments.only or [name for name in LIBRARIES if _there(name)]
    return _table(columns, 1 if arguments.quick else _ROUNDS, quick=arguments.quick)


def _cell(column: str, row: str, counts: dict[str, int]) -> float | None:
    library = LIBRARIES[column]()
    return library.run(lambda: getattr(library, row)(counts[row]))


def _ours(what: str) -> float:
    job = ours.admission if what == "admission" else ours.beside_a_crash_loop
    import uvloop

    return float(uvloop.run(job()) if what == "admission" else asyncio.run(job()))


def _there(column: str) -> bool:
    names = {
        "mode": "mode-streaming",
        "supervisors": "attrs",
        "supervisors, uvloop": "uvloop",
        "asyncio, uvloop": "uvloop",
    }
    try:
        importlib.metadata.version(names.get(column, column))
    except importlib.metadata.PackageNotFoundError:
        return column == "asyncio"
    return True


def _measured(*arguments: str) -> float | None:
    command = [sys.executable, str(Path(__file__).parent), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, env={**os.environ, "PYTHONPATH": ""}
    )
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")
    result: float | None = json.loads(done.stdout.splitlines()[-1])
    return result


def _median(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def _table(columns: list[str], rounds: int, *, quick: bool) -> int:
    extra = ["--quick"] if quick else []
    found: dict[tuple[str, str], list[float | None]] = {}
    for _ in range(rounds):
        for row in ROWS:
            for column in columns:
                found.setdefault((row, column), []).append(_measured("--cell", column, row, *extra))
    figures = {key: _median(values) for key, values in found.items()}
    width = max(map(len, ROWS.values()))
    print(f"Python {platform.python_version()}, {platform.machine()}; {_versions(columns)}")
    print("  ".join(["".ljust(width), *(column.rjust(max(10, len(column))) for column in columns)]))
    for row, title in ROWS.items():
        cells = [_shown(row, figures[row, column]).rjust(max(10, len(column))) for column in columns]
        print("  ".join([title.ljust(width), *cells]))
    _goals(figures, quick=quick)
    print(_NOTES)
    return 0


def _shown(row: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if row == "idle" else f"{value * 1e6:,.1f}"


def _goals(figures: dict[tuple[str, str], float | None], *, quick: bool) -> None:
    def tell(goal: str, figure: str, *, met: bool) -> None:
        print(f"{'met   ' if met else 'MISSED'}  {goal}: {figure}")

    for ours_, bare in (("supervisors", "asyncio"), ("supervisors, uvloop", "asyncio, uvloop")):
        mine, theirs = figures.get(("call", ours_)), figures.get(("call", bare))
        if mine and theirs:
            tell(f"call within 3 x of two bare queues ({ours_})", f"{mine / theirs:.2f} x", met=mine <= 3 * theirs)
    idle = figures.get(("idle", "supervisors"))
    if idle:
        tell("an idle actor in 4 KiB", f"{idle:,.0f} bytes", met=idle <= 4096)
    for row in ROWS:
        mine = figures.get((row, "supervisors"))
        peers = {
            peer: value
            for peer in PEERS
            if (row, peer) not in _NO_ACTOR and (value := figures.get((row, peer))) is not None
        }
        if mine and peers:
            best = min(peers, key=lambda peer: peers[peer])
            tell(
                f"ahead of every peer: {ROWS[row]}",
                f"{peers[best] / mine:.2f} x the best, {best}",
                met=mine < peers[best],
            )
    if not quick:
        admission = _measured("--ours", "admission")
        beside = _measured("--ours", "beside")
        assert admission is not None
        assert beside is not None
        tell("the gateway's admission within 30 µs (uvloop)", f"{admission * 1e6:.1f} µs", met=admission <= 30e-6)
        tell(
            "an answer within 50 ms beside an endless crash loop", f"{beside * 1e3:.1f} ms at worst", met=beside <= 0.05
        )


def _versions(columns: list[str]) -> str:
    names: dict[str, Callable[[], str]] = {
        "pykka": lambda: importlib.metadata.version("pykka"),
        "xoscar": lambda: importlib.metadata.version("xoscar"),
        "mode": lambda: importlib.metadata.version("mode-streaming"),
        "triotp": lambda: importlib.metadata.version("triotp"),
    }
    return ", ".join(f"{name} {version()}" for name, version in names.items() if name in columns)


if __name__ == "__main__":
    sys.exit(main())
