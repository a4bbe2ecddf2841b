"""Which model goes where: a model name and a group become two tiers of candidates. Pure, total, cached by its caller.

The rules are those of the contract: before the first ``/`` stands a provider's exact name (a pin), else a kind, else the whole string
is a bare model. Tier 1 serves the model natively or through the group's map; tier 2 are the other members with their default model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import field, frozen

from runestone.domain.errors import InvalidRequest, NoProviderAvailable, NotAllowed

DEFAULT_GROUP: Final = "default-chat-service"
THROW_AWAY: Final = "check-"

_FAMILIES: Final = (
    ("openai", re.compile(r"(?:ft:)?(?:gpt-|chatgpt-|o\d|text-embedding-)")),
    ("anthropic", re.compile(r"(?:ft:)?claude-")),
)


def family(model: str) -> str | None:
    """The vendor kind whose naming ``model`` follows, or ``None``."""
    return next((kind for kind, pattern in _FAMILIES if pattern.match(model)), None)


def is_throw_away(name: str) -> bool:
    """Whether a provider or a group of this name is one that ``runestone check`` makes and takes away: it serves only whoever names it."""
    return name.startswith(THROW_AWAY)


@frozen(kw_only=True)
class Member:
    """A provider as routing sees it."""

    name: str
    kind: str
    default_model: str | None = None  # None: it serves in place of nobody
    models: frozenset[str] = frozenset()


@frozen(kw_only=True)
class Group:
    """A failover group as routing sees it. ``models``: model -> provider name or kind -> the model that is its equal there."""

    name: str
    members: tuple[str, ...]
    models: Mapping[str, Mapping[str, str]] = field(factory=dict)


@frozen
class Alias:
    """A name that stands for ``model``, in ``group`` if it names one."""

    model: str
    group: str | None = None


@frozen
class Choice:
    """One candidate: a provider and the model it would be asked for."""

    provider: str
    model: str


@frozen(kw_only=True)
class Plan:
    """The candidates of one request, by tier; the strategy ranks within a tier."""

    group: str
    tier1: tuple[Choice, ...]
    tier2: tuple[Choice, ...] = ()
    pinned: bool = False
    turn: tuple[str, ...] = field(init=False)  # who takes turns: requests with the same candidates share a rotation

    @turn.default
    def _turn(self) -> tuple[str, ...]:
        return (self.group, *(choice.provider for choice in self.tier1))


@frozen(kw_only=True)
class Directory:
    """All that routing needs to know: who is there, in which groups, and which kinds of provider exist.

    Raises:
        ValueError: a provider is named like a kind or a group, so that ``name/model`` or ``name`` would mean two things.
    """

    members: Mapping[str, Member]
    groups: Mapping[str, Group]
    kinds: frozenset[str]
    aliases: Mapping[str, Alias] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if taken := self.members.keys() & (self.kinds | self.groups.keys()):
            raise ValueError(f"a provider may not be named like a kind or a group: {', '.join(sorted(taken))}")

    def plan(
        self, model: str, group_header: str | None = None, *, key_groups: tuple[str, ...] = (), chat: bool = True
    ) -> Plan:
        """The candidates for ``model``. ``chat`` is false on routes where another model cannot stand in, such as embeddings.

        ``key_groups`` are those that the client's key may use, its own first; none: all.

        Raises:
            InvalidRequest: ``unknown_group`` or ``group_mismatch`` (400), ``model_not_found`` (404).
            NotAllowed: ``group_not_allowed`` or ``provider_not_allowed`` (403).
            NoProviderAvailable: the group has nobody for it (503).
        """
        alias = self.aliases.get(model, Alias(model))
        model = alias.model
        group = self._group(model, group_header, alias.group or (key_groups[0] if key_groups else DEFAULT_GROUP))
        if key_groups and group.name not in key_groups:
            raise NotAllowed(
                f"This key may not use the group {group.name!r}; it may use {', '.join(key_groups)}.",
                code="group_not_allowed",
            )
        members = [self.members[name] for name in group.members if name in self.members]
        if model in self.groups:
            return Plan(group=group.name, tier1=_equals(group, members, model))
        prefix, _, rest = model.partition("/")
        if rest and prefix in self.members:
            if key_groups and not any(prefix in self.groups[g].members for g in key_groups if g in self.groups):
                raise NotAllowed(
                    f"This key may not pin the provider {prefix!r}: it is in none of the groups {', '.join(key_groups)}.",
                    code="provider_not_allowed",
                )
            return Plan(group=group.name, tier1=(Choice(prefix, rest),), pinned=True)
        if rest and prefix in self.kinds:
            tier1 = _of_kind(group, members, prefix, rest)
            stand_in = chat and family(rest) is not None
        else:
            tier1 = _native(group, members, model)
            stand_in = chat
        first = {choice.provider for choice in tier1}
        others = (m for m in members if m.name not in first) if stand_in else ()
        tier2 = tuple(Choice(m.name, m.default_model) for m in others if m.default_model is not None)
        if not tier1 and not tier2:
            raise NoProviderAvailable(
                f"No provider of the group {group.name!r} serves {model[:100]!r}. Set OPENAI_API_KEY or ANTHROPIC_API_KEY."
            )
        return Plan(group=group.name, tier1=tier1, tier2=tier2)

    def _group(self, model: str, header: str | None, otherwise: str) -> Group:
        if header is None:
            return self.groups[model if model in self.groups else otherwise]
        if header not in self.groups:
            raise InvalidRequest(
                f"There is no group {header[:100]!r}. Leave x-runestone-group out, or name one of: {', '.join(sorted(self.groups))}.",
                code="unknown_group",
                param="x-runestone-group",
            )
        if model in self.groups and model != header:
            raise InvalidRequest(
                f"The model names the group {model!r}, the header x-runestone-group another one. Name one of them.",
                code="group_mismatch",
                param="x-runestone-group",
            )
        return self.groups[header]


def _equals(group: Group, members: Sequence[Member], name: str) -> tuple[Choice, ...]:
    """The model is the group's name: every member is as good as the others."""
    models = ((m.name, _mapped(group, name, m) or m.default_model) for m in members)
    choices = tuple(Choice(provider, model) for provider, model in models if model is not None)
    if not choices:
        raise NoProviderAvailable(
            f"The group {group.name!r} has no provider with a model for it. Set an API key, or a default_model, for one of its members."
        )
    return choices


def _of_kind(group: Group, members: Sequence[Member], kind: str, model: str) -> tuple[Choice, ...]:
    """``kind/model``: the members of that kind, which get even a name that nobody knows."""
    tier1 = tuple(Choice(m.name, _mapped(group, model, m) or model) for m in members if m.kind == kind)
    if not tier1:
        raise NoProviderAvailable(
            f"The group {group.name!r} has no provider of kind {kind!r}. Set its API key, or ask for another model."
        )
    return tier1


def _native(group: Group, members: Sequence[Member], model: str) -> tuple[Choice, ...]:
    """A bare model: the members that serve it themselves, or have its equal."""
    vendor = family(model)
    tier1 = tuple(
        Choice(m.name, _mapped(group, model, m) or model)
        for m in members
        if m.kind == vendor or model == m.default_model or model in m.models or _mapped(group, model, m)
    )
    if not tier1 and vendor is None:
        raise InvalidRequest(
            f"The model {model[:100]!r} does not exist here. Ask for another one, or name its provider before it: openai/{model[:100]}.",
            code="model_not_found",
            status=404,
            param="model",
        )
    return tier1


def _mapped(group: Group, model: str, member: Member) -> str | None:
    """The model that the group's map makes the equal of ``model`` at ``member``; its name goes before its kind."""
    entry = group.models.get(model, {})
    return entry.get(member.name) or entry.get(member.kind)
