"""Scenarios of a dynamic supervisor, which in Erlang has the strategy simple_one_for_one. The library plays them as it does a tree."""

from __future__ import annotations

from typing import Literal, get_args

from attrs import evolve

from supervisors.restart import Restart
from tests.supervisors.erlang.dice import REASONS, Dice
from tests.supervisors.erlang.play import Init, Script
from tests.supervisors.erlang.tree import (
    Burst,
    Child,
    Crash,
    Flags,
    Halt,
    Quit,
    Scenario,
    Signal,
    StartChild,
    Step,
    TerminateProcess,
)

IDS = "abcdef"
POLICIES: list[Literal["brutal_kill", "infinity"] | int] = [5000, "infinity", "brutal_kill"]


class Maker:
    """Makes up one from a seed."""

    def __init__(self, seed: int) -> None:
        dice = self._dice = Dice(seed)
        self._restart: Restart = dice.pick(get_args(Restart))
        self._shutdown = dice.pick(POLICIES)
        self._trap = dice.chance(0.5)
        self._started: list[str] = []

    def scenario(self) -> Scenario:
        """All of it."""
        dice = self._dice
        flags = Flags("simple_one_for_one", dice.pick([0, 1, 2, 3, 9]), "never")
        root = Child("root", "permanent", "infinity", False, True, flags, [self._child("template")])
        scripts = {id_: self._script() for id_ in IDS}
        steps: list[Step] = [self._start() for _ in range(dice.random.randint(1, 4))]
        steps += [self._step() for _ in range(dice.random.randint(4, 12))]
        return "dynamic", scripts, root, [*steps, Halt("root", dice.pick(REASONS))]

    def _script(self) -> Script:
        """Its restarts are never ignored: Erlang's then keeps a child without a process, and Elixir's, like ours, forgets it."""
        script = self._dice.script()
        later: list[Init] = ["ok" if each == "ignore" else each for each in script.inits[1:]]
        return evolve(script, inits=[script.inits[0], *later])

    def _child(self, id_: str) -> Child:
        return Child(id_, self._restart, self._shutdown, False, self._trap, "worker", [])

    def _start(self) -> StartChild:
        id_ = self._dice.pick(IDS)
        self._started.append(id_)
        return StartChild("root", self._child(id_))

    def _step(self) -> Step:
        known = list(self._started)  # what a burst starts is born when the burst is over
        if self._dice.chance(0.25):
            return Burst("root", [self._one(known) for _ in range(self._dice.random.randint(2, 5))])
        return self._one(known)

    def _one(self, known: list[str]) -> Step:
        id_ = self._dice.pick(known)
        match self._dice.random.randrange(10):
            case 0 | 1:
                return Crash(id_, "c")
            case 2 | 3:
                return Quit(id_, self._dice.pick(REASONS))
            case 4:
                return Signal(id_, self._dice.pick(REASONS))
            case 5:
                return Halt(id_, self._dice.pick(REASONS))
            case 6:
                return TerminateProcess("root", id_)
            case _:
                return self._start()
