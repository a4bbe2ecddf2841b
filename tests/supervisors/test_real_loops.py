"""What virtual time cannot show: real clocks, both loops, and interpreters that end."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from supervisors import (
    ActorRef,
    CallTimeout,
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    Killed,
    Registry,
    Shutdown,
    Supervisor,
    start,
)
from supervisors.testing import leak_check
from tests.supervisors.actors import Boom, Ping, Raise, Stubborn, Trace, Work, child, states, until

Main = Callable[[], Coroutine[Any, Any, None]]
Play = Callable[[Main], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Play:
    """Run a coroutine function on a real loop."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    def run(main: Main) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run


def test_tree_starts_crashes_restarts_and_stops(play: Play) -> None:
    trace, registry = Trace(), Registry()

    async def main() -> None:
        async with leak_check():
            children = [trace.child("a", name="a"), trace.child("b")]
            root = await start(lambda: Supervisor(children, strategy="one_for_all"), registry=registry)
            ref = await child(root, "a")
            ref.cast(Raise(Boom()))
            await ref.wait()
            await until(lambda: states(root) == {"a": "running", "b": "running"})
            assert await registry.via("a").call(Ping()) == "pong"
            await root.stop()

    play(main)

    assert trace.take() == "+a +b -a -b +a +b -b -a"


def test_call_timeout_is_real_time(play: Play) -> None:
    trace = Trace()

    async def main() -> None:
        async with leak_check():
            root = await start(lambda: Supervisor([trace.child("a", shutdown="brutal_kill")]))
            ref = await child(root, "a")
            began = time.monotonic()
            with pytest.raises(CallTimeout):
                await ref.call(Work(30), timeout=0.1)
            assert 0.09 <= time.monotonic() - began < 5
            await root.stop()

    play(main)


def test_shutdown_time_is_real_time(play: Play) -> None:
    trace = Trace()

    async def main() -> None:
        async with leak_check():
            root = await start(lambda: Supervisor([trace.child("a", shutdown=0.1, terminate=30.0)]))
            ref = await child(root, "a")
            began = time.monotonic()
            await root.stop()
            assert 0.09 <= time.monotonic() - began < 5
            assert ref.process.reason == Killed()

    play(main)


def test_adopted_tasks_end_with_their_supervisor(play: Play) -> None:
    async def main() -> None:
        async with leak_check():
            root = await start(DynamicSupervisor)

            async def request() -> None:
                async with root.adopt():
                    await asyncio.sleep(60)

            requests = [asyncio.ensure_future(request()) for _ in range(10)]
            await asyncio.sleep(0)
            await root.stop()
            await asyncio.wait(requests)
            assert all(each.cancelled() for each in requests)

    play(main)


def test_task_that_swallows_one_cancellation_is_killed_all_the_same(play: Play) -> None:
    class Swallowing(GenServer[str]):
        async def handle_cast(self, message: str) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(60)

    async def main() -> None:
        async with leak_check():
            root = await start(lambda: Supervisor([ChildSpec(id="s", start=Swallowing, shutdown="brutal_kill")]))
            ref = await child(root, "s")
            ref.cast("go")
            await asyncio.sleep(0.01)
            await root.terminate_child("s")
            assert ref.process.reason == Killed()
            assert not ref.process.zombie
            await root.stop()

    play(main)


def test_task_that_swallows_every_cancellation_becomes_a_zombie_and_the_stop_goes_on(play: Play) -> None:
    trace = Trace()

    async def main() -> None:
        async with leak_check():
            release = asyncio.Event()
            stubborn = ChildSpec(id="s", start=lambda: Stubborn(release), shutdown=0.05)
            root = await start(lambda: Supervisor([trace.child("a"), stubborn]))
            ref = await child(root, "s")
            ref.cast("go")
            await asyncio.sleep(0.01)
            began = time.monotonic()
            await root.stop()
            assert time.monotonic() - began < 10
            assert ref.process.zombie
            release.set()
            await asyncio.sleep(0.05)

    play(main)

    assert trace.take() == "+a -a"


def test_trap_13_blocking_handler_does_not_make_the_others_miss_their_shutdown_time(play: Play) -> None:
    """While a handler blocks the loop, everybody's time runs; who is done by then must not be killed for it."""
    trace = Trace()

    class Blocking(GenServer[float]):
        def handle_cast(self, message: float) -> None:
            time.sleep(message)

    async def main() -> None:
        async with leak_check():
            blocking = ChildSpec(id="x", start=Blocking)
            root = await start(lambda: Supervisor([blocking, trace.child("a", shutdown=0.2)]))
            a, x = await child(root, "a"), await child(root, "x")
            stopping = asyncio.ensure_future(root.terminate_child("a"))
            x.cast(0.5)
            await stopping
            assert a.process.reason == Shutdown()
            await root.stop()

    play(main)

    assert trace.take() == "+a -a"


def test_no_exception_is_left_unretrieved(play: Play) -> None:
    said: list[dict[str, Any]] = []
    trace = Trace()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        root = await start(lambda: Supervisor([trace.child("a")], max_restarts=0))
        ref = await child(root, "a")
        ref.cast(Raise(Boom()))
        await root.wait()
        gc.collect()
        await asyncio.sleep(0)

    play(main)

    assert said == []


def test_two_loops_one_after_the_other_share_nothing(play: Play) -> None:
    trace = Trace()
    refs: list[ActorRef] = []

    async def main() -> None:
        async with leak_check():
            root = await start(lambda: Supervisor([trace.child("a")]))
            refs.append(await child(root, "a"))
            await root.stop()

    play(main)
    play(main)

    assert [ref.process.pid for ref in refs] == [refs[0].process.pid] * 2


# -- interpreters that end


def script(body: str, loop: str) -> subprocess.CompletedProcess[str]:
    """Run ``body`` in an interpreter of its own, with a server ``Plain`` at hand."""
    prelude = f"""
    import asyncio, os, signal, sys
    from supervisors import *
    from supervisors.exit import Crashed
    {"import uvloop" if loop == "uvloop" else ""}

    starts = []

    class Plain(GenServer):
        def init(self):
            starts.append(self.incarnation)
        def handle_cast(self, message):
            raise message
        def terminate(self, reason):
            print("terminated", flush=True)

    def run(main):
        factory = {"uvloop.new_event_loop" if loop == "uvloop" else "None"}
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())

    def tree():
        return Supervisor([ChildSpec(id="a", start=Plain), ChildSpec(id="b", start=Plain)])
    """
    source = textwrap.dedent(prelude) + textwrap.dedent(body)
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", source],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_name(request: pytest.FixtureRequest) -> str:
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return str(request.param)


@pytest.mark.parametrize("interrupt", ["KeyboardInterrupt", "SystemExit"])
def test_interrupt_raised_in_a_handler_ends_the_program_and_restarts_nothing(loop_name: str, interrupt: str) -> None:
    done = script(
        f"""
        async def main():
            root = await start(tree)
            ref = (await root.which_children())[0].ref
            ref.cast({interrupt}())
            try:
                await asyncio.sleep(30)
            finally:
                await asyncio.sleep(0.05)
                print("starts", starts, flush=True)

        try:
            run(main)
        except BaseException as error:
            print(type(error).__name__, flush=True)
        """,
        loop_name,
    )

    assert done.stdout.splitlines()[-1] == interrupt
    assert "starts [1, 1]" in done.stdout
    assert "never retrieved" not in done.stderr
    assert "was destroyed but it is pending" not in done.stderr


def test_sigint_ends_the_tree_in_order(loop_name: str) -> None:
    done = script(
        """
        async def main():
            root = await start(tree)
            loop = asyncio.get_running_loop()
            loop.call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
            try:
                await root.wait()
            finally:
                await root.stop()
                print("stopped", flush=True)

        try:
            run(main)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
        loop_name,
    )

    assert done.stdout.split() == ["terminated", "terminated", "stopped", "interrupted"]
    assert done.stderr == ""


def test_trap_23_interpreter_exit_with_a_running_tree_ends_soon_and_quietly(loop_name: str) -> None:
    done = script(
        """
        async def main():
            await start(tree)
            print("left", flush=True)

        run(main)
        print("starts", starts, flush=True)
        """,
        loop_name,
    )

    assert done.returncode == 0
    assert "left" in done.stdout
    assert "starts [1, 1]" in done.stdout
    assert done.stderr == ""
