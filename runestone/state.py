"""The ``state`` actor: keeps what must outlive a crash of everything else: provider memories and listening sockets.

It does nothing, so it cannot fail. It is started before all others and stopped after them.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from attrs import define

from runestone.http.sockets import AdminSocket, http_url
from runestone.providers.memory import ProviderMemory
from supervisors import ExitReason, GenServer, is_abnormal


@define(slots=True, eq=False)
class Sockets:
    """The listening sockets of the node, bound before anything starts, so that a port in use is told at once."""

    public: socket.socket
    health: socket.socket
    admin: AdminSocket

    def addresses(self) -> dict[str, str]:
        """Where each of them listens, by the name of its listener."""
        tcp = {"public": self.public, "health": self.health}
        return {**{name: http_url(s) for name, s in tcp.items()}, "admin": str(self.admin.path)}

    def close(self) -> None:
        """Close all three; the admin socket's file goes with it."""
        self.public.close()
        self.health.close()
        self.admin.close()


class State(GenServer[object]):
    """Owner of the memories and the sockets; both are made before the tree, and the sockets are closed with it."""

    def __init__(self, memories: Mapping[str, ProviderMemory], sockets: Sockets) -> None:
        self._memories = memories
        self._sockets = sockets

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        return {"providers": len(self._memories), "leases": sum(len(m.leases) for m in self._memories.values())}

    def terminate(self, reason: ExitReason) -> None:
        """The last to go closes the doors. After a crash they stay open: the next incarnation has the same."""
        if not is_abnormal(reason):
            self._sockets.close()
