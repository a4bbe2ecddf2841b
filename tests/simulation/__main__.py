"""``python -m tests.simulation --seed 123`` plays the run of one seed and prints its history, then the laws that it breaks.

``--seeds 1000 2000`` plays many, and tells those that break a law.
"""

from __future__ import annotations

import argparse
import sys

from tests.simulation.play import run


def main() -> int:
    """The exit code: 1 if a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="play this one and print everything that happens")
    which.add_argument("--seeds", type=int, nargs=2, metavar=("FROM", "TO"), help="play these, without TO")
    options = parser.parse_args()
    if options.seed is not None:
        played = run(options.seed)
        print(*played.history, played, sep="\n")
        return bool(played.violations)
    broken = [played for seed in range(*options.seeds) if (played := run(seed)).violations]
    print(*broken, f"{len(broken)} of {options.seeds[1] - options.seeds[0]} seeds break a law", sep="\n")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
