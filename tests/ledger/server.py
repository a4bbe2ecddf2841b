"""A real PostgreSQL server in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define, field


def found(name: str) -> str | None:
    """A program of PostgreSQL; Debian keeps them apart."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(beside[-1]) if beside else None)


def _user() -> str | None:
    """Who runs it: it refuses root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@define
class Server:
    """``start`` and ``stop`` as often as one likes: its address stays."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        """Of its database, with a password that must not be seen."""
        return f"postgresql://runestone:canary-password@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Returns when it takes connections."""
        program = found("postgres")
        assert program is not None
        command = [
            program,
            "-D",
            str(self.folder / "data"),
            "-p",
            str(self.port),
            "-h",
            "127.0.0.1",
            "-k",
            str(self.folder),
            "-F",
        ]
        log = (self.folder / "log").open("ab")
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, user=_user(), cwd=self.folder)
        self.run("SELECT 1")

    def stop(self) -> None:
        """At once, connections or not."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)
            self.process = None

    def run(self, statement: str) -> str:
        """What ``psql`` prints."""
        program = found("psql")
        assert program is not None
        command = [program, "-qAtX", "-v", "ON_ERROR_STOP=1", self.url, "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for _ in range(100):
            if done.returncode != 2:  # it does not take connections yet
                break
            time.sleep(0.1)
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (done.stderr, (self.folder / "log").read_text())
        return done.stdout.strip()


@contextmanager
def server() -> Iterator[Server]:
    """One that is gone with its folder at the end. Skips the test where PostgreSQL is not installed."""
    if missing := [name for name in ("initdb", "postgres", "psql") if found(name) is None]:
        pytest.skip(f"PostgreSQL is not installed: no {', '.join(missing)}")
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as name, socket.socket() as free:
        folder = Path(name)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        (folder / "password").write_text("canary-password")
        if (user := _user()) is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        program = found("initdb")
        assert program is not None
        command = [
            program,
            "-D",
            str(folder / "data"),
            "-U",
            "runestone",
            "-A",
            "scram-sha-256",
            "--pwfile",
            str(folder / "password"),
            "-N",
        ]
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=folder)
        one = Server(folder, port)
        one.start()
        try:
            yield one
        finally:
            one.stop()
