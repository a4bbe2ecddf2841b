"""What outlives every crash: provider memories, which the ``state`` actor keeps, and listening sockets, which are closed after the tree.

The actor does nothing, so it cannot fail. It is started before all others and stopped after them.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from attrs import define

from runestone.http.sockets import AdminSocket, http_url
from runestone.providers.memory import ProviderMemory
from supervisors import GenServer


@define(slots=True, eq=False)
class Sockets:
    """The listening sockets of the node, bound before anything starts, so that a port in use is told at once.

    Who has bound them closes them when the tree has ended: whatever crashes in it finds its listener as it was.
    """

    public: socket.socket
    health: socket.socket
    admin: AdminSocket

    def addresses(self) -> dict[str, str]:
        """Where each of them listens, by the name of its listener."""
        tcp = {"public": self.public, "health": self.health}
        local = {"admin": self.admin.admin, "observe": self.admin.observers}
        return {name: http_url(s) for name, s in tcp.items()} | {name: str(s.path) for name, s in local.items()}

    def close(self) -> None:
        """Close all; the files of the unix sockets go with them."""
        self.public.close()
        self.health.close()
        self.admin.close()


class State(GenServer[object]):
    """Keeper of the memories, which are made before the tree: each incarnation has the same."""

    def __init__(self, memories: Mapping[str, ProviderMemory]) -> None:
        self._memories = memories

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        return {"providers": len(self._memories), "leases": sum(len(m.leases) for m in self._memories.values())}
