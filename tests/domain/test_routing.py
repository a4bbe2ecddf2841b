"""Which model goes where: the contract's second chapter as a table."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from attrs import evolve
from hypothesis import given

from runestone.domain.errors import InvalidRequest, NoProviderAvailable, NotAllowed
from runestone.domain.routing import Alias, Choice, Directory, Group, Member, Plan, family

OPENAI = Member(name="openai-default", kind="openai", default_model="gpt-4o-mini")
ANTHROPIC = Member(name="anthropic-default", kind="anthropic", default_model="claude-sonnet-4-5")
LOCAL = Member(name="local", kind="vllm", default_model="llama-3", models=frozenset({"llama-3", "gpt-oss-120b"}))
SPARE = Member(name="openai-spare", kind="openai", default_model="gpt-4o")
EQUALS = {
    "gpt-4o": {"anthropic": "claude-opus-4-5", "openai-spare": "gpt-4o-2024"},
    "fast": {"openai-default": "gpt-4o-nano"},
    "claude-haiku": {"openai": "gpt-4o-mini", "openai-spare": "gpt-4o"},
}
DIRECTORY = Directory(
    members={m.name: m for m in (OPENAI, ANTHROPIC, LOCAL, SPARE)},
    groups={
        g.name: g
        for g in (
            Group(name="default-chat-service", members=("openai-default", "anthropic-default")),
            Group(name="mapped", members=("anthropic-default", "openai-default", "openai-spare"), models=EQUALS),
            Group(name="fast", members=("openai-default", "anthropic-default"), models=EQUALS),
            Group(name="local-only", members=("local",)),
            Group(name="claude-only", members=("anthropic-default",)),
            Group(name="empty", members=("gone",)),
        )
    },
    kinds=frozenset({"openai", "anthropic", "vllm", "openrouter"}),
)


def shown(plan: Plan) -> tuple[str, str]:
    """Both tiers as text."""
    first, second = (" ".join(f"{c.provider}={c.model}" for c in tier) for tier in (plan.tier1, plan.tier2))
    return first, second


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("gpt-4o", "openai"),
        ("gpt-4o-mini", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("o1", "openai"),
        ("o3-mini", "openai"),
        ("ft:gpt-4o-mini:acme::x", "openai"),
        ("ft:o4-mini:acme::x", "openai"),
        ("text-embedding-3-small", "openai"),
        ("claude-sonnet-4-5", "anthropic"),
        ("omni-moderation", None),
        ("llama-3", None),
        ("my-gpt-4o", None),
        ("GPT-4o", None),
        ("anthropic/claude-x", None),
        ("", None),
    ],
)
def test_a_names_family_is_the_vendors_whose_naming_it_follows(model: str, kind: str | None) -> None:
    assert family(model) == kind


@pytest.mark.parametrize(
    ("group", "model", "tier1", "tier2"),
    [
        # a bare model: its family natively, the others with their default model
        (None, "gpt-4o", "openai-default=gpt-4o", "anthropic-default=claude-sonnet-4-5"),
        (None, "claude-opus-4-5", "anthropic-default=claude-opus-4-5", "openai-default=gpt-4o-mini"),
        ("claude-only", "gpt-4o", "", "anthropic-default=claude-sonnet-4-5"),
        # the group's map makes models equal; a provider's name goes before its kind
        (
            "mapped",
            "gpt-4o",
            "anthropic-default=claude-opus-4-5 openai-default=gpt-4o openai-spare=gpt-4o-2024",
            "",
        ),
        (
            "mapped",
            "claude-haiku",
            "anthropic-default=claude-haiku openai-default=gpt-4o-mini openai-spare=gpt-4o",
            "",
        ),
        # listed models add to a family and never subtract
        ("local-only", "llama-3", "local=llama-3", ""),
        ("local-only", "gpt-oss-120b", "local=gpt-oss-120b", ""),
        ("local-only", "gpt-4o", "", "local=llama-3"),
        # the group's name as the model: all members are equals
        (None, "fast", "openai-default=gpt-4o-nano anthropic-default=claude-sonnet-4-5", ""),
        ("fast", "fast", "openai-default=gpt-4o-nano anthropic-default=claude-sonnet-4-5", ""),
        (None, "mapped", "anthropic-default=claude-sonnet-4-5 openai-default=gpt-4o-mini openai-spare=gpt-4o", ""),
        # kind/model
        (None, "openai/gpt-4o", "openai-default=gpt-4o", "anthropic-default=claude-sonnet-4-5"),
        (None, "openai/never-heard-of", "openai-default=never-heard-of", ""),
        (None, "anthropic/gpt-4o", "anthropic-default=gpt-4o", "openai-default=gpt-4o-mini"),
        (
            "mapped",
            "openai/gpt-4o",
            "openai-default=gpt-4o openai-spare=gpt-4o-2024",
            "anthropic-default=claude-sonnet-4-5",
        ),
        (
            "mapped",
            "anthropic/gpt-4o",
            "anthropic-default=claude-opus-4-5",
            "openai-default=gpt-4o-mini openai-spare=gpt-4o",
        ),
        ("local-only", "vllm/meta-llama/llama-4", "local=meta-llama/llama-4", ""),
    ],
)
def test_a_model_and_a_group_become_two_tiers(group: str | None, model: str, tier1: str, tier2: str) -> None:
    assert shown(DIRECTORY.plan(model, group)) == (tier1, tier2)


@pytest.mark.parametrize(
    ("group", "model", "error", "status", "code"),
    [
        (None, "llama-3", InvalidRequest, 404, "model_not_found"),
        (None, "", InvalidRequest, 404, "model_not_found"),
        (None, "meta-llama/llama-3", InvalidRequest, 404, "model_not_found"),
        (None, "openai/", InvalidRequest, 404, "model_not_found"),
        (None, "openai-default/", InvalidRequest, 404, "model_not_found"),
        ("nope", "gpt-4o", InvalidRequest, 400, "unknown_group"),
        ("nope", "openai-default/gpt-4o", InvalidRequest, 400, "unknown_group"),
        ("mapped", "fast", InvalidRequest, 400, "group_mismatch"),
        (None, "openrouter/anthropic/claude-x", NoProviderAvailable, 503, "no_provider_available"),
        ("claude-only", "openai/gpt-4o", NoProviderAvailable, 503, "no_provider_available"),
        ("empty", "gpt-4o", NoProviderAvailable, 503, "no_provider_available"),
        (None, "empty", NoProviderAvailable, 503, "no_provider_available"),
        ("empty", "llama-3", InvalidRequest, 404, "model_not_found"),
    ],
)
def test_what_leads_nowhere_says_why(
    group: str | None, model: str, error: type[Exception], status: int, code: str
) -> None:
    with pytest.raises(error) as raised:
        DIRECTORY.plan(model, group)

    shown_error: Any = raised.value
    assert (shown_error.status, shown_error.code) == (status, code)


def test_a_gateway_sends_what_stands_behind_its_name() -> None:
    router = Member(name="router", kind="openrouter", default_model="auto")
    directory = evolve(
        DIRECTORY,
        members={**DIRECTORY.members, "router": router},
        groups={"default-chat-service": Group(name="default-chat-service", members=("router", "openai-default"))},
    )

    plan = directory.plan("openrouter/anthropic/claude-x")

    assert plan.tier1 == (Choice("router", "anthropic/claude-x"),)
    assert plan.tier2 == ()


def test_a_pin_has_one_candidate_and_need_not_be_a_member() -> None:
    plan = DIRECTORY.plan("openai-spare/gpt-4o", "claude-only")

    assert plan == Plan(group="claude-only", tier1=(Choice("openai-spare", "gpt-4o"),), pinned=True)


def test_a_pin_sends_a_name_with_slashes_whole() -> None:
    assert DIRECTORY.plan("local/meta-llama/llama-4").tier1 == (Choice("local", "meta-llama/llama-4"),)


def test_a_plan_names_the_group_by_which_it_was_made() -> None:
    assert DIRECTORY.plan("gpt-4o").group == "default-chat-service"
    assert DIRECTORY.plan("gpt-4o", "mapped").group == "mapped"
    assert DIRECTORY.plan("fast").group == "fast"


def test_no_other_model_stands_in_where_the_route_is_no_chat() -> None:
    assert shown(DIRECTORY.plan("text-embedding-3-small", chat=False)) == ("openai-default=text-embedding-3-small", "")
    assert shown(DIRECTORY.plan("openai/gpt-4o", chat=False)) == ("openai-default=gpt-4o", "")
    with pytest.raises(NoProviderAvailable):
        DIRECTORY.plan("text-embedding-3-small", "claude-only", chat=False)


def test_a_long_hostile_name_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidRequest) as model:
        DIRECTORY.plan("x" * 10_000)
    with pytest.raises(InvalidRequest) as group:
        DIRECTORY.plan("gpt-4o", "x" * 10_000)

    assert max(len(str(model.value)), len(str(group.value))) < 500


@pytest.mark.parametrize("name", ["openai", "mapped"])
def test_a_provider_may_not_be_named_like_a_kind_or_a_group(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        evolve(DIRECTORY, members={**DIRECTORY.members, name: evolve(OPENAI, name=name)})


MODELS = st.text("abco14/:-", max_size=12) | st.sampled_from(
    ["gpt-4o", "claude-x", "fast", "mapped", "openai/gpt-4o", "openai/x", "local/x", "vllm/x", "llama-3"]
)


@given(MODELS, st.none() | st.sampled_from(sorted(DIRECTORY.groups)), st.booleans())
def test_every_plan_asks_each_provider_once_and_somebody_first(model: str, group: str | None, chat: bool) -> None:
    try:
        plan = DIRECTORY.plan(model, group, chat=chat)
    except (InvalidRequest, NoProviderAvailable):
        return

    providers = [c.provider for c in (*plan.tier1, *plan.tier2)]
    assert providers
    assert len(providers) == len(set(providers))
    assert plan.pinned or set(providers) <= set(DIRECTORY.groups[plan.group].members)
    assert all(c.model == DIRECTORY.members[c.provider].default_model for c in plan.tier2)


# -- aliases and keys --------------------------------------------------------------------------------------------------------

ALIASES = {
    "plain": Alias("gpt-4o"),
    "spare": Alias("gpt-4o", "mapped"),
    "pin": Alias("local/llama-3"),
    "kind": Alias("anthropic/claude-x"),
    "group": Alias("fast"),
}
NAMED = evolve(DIRECTORY, aliases=ALIASES)


@pytest.mark.parametrize(
    ("model", "header", "key_groups", "group", "first"),
    [
        ("plain", None, (), "default-chat-service", "openai-default=gpt-4o"),
        ("spare", None, (), "mapped", "anthropic-default=claude-opus-4-5"),
        ("spare", "fast", (), "fast", "openai-default=gpt-4o"),  # the header goes before the alias's group
        ("pin", None, (), "default-chat-service", "local=llama-3"),
        ("kind", None, (), "default-chat-service", "anthropic-default=claude-x"),
        ("group", None, (), "fast", "openai-default=gpt-4o-nano"),
        ("group", None, ("mapped", "fast"), "fast", "openai-default=gpt-4o-nano"),
        ("plain", None, ("mapped", "fast"), "mapped", "anthropic-default=claude-opus-4-5"),  # the key's own: its first
        ("plain", "fast", ("mapped", "fast"), "fast", "openai-default=gpt-4o"),
        (
            "spare",
            None,
            ("fast", "mapped"),
            "mapped",
            "anthropic-default=claude-opus-4-5",
        ),  # the alias's before the key's
        ("openai-spare/gpt-4o", None, ("mapped",), "mapped", "openai-spare=gpt-4o"),
    ],
)
def test_an_alias_stands_for_its_model_and_a_key_has_a_group_of_its_own(
    model: str, header: str | None, key_groups: tuple[str, ...], group: str, first: str
) -> None:
    plan = NAMED.plan(model, header, key_groups=key_groups)

    assert plan.group == group
    assert shown(plan)[0].split(" ")[0] == first


@pytest.mark.parametrize(
    ("model", "header", "code"),
    [
        ("gpt-4o", "default-chat-service", "group_not_allowed"),
        ("mapped", None, "group_not_allowed"),
        ("spare", None, "group_not_allowed"),
        ("openai-spare/gpt-4o", None, "provider_not_allowed"),
        ("pin", None, "provider_not_allowed"),
    ],
)
def test_a_key_with_groups_may_use_those_and_pin_their_members_alone(model: str, header: str | None, code: str) -> None:
    with pytest.raises(NotAllowed) as refused:
        NAMED.plan(model, header, key_groups=("fast",))

    assert (refused.value.status, refused.value.code) == (403, code)
    assert "fast" in refused.value.message


def test_a_provider_s_default_model_is_one_that_it_serves() -> None:
    own = Member(name="own", kind="openai", default_model="my-model")
    directory = evolve(
        DIRECTORY,
        members={**DIRECTORY.members, "own": own},
        groups={**DIRECTORY.groups, "o": Group(name="o", members=("own",))},
    )

    assert shown(directory.plan("my-model", "o")) == ("own=my-model", "")
