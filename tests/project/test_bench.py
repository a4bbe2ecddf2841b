"""The benchmarks run to their end, and print every row; how fast is not asked here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_runs_and_prints_every_row() -> None:
    command = [sys.executable, "ops/bench", "--quick", "--only", "asyncio", "supervisors"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stderr
    titles = ("call", "cast", "start and stop", "memory", "restart", "children")
    for title in titles:
        assert any(line.startswith(title) for line in done.stdout.splitlines()), done.stdout


def test_the_benchmark_of_the_wires_runs_and_prints_every_way() -> None:
    command = [sys.executable, "ops/bench/wires.py", "--requests", "20", "--rounds", "1", "--tokens", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stderr
    for way in ("OpenAI -> OpenAI", "OpenAI -> Anthropic", "Anthropic -> OpenAI", "Anthropic -> Anthropic"):
        assert done.stdout.count(f"  {way}  ") == 2, done.stdout


def test_the_benchmark_of_telemetry_runs_and_prints_every_node() -> None:
    nodes = ("nothing", "ledger", "all", "all, and a file of events")
    command = [
        sys.executable,
        "ops/bench/telemetry.py",
        "--requests",
        "20",
        "--rounds",
        "1",
        "--tokens",
        "3",
        "--nodes",
        *nodes,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stderr
    for node in nodes:
        assert done.stdout.count(f"  {node}  ") == 2, done.stdout
