"""The health port: the guide's four paths with live data, liveness, readiness, Prometheus' text."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO

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
    assert node.health("/ready").status_code == 200
    assert node.health("/live").status_code == 200


def test_providers_show_why_one_is_out(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(RETRY_MAX_ATTEMPTS="1")
    primary.fault("status=500")
    node.post(WHOLE)

    provider = node.health("/providers").json()["providers"]["openai-default"]

    assert provider["last_error"]["what"].startswith("server_error: ")
    assert provider["breaker"]["consecutive_failures"] == 1
    assert 0 <= provider["health_score"] < 1
    assert provider == node.health("/providers/openai-default").json()
    assert node.health("/providers/nobody").status_code == 404


def test_detailed_holds_the_tree_the_groups_and_the_settings_in_force(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_FIRST_TOKEN_TIMEOUT_MS="12345")

    detailed = node.detailed()

    assert detailed["tree"]["id"] == "runestone"
    assert {g["name"] for g in detailed["groups"]} == {"default-chat-service", "cost-optimized-service"}
    assert detailed["settings"]["first_token_seconds"] == 12.345
    assert detailed["version"] == "0.6.0"


def test_the_health_port_changes_nothing_and_says_404_for_what_it_has_not(node: Gateway) -> None:
    assert httpx.post(f"{node.health_url}/health", trust_env=False).status_code == 405
    assert httpx.get(f"{node.health_url}/v1/chat/completions", trust_env=False).status_code == 404


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
    with httpx.Client(trust_env=False) as client, suppress(httpx.ReadTimeout):
        client.post(f"{node.base_url}/chat/completions", json=WHOLE, timeout=0.5)
        raise AssertionError("it stalls")

    eventually(lambda: total(node, "runestone_request_in_flight") == 0, "it has left")
    assert total(node, "runestone_requests_total", outcome="client_gone") == 1


def test_names_from_requests_make_no_series(node: Gateway) -> None:
    node.post({**WHOLE, "model": "openai/first"})
    node.post({**WHOLE, "model": "llama-0"})
    httpx.post(f"{node.public_url}/v1/nothing", json={}, trust_env=False)
    before = set(samples(node))

    for n in range(20):
        node.post({**WHOLE, "model": f'openai/gpt"}} 1\nup{{job="x{n}'})
        httpx.post(f"{node.public_url}/v1/path-{n}", json={}, trust_env=False)

    assert set(samples(node)) == before


def test_metrics_are_plain_numbers_for_who_wants_json(node: Gateway) -> None:
    node.post(WHOLE)

    answer = httpx.get(f"{node.health_url}/health/metrics", headers={"Accept": "application/json"}, trust_env=False)

    assert answer.headers["content-type"] == "application/json"
    assert sum(answer.json()["requests"].values()) == 1
