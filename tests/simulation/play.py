"""Plays one script on virtual time: the tree, its clients and its operator, until all is over and every provider has come back."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Any, cast

from attrs import define, field, frozen
from loguru import logger

from runestone.config.live import Live
from runestone.config.settings import AuthSettings, InboundKey
from runestone.gateway import Gateway, Phase
from runestone.http.front import Front
from runestone.load import Load
from runestone.providers import names
from runestone.providers.provider import ResetBreaker, SetAdminState, TripBreaker
from runestone.providers.transport import Transport
from runestone.resilience.breaker import Closed, ForcedOpen, HalfOpen
from runestone.resilience.history import STEPS_OF_A_CHUNK, History
from supervisors import ActorError, Call, LoopLag
from supervisors.testing import VirtualTimeLoop, crash, settle
from tests.simulation.client import Client
from tests.simulation.laws import Laws, timers
from tests.simulation.ledger import Ledger
from tests.simulation.script import KEYS, Disturbance, Question, Script, written
from tests.simulation.upstream import GOOD, Behaviour, ScriptedUpstream, drawn
from tests.support.fleet import Fleet, fleet

_PATIENCE_SECONDS = 2000.0  # far beyond every deadline
_ALL_IS_FORGOTTEN_SECONDS = 700.0
_GOOD_CALLS = 6  # enough to close any breaker
_LOOK_SECONDS = 0.37


@frozen
class Played:
    """One run: its script, all that happened, and the laws that were broken."""

    script: Script
    history: tuple[str, ...]
    violations: tuple[str, ...]

    def __str__(self) -> str:
        """For people: the laws that were broken, and how to see the whole of it again."""
        broken = "\n".join(f"  {violation}" for violation in self.violations) or "  none"
        return f"seed {self.script.seed} ({self.script.profile}); broken laws:\n{broken}\nreplay: python -m tests.simulation --seed {self.script.seed}"


class SimulationLoop(VirtualTimeLoop):
    """Virtual time on which threads take none either: their work is done before anything else goes on."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # as VirtualTimeLoop has it
        assert isinstance(executor, Executor)
        future = executor.submit(func, *args)
        future.exception(timeout=60.0)
        return asyncio.wrap_future(future, loop=self)


def run(seed: int) -> Played:
    """The run of ``seed``."""
    script = written(seed)
    logger.disable("runestone")
    try:
        factory = partial(SimulationLoop, seed=seed if script.shuffled else None)
        with asyncio.Runner(loop_factory=factory) as runner:
            ledger = runner.run(_play(script))
    finally:
        logger.enable("runestone")
    return Played(script, tuple(ledger.history), tuple(ledger.violations))


async def _play(script: Script) -> Ledger:
    loop, chance = asyncio.get_running_loop(), random.Random(f"chance {script.seed}")
    before = asyncio.all_tasks()
    keys = tuple(InboundKey(key, hashlib.sha256(f"key-{key}".encode()).digest()) for key in KEYS)
    async with fleet(
        *script.providers,
        groups=script.groups,
        router=True,
        chance=chance.random,
        timeouts=script.timeouts,
        max_upstream_calls=script.max_upstream_calls,
        auth=AuthSettings(keys=keys),
    ) as node:
        ledger = Ledger(node.memories, script.timeouts.request_deadline_seconds, script.max_upstream_calls)
        loop.set_exception_handler(lambda _, context: ledger.wrong(f"the loop is told: {context}"))
        run = _Run(script, node, ledger, chance.random)
        await run.play()
    await settle()
    if left := asyncio.all_tasks() - before:
        ledger.wrong(f"tasks are left: {left}")
    if left_timers := timers(loop):
        ledger.wrong(f"timers are left: {left_timers}")
    return ledger


@define(eq=False, repr=False)
class _Run:
    script: Script
    node: Fleet
    ledger: Ledger
    chance: Callable[[], float]
    clients: list[Client] = field(factory=list)
    crashes: int = 0
    recovering: bool = False
    phase: Phase = field(factory=Phase)
    load: Load = field(init=False)
    front: Front = field(init=False)
    laws: Laws = field(init=False)
    moods: dict[str, float] = field(init=False)

    def __attrs_post_init__(self) -> None:
        node, script = self.node, self.script
        self.load = Load(LoopLag(), self.chance)
        gateway = Gateway.over(node.registry, Live(node.settings), self.phase, self.load, node.bus)
        self.front = Front.over(gateway, node.bus)
        self.laws = Laws(script, node, self.ledger)
        draw = random.Random(f"moods {script.seed}")
        self.moods = {name: draw.choice((0.0, 0.1, 0.4, 0.8, 1.0)) for name in node.memories}
        node.bus.subscribe(self.ledger.told)
        for memory in node.memories.values():
            wire = ScriptedUpstream(memory.settings, self._behave, self.ledger.began, self.ledger.ended)
            memory.transport = cast("Transport", wire)
            memory.history = History(size=draw.choice((3, 30, STEPS_OF_A_CHUNK)))  # what is old is forgotten

    def _behave(self, provider: str, number: int) -> Behaviour:
        if self.recovering:
            return GOOD
        draw = random.Random(f"call {self.script.seed} {provider} {number}")
        return drawn(draw, self.script.profile, self.moods[provider])

    async def play(self) -> None:
        """From the first request to the last law."""
        script = self.script
        inspector = asyncio.create_task(self._inspect())
        tasks = [asyncio.create_task(self._operate())]
        tasks += [task for question in script.questions for task in self._asked(question)]
        _, pending = await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
        inspector.cancel()
        await asyncio.wait({inspector})
        if not inspector.cancelled() and (error := inspector.exception()) is not None:
            raise error
        if pending:
            hanging = [client.question.number for client in self.clients if client.ended is None]
            self.ledger.wrong(f"questions that hang: {hanging}")
            for task in pending:
                task.cancel()
            await asyncio.wait(pending)
            return
        for task in tasks:
            if not task.cancelled():
                task.result()
        await settle()
        if self.phase.in_flight or self.load._taken:
            self.ledger.wrong("requests are counted that are over")
        self.laws.at_rest()
        await self._recover()
        await settle()
        self.laws.at_the_end(self.clients, self.crashes)

    # -- clients -----------------------------------------------------------------------------------------------------

    def _asked(self, question: Question) -> list[asyncio.Task[None]]:
        client = Client(question)
        self.clients.append(client)
        task = asyncio.create_task(self._ask(client))
        self.ledger.questions[task] = question
        return [task] if question.leaves is None else [task, asyncio.create_task(self._leave(client, task))]

    async def _ask(self, client: Client) -> None:
        question, loop = client.question, asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, question.at - loop.time()))
        self.ledger.note(f"{question}")
        try:
            await client.ask(self.front)
        finally:
            self.laws.at_the_end_of(client)

    async def _leave(self, client: Client, task: asyncio.Task[None]) -> None:
        await asyncio.sleep(client.question.at)
        await client.leave(task)
        self.ledger.note(f"question {client.question.number}: {'leaves' if client.gone is not None else 'stays'}")

    # -- the operator, and bugs ----------------------------------------------------------------------------------------

    async def _operate(self) -> None:
        loop = asyncio.get_running_loop()
        for each in self.script.disturbances:
            await asyncio.sleep(max(0.0, each.at - loop.time()))
            self.ledger.note(f"{each.what}: {each.provider}")
            with suppress(ActorError):  # it crashes at this very moment
                await self._disturb(each)

    async def _disturb(self, each: Disturbance) -> None:
        name, standing, ledger = each.provider, self.ledger.standings[each.provider], self.ledger
        memory = self.node.memories[name]
        match each.what:
            case "crash provider":
                if (ref := self.node.registry.lookup(names.provider(name))) is not None:
                    ledger.crashed(name)
                    self.crashes += 1
                    crash(ref, RuntimeError("a bug"))
            case "crash failover":
                if (ref := self.node.registry.lookup(names.FAILOVER)) is not None:
                    self.crashes += 1
                    crash(ref, RuntimeError("a bug"))
            case "restart":
                standing.forget(ledger.now)
                await self.node.root.terminate_child(name)
                memory.forget(ledger.now)
                await self.node.root.restart_child(name)
                standing.forget(ledger.now)  # what was learnt at this very moment too
            case "trip" | "trip for a while":
                seconds = None if each.what == "trip" else 5.0
                standing.changed = ledger.now
                await self._tell(name, TripBreaker(seconds))
                standing.forced = (ledger.now, ledger.now + (1e9 if seconds is None else seconds))
                standing.failures.clear()
            case "reset":
                standing.forget(ledger.now)
                await self._tell(name, ResetBreaker())
                standing.forget(ledger.now)
            case "drain":
                await self._tell(name, SetAdminState("draining"))
                standing.drained = ledger.now
            case "undrain":
                standing.drained = None
                await self._tell(name, SetAdminState("ready"))
            case "lose transport":
                standing.disturbed = True
                wire, memory.transport = memory.transport, None
                await asyncio.sleep(0.3)
                memory.transport = wire

    async def _tell(self, name: str, message: Call[None]) -> None:
        await self.node.registry.via(names.provider(name)).call(message)

    # -- what holds at any moment --------------------------------------------------------------------------------------

    async def _inspect(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await settle()
            now = self.ledger.now
            for name, memory in self.node.memories.items():
                policy, state = memory.settings.concurrency, memory.breaker.state
                if not 0.0 <= memory.score(now) <= 1.0:
                    self.ledger.wrong(f"the score of {name} is {memory.score(now)}")
                if policy.limit is not None and len(memory.leases) > policy.limit:
                    self.ledger.wrong(f"{name} has {len(memory.leases)} leases out, its limit is {policy.limit}")
                if memory.waiting > policy.queue:
                    self.ledger.wrong(f"{memory.waiting} wait for {name}, whose line is {policy.queue}")
                if memory.waiting and not memory.concurrency.full(len(memory.leases)):
                    self.ledger.wrong(f"{memory.waiting} wait for {name}, which has places")
                if isinstance(state, HalfOpen) and not set(state.probes) <= set(memory.leases):
                    self.ledger.wrong(f"{name} waits for probes that are over: {sorted(state.probes)}")
                ref = self.node.registry.lookup(names.provider(name))
                if ref is not None and len(ref.process.watching or ()) > len(memory.leases) + memory.waiting:
                    self.ledger.wrong(f"{name} watches requests that have neither a lease nor stand in line")

    # -- no state is absorbing -----------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Time and good answers make every provider whole again; only an operator lifts what he has forced."""
        self.recovering = True
        for name, memory in self.node.memories.items():
            self.ledger.standings[name].drained = None
            await self._tell(name, SetAdminState("ready"))
            if isinstance(memory.breaker.state, ForcedOpen):
                self.ledger.standings[name].forget(self.ledger.now)
                await self._tell(name, ResetBreaker())
        await asyncio.sleep(_ALL_IS_FORGOTTEN_SECONDS)
        number = 1000
        for name, memory in self.node.memories.items():
            for _ in range(_GOOD_CALLS):
                number += 1
                await self._good_call(number, f"{name}/{memory.settings.default_model}")
                await settle()
                if isinstance(memory.breaker.state, Closed) and self.clients[-1].end == "whole":
                    break
            now = self.ledger.now
            if (
                not isinstance(memory.breaker.state, Closed)
                or self.clients[-1].end != "whole"
                or memory.score(now) < 0.9
            ):
                self.ledger.wrong(f"{name} does not come back: {memory.breaker.state}, score {memory.score(now):.2f}")

    async def _good_call(self, number: int, model: str) -> None:
        at = asyncio.get_running_loop().time()
        question = Question(
            number=number, at=at, path="/v1/chat/completions", stream=True, model=model, group=None, key=KEYS[0]
        )
        (task,) = self._asked(question)
        await asyncio.wait({task})
        task.result()
