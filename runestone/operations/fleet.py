"""What an operator changes at run time: providers, groups, breakers, the mode. Each is an edit of the overlay, checked as the file is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen

from runestone.config.build import COST_GROUP
from runestone.config.load import placed
from runestone.config.options import breaker_table, group_table, provider_table
from runestone.config.settings import ConfigurationError
from runestone.config.structure import structure
from runestone.configuration import Alter, Change, Changed, Edit, Members, Memory, Rejected, Reload, TakeOut, Try
from runestone.domain.catalogue import KINDS
from runestone.domain.routing import DEFAULT_GROUP
from runestone.operations.drift import Drift
from runestone.operations.errors import OperationError
from runestone.operations.node import Node
from runestone.providers import names
from runestone.telemetry.level import HoldLevel, ReleaseLevel

Options = Mapping[str, Any]
_WAIT_SECONDS = 120.0  # a change may stand in line behind others, and a removal waits for a drain


@frozen
class Fleet:
    """The changes that one node takes. Each returns when the new state is in force, or raises :class:`OperationError`.

    With ``dry`` each is checked all the same, and tells what it would do; nothing is done.
    """

    node: Node
    memory: Memory
    drift: Drift = field(factory=Drift)
    dry: bool = False

    # -- providers -----------------------------------------------------------------------------------------------------

    async def register_provider(self, name: str, kind: str, config: Options) -> dict[str, Any]:
        """Add a provider and start it. It joins the groups that take all, ``default-chat-service`` among them.

        Refused with ``unsupported_provider``, ``missing_api_key``, ``conflict`` (there is one of that name) or ``invalid``.
        """
        self._check_kind(kind)
        edit = Edit(path=("providers", name), value=_table(provider_table, kind, config), when="new")
        return self._provider(name, await self._change(edit))

    async def set_provider(self, name: str, config: Options) -> dict[str, Any]:
        """Change settings of one that is there: its actor is restarted, its streams run on."""
        kind = next((p.kind for p in self.node.settings.providers if p.name == name), KINDS[0])
        table = _table(provider_table, kind, config)
        table.pop("kind", None)
        edits = [Edit(path=("providers", name, key), value=value, when="there") for key, value in table.items()]
        return self._provider(name, await self._change(*edits))

    async def unregister_provider(self, name: str) -> dict[str, Any]:
        """Take one out: nothing new goes there, its streams end, then it is stopped. Groups that name it lose it."""
        return {"provider": name, **_told(await self._ask(TakeOut(name)))}

    async def tune_breaker(self, name: str, config: Options) -> dict[str, Any]:
        """Set a breaker's ``failure_threshold``, ``recovery_timeout`` (ms) or ``half_open_limit``.

        For a name that is not registered yet it is kept, and applied on registration; likewise for a breaker that only measures.
        """
        table = _table(breaker_table, config)
        edits = [Edit(path=("breakers", name, key), value=value) for key, value in table.items()]
        told = _told(await self._change(*edits))
        memory = self.node.memories.get(name)
        waits = {"kept": dict(table)} if memory is None or not memory.settings.circuit_breaker else {}
        breaker = {"provider": name, "state": None} if memory is None else self.node.breaker(name)
        return {"breaker": {**breaker, **waits}, **told}

    # -- groups --------------------------------------------------------------------------------------------------------

    def groups(self) -> list[dict[str, Any]]:
        """All groups, by name."""
        return [self.group(name) for name in sorted(g.name for g in self.node.settings.groups)]

    def group(self, name: str) -> dict[str, Any]:
        """One group's settings."""
        group = next((g for g in self.node.settings.groups if g.name == name), None)
        if group is None:
            raise OperationError("not_found", f"there is no group {name!r}")
        return {
            "name": name,
            "members": list(group.providers),
            "strategy": group.strategy,
            "max_attempts": group.max_attempts,
            "health_threshold": group.health_threshold,
            "models": {model: dict(equals) for model, equals in group.models.items()},
            "weights": dict(group.weights),
            "mode": group.mode or self.node.settings.server.mode,
        }

    async def create_failover_group(self, name: str, providers: Sequence[str], options: Options) -> dict[str, Any]:
        """Make a group. Refused with ``missing_providers`` (it names one that is not there), ``conflict`` or ``invalid``."""
        self._check_members(providers)
        edit = Edit(path=("groups", name), value=_table(group_table, list(providers), options), when="new")
        return {"group": await self._changed_group(name, edit)}

    async def set_group(self, name: str, options: Options, providers: Sequence[str] | None = None) -> dict[str, Any]:
        """Change a group: its options, its members, or both."""
        members = None if providers is None else list(providers)
        if members is not None:
            self._check_members(members)
        table = _table(group_table, members, options)
        edits = [Edit(path=("groups", name, key), value=value, when="there") for key, value in table.items()]
        return {"group": await self._changed_group(name, *edits)}

    async def change_members(self, name: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> dict[str, Any]:
        """Take providers into a group, or out of it: not one that is not there, or not in it (``missing_providers``), nor the last.

        A group that takes all providers has from then on those that it has: who comes later is to be added.
        """
        self._check_members([*add, *remove])
        told = _told(await self._ask(Members(name, tuple(add), tuple(remove))))
        return {"group": {**self.group(name), **told}}

    async def delete_failover_group(self, name: str) -> dict[str, Any]:
        """Take a group away; requests that name it are refused from then on."""
        if name in (DEFAULT_GROUP, COST_GROUP):
            raise OperationError("refused", f"{name} is always there; it can be changed, not deleted")
        return {"group": name, **_told(await self._change(Edit(path=("groups", name), value=None, when="there")))}

    async def set_mode(self, mode: str, group: str | None = None) -> dict[str, Any]:
        """``legacy``, the guide's rollback, or ``enhanced``: for the node, or for one group."""
        path = ("server", "mode") if group is None else ("groups", group, "mode")
        edit = Edit(path=path, value=mode, when="any" if group is None else "there")
        return {"mode": mode, "group": group, **_told(await self._change(edit))}

    async def set_log_level(self, level: str, seconds: float | None = None) -> dict[str, Any]:
        """From which level on there are lines; with ``seconds`` for so long, which is no change of the settings.

        Refused with ``invalid`` for one that there is not.
        """
        if seconds is None:
            told = _told(await self._change(Edit(path=("log", "level"), value=level)))
            if not self.dry:
                await self.node.call(names.LOG, ReleaseLevel())
            return {"log": self.node.log_level(), **told}
        read = structure({"log": {"level": level}})
        if isinstance(read, list):
            problems = [str(placed("runtime", path, invalid)) for path, invalid in read]
            raise OperationError("invalid", "\n".join(problems), problems)
        if self.dry:
            return {"log": {"level": read.log.level, "then": self.node.levels.lasting}}
        await self.node.call(names.LOG, HoldLevel(read.log.level, seconds))
        return {"log": self.node.log_level()}

    # -- all of it -----------------------------------------------------------------------------------------------------

    async def reload(self) -> dict[str, Any]:
        """Read the file and the variables again; what was changed at run time stays."""
        return _told(await self._ask(Reload()))

    def configuration(self) -> dict[str, Any]:
        """Every value in force, with where it comes from; secrets masked."""
        entries = self.memory.loaded.entries
        return {"settings": [{"key": e.key, "value": e.shown, "origin": str(e.origin)} for e in entries]}

    def changed_at_run_time(self) -> dict[str, Any]:
        """The overlay, beside what file and variables say: what differs (``unsaved``) lasts until the process ends, or is exported."""
        before, now, unsaved = self.drift.before(self.memory), self.drift.now(self.memory), set(self.unsaved())
        values = [
            {
                "key": (key := ".".join(path)),
                "value": now[path].shown if path in now and value is not None else _shown(path, value),
                "before": None if (entry := before.get(path)) is None else entry.shown,
                "before_origin": None if entry is None else str(entry.origin),
                "unsaved": key in unsaved,
            }
            for path, value in self.memory.overlay.values()
        ]
        if "until" in (log := self.node.log_level()):
            held = {"key": "log.level", "value": log["level"], "before": log["then"], "before_origin": None}
            values.append({**held, "unsaved": False, "until": log["until"]})
        rejected = self.memory.last_rejection
        return {
            "changes": values,
            "needs_restart": list(self.memory.needs_restart),
            "last_rejection": None if rejected is None else rejected.message,
        }

    def unsaved(self) -> list[str]:
        """The keys that were changed at run time and stand neither in the file nor in variables."""
        return self.drift.unsaved(self.memory)

    # -- within --------------------------------------------------------------------------------------------------------

    def _check_kind(self, kind: str) -> None:
        if kind not in KINDS:
            message = f"there is no provider kind {kind!r}; there are {', '.join(KINDS)}"
            raise OperationError("unsupported_provider", message)

    def _check_members(self, providers: Sequence[str]) -> None:
        known = {p.name for p in self.node.settings.providers} | {r.name for r in self.node.settings.refusals}
        if missing := [name for name in providers if name not in known]:
            message = f"no such provider: {', '.join(map(repr, missing))}; there are {', '.join(sorted(known))}"
            raise OperationError("missing_providers", message)

    async def _changed_group(self, name: str, *edits: Edit) -> dict[str, Any]:
        told = _told(await self._change(*edits))
        return {**({"name": name} if self.dry else self.group(name)), **told}

    async def _change(self, *edits: Edit) -> Changed:
        if not edits:
            raise OperationError("refused", "nothing to change was named")
        return await self._ask(Alter(edits))

    async def _ask(self, message: Alter | TakeOut | Members | Reload) -> Changed:
        change: Change = Try(message) if self.dry else message
        answer = await self.node.call(names.CONFIGURATION, change, timeout=_WAIT_SECONDS)
        if isinstance(answer, Rejected):
            raise OperationError(answer.reason, answer.message, [str(problem) for problem in answer.problems])
        assert isinstance(answer, Changed)
        return answer

    def _provider(self, name: str, changed: Changed) -> dict[str, Any]:
        if changed.failed:
            raise OperationError("failed", f"{'; '.join(changed.failed)}. It is set, and tried again.")
        return {"provider": name if self.dry else self.node.provider(name), **_told(changed)}


def _told(changed: Changed) -> dict[str, Any]:
    return {
        "done": list(changed.done),
        "failed": list(changed.failed),
        "needs_restart": list(changed.needs_restart),
        "warnings": list(changed.warnings),
        "changes": [{"key": one.key, "before": one.before, "after": one.after} for one in changed.changes],
        "learned": dict(changed.learned),
    }


def _table(make: Any, *arguments: Any) -> dict[str, Any]:
    try:
        return dict(make(*arguments))
    except ConfigurationError as error:
        raise OperationError("invalid", str(error), [str(problem) for problem in error.problems]) from None


def _shown(path: Sequence[str], value: Any) -> Any:
    """As it may be told: what could be a key is masked, and so is every header."""
    if value is None:
        return "(removed)"
    return "***" if path[-1] in ("api_key", "key") or "headers" in path else value
