"""The same six jobs for each library. A job returns seconds of one operation, or bytes; ``None`` where the library has no such thing.

Imports stand in the classes: each cell of the table is measured in a process of its own, which loads that library alone.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

ROWS = {
    "call": "call, round trip (µs)",
    "cast": "cast, until it is handled (µs)",
    "spawn": "start and stop one actor (µs)",
    "idle": "memory of an idle actor (bytes)",
    "restart": "restart, crash until it answers (µs)",
    "children": "children started and stopped (µs each)",
}


async def timed(count: int, job: Callable[[], Awaitable[object]]) -> float:
    """Seconds of one ``job`` among ``count`` in a row."""
    began = time.perf_counter()
    for _ in range(count):
        await job()
    return (time.perf_counter() - began) / count


async def measured_bytes(count: int, start: Callable[[], Awaitable[Any]]) -> float:
    """Bytes that tracemalloc counts for one of ``count`` idle actors. Memory of C stacks (threads) is not among them."""
    kept = [await start() for _ in range(10)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept += [await start() for _ in range(count)]
    await asyncio.sleep(0) if _has_loop() else None
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) / count


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Library:
    """One column. ``run`` gives a job its loop."""

    def run(self, job: Callable[[], Awaitable[float | None]]) -> float | None:
        """By default asyncio's."""
        return asyncio.run(job())  # type: ignore[arg-type]


class Asyncio(Library):
    """What the primitives cost: two queues, a task. No names, no monitors, no deadlines, no supervision."""

    async def _server(self, inbox: asyncio.Queue[Any]) -> None:
        while True:
            message, reply = await inbox.get()
            if reply is not None:
                reply.put_nowait(message)

    async def call(self, count: int) -> float:
        inbox, outbox = asyncio.Queue[Any](), asyncio.Queue[Any]()
        task = asyncio.create_task(self._server(inbox))

        async def once() -> None:
            inbox.put_nowait((1, outbox))
            await outbox.get()

        seconds = await timed(count, once)
        task.cancel()
        return seconds

    async def cast(self, count: int) -> float:
        inbox, outbox = asyncio.Queue[Any](), asyncio.Queue[Any]()
        task = asyncio.create_task(self._server(inbox))
        began = time.perf_counter()
        for _ in range(count):
            inbox.put_nowait((1, None))
        inbox.put_nowait((1, outbox))
        await outbox.get()
        task.cancel()
        return (time.perf_counter() - began) / count

    async def spawn(self, count: int) -> float:
        async def once() -> None:
            task = asyncio.create_task(self._server(asyncio.Queue()))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        return await timed(count, once)

    async def idle(self, count: int) -> float:
        async def start() -> Any:
            task = asyncio.create_task(self._server(asyncio.Queue()))
            await asyncio.sleep(0)
            return task

        return await measured_bytes(count, start)

    async def restart(self, count: int) -> None:
        return None

    async def children(self, count: int) -> float:
        began = time.perf_counter()
        tasks = [asyncio.create_task(self._server(asyncio.Queue())) for _ in range(count)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return (time.perf_counter() - began) / count


class Supervisors(Library):
    """This package."""

    def __init__(self) -> None:
        from supervisors import Call, Cast, GenServer

        class Echo(Call[int]):
            pass

        class Note(Cast):
            pass

        class Fail(Cast):
            pass

        class Actor(GenServer[Any]):
            def handle_call(self, message: Any, caller: Any) -> int:
                return 1

            def handle_cast(self, message: Any) -> None:
                if type(message) is Fail:
                    raise RuntimeError

        self.actor, self.echo, self.note, self.fail = Actor, Echo(), Note(), Fail()

    async def _root(self, *children: Any, **options: Any) -> Any:
        from supervisors import Supervisor, start

        return await start(partial(Supervisor, children, **options), observers=[lambda _: None])

    async def call(self, count: int) -> float:
        from supervisors import start

        ref = await start(self.actor)
        seconds = await timed(count, lambda: ref.call(self.echo))
        await ref.stop()
        return seconds

    async def cast(self, count: int) -> float:
        from supervisors import start

        class Roomy(self.actor):  # type: ignore[name-defined,misc]
            mailbox_limit = count + 1

        ref = await start(Roomy)
        began = time.perf_counter()
        for _ in range(count):
            ref.cast(self.note)
        await ref.call(self.echo, timeout=None)
        seconds = (time.perf_counter() - began) / count
        await ref.stop()
        return seconds

    async def _pool(self) -> Any:
        from supervisors import DynamicSupervisor, start

        return await start(DynamicSupervisor, observers=[lambda _: None])

    async def spawn(self, count: int) -> float:
        from supervisors import ChildSpec

        pool, spec = await self._pool(), ChildSpec(id="x", start=self.actor)

        async def once() -> None:
            await pool.terminate_child(await pool.start_child(spec))

        seconds = await timed(count, once)
        await pool.stop()
        return seconds

    async def idle(self, count: int) -> float:
        from supervisors import ChildSpec

        pool, spec = await self._pool(), ChildSpec(id="x", start=self.actor)
        size = await measured_bytes(count, lambda: pool.start_child(spec))
        await pool.stop()
        return size

    async def restart(self, count: int) -> float:
        from supervisors import ChildSpec, NoProcess

        root = await self._root(ChildSpec(id="x", start=self.actor, name="x"), max_restarts=10**9)
        via = root.process.system.registry.via("x")

        async def once() -> None:
            old = via.resolve()
            via.cast(self.fail)
            while via.resolve() in (old, None):
                await asyncio.sleep(0)
            while True:
                try:
                    await via.call(self.echo)
                except NoProcess:
                    await asyncio.sleep(0)
                else:
                    return

        seconds = await timed(count, once)
        await root.stop()
        return seconds

    async def children(self, count: int) -> float:
        from supervisors import ChildSpec

        pool, spec = await self._pool(), ChildSpec(id="x", start=self.actor)
        began = time.perf_counter()
        for _ in range(count):
            await pool.start_child(spec)
        await pool.stop()
        return (time.perf_counter() - began) / count


class SupervisorsUvloop(Supervisors):
    """The same on uvloop."""

    def run(self, job: Callable[[], Awaitable[float | None]]) -> float | None:
        import uvloop

        return uvloop.run(job())  # type: ignore[arg-type]


class AsyncioUvloop(Asyncio):
    """The primitives on uvloop."""

    def run(self, job: Callable[[], Awaitable[float | None]]) -> float | None:
        import uvloop

        return uvloop.run(job())  # type: ignore[arg-type]


class Pykka(Library):
    """Actors on threads."""

    def __init__(self) -> None:
        import pykka

        class Actor(pykka.ThreadingActor):
            def on_receive(self, message: Any) -> Any:
                return message

        self.actor = Actor

    async def call(self, count: int) -> float:
        ref = self.actor.start()
        began = time.perf_counter()
        for _ in range(count):
            ref.ask(1)
        seconds = (time.perf_counter() - began) / count
        ref.stop()
        return seconds

    async def cast(self, count: int) -> float:
        ref = self.actor.start()
        began = time.perf_counter()
        for _ in range(count):
            ref.tell(1)
        ref.ask(1)
        seconds = (time.perf_counter() - began) / count
        ref.stop()
        return seconds

    async def spawn(self, count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            self.actor.start().stop()
        return (time.perf_counter() - began) / count

    async def idle(self, count: int) -> float:
        async def start() -> Any:
            return self.actor.start()

        size = await measured_bytes(min(count, 500), start)
        import pykka

        pykka.ActorRegistry.stop_all()
        return size

    async def restart(self, count: int) -> None:
        return None

    async def children(self, count: int) -> float:
        import pykka

        few = min(count, 1000)  # each is a thread
        began = time.perf_counter()
        refs = [self.actor.start() for _ in range(few)]
        pykka.ActorRegistry.stop_all()
        del refs
        return (time.perf_counter() - began) / few


class _Echo:
    """Made an actor of xoscar where that is there."""


class Xoscar(Library):
    """Actors in a pool, here in its main process."""

    def __init__(self) -> None:
        import xoscar

        class Actor(xoscar.Actor):
            async def echo(self) -> int:
                return 1

        Actor.__module__, Actor.__qualname__ = __name__, "XoscarActor"
        globals()["XoscarActor"] = Actor
        self.xo, self.actor = xoscar, Actor

    async def _pool(self) -> Any:
        pool = await self.xo.create_actor_pool("127.0.0.1:0", n_process=0)
        await pool.start()
        return pool

    async def call(self, count: int) -> float:
        pool = await self._pool()
        ref = await self.xo.create_actor(self.actor, address=pool.external_address)
        seconds = await timed(count, lambda: ref.echo())
        await pool.stop()
        return seconds

    async def cast(self, count: int) -> float:
        pool = await self._pool()
        ref = await self.xo.create_actor(self.actor, address=pool.external_address)
        began = time.perf_counter()
        for _ in range(count):
            await ref.echo.tell()
        await ref.echo()
        seconds = (time.perf_counter() - began) / count
        await pool.stop()
        return seconds

    async def spawn(self, count: int) -> float:
        pool = await self._pool()

        async def once() -> None:
            await self.xo.destroy_actor(await self.xo.create_actor(self.actor, address=pool.external_address))

        seconds = await timed(count, once)
        await pool.stop()
        return seconds

    async def idle(self, count: int) -> float:
        pool = await self._pool()
        size = await measured_bytes(count, lambda: self.xo.create_actor(self.actor, address=pool.external_address))
        await pool.stop()
        return size

    async def restart(self, count: int) -> None:
        return None

    async def children(self, count: int) -> float:
        pool = await self._pool()
        began = time.perf_counter()
        refs = [await self.xo.create_actor(self.actor, address=pool.external_address) for _ in range(count)]
        for ref in refs:
            await self.xo.destroy_actor(ref)
        seconds = (time.perf_counter() - began) / count
        await pool.stop()
        return seconds


class Mode(Library):
    """Services: no mailbox, so neither call nor cast."""

    def __init__(self) -> None:
        import logging

        import mode

        logging.disable()

        class Actor(mode.Service):
            lives = 0

            async def on_start(self) -> None:
                type(self).lives += 1

        self.mode, self.actor = mode, Actor

    async def call(self, count: int) -> None:
        return None

    async def cast(self, count: int) -> None:
        return None

    async def spawn(self, count: int) -> float:
        async def once() -> None:
            service = self.actor()
            await service.start()
            await service.stop()

        return await timed(count, once)

    async def idle(self, count: int) -> float:
        async def start() -> Any:
            service = self.actor()
            await service.start()
            return service

        return await measured_bytes(count, start)

    async def restart(self, count: int) -> float:
        service = self.actor()
        supervisor = self.mode.OneForOneSupervisor(service, max_restarts=10**9, over=1)
        await supervisor.start()
        few = min(count, 3)  # it looks every five seconds, or when it is woken

        async def once() -> None:
            lives = self.actor.lives
            await service.crash(RuntimeError())
            while self.actor.lives == lives:
                await asyncio.sleep(0)

        seconds = await timed(few, once)
        await supervisor.stop()
        return seconds

    async def children(self, count: int) -> float:
        few = min(count, 2000)
        began = time.perf_counter()
        services = [self.actor() for _ in range(few)]
        for service in services:
            await service.start()
        for service in services:
            await service.stop()
        return (time.perf_counter() - began) / few


class Triotp(Library):
    """OTP's names on trio."""

    def run(self, job: Callable[[], Awaitable[float | None]]) -> float | None:
        import trio
        from triotp import mailbox

        async def main() -> float | None:
            mailbox._init()
            return await job()

        return trio.run(main)

    def __init__(self) -> None:
        import sys
        import types

        import trio
        from triotp import dynamic_supervisor, gen_server, mailbox, supervisor

        self.trio, self.gen_server, self.mailbox = trio, gen_server, mailbox
        self.supervisor, self.dynamic = supervisor, dynamic_supervisor
        module = self.module = types.ModuleType("bench_actor")

        async def init(_: Any) -> Any:
            return None

        async def handle_call(message: Any, _caller: Any, state: Any) -> Any:
            return gen_server.Reply(payload=1), state

        async def handle_cast(message: Any, state: Any) -> Any:
            return (gen_server.Stop() if message == "stop" else gen_server.NoReply()), state

        module.init, module.handle_call, module.handle_cast = init, handle_call, handle_cast  # type: ignore[attr-defined]
        sys.modules["bench_actor"] = module

    async def call(self, count: int) -> float:
        async with self.trio.open_nursery() as nursery:
            nursery.start_soon(self.gen_server.start, self.module, None, "x")
            await self.trio.sleep(0.05)
            seconds = await timed(count, lambda: self.gen_server.call("x", "echo"))
            nursery.cancel_scope.cancel()
        return seconds

    async def cast(self, count: int) -> float:
        async with self.trio.open_nursery() as nursery:
            nursery.start_soon(self.gen_server.start, self.module, None, "x")
            await self.trio.sleep(0.05)
            began = time.perf_counter()
            for _ in range(count):
                await self.gen_server.cast("x", "note")
            await self.gen_server.call("x", "echo")
            seconds = (time.perf_counter() - began) / count
            nursery.cancel_scope.cancel()
        return seconds

    async def spawn(self, count: int) -> float:
        async def once() -> None:
            async with self.trio.open_nursery() as nursery:
                nursery.start_soon(self.gen_server.start, self.module, None, "x")
                await self.trio.sleep(0)
                nursery.cancel_scope.cancel()

        return await timed(count, once)

    async def idle(self, count: int) -> float:
        async with self.trio.open_nursery() as nursery:

            async def start() -> None:
                nursery.start_soon(self.gen_server.start, self.module)
                await self.trio.sleep(0)

            size = await measured_bytes(count, start)
            nursery.cancel_scope.cancel()
        return size

    async def restart(self, count: int) -> float:
        lives = 0
        again = self.trio.Event()

        async def child() -> None:
            nonlocal lives
            lives += 1
            if lives > count:
                again.set()
                await self.trio.sleep_forever()
            raise RuntimeError

        began = time.perf_counter()
        async with self.trio.open_nursery() as nursery:
            spec = self.supervisor.child_spec(id="x", task=child, args=[])
            nursery.start_soon(
                self.supervisor.start, [spec], self.supervisor.options(max_restarts=10**9, max_seconds=1)
            )
            await again.wait()
            seconds = (time.perf_counter() - began) / count
            nursery.cancel_scope.cancel()
        return seconds

    async def children(self, count: int) -> float:
        began = time.perf_counter()
        async with self.trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(self.gen_server.start, self.module)
            await self.trio.sleep(0)
            nursery.cancel_scope.cancel()
        return (time.perf_counter() - began) / count


LIBRARIES: dict[str, type[Library]] = {
    "asyncio": Asyncio,
    "asyncio, uvloop": AsyncioUvloop,
    "supervisors": Supervisors,
    "supervisors, uvloop": SupervisorsUvloop,
    "pykka": Pykka,
    "xoscar": Xoscar,
    "mode": Mode,
    "triotp": Triotp,
}
PEERS = ("pykka", "xoscar", "mode", "triotp")
