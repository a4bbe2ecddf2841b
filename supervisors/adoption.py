"""A task that was made elsewhere becomes a process of the tree, for the time of an ``async with``."""

from __future__ import annotations

import asyncio
from contextvars import Token

from supervisors.ending import reason_of
from supervisors.errors import NoProcess
from supervisors.exit import Normal
from supervisors.process import Process, enter, leave


class Adopter:
    """What a supervisor that adopts has: a count, and the seconds that a task has to leave in when the supervisor stops."""

    adopted_count: int
    adopted_shutdown: float


class Adoption:
    """What ``adopt`` of a dynamic supervisor returns. It makes no task, so it costs a request next to nothing."""

    __slots__ = ("_adopter", "_name", "_process", "_supervisor", "_token")

    _adopter: Adopter
    _process: Process
    _token: Token[Process | None]

    def __init__(self, supervisor: Process | None, name: str | None) -> None:
        self._supervisor = supervisor
        self._name = name

    async def __aenter__(self) -> Process:
        supervisor = self._supervisor
        if supervisor is None or not supervisor.serves:
            raise NoProcess
        children = supervisor.children
        adopter: object = supervisor.behaviour
        if children is None or not isinstance(adopter, Adopter):
            raise TypeError(f"{supervisor.path} is no dynamic supervisor")
        self._adopter = adopter
        adopter.adopted_count += 1
        process = self._process = Process(supervisor.system, self._name, parent=supervisor, name=self._name)
        process.task = asyncio.current_task()
        children[process] = adopter.adopted_shutdown
        self._token = enter(process)
        return process

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        leave(self._token)
        self._adopter.adopted_count -= 1
        self._process.exited(Normal() if error is None else reason_of(error))
