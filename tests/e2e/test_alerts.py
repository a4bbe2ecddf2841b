"""What a running node says is wrong with it, each with the command that helps: a gateway in this process, and what befalls it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from attrs import define

from runestone import app
from runestone.config.load import read
from runestone.operations.node import Node
from runestone.providers import names
from runestone.resilience.health import Health
from runestone.telemetry.events import Event, LoopHeldUp
from tests.e2e.node import Gateway

pytestmark = pytest.mark.anyio
OPENAI = "openai-default"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define
class Scene:
    """A node in this process, and the log lines that it has lost."""

    node: Node
    lost_lines: list[int]

    def alerts(self) -> dict[str, dict[str, str]]:
        """By their kinds; what this machine may be slow at is left out."""
        self.node.metrics.watch()
        return {a["kind"]: a for a in self.node.alerts()}

    async def quarantined(self) -> None:
        memory, now = self.node.memories[OPENAI], asyncio.get_running_loop().time()
        memory.quarantine = memory.quarantine.add(now, "gpt-\x1b[2J; rm", "not_found", 60.0)

    async def spent(self) -> None:
        memory, now = self.node.memories[OPENAI], asyncio.get_running_loop().time()
        memory.quarantine = memory.quarantine.add(now, None, "quota_exceeded", 60.0)

    async def poor(self) -> None:
        memory, now = self.node.memories[OPENAI], asyncio.get_running_loop().time()
        memory.health = Health().observe("failure", now).observe("failure", now)

    async def drained(self) -> None:
        self.node.memories[OPENAI].admin_state = "draining"

    async def kept(self) -> None:
        self.node.memories[OPENAI].admin_state = "maintenance"
        await self.spent()
        tree = self.node.registry.lookup(names.subtree(OPENAI))
        assert tree is not None
        await tree.terminate_child("provider")

    async def leaves(self) -> None:
        self.node.memories[OPENAI].leaving = True

    async def node_drained(self) -> None:
        self.node.phase.drain()

    async def held_up(self) -> None:
        self.node.lag.observe(1.5)

    async def late(self) -> None:
        for _ in range(1000):
            self.node.lag.observe(0.5)

    async def lines_lost(self) -> None:
        self.lost_lines[0] = 3

    async def handler_fails(self) -> None:
        def fail(_: Event) -> None:
            raise RuntimeError("a bug")

        ended = self.node.bus.subscribe(fail)
        self.node.bus.emit(LoopHeldUp(seconds=1.0, task="x"))
        ended()

    async def gave_up(self) -> None:
        self.node.metrics.gave_up_window.observe(self.node.metrics.clock(), 0.0)

    async def ledger_fails(self) -> None:
        self.node.books.failing = "the disk is full"

    async def calls_lost(self) -> None:
        self.node.books.dropped = 3


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    ports = {"RUNESTONE_PORT": "0", "RUNESTONE_HEALTH_PORT": "0", "RUNESTONE_MAX_LOOP_LAG_MS": "300"}
    environ = {**ports, "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock")}
    lines = [0]
    running = await app.launch(read(environ), lambda: read(environ), demo=True)
    running.node.lines_dropped = lambda: lines[0]
    try:
        yield Scene(running.node, lines)
    finally:
        await running.stop()


async def test_a_fresh_node_has_nothing_to_say(scene: Scene) -> None:
    assert scene.alerts().keys() <= {"loop_lag"}  # other programs may hold this one up


@pytest.mark.parametrize(
    ("befalls", "kind", "severity", "says", "command"),
    [
        (Scene.quarantined, "model_quarantined", "warning", "'gpt-\\x1b[2J; rm'", "provider restart openai-default"),
        (Scene.spent, "quarantined", "error", "its quota is spent", "provider restart openai-default"),
        (Scene.poor, "unhealthy", "warning", "score below 0.7", "provider show openai-default"),
        (Scene.drained, "draining", "warning", "an operator has drained it", "provider ready openai-default"),
        (Scene.kept, "maintenance", "warning", "an operator has it in maintenance", "provider ready openai-default"),
        (Scene.leaves, "leaving", "warning", "it is being removed", "provider show openai-default"),
        (Scene.node_drained, "node_draining", "warning", "drained by an operator", "undrain"),
        (Scene.held_up, "loop_lag", "warning", "held up for 1.5 s", "top --sort busy"),
        (Scene.late, "loop_lag", "warning", "one look in twenty", "top --sort busy"),
        (Scene.gave_up, "supervisor_gave_up", "error", "gave up within the last five minutes", "tree"),
    ],
)
async def test_what_is_wrong_is_said_with_what_helps(
    scene: Scene, befalls: Callable[[Scene], object], kind: str, severity: str, says: str, command: str
) -> None:
    await befalls(scene)  # type: ignore[misc] # a coroutine function of this file

    alert = scene.alerts()[kind]
    assert alert["severity"] == severity
    assert says in alert["message"]
    assert "\x1b" not in alert["message"]
    assert alert["command"] == f"runestone ctl {command}"


@pytest.mark.parametrize(
    ("befalls", "kind", "about"),
    [
        (Scene.lines_lost, "log_dropped", "log"),
        (Scene.handler_fails, "events_lost", "handlers"),
        (Scene.ledger_fails, "ledger_failing", "ledger"),
        (Scene.calls_lost, "ledger_lost", "ledger"),
    ],
)
async def test_what_is_lost_or_cannot_be_written_is_said_too(
    scene: Scene, befalls: Callable[[Scene], object], kind: str, about: str
) -> None:
    await befalls(scene)  # type: ignore[misc] # a coroutine function of this file

    assert scene.alerts()[kind]["about"] == about


async def test_of_one_in_maintenance_nothing_else_is_said(scene: Scene) -> None:
    await scene.kept()

    assert [a["kind"] for a in scene.alerts().values() if a["about"] == OPENAI] == ["maintenance"]
    assert scene.node.provider(OPENAI)["status"] == "maintenance"


async def test_an_alert_is_as_old_as_the_look_that_first_saw_it(scene: Scene) -> None:
    scene.node.memories[OPENAI].admin_state = "draining"
    await asyncio.sleep(2.5)  # nobody asks; the telemetry actor looks by itself

    assert "draining" in {alert.condition.kind for alert in scene.node.seen.alerts}
    scene.node.memories[OPENAI].admin_state = "ready"

    assert "draining" not in scene.alerts()


def test_a_group_that_stays_in_legacy_mode_is_told_with_what_ends_it(node: Gateway) -> None:
    node.ctl("mode", "legacy", "--group", "default-chat-service")
    node.ctl("mode", "enhanced")

    alerts = node.ctl("status")["alerts"]
    told = [(alert["message"], alert["command"]) for alert in alerts if "legacy" in alert["message"]]
    command = "runestone ctl mode enhanced --group default-chat-service"
    assert told == [("default-chat-service is in legacy mode: it has no failover", command)]
    node.ctl(*command.split()[2:])
    assert not [alert for alert in node.ctl("status")["alerts"] if "legacy" in alert["message"]]
