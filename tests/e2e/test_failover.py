"""Who is asked next, and what the client is told when nobody is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN

WHOLE = {**HELLO, "stream": False}
GROUP = {**WHOLE, "model": "default-chat-service"}  # both providers in one tier


def providers(node: Gateway, count: int, body: dict[str, object]) -> list[str]:
    return [node.post(body).headers["x-runestone-provider"] for _ in range(count)]


def test_round_robin_takes_turns(serve: Callable[..., Gateway]) -> None:
    node = serve(FAILOVER_STRATEGY="round_robin")

    assert Counter(providers(node, 10, GROUP)) == {"openai-default": 5, "anthropic-default": 5}


@pytest.mark.parametrize("strategy", ["priority", "load_balanced", "fastest_first", "health_aware", "cost_optimized"])
def test_every_strategy_serves_and_fails_over(serve: Callable[..., Gateway], primary: Upstream, strategy: str) -> None:
    node = serve(FAILOVER_STRATEGY=strategy)
    assert set(providers(node, 4, GROUP)) <= {"openai-default", "anthropic-default"}
    primary.fault("status=500")

    assert set(providers(node, 4, GROUP)) == {"anthropic-default"}


def test_streams_that_break_off_open_the_breaker_though_each_had_content(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(CIRCUIT_BREAKER_FAILURE_THRESHOLD="3")
    primary.fault("cut_after=4")

    for _ in range(3):
        assert "error" in node.post(HELLO).text

    eventually(lambda: node.provider("openai-default")["breaker"]["state"] == "open", "it is open")
    primary.fault("none")
    assert node.post(HELLO).headers["x-runestone-provider"] == "anthropic-default"


def test_a_provider_that_recovers_gets_probes_beside_a_healthy_one(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(
        FAILOVER_STRATEGY="round_robin", CIRCUIT_BREAKER_FAILURE_THRESHOLD="2", CIRCUIT_BREAKER_RECOVERY_TIMEOUT="1000"
    )
    primary.fault("status=500")
    for _ in range(2):
        node.post({**WHOLE, "model": "openai-default/gpt-4o-mini"})
    assert node.provider("openai-default")["breaker"]["state"] == "open"
    primary.fault("none")
    eventually(lambda: node.provider("openai-default")["breaker"]["state"] == "half_open", "half-open")

    assert "openai-default" in providers(node, 6, GROUP)

    assert node.provider("openai-default")["breaker"]["state"] == "closed"


def test_a_model_that_its_family_does_not_know_never_goes_to_another_family(
    node: Gateway, primary: Upstream, secondary: Upstream
) -> None:
    primary.fault("status=404")

    answers = [node.post(WHOLE) for _ in range(3)]

    assert [(a.status_code, a.json()["error"]["code"]) for a in answers] == [(404, "model_not_found")] * 3
    assert secondary.requests() == []


@pytest.mark.parametrize(("fault", "status"), [("404", 404), ("403", 403), ("500", 500)])
def test_an_upstreams_word_is_not_replaced_by_the_refusal_of_the_next_one(
    node: Gateway, primary: Upstream, secondary: Upstream, fault: str, status: int
) -> None:
    primary.fault(fault)
    node.ctl("breaker", "trip", "anthropic-default", "--seconds", "50")

    answer = node.post(GROUP)

    assert (answer.status_code, answer.json()["error"]["message"]) == (status, f"simulated error {fault}")
    assert secondary.requests() == []


def test_a_field_that_no_provider_of_the_first_tier_can_serve_is_named(serve: Callable[..., Gateway]) -> None:
    node = serve(OPENAI_API_KEY="")

    answer = node.post({**WHOLE, "model": "claude-sonnet-4-5", "n": 3})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


def test_a_field_that_a_provider_drops_is_told(node: Gateway) -> None:
    answer = node.post({**WHOLE, "model": "claude-sonnet-4-5", "seed": 7})

    assert answer.status_code == 200
    assert answer.headers["x-runestone-dropped"] == "seed"


def test_a_wrong_key_quarantines_the_provider_with_an_alert_and_is_not_the_clients_fault(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve(ANTHROPIC_API_KEY="")
    primary.fault("status=401")

    first, second = node.post(WHOLE), node.post(WHOLE)

    assert (first.status_code, first.json()["error"]["code"]) == (502, "upstream_credentials")
    assert second.status_code == 503
    assert len(primary.requests()) == 1
    assert node.provider("openai-default")["status"] == "quarantined"
    eventually(lambda: "alert: openai-default is quarantined" in node.log.read_text(), "the log has the alert")


def test_legacy_mode_asks_the_first_provider_alone_with_its_retries(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream
) -> None:
    node = serve(RUNESTONE_PROVIDER_MODE="legacy", RETRY_MAX_ATTEMPTS="2")
    primary.fault("status=500")

    answer = node.post(WHOLE)

    assert (answer.status_code, answer.headers["x-runestone-attempts"]) == (500, "2")
    assert secondary.requests() == []


def test_every_breaker_open_is_503_with_the_soonest_time(serve: Callable[..., Gateway]) -> None:
    node = serve()
    node.ctl("breaker", "trip", "openai-default", "--seconds", "50")
    node.ctl("breaker", "trip", "anthropic-default", "--seconds", "20")

    answer = node.post(WHOLE)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_provider_available")
    assert 15 <= int(answer.headers["retry-after"]) <= 20
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("fault", "status", "seconds"),
    [("429", 429, 1), ("503", 503, 1), ("529", 529, 1), ("401", 502, 300), ("429 retry_after=40", 429, 40)],
)
def test_who_has_met_only_failures_is_told_when_to_come_back_and_not_to_pile_on(
    serve: Callable[..., Gateway], primary: Upstream, fault: str, status: int, seconds: int
) -> None:
    node = serve(ANTHROPIC_API_KEY="", RETRY_MAX_ATTEMPTS="1", RETRY_BASE_DELAY_MS="1000")
    primary.fault(fault)

    answer = node.post(WHOLE)

    assert (answer.status_code, answer.headers["x-should-retry"]) == (status, "false")
    assert answer.headers["retry-after"] == str(seconds)


def test_no_more_upstream_calls_than_the_cap(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream
) -> None:
    node = serve()
    primary.fault("status=500")
    secondary.fault("status=500")

    answer = node.post(WHOLE)

    assert answer.headers["x-runestone-attempts"] == "4"
    assert len(primary.requests()) + len(secondary.requests()) == 4


def test_a_short_retry_after_is_obeyed(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(ANTHROPIC_API_KEY="")
    primary.fault("status=429 retry_after=1 times=1")

    answer = node.post(WHOLE)

    assert (answer.status_code, answer.headers["x-runestone-attempts"]) == (200, "2")


def test_a_route_that_a_provider_lacks_takes_no_model_out(node: Gateway, primary: Upstream) -> None:
    primary.fault("status=404 times=1")
    url = f"{node.base_url}/responses"
    lacking = httpx.post(url, json={"model": "openai-default/gpt-4o-mini", "input": "?"}, **PLAIN)

    assert lacking.status_code == 404
    assert node.post({**WHOLE, "model": "openai-default/gpt-4o-mini"}).status_code == 200
