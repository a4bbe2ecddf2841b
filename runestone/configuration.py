"""The configuration actor: what the node is set to, and the one place where that changes while it runs.

A change is built and validated as a whole, compared with what runs, and applied by messages: a provider whose settings differ gets a new
incarnation, the failover actor learns of groups and models, the rest reads :class:`~runestone.config.live.Live`. What is wrong is refused
whole. Changes wait in line; what an operator changed is an overlay that a crash of any actor leaves as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from attrs import define, evolve, field, frozen
from loguru import logger

from runestone.config.build import Loaded, build
from runestone.config.live import Live
from runestone.config.load import Sources, placed
from runestone.config.overlay import BREAKERS, Overlay, Whole
from runestone.config.settings import ConfigurationError, Problem, ProviderSettings, Settings
from runestone.config.structure import structure
from runestone.failover.router import Reconfigure
from runestone.providers import names
from runestone.providers.memory import ProviderMemory
from runestone.providers.roster import RemoveProvider, SetProvider
from runestone.telemetry.actor import FleetChanged
from supervisors import (
    NO_REPLY,
    ActorError,
    Call,
    Caller,
    Cast,
    Done,
    GenServer,
    Info,
    Registry,
    StartFailed,
    run_blocking,
)

Path = tuple[str, ...]
_REACH_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 1.0
_AT_A_START: Final = {
    "host": "server.host",
    "port": "server.port",
    "health_port": "health.port",
    "admin_socket": "admin.socket",
}


@frozen(kw_only=True)
class Changed:
    """A change that is in force: what was done, in words, and the keys whose new values need a start of the process."""

    done: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@frozen(kw_only=True)
class Rejected:
    """A change that was refused as a whole; the settings are what they were. ``reason`` is a word for programs."""

    reason: str
    message: str
    problems: tuple[Problem, ...] = ()


@frozen(kw_only=True)
class Edit:
    """One change of the overlay: the value at ``path`` (``None``: take it away).

    ``when`` is what must hold of the provider or group that the first two parts of ``path`` name.
    """

    path: Path
    value: Any
    when: Literal["new", "there", "any"] = "any"


@frozen
class Alter(Call[Changed | Rejected]):
    """Change settings at run time: all of ``edits``, or none."""

    edits: tuple[Edit, ...]


@frozen
class Reload(Call[Changed | Rejected]):
    """Read files and variables again. The overlay stays."""


@frozen
class ReloadNow(Cast):
    """The same from a signal, which nobody answers."""


@frozen
class _Finished(Cast):
    """The change at the head of the line is over."""


@frozen
class _Reconcile(Info):
    """Bring what runs in line with what is set, after a crash in the middle of a change."""


@define(slots=True, eq=False)
class Memory:
    """What the actor leaves to its next incarnation. One writer: the running one."""

    read: Callable[[], Sources]
    sources: Sources
    live: Live
    loaded: Loaded
    overlay: Overlay = field(factory=Overlay)
    last_rejection: Rejected | None = None


@frozen(kw_only=True)
class Difference:
    """What must be done so that the node runs with other settings. ``hard``: with new connections too."""

    to_set: tuple[tuple[ProviderSettings, bool], ...] = ()
    to_remove: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


def difference(running: Mapping[str, ProviderSettings], before: Settings, after: Settings) -> Difference:
    """What leads from ``before``, with the providers that are ``running``, to ``after``."""
    wanted = {p.name: p for p in after.providers}
    redial = before.timeouts.connect_seconds != after.timeouts.connect_seconds
    restart = [name for key, name in _AT_A_START.items() if getattr(before.server, key) != getattr(after.server, key)]
    return Difference(
        to_set=tuple((p, redial) for p in after.providers if redial or running.get(p.name) != p),
        to_remove=tuple(name for name in running if name not in wanted),
        needs_restart=(*restart, *(["log.format"] if before.logs.format != after.logs.format else [])),
    )


class Configuration(GenServer[ReloadNow | _Finished]):
    """One for the node."""

    def __init__(
        self,
        memory: Memory,
        memories: Mapping[str, ProviderMemory],
        registry: Registry,
        set_log_level: Callable[[str], None],
    ) -> None:
        self._memory = memory
        self._set_log_level = set_log_level
        self._providers = memories
        self._names = registry
        self._leaving: set[str] = set()  # providers that drain before they are stopped
        self._line: deque[tuple[Alter | Reload | None, Caller[Any] | None]] = deque()  # the first is under way

    def init(self) -> None:
        """Whoever was here before may have been in the middle of a change."""
        self.send_after(0.0, _Reconcile())

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        return {"changes waiting": len(self._line), "runtime values": len(self._memory.overlay.values())}

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> object:
        """Line a change up, or tell."""
        match message:
            case Alter() | Reload():
                self._line_up(message, caller)
                return NO_REPLY
            case _:
                raise TypeError(message)

    def handle_cast(self, message: ReloadNow | _Finished) -> None:
        """Begin the next change, or line one up."""
        if isinstance(message, ReloadNow):
            self._line_up(Reload(), None)
            return
        self._line.popleft()
        if self._line:
            self._begin()

    def handle_info(self, message: Info) -> None:
        """Look whether all that is set is in force."""
        if isinstance(message, _Reconcile):
            self._line_up(None, None)

    # -- a change ------------------------------------------------------------------------------------------------------

    def _line_up(self, change: Alter | Reload | None, caller: Caller[Any] | None) -> None:
        self._line.append((change, caller))
        if len(self._line) == 1:
            self._begin()

    def _begin(self) -> None:
        change, caller = self._line[0]
        self.spawn(self._change(change, caller), name="reconcile" if change is None else type(change).__name__.lower())

    async def _change(self, change: Alter | Reload | None, caller: Caller[Any] | None) -> None:
        sources = self._memory.sources
        if isinstance(change, Reload):
            sources = await run_blocking(self._memory.read)  # files, which may be slow
        taken = self._take(change, sources)
        answer: Changed | Rejected | None
        if isinstance(taken, Rejected):
            answer = self._memory.last_rejection = taken
            if not isinstance(change, Alter):  # its caller is told, and the admin API logs it
                logger.error("configuration refused, nothing changed: {}", taken.message)
        else:
            answer = await self._apply(taken, caller)
        if answer is not None and caller is not None:
            caller.reply(answer)
        self.ref.cast(_Finished())

    def _take(self, change: Alter | Reload | None, sources: Sources) -> Settings | Rejected:
        """The settings after ``change``, which are remembered as those to be in force."""
        memory = self._memory
        overlay = memory.overlay
        try:
            if isinstance(change, Alter):
                for edit in change.edits:
                    if (refusal := self._refusal(edit)) is not None:
                        return refusal
                    value = Whole(edit.value) if edit.when == "new" else edit.value
                    overlay = overlay.edited(edit.path, value, in_base=self._in_base(edit.path))
            loaded = build(sources, overlay.tables)
        except ConfigurationError as error:
            return Rejected(reason="invalid", message=str(error), problems=error.problems)
        if isinstance(change, Alter) and (refusal := _keyless(change, loaded.settings)) is not None:
            return refusal
        memory.sources, memory.overlay, memory.loaded = sources, overlay, loaded
        memory.last_rejection = None
        return loaded.settings

    def _refusal(self, edit: Edit) -> Rejected | None:
        kind, name, *_ = edit.path
        if kind == BREAKERS and isinstance(wrong := structure({"circuit_breaker": {edit.path[2]: edit.value}}), list):
            problems = tuple(placed("runtime", edit.path, invalid) for _, invalid in wrong)
            return Rejected(reason="invalid", message="\n".join(map(str, problems)), problems=problems)
        there = name in _names(kind, self._memory.loaded.settings)
        if edit.when == "there" and not there:
            return Rejected(reason="not_found", message=f"there is no {kind[:-1]} {name!r}")
        if edit.when == "new" and there:
            return Rejected(reason="conflict", message=f"there is a {kind[:-1]} {name!r} already")
        return None

    def _in_base(self, path: Path) -> bool:
        return path[1] in _names(path[0], build(self._memory.sources, {}).settings)

    async def _apply(self, settings: Settings, caller: Caller[Any] | None) -> Changed | None:
        """Put ``settings`` in force. ``None``: the caller is answered later, when what was taken out has drained."""
        live, roster = self._memory.live, self._names.via(names.ROSTER)
        before = live.settings
        running = {name: m.settings for name, m in self._providers.items() if name not in self._leaving}
        steps = difference(running, before, settings)
        kept = {key: getattr(before.server, key) for key in _AT_A_START}
        live.settings = after = evolve(settings, server=evolve(settings.server, **kept))
        done: list[str] = []
        try:
            for provider, hard in steps.to_set:
                verb = "restarted" if provider.name in self._providers else "started"
                # one that is still draining comes back when it has drained
                patience = None if provider.name in self._leaving else _REACH_SECONDS
                outcome: Done | StartFailed = await roster.call(SetProvider(provider, hard), timeout=patience)
                down = f"did not start: {outcome.reason}" if isinstance(outcome, StartFailed) else verb
                done.append(f"provider {provider.name}: {down}")
            await self._names.via(names.FAILOVER).call(Reconfigure(after), timeout=_REACH_SECONDS)
        except ActorError as error:  # a part of the tree is being restarted
            self.send_after(_AGAIN_SECONDS, _Reconcile())
            if caller is not None:
                caller.fail(error)
            return None
        self._names.via(names.TELEMETRY).cast(FleetChanged())
        if before.logs.level != after.logs.level:
            self._set_log_level(after.logs.level)
        done += _other_changes(before, after)
        changed = Changed(done=tuple(done), needs_restart=steps.needs_restart, warnings=settings.warnings)
        for line in changed.done:
            logger.info("configuration: {}", line)
        if steps.to_remove:
            self._leaving.update(steps.to_remove)
            drain = after.server.drain_timeout_seconds
            self.spawn(self._remove(steps.to_remove, drain, changed, caller), name="remove")
            return None
        return changed

    async def _remove(
        self, gone: tuple[str, ...], drain_seconds: float, changed: Changed, caller: Caller[Any] | None
    ) -> None:
        """Take providers out, beside the line: nothing new goes to them any more, and the next change need not wait."""
        roster = self._names.via(names.ROSTER)
        try:
            for name in gone:
                await roster.call(RemoveProvider(name, drain_seconds), timeout=None)
                self._leaving.discard(name)
        except ActorError as error:
            self.send_after(_AGAIN_SECONDS, _Reconcile())
            if caller is not None:
                caller.fail(error)
            return
        self._names.via(names.TELEMETRY).cast(FleetChanged())
        removed = tuple(f"provider {name}: removed" for name in gone)
        if caller is not None:
            caller.reply(evolve(changed, done=(*changed.done, *removed)))


def _names(kind: str, settings: Settings) -> set[str]:
    if kind == "groups":
        return {group.name for group in settings.groups}
    return {p.name for p in settings.providers} | {r.name for r in settings.refusals}


def _keyless(change: Alter, settings: Settings) -> Rejected | None:
    """A provider that is registered on purpose must be able to serve."""
    registered = {edit.path[1] for edit in change.edits if edit.path[0] == "providers" and edit.when == "new"}
    for refusal in settings.refusals:
        if refusal.name in registered:
            return Rejected(reason=refusal.code, message=f"{refusal.name}: {refusal.message}")
    return None


def _other_changes(before: Settings, after: Settings) -> list[str]:
    changes = {
        "groups": before.groups != after.groups,
        "models": before.models != after.models,
        "mode": before.server.mode != after.server.mode,
        "upstream calls": before.max_upstream_calls != after.max_upstream_calls,
        "timeouts": before.timeouts != after.timeouts,
        "inbound keys": before.auth != after.auth,
        "prices": before.prices != after.prices,
        "log level": before.logs.level != after.logs.level,
    }
    return [f"{what}: changed" for what, changed in changes.items() if changed]
