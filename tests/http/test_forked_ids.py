"""Processes that are forks of one, as workers of an embedding server are, draw ids of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

DRAWN = {
    "request": "from runestone.http import exchange as module",
    "call of the ledger": "from runestone.ledger import row as module",
    "trace": "from runestone.telemetry import trace_context as module",
}


@pytest.mark.parametrize("of", DRAWN)
def test_forks_of_one_process_draw_different_ids(of: str) -> None:
    script = f"""
import os
{DRAWN[of]}
for _ in range(2):
    if (pid := os.fork()) == 0:
        print(module._ids.getrandbits(64), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
print(module._ids.getrandbits(64))
"""
    drawn = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, check=True)

    assert len(set(drawn.stdout.split())) == 3
