"""Unique names for processes. An entry dies with its process, before anybody sees the exit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from supervisors.errors import AlreadyStarted
from supervisors.exit import ExitReason
from supervisors.process import Process
from supervisors.ref import ActorRef, Via


class Registry:
    """Names to references."""

    def __init__(self) -> None:
        self._entries: dict[str, ActorRef] = {}

    def register(self, name: str, ref: ActorRef) -> None:
        """Give ``ref`` the name. Raises :class:`AlreadyStarted` if somebody has it."""
        if name in self._entries:
            raise AlreadyStarted(name)
        self._entries[name] = ref

        def gone(process: Process, _: ExitReason) -> None:
            if (held := self._entries.get(name)) is not None and held.process is process:
                del self._entries[name]

        ref.process.on_exit(gone)

    def lookup(self, name: str) -> ActorRef | None:
        """Whoever has the name; never a dead process."""
        return self._entries.get(name)

    def via(self, name: str) -> Via:
        """A reference by name."""
        return Via(self._entries, name)

    def names(self) -> Mapping[str, ActorRef]:
        """All names."""
        return MappingProxyType(self._entries)
