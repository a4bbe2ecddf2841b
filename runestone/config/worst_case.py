"""The worst that settings allow: how many upstream calls one client request may cause, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterator

from runestone.config.settings import Settings


def worst_case(settings: Settings) -> tuple[int, float]:
    """The most upstream calls that one request may cause, and the most seconds that it may take."""
    calls = most_calls(settings)
    slowest = max((p.timeout_seconds for p in settings.providers), default=0.0)
    return calls, min(settings.timeouts.request_deadline_seconds, calls * slowest) if calls else 0.0


def most_calls(settings: Settings) -> int:
    """The most upstream calls that one request may cause."""
    return min(max(map(sum, _attempts(settings)), default=0), settings.max_upstream_calls)


def _attempts(settings: Settings) -> Iterator[list[int]]:
    by_name = {provider.name: provider for provider in settings.providers}
    for group in settings.groups:
        attempts = sorted((by_name[name].retry.max_attempts for name in group.providers), reverse=True)
        yield attempts[: group.max_attempts]
