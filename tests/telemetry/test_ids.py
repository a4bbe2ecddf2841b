"""Processes that are forks of one, as workers of an embedding server are, draw ids of their own."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os
from runestone.telemetry.ids import random_bits
for _ in range(2):
    if (pid := os.fork()) == 0:
        print(random_bits(64), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
print(random_bits(64))
"""


def test_forks_of_one_process_draw_different_ids() -> None:
    drawn = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)

    assert len(set(drawn.stdout.split())) == 3
