"""What makes up a scenario from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from tests.supervisors.erlang.play import Init, Reason, Script

T = TypeVar("T")
REASONS: list[Reason] = ["normal", "shutdown", ("shutdown", "x"), "killed", ("boom", "q")]


class Dice:
    """Chance, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pick(self, choices: Sequence[T]) -> T:
        """One of ``choices``."""
        return self.random.choice(choices)

    def chance(self, share: float) -> bool:
        """Whether it happens, so often."""
        return self.random.random() < share

    def script(self) -> Script:
        """The lives of one id: the first mostly begins well."""
        inits = [self._init(0.93), *(self._init(0.7) for _ in range(self.random.randint(0, 4)))]
        return Script(inits, ("crash", "t") if self.chance(0.1) else "ok")

    def _init(self, well: float) -> Init:
        if self.chance(well):
            return "ok"
        failures: list[Init] = ["ignore", ("crash", "i"), ("crash", "i"), ("stop", self.pick(REASONS))]
        return self.pick(failures)
