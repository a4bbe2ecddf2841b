"""Names for processes. An entry dies with its process, before anybody can see the exit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from attrs import frozen

from supervisors.child_spec import ChildSpec
from supervisors.errors import AlreadyRegistered, MailboxFull
from supervisors.gen_server import GenServer
from supervisors.messages import Info
from supervisors.process import Process, current_process
from supervisors.ref import ActorRef, Address, Via

Keys = Literal["unique", "duplicate"]


class Entry(NamedTuple):
    """Who holds a name, and what it has put there."""

    ref: ActorRef
    value: object = None


@frozen(eq=False)
class Registered(Info):
    """To a listener: ``ref`` has taken ``name``."""

    registry: Registry
    name: str
    ref: ActorRef
    value: object


@frozen(eq=False)
class Unregistered(Info):
    """To a listener: ``ref`` has given ``name`` up, or has ended."""

    registry: Registry
    name: str
    ref: ActorRef


class Registry:
    """A table of names.

    >>> import asyncio
    >>> from supervisors import GenServer, Registry, start
    >>> class Listener(GenServer[str]):
    ...     def handle_cast(self, message: str) -> None:
    ...         print(self.name, "hears", message)
    >>> async def main() -> None:
    ...     topics = Registry(keys="duplicate")
    ...     for name in ("one", "two"):
    ...         topics.register("news", await start(Listener, name=name))
    ...     topics.dispatch("news", lambda entries: [ref.cast("hello") for ref, value in entries])
    ...     for ref, value in topics.entries("news"):
    ...         await ref.stop()
    >>> asyncio.run(main())
    one hears hello
    two hears hello

    * ``keys="unique"`` (the default) - a name has one holder; a second one raises :class:`AlreadyRegistered`.
    * ``keys="duplicate"`` - a name has any number of holders, as the topics of a publish-subscribe do. A holder that registers again
      puts a new value there.

    The ``name`` of a child spec is registered in the registry that was given to :func:`supervisors.start`. A table needs no process; with
    :meth:`child_spec` it has one, so that it stands in the tree and is empty when that process ends.
    """

    def __init__(self, keys: Keys = "unique") -> None:
        if keys not in get_args(Keys):
            raise ValueError(f"keys must be unique or duplicate, not {keys!r}")
        self.keys: Keys = keys
        self.dead_letters: Counter[str] = Counter()
        self._refs: dict[str, ActorRef] = {}  # unique, or the first holder
        self._entries: dict[str, dict[Process, Entry]] = {}
        self._held: dict[Process, set[str]] = {}
        self._listeners: list[Address] = []

    def __repr__(self) -> str:
        return f"<Registry {self.keys}, {len(self._refs)} names>"

    def register(self, name: str, ref: ActorRef, value: object = None) -> None:
        """Give ``ref`` the name, until it ends or gives it up. A process that has ended gets nothing.

        Raises :class:`AlreadyRegistered` if somebody has it, ``ref`` itself included.
        """
        process = ref.process
        if process.reason is not None:
            return
        entries = self._entries.get(name)
        if entries is None:
            entries = self._entries[name] = {}
        elif self.keys == "unique":
            raise AlreadyRegistered(name, next(iter(entries.values())).ref)
        entries[process] = Entry(ref, value)
        self._refs.setdefault(name, ref)
        held = self._held.get(process)
        if held is None:
            held = self._held[process] = set()
            process.release_at_exit(self._forget)
        held.add(name)
        self._tell(Registered(self, name, ref, value))

    def unregister(self, name: str, ref: ActorRef | None = None) -> None:
        """Take the name from ``ref``; by default from the process that asks, or, outside of any process, from everybody.

        A name that it does not hold stays with its holder.
        """
        entries = self._entries.get(name, {})
        if ref is not None:
            self._remove(name, ref.process)
        elif (process := current_process()) is not None:
            self._remove(name, process)
        else:
            for holder in list(entries):
                self._remove(name, holder)

    def lookup(self, name: str) -> ActorRef | None:
        """Whoever has the name (of several, the first); never a process that has ended."""
        return self._refs.get(name)

    def entries(self, name: str) -> list[Entry]:
        """All that have the name, in the order in which they took it, with their values."""
        return list(self._entries.get(name, {}).values())

    def via(self, name: str) -> Via:
        """An address by name, looked up at each send."""
        return Via(self, name)

    def names(self) -> Mapping[str, ActorRef]:
        """All names, as a view that changes with the table."""
        return MappingProxyType(self._refs)

    def dispatch(self, name: str, function: Callable[[list[Entry]], object]) -> None:
        """Call ``function`` with all entries of ``name``, if there are any: publish to the subscribers of a topic."""
        if entries := self.entries(name):
            function(entries)

    def listen(self, listener: Address) -> None:
        """Send ``listener`` a :class:`Registered` or :class:`Unregistered` for each change from now on."""
        self._listeners.append(listener)

    def child_spec(self, id: str = "registry") -> ChildSpec:  # noqa: A002 - the name of the spec's field
        """The spec of a process that owns the table, so that the registry stands in the tree. When it ends, the table is empty."""
        return ChildSpec(id=id, start=partial(RegistryOwner, self))

    def clear(self) -> None:
        """Forget every name."""
        for name, entries in list(self._entries.items()):
            for process in list(entries):
                self._remove(name, process)

    def _forget(self, process: Process) -> None:
        for name in self._held.pop(process, ()):
            self._remove(name, process)

    def _remove(self, name: str, process: Process) -> None:
        entries = self._entries.get(name)
        if entries is None or (entry := entries.pop(process, None)) is None:
            return
        if entries:
            self._refs[name] = next(iter(entries.values())).ref
        else:
            del self._entries[name], self._refs[name]
        if (held := self._held.get(process)) is not None:
            held.discard(name)
        self._tell(Unregistered(self, name, entry.ref))

    def _tell(self, info: Registered | Unregistered) -> None:
        for listener in self._listeners:
            try:
                listener.send(info)
            except MailboxFull:  # a slow listener must not hold up whoever ends or registers
                self.dead_letters["mailbox_full"] += 1


class RegistryOwner(GenServer[Any]):
    """Stands for the table in the tree: when it ends, however it ends, the table is empty."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def init(self) -> None:
        """Own the table."""
        self.process.release_at_exit(lambda _: self._registry.clear())

    def status(self) -> Mapping[str, object]:
        """How many names there are."""
        return {"keys": self._registry.keys, "names": len(self._registry.names())}
