"""The script of one run, drawn from its seed: which tree, who asks what and when, and what goes wrong. Nothing here has a clock."""

from __future__ import annotations

import random
from typing import Any, Final, Literal, get_args

from attrs import frozen

from runestone.config.settings import GroupSettings, ProviderSettings, TimeoutSettings
from runestone.domain.routing import DEFAULT_GROUP
from runestone.resilience.breaker import BreakerPolicy
from runestone.resilience.concurrency import ConcurrencyPolicy
from runestone.resilience.retry import RetryPolicy
from runestone.resilience.selection import STRATEGIES
from tests.support.fleet import group, provider

Profile = Literal["calm", "faults", "leaving", "crowd", "storm", "chaos"]
Departure = Literal["disconnect", "cancel", "cancel twice"]
What = Literal[
    "crash provider",
    "crash failover",
    "restart",
    "trip",
    "trip for a while",
    "reset",
    "drain",
    "undrain",
    "lose transport",
]
PROFILES: Final[tuple[Profile, ...]] = get_args(Profile)
_WEIGHTS: Final = (1, 3, 2, 2, 1, 4)
_DEFAULTS: Final = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5", "groq": "llama-3.3-70b"}
KEYS: Final = ("red", "blue")


@frozen(kw_only=True)
class Question:
    """One client request. ``pace``: seconds that each write to the client takes; ``leaves``: how long after ``at``, and how."""

    number: int
    at: float
    path: Literal["/v1/chat/completions", "/v1/messages"]
    stream: bool
    model: str
    group: str | None
    key: str
    pace: float = 0.0
    leaves: tuple[float, Departure] | None = None


@frozen
class Disturbance:
    """What an operator or a bug does to the tree at a moment."""

    at: float
    what: What
    provider: str


@frozen(kw_only=True)
class Script:
    """All that is known of a run before it begins; how each upstream call goes is drawn when it comes, from the seed too."""

    seed: int
    profile: Profile
    shuffled: bool
    providers: tuple[ProviderSettings, ...]
    groups: tuple[GroupSettings, ...]
    timeouts: TimeoutSettings
    max_upstream_calls: int
    questions: tuple[Question, ...]
    disturbances: tuple[Disturbance, ...]

    @property
    def quiet(self) -> bool:
        """Nobody leaves and nothing but providers fails."""
        return not self.disturbances and not any(question.leaves for question in self.questions)


def written(seed: int) -> Script:
    """The script of ``seed``."""
    draw = random.Random(f"script {seed}")
    (profile,) = draw.choices(PROFILES, _WEIGHTS)
    providers = tuple(_provider(draw, profile, name) for name in "abcd"[: draw.randint(2, 4)])
    groups = _groups(draw, profile, [p.name for p in providers])
    seconds = draw.choice((0.0, 1.0, 5.0, 20.0)) if profile != "storm" else 0.5
    questions = _questions(draw, profile, providers, groups, seconds)
    return Script(
        seed=seed,
        profile=profile,
        shuffled=draw.random() < 0.7,
        providers=providers,
        groups=groups,
        timeouts=TimeoutSettings(
            request_deadline_seconds=draw.choice((8.0, 30.0, 100.0)),
            first_token_seconds=draw.choice((2.0, 6.0)),
            idle_seconds=draw.choice((2.0, 6.0, 20.0)),  # the last one leaves time for a heartbeat
        ),
        max_upstream_calls=6 if profile == "storm" else draw.choice((1, 3, 4, 6)),
        questions=questions,
        disturbances=_disturbances(draw, providers, questions, seconds) if profile == "chaos" else (),
    )


def _provider(draw: random.Random, profile: Profile, name: str) -> ProviderSettings:
    kind = draw.choice(("openai", "openai", "anthropic", "groq"))
    more: dict[str, Any] = {}
    if profile == "crowd" or (profile != "calm" and draw.random() < 0.2):
        more["concurrency"] = ConcurrencyPolicy(
            limit=draw.randint(1, 3),
            adaptive=draw.random() < 0.3,
            queue=draw.choice((0, 2, 20)),
            queue_seconds=draw.choice((0.5, 5.0)),
        )
    return provider(
        name,
        kind=kind,
        default_model=_DEFAULTS[kind],
        timeout_seconds=draw.choice((4.0, 15.0)),
        circuit_breaker=profile != "storm" and draw.random() > 0.1,
        retry=RetryPolicy(
            max_attempts=4 if profile == "storm" else draw.randint(1, 4),
            base_delay_seconds=0.1 if profile == "storm" else draw.choice((0.1, 1.0)),
            jitter=draw.random() < 0.5,
        ),
        breaker=BreakerPolicy(
            failure_threshold=draw.choice((1, 2, 3, 5)),
            recovery_timeout_seconds=draw.choice((1.0, 3.0, 10.0)),
            half_open_limit=draw.randint(1, 3),
            slow_first_token_seconds=draw.choice((None, None, 1.0)),
            jitter=draw.choice((0.0, 0.1)),
        ),
        **more,
    )


def _groups(draw: random.Random, profile: Profile, names: list[str]) -> tuple[GroupSettings, ...]:
    found = []
    for name in (DEFAULT_GROUP, "second"):
        members = draw.sample(names, draw.randint(2, len(names)))
        options: dict[str, Any] = {
            "strategy": draw.choice(STRATEGIES),
            "max_attempts": draw.randint(1, 4),
            "mode": "legacy" if profile != "calm" and draw.random() < 0.1 else None,
        }
        found.append(
            group(*members, **options)
            if name == DEFAULT_GROUP
            else GroupSettings(name=name, providers=tuple(members), **options)
        )
    return tuple(found)


def _questions(
    draw: random.Random,
    profile: Profile,
    providers: tuple[ProviderSettings, ...],
    groups: tuple[GroupSettings, ...],
    seconds: float,
) -> tuple[Question, ...]:
    models = ["gpt-4o-mini", "claude-sonnet-4-5", "gpt-4o", DEFAULT_GROUP]
    models += [f"{p.name}/{p.default_model}" for p in draw.sample(providers, 2)]
    count = {"storm": 50, "crowd": 24}.get(profile, draw.randint(6, 20))
    leaving = {"leaving": 0.9, "chaos": 0.25, "crowd": 0.2}.get(profile, 0.0)
    ways: list[Departure] = ["disconnect", "cancel", "cancel twice"]
    return tuple(
        Question(
            number=number,
            at=round(draw.uniform(0.0, seconds), 3),
            path=draw.choice(("/v1/chat/completions", "/v1/messages")),
            stream=draw.random() < 0.6,
            model=DEFAULT_GROUP if profile == "calm" else draw.choice(models),
            group=None if profile == "calm" else draw.choice((None, None, None, "second")),
            key=draw.choice(KEYS),
            pace=draw.choice((0.0, 0.0, 0.0, 0.1, 3.0)) if profile != "calm" else 0.0,
            leaves=(round(draw.choice((0.0, 0.3, 3.0, 10.0)) * draw.random(), 3), draw.choice(ways))
            if draw.random() < leaving
            else None,
        )
        for number in range(1, count + 1)
    )


def _disturbances(
    draw: random.Random, providers: tuple[ProviderSettings, ...], questions: tuple[Question, ...], seconds: float
) -> tuple[Disturbance, ...]:
    whats: list[What] = list(get_args(What))
    weights = [5, 3, 2, 1, 2, 2, 1, 1, 1]
    found = [
        Disturbance(
            at=draw.choice(questions).at if draw.random() < 0.5 else round(draw.uniform(0.0, seconds + 10.0), 3),
            what=draw.choices(whats, weights)[0],
            provider=draw.choice(providers).name,
        )
        for _ in range(draw.randint(0, 8))
    ]
    return tuple(sorted(found, key=lambda each: each.at))
