"""``python -m runestone`` as a fork of a process that has imported it already: importing is two thirds of what a start costs.

What is forked is a process as any other: it has its pid, its environment and its exit code, and is waited for by the test. Tests about the
start itself spawn an interpreter.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, AnyStr, Final

_MODULES: Final = {"serve": "runestone.serve", "check": "runestone.check.command"}  # what a verb imports
_CTL: Final = "runestone.console.ctl"  # and all others
_REQUEST_BYTES: Final = 128 * 1024
_PR_SET_CHILD_SUBREAPER: Final = 36
#: Orphans come to the test's process where it can ask for them, which is on Linux; a fork is not measured by coverage.
FORKS: Final = sys.platform == "linux" and "COVERAGE_PROCESS_START" not in os.environ


class Forked(subprocess.Popen[AnyStr]):
    """``Popen`` of ``python -m runestone`` with arguments; files, pipes and ``env`` as there, other options are not heeded."""

    def _execute_child(self, args: Sequence[str], *rest: Any) -> None:
        _, _, _, _, cwd, env, _, _, _, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *_ = rest
        try:
            fds = [own if given == -1 else given for own, given in enumerate((p2cread, c2pwrite, errwrite))]
            self.pid = _nursery(_MODULES.get(args[0], _CTL)).fork(
                args, os.environ if env is None else env, cwd or Path.cwd(), fds
            )
            self._child_created = True
        finally:
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]


def runestone(*arguments: str, **options: Any) -> subprocess.Popen[Any]:
    """The program with ``arguments``; ``options`` are those of ``Popen``."""
    if FORKS:
        return Forked(arguments, **options)
    return subprocess.Popen([sys.executable, "-m", "runestone", *arguments], **options)


def carried_out(*arguments: str, seconds: float = 60.0, **options: Any) -> subprocess.CompletedProcess[str]:
    """The program's whole run: what it said and its exit code."""
    with runestone(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


class _Nursery:
    """The process that forks, and how it is asked."""

    def __init__(self, module: str) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_BYTES)
        command = [sys.executable, __file__, str(theirs.fileno()), module]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
            )  # in a group of its own, so that no interrupt from the keyboard ends it before its forks
        self._one_at_a_time = threading.Lock()

    def fork(
        self, arguments: Sequence[str], environment: Mapping[str, str], cwd: str | Path, fds: Sequence[int]
    ) -> int:
        """The pid of a new process, which is a child of this one."""
        request = json.dumps({"arguments": list(arguments), "environment": dict(environment), "cwd": str(cwd)})
        with self._one_at_a_time:
            socket.send_fds(self._socket, [request.encode()], list(fds))
            return int(self._socket.recv(64))

    def close(self) -> None:
        """It ends where nobody can ask it."""
        self._socket.close()
        self._process.wait()


@cache
def _nursery(module: str) -> _Nursery:
    nursery = _Nursery(module)
    atexit.register(nursery.close)
    return nursery


def _serve(asked: socket.socket) -> None:
    """Fork for each request until nobody is there who could ask; only in what is forked does this raise, to end it."""
    while True:
        request, fds, _, _ = socket.recv_fds(asked, _REQUEST_BYTES, 3)
        if not request:
            return
        reader, writer = os.pipe()
        between = os.fork()
        if between == 0:  # its end makes an orphan of the process that it forks
            if pid := os.fork():
                os.write(writer, str(pid).encode())
                os._exit(0)
            os.close(reader)
            os.close(writer)
            asked.close()
            _become(json.loads(request), fds)
        os.close(writer)
        for fd in fds:
            os.close(fd)
        os.waitpid(between, 0)
        asked.send(os.read(reader, 64))
        os.close(reader)


def _become(request: Mapping[str, Any], fds: Sequence[int]) -> None:
    for own, given in enumerate(fds):
        os.dup2(given, own)
        os.close(given)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    sys.argv[1:] = request["arguments"]
    runpy.run_module("runestone", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())  # as of `python -m`
    importlib.import_module("runestone.cli")
    importlib.import_module(sys.argv[2])
    if sys.argv[2] == _MODULES["serve"]:
        importlib.import_module(
            "runestone.providers.transport"
        )._default_context()  # the authorities are read once, too
    _serve(socket.socket(fileno=int(sys.argv[1])))
