"""The console's view of its node: whether it answers, how it is, and waiting until it is back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, Self

from attrs import frozen

from runestone.console.client import AdminClient, Refused, Unreachable

_LOOK_SECONDS: Final = 2.0  # to wait for a look's answer
_EVERY_SECONDS: Final = 1.0  # between looks
_FIRST_SECONDS: Final = 0.1  # between tries, doubled each time
_LAST_SECONDS: Final = 2.0

Trouble = Literal["away", "denied", "late", "refused"]


@frozen
class Seen:
    """The node at the last look: its last status, and what stood in the way of a newer one."""

    status: Mapping[str, Any] | None = None
    trouble: Trouble | None = None


class Link:
    """Leads to the node that listens on ``socket``, which may come and go."""

    def __init__(self, path: Path) -> None:
        self.socket = path
        self.seen = Seen()

    def look(self) -> Seen:
        """Ask how the node is, and remember it."""
        path = self.socket
        try:
            seen = Seen(AdminClient(path, _LOOK_SECONDS).request("GET", "/v1/status"))
        except Unreachable as error:
            seen = Seen(self.seen.status, "denied" if error.denied else "away")
        except TimeoutError:
            seen = Seen(self.seen.status, "late")
        except Refused:
            seen = Seen(self.seen.status, "refused")
        if path == self.socket:  # else it is about another node
            self.seen = seen
        return seen

    def lead_to(self, path: Path) -> None:
        """Lead to another node."""
        self.socket, self.seen = path, Seen()

    def there(self) -> bool:
        """Whether somebody takes connections."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.settimeout(_LOOK_SECONDS)
            probe.connect(str(self.socket))
            return True
        return False

    def wait(self, say: Callable[[str], None]) -> None:
        """Return when somebody takes connections; where that is not at once, ``say`` so. Ctrl-C ends the wait."""
        pause = _FIRST_SECONDS
        if not self.there():
            say(f"no node answers on {self.socket}: reconnecting… (Ctrl-C gives up)")
            while not self.there():
                time.sleep(pause)
                pause = min(2 * pause, _LAST_SECONDS)
            say("it is back")


class Watch:
    """Looks at the node once a second in a thread of its own, for as long as the block lasts, and tells when it has looked."""

    def __init__(self, link: Link, told: Callable[[], None]) -> None:
        self._link = link
        self._told = told
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; a look that waits for its answer is not waited for."""
        self._over.set()

    def _run(self) -> None:
        pause = _EVERY_SECONDS
        while not self._over.is_set():
            seen = self._link.look()
            if not self._over.is_set():
                self._told()
            pause = _EVERY_SECONDS if seen.trouble is None else min(2 * pause, 4 * _EVERY_SECONDS)
            self._over.wait(pause)
