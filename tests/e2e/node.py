"""A real gateway process and real simulated providers in processes of their own, driven over sockets as a user would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from attrs import define

from runestone.console.client import AdminClient, Refused, Unreachable
from tests.support.forked import carried_out, runestone
from tests.support.plain import PLAIN

START_SECONDS = 20.0
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
_QUIET = httpx.Timeout(10.0)


def eventually(check: Callable[[], Any], what: str | Callable[[], str], seconds: float = 10.0) -> Any:
    """Wait until ``check`` gives something true, and return that."""
    end = time.monotonic() + seconds
    while True:
        if value := check():
            return value
        if time.monotonic() > end:
            raise AssertionError(f"never: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


@define
class Upstream:
    """A simulated provider in a process of its own."""

    name: str
    process: subprocess.Popen[str]
    url: str
    control: str

    def fault(self, spec: str) -> None:
        """Switch its fault."""
        httpx.put(f"{self.control}/_simulated/fault", content=spec, **PLAIN).raise_for_status()

    def reset(self) -> None:
        """Forget what was recorded."""
        httpx.post(f"{self.control}/_simulated/reset", **PLAIN).raise_for_status()

    def state(self) -> dict[str, Any]:
        """What it has seen."""
        return dict(httpx.get(f"{self.control}/_simulated", **PLAIN).raise_for_status().json())

    def requests(self) -> list[dict[str, Any]]:
        """The requests to its API, oldest first."""
        found = httpx.get(f"{self.control}/_simulated/requests", **PLAIN).raise_for_status().json()
        return list(found["requests"] if isinstance(found, dict) else found)


@contextmanager
def upstream(name: str) -> Iterator[Upstream]:
    """A simulated provider for the time of the block."""
    command = [sys.executable, "-m", "runestone.simulated", "--port", "0", "--name", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            hello = json.loads(process.stdout.readline())
            yield Upstream(name, process, hello["url"], hello["control_url"])
        finally:
            process.terminate()


@define
class Gateway:
    """A running ``runestone serve``."""

    process: subprocess.Popen[bytes]
    socket: Path
    log: Path
    public_url: str
    health_url: str

    @classmethod
    def ready(cls, process: subprocess.Popen[bytes], admin_socket: Path, log: Path) -> Self:
        """The gateway in ``process``, once it says on its admin socket where it listens."""

        def listeners() -> dict[str, str] | None:
            if process.poll() is not None:
                raise AssertionError(f"ended with {process.returncode}: {log.read_text()}")
            try:
                return dict(AdminClient(admin_socket).request("GET", "/v1/status")["listeners"])
            except Unreachable:
                return None

        where = eventually(listeners, "it answers on its admin socket", START_SECONDS)
        node = cls(process, admin_socket, log, where["public"], where["health"])
        eventually(lambda: node.health("/ready").status_code == 200, "it is ready", START_SECONDS)
        eventually(node.started, "its start is over", START_SECONDS)  # which is a moment after it is ready
        return node

    def started(self) -> bool:
        """Whether the whole tree is up; until then an answer about it is refused."""
        try:
            AdminClient(self.socket).request("GET", "/v1/tree")
        except Refused as refused:
            if refused.code != "unavailable":
                raise
            return False
        return True

    @property
    def port(self) -> int:
        """Of the API."""
        return int(self.public_url.rpartition(":")[2])

    @property
    def base_url(self) -> str:
        """What an SDK is given."""
        return f"{self.public_url}/v1"

    def health(self, path: str = "") -> httpx.Response:
        """GET a path of the health port."""
        return httpx.get(f"{self.health_url}/health{path}", timeout=_QUIET, **PLAIN)

    def post(self, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> httpx.Response:
        """A chat request."""
        url = f"{self.base_url}/chat/completions"
        return httpx.post(url, json=dict(body), headers=dict(headers or {}), timeout=60, **PLAIN)

    def ctl(self, *arguments: str, check: bool = True) -> dict[str, Any]:
        """``runestone ctl --json``."""
        done = self.ctl_raw("--json", *arguments)
        assert not check or done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return dict(json.loads(done.stdout))

    def ctl_raw(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``runestone ctl`` as a person types it."""
        return carried_out("ctl", "--socket", str(self.socket), *arguments)

    def provider(self, name: str) -> dict[str, Any]:
        """One provider as the console sees it."""
        return dict(self.ctl("provider", "show", name)["provider"])

    def told(self) -> str:
        """Its log, with all that it has said until now: the log's thread writes in the order in which things were said."""
        if self.process.poll() is None:
            lines = AdminClient(self.socket).request("GET", "/v1/log/lines?limit=1")["lines"]
            eventually(lambda: not lines or lines[-1]["ts"] in self.log.read_text(), "the log is written")
        return self.log.read_text()

    def detailed(self) -> dict[str, Any]:
        """``/health/detailed``."""
        return dict(self.health("/detailed").json())

    def descriptors(self) -> int:
        """Open file descriptors of the process."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Signal it and wait for its end."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def gateway(folder: Path, environment: Mapping[str, str], *arguments: str) -> Iterator[Gateway]:
    """A gateway for the time of the block."""
    kept = {
        k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_START", "PYTHONPATH")
    }
    variables = {
        **kept,
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_ADMIN_SOCKET": str(folder / "admin.sock"),
        "RUNESTONE_LEDGER_URL": f"sqlite://{folder}/ledger.sqlite",
        "RUNESTONE_LOG_LEVEL": "DEBUG",
        "RUNESTONE_MAX_LOOP_LAG_MS": "0",  # the machine may be busy with something else
        "RUNESTONE_PROBE_INTERVAL_MS": "0",  # what is counted upstream is what a test has asked for
        **environment,
    }
    log = folder / "log"
    with log.open("wb") as sink:
        process = runestone("serve", *arguments, env=variables, stdout=sink, stderr=subprocess.STDOUT)
    try:
        yield Gateway.ready(process, folder / "admin.sock", log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        print(log.read_text()[-8000:])
