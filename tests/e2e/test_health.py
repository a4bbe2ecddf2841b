"""The health port: the guide's four paths with live data, liveness, readiness, Prometheus' text."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runestone.serve import LOADED_SECONDS
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN

ACTOR = ("runestone_actor_mailbox_depth", frozenset({("actor", "runestone/node/public")}))
WHOLE = {**HELLO, "stream": False}


def samples(node: Gateway) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every series, read by Prometheus' own parser."""
    text = node.health("/metrics").text
    return {
        (s.name, frozenset(s.labels.items())): s.value for f in text_string_to_metric_families(text) for s in f.samples
    }


def total(node: Gateway, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for (found, have), value in samples(node).items() if found == name and wanted <= have)


def test_health_is_healthy_degraded_or_unhealthy(serve: Callable[..., Gateway]) -> None:
    node = serve()

    def health() -> tuple[int, str]:
        answer = node.health()
        return answer.status_code, answer.json()["status"]

    assert health() == (200, "healthy")
    node.ctl("breaker", "trip", "openai-default")
    assert health() == (200, "degraded")
    node.ctl("breaker", "trip", "anthropic-default")
    assert health() == (503, "unhealthy")
    assert [node.health(path).status_code for path in ("/ready", "/readiness")] == [200, 200]
    assert [node.health(path).status_code for path in ("/live", "/liveliness")] == [200, 200]


def test_providers_show_why_one_is_out(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(RETRY_MAX_ATTEMPTS="1")
    primary.fault("status=500")
    node.post(WHOLE)

    provider = node.health("/providers").json()["providers"]["openai-default"]

    assert provider["last_error"]["what"].startswith("server_error: ")
    assert provider["breaker"]["consecutive_failures"] == 1
    assert 0 <= provider["health_score"] < 1
    alone = node.health("/providers/openai-default").json()
    moving = {"health_score", "score"}  # a little with each moment
    assert {k: v for k, v in provider.items() if k not in moving} == {k: v for k, v in alone.items() if k not in moving}
    assert node.health("/providers/nobody").status_code == 404


def test_detailed_holds_the_tree_the_groups_and_the_settings_in_force(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_FIRST_TOKEN_TIMEOUT_MS="12345")

    detailed = node.detailed()

    assert detailed["tree"]["id"] == "runestone"
    assert {g["name"] for g in detailed["groups"]} == {"default-chat-service", "cost-optimized-service"}
    assert detailed["settings"]["first_token_seconds"] == 12.345
    assert detailed["version"] == "0.6.0"
    assert total(node, "runestone_build_info", version=detailed["version"], commit=detailed["commit"]) == 1


def test_the_health_port_changes_nothing_and_says_404_for_what_it_has_not(node: Gateway) -> None:
    assert httpx.post(f"{node.health_url}/health", **PLAIN).status_code == 405
    assert httpx.get(f"{node.health_url}/v1/chat/completions", **PLAIN).status_code == 404


def test_every_request_is_counted_once_before_its_answer_ends(node: Gateway, primary: Upstream) -> None:
    for n in range(3):
        node.post(WHOLE)
        assert total(node, "runestone_requests_total") == n + 1
    node.post({**HELLO, "stream": True})
    node.post({**WHOLE, "model": "llama-99"})
    node.post(WHOLE, {"Origin": "https://evil.example"})
    primary.fault("status=400")
    node.post(WHOLE)

    assert total(node, "runestone_requests_total") == 7
    assert total(node, "runestone_requests_total", status_class="2xx") == 4
    assert total(node, "runestone_requests_total", status_class="4xx") == 3
    assert total(node, "runestone_requests_total", stream="true") == 1
    eventually(
        lambda: total(node, "runestone_provider_attempts_total", provider="openai-default") == 5, "five upstream calls"
    )


def test_failovers_breakers_and_tokens_are_counted(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(RETRY_MAX_ATTEMPTS="1", CIRCUIT_BREAKER_FAILURE_THRESHOLD="2")
    node.post(WHOLE)
    primary.fault("status=500")
    for _ in range(2):
        node.post(WHOLE)

    eventually(lambda: total(node, "runestone_failovers_total", to="anthropic-default") == 2, "two failovers")
    assert total(node, "runestone_circuit_breaker_state", provider="openai-default", state="open") == 1
    assert total(node, "runestone_circuit_breaker_transitions_total", provider="openai-default", to="open") == 1
    assert total(node, "runestone_tokens_total", type="output") > 0


def test_requests_in_flight_are_counted(node: Gateway, primary: Upstream) -> None:
    primary.fault("stall")
    with httpx.Client(**PLAIN) as client, suppress(httpx.ReadTimeout):
        client.post(f"{node.base_url}/chat/completions", json=WHOLE, timeout=0.5)
        raise AssertionError("it stalls")

    eventually(lambda: total(node, "runestone_request_in_flight") == 0, "it has left")
    assert total(node, "runestone_requests_total", outcome="client_gone") == 1


def test_names_from_requests_make_no_series(node: Gateway) -> None:
    node.post({**WHOLE, "model": "openai/first"})
    node.post({**WHOLE, "model": "llama-0"})
    httpx.post(f"{node.public_url}/v1/nothing", json={}, **PLAIN)
    eventually(lambda: ACTOR in set(samples(node)), "the tree has been looked at")
    before = set(samples(node))

    for n in range(20):
        node.post({**WHOLE, "model": f'openai/gpt"}} 1\nup{{job="x{n}'})
        httpx.post(f"{node.public_url}/v1/path-{n}", json={}, **PLAIN)

    assert set(samples(node)) == before


OPENMETRICS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("path", "accept", "kind"),
    [
        ("/metrics", OPENMETRICS, "text/plain; version=0.0.4; charset=utf-8"),
        ("/health/metrics", "*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("/health/metrics", "application/json", "application/json"),
        ("/metrics?format=json", "*/*", "application/json"),
        ("/metrics?format=text", "application/json", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_prometheus_and_curl_get_text_and_programs_json(node: Gateway, path: str, accept: str, kind: str) -> None:
    answer = httpx.get(f"{node.health_url}{path}", headers={"Accept": accept}, **PLAIN)

    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert (answer.headers["vary"], answer.headers["cache-control"]) == ("Accept", "no-store")


def test_a_format_that_there_is_not_is_refused(node: Gateway) -> None:
    assert node.health("/metrics?format=xml").status_code == 400


def test_metrics_are_plain_numbers_for_who_wants_json(node: Gateway) -> None:
    for _ in range(3):
        node.post(WHOLE)
        node.post({**HELLO, "stream": True})

    eventually(lambda: node.ctl("status")["ledger"]["written"] == 6, "all are booked")
    answer = httpx.get(f"{node.health_url}/health/metrics", headers={"Accept": "application/json"}, **PLAIN)

    told = answer.json()
    assert told.keys() == {"providers", "node"}
    one = told["providers"]["openai-default"]
    assert (one["attempts"], one["outcomes"], one["success_rate"]) == (6, {"ok": 6}, 1.0)
    assert (one["status"], one["breaker"], one["failures"]) == ("up", "closed", {})
    for times in (one["latency_ms"], one["first_content_ms"], told["node"]["latency_ms"]):
        assert 0 < times["p50"] <= times["p95"] <= times["p99"] < 60_000
    assert one["tokens"]["output"] > 0
    assert told["node"]["outcomes"] == {"ok": 6}
    assert told["node"]["requests_per_second"] == 0.1  # of the last minute
    assert told == node.ctl("metrics")["metrics"] | {"node": told["node"]}
    assert node.ctl("metrics", "openai-default")["metrics"] == one


def test_a_provider_tells_the_parts_of_its_score_what_is_wrong_and_since_when(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(RETRY_MAX_ATTEMPTS="1", CIRCUIT_BREAKER_FAILURE_THRESHOLD="2")
    primary.fault("status=500")
    for _ in range(2):
        node.post(WHOLE)

    def told() -> dict[str, Any]:
        return dict(node.health("/providers/openai-default").json())

    one = eventually(lambda: (found := told())["status"] == "open" and found, "its breaker has opened")
    assert set(one["score"]) == {"success", "latency", "headroom", "breaker"}
    assert (one["score"]["success"] < 1.0, one["score"]["breaker"], one["health_score"]) == (True, 0.0, 0.0)
    (alert,) = one["wrong"]
    assert (alert["kind"], alert["severity"]) == ("breaker_open", "error")
    assert "server_error" in alert["message"]
    since = datetime.fromisoformat(alert["since"])
    assert abs((datetime.now(UTC) - since).total_seconds()) < 60

    done = node.ctl_raw(*alert["command"].removeprefix("runestone ctl ").split())
    assert done.returncode == 0
    assert not [a for a in told()["wrong"] if a["kind"] == "breaker_open"]


def test_the_console_shows_what_is_wrong_and_what_helps(serve: Callable[..., Gateway]) -> None:
    node = serve()
    node.ctl("breaker", "trip", "openai-default")
    node.ctl("breaker", "trip", "anthropic-default")

    screen = node.ctl_raw("status").stdout

    assert "error: openai-default is out: its breaker was forced open (since 20" in screen
    assert "runestone ctl breaker reset anthropic-default" in screen
    assert "nobody in default-chat-service takes requests" in screen
    kinds = {alert["kind"] for alert in node.ctl("status")["alerts"]}
    assert kinds >= {"breaker_open", "group_out"}
    table = node.ctl_raw("metrics").stdout.splitlines()
    assert table[0].split()[:2] == ["PROVIDER", "STATUS"]
    assert table[1].split()[:2] == ["anthropic-default", "open"]


def test_what_a_node_has_loaded_is_kept_from_the_collector_some_seconds_after_its_start(node: Gateway) -> None:
    """A collection that visits all of it would hold the event loop up for as long as some requests take."""

    def frozen() -> bool:
        return int(node.detailed()["frozen_objects"]) > 50_000

    eventually(frozen, lambda: f"it is frozen: {node.detailed()['frozen_objects']}", LOADED_SECONDS + 10)
