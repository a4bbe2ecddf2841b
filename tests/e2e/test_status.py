"""The node on one screen, and its metrics as the console prints them: held against what has happened."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from runestone.console.client import AdminClient
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO

WHOLE: Final = {**HELLO, "stream": False}


def status(node: Gateway) -> dict[str, Any]:
    return AdminClient(node.socket).request("GET", "/v1/status")


def test_status_tells_what_is_going_on_on_one_screen(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve("--allow-faults")
    for _ in range(5):
        node.post(WHOLE)
    primary.fault("status=400 times=1")
    node.post(WHOLE)
    node.ctl("crash", "failover")
    node.ctl("breaker", "trip", "openai-default")
    node.ctl("group", "create", "mine", "--members", "anthropic-default")
    rows = eventually(
        lambda: [r for r in node.ctl("requests")["requests"] if r["cost_usd"]][4:], "all are booked"
    ) and [r["cost_usd"] for r in node.ctl("requests")["requests"]]

    told = status(node)

    assert (told["node"], told["phase"], told["in_flight"]) == (platform.node(), "ready", 0)
    assert told["version"]
    assert told["commit"]
    assert told["uptime_seconds"] > 0
    assert told["requests_per_second"] > 0
    assert told["latency_ms"]["p95"] >= told["latency_ms"]["p50"] > 0
    assert told["breakers_open"] == ["openai-default"]
    assert told["restarts_1h"] == 1
    assert told["unsaved"] == {"changes": 1, "needs_restart": []}
    if time.time() % 86_400 > 60:  # not at midnight
        assert abs(told["cost_today_usd"] - sum(rows)) < 1e-6
    person = node.ctl_raw("status").stdout
    for word in ("restarts 1h", "cost today usd", "requests per second", "unsaved", "breakers open"):
        assert word in person


def test_status_tells_how_many_calls_its_dollars_say_nothing_of(node: Gateway) -> None:
    before = status(node)
    node.post({**WHOLE, "model": "openai-default/home-made"})

    eventually(lambda: status(node)["cost_unknown_calls"] == 1, "it is counted")
    assert (before["cost_unknown_calls"], status(node)["cost_usd"]) == (0, 0.0)


def test_metrics_are_printed_as_prometheus_scrapes_them_all_or_one_providers(node: Gateway) -> None:
    node.post(WHOLE)

    whole, one = node.ctl_raw("metrics", "--prom").stdout, node.ctl_raw("metrics", "openai-default", "--prom").stdout
    scraped = node.health("/metrics").text

    def names(text: str) -> set[str]:
        return {family.name for family in text_string_to_metric_families(text)}

    assert names(whole) == names(scraped)
    of_one = [s for family in text_string_to_metric_families(one) for s in family.samples]
    assert {"openai-default"} == {s.labels.get("provider", "openai-default") for s in of_one}
    assert {s.name for s in of_one} >= {"runestone_provider_attempts_total", "runestone_failovers_total"}
    assert all("openai-default" in s.labels.values() for s in of_one)
    assert node.ctl_raw("metrics", "nobody", "--prom").returncode == 3
    assert json.loads(node.ctl_raw("--json", "metrics", "--prom").stdout)["prometheus"].startswith("# HELP")
