"""The client of the admin socket: HTTP over a unix socket with the standard library alone, so that a command starts in no time."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode


class Unreachable(Exception):
    """Nobody listens on the socket, or it may not be opened."""

    def __init__(self, message: str, *, denied: bool = False) -> None:
        super().__init__(message)
        self.denied = denied


class Refused(Exception):
    """The node answered with an error."""

    def __init__(self, code: str, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.problems = tuple(problems)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("runestone", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _user() -> str:
    """Who asks; in a container the user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


class AdminClient:
    """Calls the node that listens on ``path``. ``about`` goes with every act: ``reason``, and ``dry_run``."""

    def __init__(self, path: Path, timeout_seconds: float = 30.0, about: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._timeout_seconds = timeout_seconds
        self._about = dict(about or {})

    def within(self, timeout_seconds: float) -> AdminClient:
        """The same with another patience."""
        return AdminClient(self.path, timeout_seconds, self._about)

    def request(self, method: str, route: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The node's answer to one request.

        Raises:
            Unreachable: no node there.
            TimeoutError: no answer in time.
            Refused: the node said no, and why.
        """
        with self._asked(method, route, body) as response:
            answer = json.loads(response.read())
        if "error" in answer:
            raise _refusal(answer["error"])
        return dict(answer)

    def lines(self, method: str, route: str, body: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """The node's answer to one request that it answers line by line. Raises as :meth:`request`."""
        with self._asked(method, route, body) as response:
            while line := response.readline():
                answer = json.loads(line)
                if (error := answer.get("error")) is not None:
                    raise _refusal(error)
                yield answer

    @contextmanager
    def _asked(self, method: str, route: str, body: dict[str, Any] | None) -> Iterator[http.client.HTTPResponse]:
        """What reads puts its body into the query."""
        connection = _UnixConnection(self.path, self._timeout_seconds)
        if query := (body or {}) if method == "GET" else self._about:
            route = f"{route}?{urlencode(query)}"
        try:
            actor = f"{_user()}@{socket.gethostname()}:{os.getpid()}"
            headers = {"content-type": "application/json", "x-runestone-actor": actor}
            connection.request(method, route, json.dumps(body or {}) if method == "POST" else None, headers)
            yield connection.getresponse()
        except PermissionError as error:
            raise Unreachable(f"{self.path}: {error.strerror}", denied=True) from None
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            raise Unreachable(f"no running node answers on {self.path}: {error}. Is `runestone serve` up?") from None
        finally:
            connection.close()


def _refusal(error: Mapping[str, Any]) -> Refused:
    return Refused(error["code"], error["message"], error.get("problems", ()))
