"""Which series there are before anything has happened, so that a rate sees the first error; and which go with who goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from typing import Final

from runestone.telemetry.bound import ProviderWindows
from runestone.telemetry.events import INSIDE
from runestone.telemetry.families import Families
from runestone.telemetry.outcomes import (
    CANCELLED,
    CLASSES,
    FAILURE_CLASSES,
    OK,
    OTHER,
    QUARANTINE_REASONS,
    REQUEST_CLASSES,
    expected_of_requests,
)

STATES: Final = ("closed", "open", "half_open")
ADMIN_STATES: Final = ("ready", "draining", "maintenance")
TOKENS: Final = ("input", "output", "cached_input", "cache_write", "reasoning")
_PROVIDERS: Final = "providers"  # the supervisor of all of them
_PLAIN_ROUTES: Final = ("/v1/models", "/openapi.json", OTHER)


class Expected(Families):
    """The metrics of who is there: providers, with the models that are counted by name, and groups, with their members."""

    def __init__(self, routes: Mapping[str, bool]) -> None:
        super().__init__()
        self.routes = {**routes, INSIDE: True, **dict.fromkeys(_PLAIN_ROUTES, False)}
        self.windows: dict[str, ProviderWindows] = {}
        self._models: dict[str, frozenset[str]] = {}
        self._groups: dict[str, tuple[str, ...]] = {}
        self._expect_requests()

    def changes(self, providers: Mapping[str, Iterable[str]], groups: Mapping[str, Sequence[str]]) -> bool:
        """Take what is there now: new series start at zero, those of who is gone are dropped. Whether anything has changed.

        What is there already stays as it is: the counts outlive the actor that tells of this.
        """
        models = {name: frozenset(names) for name, names in providers.items()}
        members = {name: tuple(names) for name, names in groups.items()}
        if (models, members) == (self._models, self._groups):
            return False
        gone, dissolved = self._models.keys() - models.keys(), self._groups.keys() - members.keys()
        new = models.keys() - self._models.keys()
        self._models, self._groups = models, members
        for name in gone:
            self._forget_provider(name)
        for group in dissolved:
            for family in self.families():
                family.drop("group", group)
        for name in models:
            self._expect_provider(name, first=name in new)
        for group in members:
            self._expect_group(group)
        return True

    def providers(self) -> set[str]:
        """Those whose series are there."""
        return set(self._models)

    def expect_actions(self, routes: Iterable[str]) -> None:
        """Start the series of the admin socket's ``routes`` (method and path) at zero."""
        for route in routes:
            self.admin.expect(action=route, outcome=OK)

    def _expect_requests(self) -> None:
        for route, streams in self.routes.items():
            plain = route in _PLAIN_ROUTES
            for stream in (True,) if route == INSIDE else (False, True) if streams else (False,):
                for status, outcome in [("2xx", OK)] if plain else expected_of_requests(streams=stream):
                    self.requests.expect(
                        route=route, stream="true" if stream else "false", status_class=status, outcome=outcome
                    )
                for outcome in () if plain else REQUEST_CLASSES:
                    self.request_seconds.expect(route=route, stream="true" if stream else "false", outcome=outcome)
            if not plain:
                self.overhead_seconds.expect(route=route)

    def _expect_provider(self, name: str, *, first: bool) -> None:
        if first:
            self.windows[name] = ProviderWindows()
            self.probes.expect(provider=name, outcome=OK)
            for state in STATES:
                self.breaker.at(provider=name, state=state).set(state == "closed")
                self.transitions.at(provider=name, to=state)
            self.score.at(provider=name).set(1.0)
            self.up.at(provider=name).set(1)
            self.admin_state_is(name, "ready")
            self.throttles.at(provider=name)
            self.stale.at(provider=name)
            for failure in CLASSES:
                self.failures.expect(provider=name, kind=failure)
            for reason in QUARANTINE_REASONS:
                self.quarantines.expect(provider=name, reason=reason)
            for reason in FAILURE_CLASSES:
                self.retries.expect(provider=name, reason=reason)
                self.retry_seconds.expect(provider=name, reason=reason)
        for model in sorted(self._models[name]):
            for outcome in (OK, *FAILURE_CLASSES, CANCELLED):
                self.attempts.expect(provider=name, model=model, outcome=outcome)
            for stream in ("false", "true"):
                self.attempt_seconds.expect(provider=name, model=model, stream=stream)
            self.first_chunk_seconds.expect(provider=name, model=model)
            self.chunk_seconds.expect(provider=name, model=model)
            for kind in TOKENS:
                self.tokens.expect(provider=name, model=model, type=kind)
            self.cost.expect(provider=name, model=model)
            self.cost_unknown.expect(provider=name, model=model)

    def admin_state_is(self, provider: str, state: str) -> None:
        """Set the gauge of what an operator has said of a provider."""
        for each in ADMIN_STATES:
            self.admin_state.at(provider=provider, state=each).set(each == state)

    def _expect_group(self, group: str) -> None:
        self.exhausted.at(group=group)
        for origin, target in permutations([m for m in self._groups[group] if m in self._models], 2):
            for reason in FAILURE_CLASSES:
                self.failovers.expect(group=group, **{"from": origin}, to=target, reason=reason)

    def _forget_provider(self, name: str) -> None:
        del self.windows[name]
        for family in self.families():
            family.prune(lambda labels: not _is_of(labels, name))

    # a provider that was removed may still have streams, a group requests: their series do not come back

    def _provider(self, name: str) -> str:
        return name if name in self._models else OTHER

    def _names(self, provider: str, model: str) -> tuple[str, str]:
        models = self._models.get(provider)
        if models is None:
            return OTHER, OTHER
        return provider, model if model in models else OTHER

    def _place(self, path: str) -> str:
        """A place in the tree, without the names of providers that are not counted by name."""
        parts = path.split("/")
        if (provider := _provider_at(parts)) is None or provider in self._models:
            return path
        return "/".join((*parts[: parts.index(_PROVIDERS) + 1], OTHER))

    def _group(self, name: str) -> str:
        return name if name in self._groups else OTHER


def _is_of(labels: Mapping[str, str], provider: str) -> bool:
    """Whether a series is about ``provider``: by its name, on either side of a failover, or by the place of one of its processes."""
    if provider in (labels.get("provider"), labels.get("from"), labels.get("to")):
        return True
    return any(_provider_at(labels.get(label, "").split("/")) == provider for label in ("actor", "supervisor"))


def _provider_at(path: Sequence[str]) -> str | None:
    """Whose process it is that has this path: below ``providers`` each has a supervisor of its own."""
    at = path.index(_PROVIDERS) + 1 if _PROVIDERS in path else len(path)
    return path[at] if at < len(path) else None
