"""The configuration actor: what the node is set to, and the one place where that changes while it runs.

A change is built and validated as a whole, compared with what runs, and applied by messages: a provider whose settings differ gets a new
incarnation, the failover actor learns of groups and models, the rest reads :class:`~runestone.config.live.Live`. What is wrong is refused
whole. Changes wait in line; what an operator changed is an overlay that a crash of any actor leaves as it is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from attrs import define, evolve, field, frozen
from loguru import logger

from runestone.config.build import Loaded, build
from runestone.config.inherited import Difference, differences
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
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import ConfigChanged, ConfigRefused
from supervisors import (
    NO_REPLY,
    ActorError,
    Call,
    Caller,
    CallTimeout,
    Cast,
    Done,
    GenServer,
    Info,
    Registry,
    StartFailed,
    run_blocking,
)

Path = tuple[str, ...]
Learned = Literal["kept", "forgotten"]
_REACH_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 1.0
#: What is read at a start of the process and lasts as long, by its section and its name in the settings, with its key.
_AT_A_START: Final = {
    ("server", "host"): "server.host",
    ("server", "port"): "server.port",
    ("server", "health_port"): "health.port",
    ("server", "admin_socket"): "admin.socket",
    ("server", "observe_group"): "admin.observe_group",
    ("logs", "format"): "log.format",
    ("events", "keep"): "events.keep",
    ("events", "file"): "events.file",
    ("events", "file_bytes"): "events.file_bytes",
    ("traces", "enabled"): "traces.enabled",
    ("traces", "propagate"): "traces.propagate",
    ("ledger", "url"): "ledger.url",
}


@frozen(kw_only=True)
class Changed:
    """A change that is in force: what was done, in words, and the keys whose new values need a start of the process.

    ``failed`` tells what is set and does not run: it is tried again. ``learned`` tells of each provider with other settings whether its
    breaker, score, throttle and quarantine are ``kept`` or ``forgotten``.
    """

    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    changes: tuple[Difference, ...] = ()
    learned: Mapping[str, Learned] = field(factory=dict)


@frozen(kw_only=True)
class Rejected:
    """A change that was refused as a whole; the settings are what they were. ``reason`` is a word for programs."""

    reason: str
    message: str
    problems: tuple[Problem, ...] = ()


class Unfinished(ActorError):
    """A change that is set and not in force yet: a ``part`` of the tree was ``late``, or away. It is made up for by itself."""

    def __init__(self, part: str, error: ActorError) -> None:
        self.late = isinstance(error, CallTimeout)
        why = f"did not answer within {_REACH_SECONDS:g} s" if self.late else f"is away ({error})"
        told = f"it is set, and in force as soon as {part} answers, which `runestone ctl actor show {part}` tells of"
        super().__init__(f"{part} {why}; {told}")


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
class TakeOut(Call[Changed | Rejected]):
    """Take a provider out. Groups that name it lose it."""

    name: str


@frozen
class Members(Call[Changed | Rejected]):
    """Take providers into a group, or out of it: of what is in it when the turn of this change comes."""

    group: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@frozen
class Reload(Call[Changed | Rejected]):
    """Read files and variables again. The overlay stays."""


@frozen
class Try(Call[Changed | Rejected]):
    """Check a change as if it were made, and tell what it would do. Nothing is in force, and nothing is kept."""

    change: Alter | TakeOut | Members | Reload


@frozen
class ReloadNow(Cast):
    """The same from a signal, which nobody answers."""


@frozen
class _Finished(Cast):
    """The change at the head of the line is over."""


@frozen
class _Reconcile(Info):
    """Bring what runs in line with what is set, after a crash in the middle of a change."""


Change = Alter | TakeOut | Members | Reload | Try


@frozen(kw_only=True)
class LastReload:
    """The last time that files and variables were read: whether they were refused, and when (epoch seconds) some were last taken."""

    refused: Rejected | None = None
    taken_at: float = field(factory=time.time)

    def followed_by(self, outcome: Settings | Rejected) -> LastReload:
        """After one more."""
        return evolve(self, refused=outcome) if isinstance(outcome, Rejected) else LastReload()


@define(slots=True, eq=False)
class Memory:
    """What the actor leaves to its next incarnation. One writer: the running one."""

    read: Callable[[], Sources]
    sources: Sources
    live: Live
    loaded: Loaded
    overlay: Overlay = field(factory=Overlay)
    last_rejection: Rejected | None = None
    last_reload: LastReload = field(factory=LastReload)
    started: Settings = field(init=False)  # what the process has begun with
    applied: Settings = field(init=False)  # what the last change that came to its end has put in force

    @started.default
    def _started(self) -> Settings:
        return self.live.settings

    @applied.default
    def _applied(self) -> Settings:
        return self.live.settings

    @property
    def needs_restart(self) -> tuple[str, ...]:
        """The keys that are set to something else than what runs until the process starts anew."""
        return self.waiting(self.loaded.settings)

    def waiting(self, settings: Settings) -> tuple[str, ...]:
        """The keys that ``settings`` have otherwise than the process began with."""
        return tuple(key for at, key in _AT_A_START.items() if _at(self.started, at) != _at(settings, at))


@define(slots=True)
class _Beside:
    """A provider with jobs that the line of changes does not wait for: what it will be (``None``: gone), and how many are left."""

    target: ProviderSettings | None = None
    jobs: int = 0


@frozen(kw_only=True)
class Steps:
    """What must be done so that the node runs with other settings. ``hard``: with new connections too."""

    to_set: tuple[tuple[ProviderSettings, bool], ...] = ()
    to_remove: tuple[str, ...] = ()
    learned: Mapping[str, Learned] = field(factory=dict)


def steps_between(running: Mapping[str, ProviderSettings], before: Settings, after: Settings) -> Steps:
    """What leads from ``before``, with the providers that are ``running``, to ``after``."""
    wanted = {p.name: p for p in after.providers}
    redial = before.timeouts.connect_seconds != after.timeouts.connect_seconds
    to_set = [p for p in after.providers if redial or running.get(p.name) != p]
    there = [(p, running[p.name]) for p in to_set if p.name in running]
    return Steps(
        to_set=tuple((p, redial) for p in to_set),
        learned={p.name: "forgotten" if p.reaches_elsewhere_than(was) else "kept" for p, was in there},
        to_remove=tuple(name for name in running if name not in wanted),
    )


def lasting(settings: Settings, started: Settings) -> Settings:
    """``settings`` as they are in force in a process that began with ``started``."""
    for section, name in _AT_A_START:
        part = evolve(getattr(settings, section), **{name: _at(started, (section, name))})
        settings = evolve(settings, **{section: part})
    return settings


class Configuration(GenServer[ReloadNow | _Finished]):
    """One for the node."""

    def __init__(
        self,
        memory: Memory,
        memories: Mapping[str, ProviderMemory],
        registry: Registry,
        set_log_level: Callable[[str], None],
        bus: Bus,
    ) -> None:
        self._memory = memory
        self._bus = bus
        self._set_log_level = set_log_level
        self._providers = memories
        self._names = registry
        self._beside: dict[str, _Beside] = {}  # providers that drain before they are stopped, or come back
        self._line: deque[tuple[Change | None, Caller[Any] | None]] = deque()  # the first is under way

    def init(self) -> None:
        """Whoever was here before may have been in the middle of a change."""
        self.send_after(0.0, _Reconcile())

    def status(self) -> Mapping[str, object]:
        """What the tree shows of this actor."""
        return {"changes waiting": len(self._line), "runtime values": len(self._memory.overlay.values())}

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> object:
        """Line a change up, or tell."""
        match message:
            case Alter() | TakeOut() | Members() | Reload() | Try():
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

    def _line_up(self, change: Change | None, caller: Caller[Any] | None) -> None:
        self._line.append((change, caller))
        if len(self._line) == 1:
            self._begin()

    def _begin(self) -> None:
        change, caller = self._line[0]
        self.spawn(self._change(change, caller), name="reconcile" if change is None else type(change).__name__.lower())

    async def _change(self, change: Change | None, caller: Caller[Any] | None) -> None:
        sources, wanted = self._memory.sources, change.change if isinstance(change, Try) else change
        if isinstance(wanted, Reload):
            sources = await run_blocking(self._memory.read)  # files, which may be slow
        if isinstance(change, Try):
            if caller is not None:
                caller.reply(self._tried(change.change, sources))
            self.ref.cast(_Finished())
            return
        before = self._memory.loaded
        taken = self._take(change, sources)
        if isinstance(change, Reload):
            self._memory.last_reload = self._memory.last_reload.followed_by(taken)
        answer: Changed | Rejected | None
        if isinstance(taken, Rejected):
            answer = self._memory.last_rejection = taken
            if not isinstance(change, Alter | TakeOut | Members):  # its caller is told, and the admin API logs it
                logger.error("configuration refused, nothing changed: {}", taken.message)
            self._bus.emit(ConfigRefused(reason=taken.reason))
        else:
            answer = await self._apply(taken, caller, differences(before, self._memory.loaded))
        if answer is not None and caller is not None:
            caller.reply(answer)
        self.ref.cast(_Finished())

    def _take(self, change: Change | None, sources: Sources) -> Settings | Rejected:
        """The settings after ``change``, which are remembered as those to be in force."""
        memory, built = self._memory, self._built(change, sources)
        if isinstance(built, Rejected):
            return built
        memory.sources, (memory.overlay, memory.loaded) = sources, built
        memory.last_rejection = None
        return memory.loaded.settings

    def _tried(self, change: Change, sources: Sources) -> Changed | Rejected:
        """What ``change`` would do."""
        memory, built = self._memory, self._built(change, sources)
        if isinstance(built, Rejected):
            return built
        wanted = built[1].settings
        before, after = memory.applied, lasting(wanted, memory.started)
        steps = steps_between(self._running(), before, after)
        set_up = (
            f"provider {p.name}: {'restarted' if p.name in self._providers else 'started'}" for p, _ in steps.to_set
        )
        gone = (f"provider {name}: removed" for name in steps.to_remove)
        return Changed(
            done=(*set_up, *_other_changes(before, after), *gone),
            needs_restart=memory.waiting(wanted),
            warnings=wanted.warnings,
            changes=differences(memory.loaded, built[1]),
            learned=steps.learned,
        )

    def _built(self, change: Change | None, sources: Sources) -> tuple[Overlay, Loaded] | Rejected:
        """The overlay with ``change``, and everything over ``sources``."""
        overlay = self._memory.overlay
        try:
            edits = self._edits(change)
            if isinstance(edits, Rejected):
                return edits
            for edit in edits:
                if (refusal := self._refusal(edit)) is not None:
                    return refusal
                value = Whole(edit.value) if edit.when == "new" else edit.value
                overlay = overlay.edited(edit.path, value, in_base=value is None and self._in_base(edit.path))
            loaded = build(sources, overlay.tables)
        except ConfigurationError as error:
            return Rejected(reason="invalid", message=str(error), problems=error.problems)
        if isinstance(change, Alter) and (refusal := _keyless(change, loaded.settings)) is not None:
            return refusal
        return overlay, loaded

    def _edits(self, change: Change | None) -> tuple[Edit, ...] | Rejected:
        match change:
            case Alter(edits):
                return edits
            case TakeOut(name):
                return _without(name, self._memory.loaded)
            case Members():
                return _mustered(change, self._memory.loaded)
            case _:
                return ()

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

    async def _apply(
        self, settings: Settings, caller: Caller[Any] | None, changes: tuple[Difference, ...]
    ) -> Changed | None:
        """Put ``settings`` in force. ``None``: the caller is answered later, when what goes on beside the line is over."""
        memory, roster = self._memory, self._names.via(names.ROSTER)
        before, after = memory.applied, lasting(settings, memory.started)
        steps = steps_between(self._running(), before, after)
        self._bus.flush()  # what has happened is logged as it was wanted then
        memory.live.settings = after
        told = Changed(
            needs_restart=memory.needs_restart, warnings=settings.warnings, changes=changes, learned=steps.learned
        )
        later: list[SetProvider | RemoveProvider] = []
        part = names.ROSTER
        try:
            for provider, hard in steps.to_set:
                if provider.name in self._beside:  # it comes back when it has drained
                    later.append(SetProvider(provider, hard))
                else:
                    there = provider.name in self._providers
                    outcome = await roster.call(SetProvider(provider, hard), timeout=_REACH_SECONDS)
                    told = _with(told, provider.name, "restarted" if there else "started", outcome)
            part = names.FAILOVER
            await self._names.via(part).call(Reconfigure(after), timeout=_REACH_SECONDS)
        except ActorError as error:  # a part of the tree is being restarted, or suspended
            self._again(Unfinished(part, error), caller)
            return None
        self._names.via(names.TELEMETRY).cast(FleetChanged())
        if before.logs.level != after.logs.level:
            self._set_log_level(after.logs.level)
        memory.applied = after
        told = evolve(told, done=(*told.done, *_other_changes(before, after)))
        for line in (*told.done, *told.failed):
            logger.info("configuration: {}", line)
        if told.done:
            self._bus.emit(ConfigChanged(done=told.done))
        later += [RemoveProvider(name, after.server.drain_timeout_seconds) for name in steps.to_remove]
        if not later:
            return told
        for job in later:
            beside = self._beside.setdefault(job.name, _Beside())
            beside.target = job.settings if isinstance(job, SetProvider) else None
            beside.jobs += 1
        self.spawn(self._finish(later, told, caller), name="finish")
        return None

    def _running(self) -> dict[str, ProviderSettings]:
        """The providers that run, or will when what goes on beside the line is over."""
        there = {name: m.settings for name, m in self._providers.items() if name not in self._beside}
        return there | {name: b.target for name, b in self._beside.items() if b.target is not None}

    async def _finish(
        self, jobs: list[SetProvider | RemoveProvider], told: Changed, caller: Caller[Any] | None
    ) -> None:
        """Do what takes a drain, beside the line: nothing new goes to who leaves any more, and the next change need not wait."""
        roster = self._names.via(names.ROSTER)
        failure: ActorError | None = None
        for job in jobs:
            try:
                if failure is None:
                    verb = "started" if isinstance(job, SetProvider) else "removed"
                    told = _with(told, job.name, verb, await roster.call(job, timeout=None))
            except ActorError as error:
                failure = error
            self._beside[job.name].jobs -= 1
            if not self._beside[job.name].jobs:
                del self._beside[job.name]
        if failure is not None:
            self._again(Unfinished(names.ROSTER, failure), caller)
            return
        self._names.via(names.TELEMETRY).cast(FleetChanged())
        if caller is not None:
            caller.reply(told)

    def _again(self, error: Unfinished, caller: Caller[Any] | None) -> None:
        """A part of the tree was away in the middle of a change: the rest of it is made up for, and the caller knows."""
        self.send_after(_AGAIN_SECONDS, _Reconcile())
        if caller is not None:
            caller.fail(error)


def _with(told: Changed, provider: str, verb: str, outcome: Done | StartFailed) -> Changed:
    if isinstance(outcome, StartFailed):
        return evolve(told, failed=(*told.failed, f"provider {provider}: did not start: {outcome.reason}"))
    return evolve(told, done=(*told.done, f"provider {provider}: {verb}"))


def _without(name: str, loaded: Loaded) -> tuple[Edit, ...]:
    """What takes the provider ``name`` out of everything that is written about it."""
    edits = [Edit(path=("providers", name), value=None, when="there")]
    for entry in loaded.entries:
        if entry.path[0] == "groups" and entry.written and name in (entry.value or ()):
            if entry.path[2] == "members":
                edits.append(Edit(path=entry.path, value=[member for member in entry.value if member != name]))
            elif entry.path[2] == "weights":
                shares = {member: share for member, share in entry.value.items() if member != name}
                edits.append(Edit(path=entry.path, value=shares))
    return tuple(edits)


def _mustered(change: Members, loaded: Loaded) -> tuple[Edit, ...] | Rejected:
    """What makes the members of a group what ``change`` asks for; nothing, if they are that already."""
    path, settings = ("groups", change.group, "members"), loaded.settings
    if change.group not in _names("groups", settings):
        return Rejected(reason="not_found", message=f"there is no group {change.group!r}")
    written = next((entry.value for entry in loaded.entries if entry.path == path and entry.written), None)
    everybody = [*(p.name for p in settings.providers), *(r.name for r in settings.refusals)]
    members = everybody if written is None else list(written)
    if strangers := [name for name in change.remove if name not in members]:
        message = f"not in {change.group}: {', '.join(map(repr, strangers))}; there are {', '.join(members) or 'none'}"
        return Rejected(reason="missing_providers", message=message)
    wanted = [name for name in dict.fromkeys([*members, *change.add]) if name not in change.remove]
    if not wanted:
        message = f"{change.group} would be without a member; add another one first, or delete the group"
        return Rejected(reason="refused", message=message)
    return () if wanted == members else (Edit(path=path, value=wanted, when="there"),)


def _at(settings: Settings, at: tuple[str, str]) -> Any:
    section, name = at
    return getattr(getattr(settings, section), name)


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
        "access log": before.logs.access != after.logs.access,
        "ledger": before.ledger != after.ledger,
    }
    return [f"{what}: changed" for what, changed in changes.items() if changed]
