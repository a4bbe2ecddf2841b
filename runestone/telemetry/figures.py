"""What the metrics say, as plain numbers for people and programs: the counts of Prometheus' series, and percentiles of the last minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runestone.telemetry.expected import TOKENS
from runestone.telemetry.families import Families
from runestone.telemetry.metrics import Metrics
from runestone.telemetry.outcomes import BLAMELESS, OK, REQUEST_CLASSES, class_of
from runestone.telemetry.series import Family
from runestone.telemetry.windows import LONGEST_SECONDS, MINUTE_SECONDS

Sums = Mapping[tuple[str, ...], float]


def of_providers(metrics: Metrics) -> dict[str, dict[str, Any]]:
    """Each provider that is counted by name: calls and their outcomes since the start, latencies of the last minute, tokens, dollars.

    ``success_rate`` is that of the calls that say something of the provider, ``None`` without any.
    """
    sums = _Sums(metrics)
    return {name: {**sums.of(name), **_of_late(metrics, name)} for name in sorted(metrics.providers())}


def of_node(metrics: Metrics) -> dict[str, Any]:
    """The node's own: client requests by how they ended, and the sums over all providers."""
    counts = dict.fromkeys(REQUEST_CLASSES, 0)
    for (status, outcome), count in metrics.requests.sums("status_class", "outcome").items():
        counts[class_of(status, outcome)] += int(count)
    now, windows = metrics.clock(), metrics.request_windows
    minute = {kind: windows[kind].count(now) for kind in REQUEST_CLASSES}
    judged = minute["ok"] + minute["server_error"]
    return {
        "requests": sum(counts.values()),
        "outcomes": {kind: count for kind, count in counts.items() if count},
        "failed": counts["server_error"],
        "success_rate": _share(counts["ok"], counts["server_error"]),
        "requests_per_second": round(sum(minute.values()) / MINUTE_SECONDS, 2),
        "error_share": round(minute["server_error"] / judged, 4) if judged else None,
        "latency_ms": windows["ok"].milliseconds(now),
        "latency_ms_5m": windows["ok"].milliseconds(now, LONGEST_SECONDS),
        "first_content_ms": metrics.content_window.milliseconds(now),
        "retries": int(_all(metrics.retries)),
        "failovers": int(_all(metrics.failovers)),
        "exhausted": int(_all(metrics.exhausted)),
        "tokens": {kind: int(metrics.tokens.sums("type").get((kind,), 0)) for kind in TOKENS},
        "cost_usd": round(_all(metrics.cost), 6),
        "cost_unknown_calls": int(_all(metrics.cost_unknown)),
        "restarts": int(_all(metrics.restarts)),
        "restarts_5m": metrics.restart_window.count(now, LONGEST_SECONDS),
    }


class _Sums:
    """Each family walked over once, whatever the number of providers."""

    def __init__(self, families: Families) -> None:
        self._attempts = _by_provider(families.attempts.sums("provider", "outcome"))
        self._failures = _by_provider(families.failures.sums("provider", "kind"))
        self._tokens = _by_provider(families.tokens.sums("provider", "type"))
        self._retries = families.retries.sums("provider")
        self._throttles = families.throttles.sums("provider")
        self._cost = families.cost.sums("provider")
        self._unknown = families.cost_unknown.sums("provider")

    def of(self, name: str) -> dict[str, Any]:
        """The sums of one provider."""
        outcomes, failures = self._attempts.get(name, {}), self._failures.get(name, {})
        failed = sum(count for kind, count in failures.items() if kind not in BLAMELESS)
        tokens = self._tokens.get(name, {})
        return {
            "attempts": sum(outcomes.values()),
            "outcomes": {outcome: count for outcome, count in outcomes.items() if count},
            "failures": {kind: count for kind, count in failures.items() if count},
            "success_rate": _share(outcomes.get(OK, 0), failed),
            "tokens": {kind: tokens.get(kind, 0) for kind in TOKENS},
            "cost_usd": round(self._cost.get((name,), 0.0), 6),
            "cost_unknown_calls": int(self._unknown.get((name,), 0)),
            "retries": int(self._retries.get((name,), 0)),
            "throttled": int(self._throttles.get((name,), 0)),
        }


def latencies(metrics: Metrics, name: str) -> dict[str, Any]:
    """Percentiles of one provider's last minute: whole answers, and first contents of streams."""
    if (windows := metrics.windows.get(name)) is None:
        return {}
    now = metrics.clock()
    return {
        "latency_ms": windows.answers.milliseconds(now),
        "latency_ms_5m": windows.answers.milliseconds(now, LONGEST_SECONDS),
        "first_content_ms": windows.first_contents.milliseconds(now),
    }


def _of_late(metrics: Metrics, name: str) -> dict[str, Any]:
    windows, now = metrics.windows[name], metrics.clock()
    ok, failed = windows.answers.count(now), windows.failures.count(now)
    return {
        **latencies(metrics, name),
        "last_minute": {"answers": ok, "failures": failed, "success_rate": _share(ok, failed)},
    }


def _by_provider(sums: Sums) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (provider, what), count in sums.items():
        found.setdefault(provider, {})[what] = int(count)
    return found


def _all(family: Family) -> float:
    return family.sums().get((), 0.0)


def _share(good: float, bad: float) -> float | None:
    return round(good / (good + bad), 4) if good + bad else None
