"""Every event is counted once, under the right labels, and Prometheus' own parser reads what is rendered."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import runestone
from runestone.domain.chat import Usage
from runestone.telemetry.events import (
    AttemptFinished,
    BreakerChanged,
    Event,
    Failover,
    FailoverExhausted,
    ProbeFinished,
    ProviderThrottled,
    RequestFinished,
    Retry,
)
from runestone.telemetry.metrics import Metrics
from supervisors import ChildSpec, Supervisor, start
from supervisors.testing import VirtualTimeLoop, crash, settle
from tests.supervisors.actors import Boom, Trace

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
REQUEST = partial(
    RequestFinished,
    request_id="r",
    route="/v1/chat/completions",
    stream=False,
    status=200,
    outcome="ok",
    duration_seconds=0.3,
    provider="a",
    model="m",
    attempts=1,
)
ATTEMPT = partial(
    AttemptFinished,
    provider="a",
    model="m",
    stream=False,
    outcome="ok",
    duration_seconds=0.3,
    first_content_seconds=0.1,
    usage=None,
)


def read(metrics: Metrics) -> Series:
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def labelled(series: Series, name: str) -> dict[tuple[str, ...], float]:
    """The series of one metric, by the values of their labels in the order of the labels' names; zeros left out."""
    return {
        tuple(value for _, value in sorted(labels)): number
        for (found, labels), number in series.items()
        if found == name and number
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return read(metrics).get((name, frozenset(labels.items())))


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    metrics.add_provider("a", ["m", "n"], ["g"])
    return metrics


# -- what each event counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "status_class"), [(200, "2xx"), (429, "4xx"), (503, "5xx"), (0, "none"), (101, "1xx")]
)
def test_a_request_is_counted_by_route_kind_of_answer_and_outcome(
    metrics: Metrics, status: int, status_class: str
) -> None:
    metrics.handle(REQUEST(status=status, stream=True, outcome="ok"))

    series = read(metrics)
    assert labelled(series, "runestone_requests_total") == {
        # outcome, route, status_class, stream
        ("ok", "/v1/chat/completions", status_class, "true"): 1.0
    }
    assert labelled(series, "runestone_request_duration_seconds_sum") == {("/v1/chat/completions", "true"): 0.3}


def test_an_attempt_is_counted_by_provider_model_and_outcome(metrics: Metrics) -> None:
    for outcome in ("ok", "ok", "server_error", "cancelled"):
        metrics.handle(ATTEMPT(outcome=outcome))

    series = read(metrics)
    assert labelled(series, "runestone_provider_attempts_total") == {
        ("m", "ok", "a"): 2.0,
        ("m", "server_error", "a"): 1.0,
        ("m", "cancelled", "a"): 1.0,
    }
    assert labelled(series, "runestone_provider_duration_seconds_count") == {("a", "false"): 4.0}


def test_only_a_stream_that_had_content_has_a_time_to_it(metrics: Metrics) -> None:
    metrics.handle(ATTEMPT(stream=False, first_content_seconds=0.1))
    metrics.handle(ATTEMPT(stream=True, first_content_seconds=None))
    metrics.handle(ATTEMPT(stream=True, first_content_seconds=0.25))

    series = read(metrics)
    assert labelled(series, "runestone_provider_time_to_first_chunk_seconds_count") == {("a",): 1.0}
    assert labelled(series, "runestone_provider_time_to_first_chunk_seconds_sum") == {("a",): 0.25}


def test_tokens_are_counted_by_their_type(metrics: Metrics) -> None:
    usage = Usage(input_tokens=10, output_tokens=20, cached_tokens=3, cache_write_tokens=99, reasoning_tokens=4)
    for _ in range(2):
        metrics.handle(ATTEMPT(usage=usage))

    assert labelled(read(metrics), "runestone_tokens_total") == {
        ("m", "a", "input"): 20.0,
        ("m", "a", "output"): 40.0,
        ("m", "a", "cached_input"): 6.0,
        ("m", "a", "reasoning"): 8.0,
    }


def test_a_model_or_a_provider_that_is_not_configured_is_other(metrics: Metrics) -> None:
    for number in range(50):
        metrics.handle(ATTEMPT(model=f"made-up-{number}", usage=Usage(input_tokens=1, output_tokens=0)))
    metrics.handle(ATTEMPT(provider="unknown"))

    series = read(metrics)
    assert labelled(series, "runestone_provider_attempts_total") == {
        ("other", "ok", "a"): 50.0,
        ("other", "ok", "other"): 1.0,
    }
    assert labelled(series, "runestone_tokens_total") == {("other", "a", "input"): 50.0}


@pytest.mark.parametrize(
    ("event", "name", "labels"),
    [
        (Retry(provider="a", reason="server_error"), "retries", {"provider": "a", "reason": "server_error"}),
        (
            Failover(group="g", origin="a", target="b", reason="timeout"),
            "failovers",
            {"group": "g", "from": "a", "to": "b", "reason": "timeout"},
        ),
        (FailoverExhausted(group="g", reason="refused"), "failover_exhausted", {"group": "g"}),
        (ProviderThrottled(provider="a", seconds=3.0), "provider_throttled", {"provider": "a"}),
        (
            ProbeFinished(provider="a", outcome="unreachable", seconds=0.1),
            "probes",
            {"provider": "a", "outcome": "unreachable"},
        ),
        (
            BreakerChanged(provider="a", before="closed", after="open"),
            "circuit_breaker_transitions",
            {"provider": "a", "to": "open"},
        ),
    ],
)
def test_what_happens_to_a_request_is_counted_under_its_own_name(
    metrics: Metrics, event: Event, name: str, labels: dict[str, str]
) -> None:
    before = read(metrics)

    for _ in range(3):
        metrics.handle(event)

    after = read(metrics)
    changed = {key: number for key, number in after.items() if number != before.get(key, 0.0)}
    mine = {key: number for key, number in changed.items() if key[0].endswith("_total") and "cpu" not in key[0]}
    assert mine == {(f"runestone_{name}_total", frozenset(labels.items())): 3.0}


def test_one_state_of_a_breaker_is_1_and_the_others_0(metrics: Metrics) -> None:
    for state in ("open", "half_open", "closed", "open"):
        metrics.handle(BreakerChanged(provider="a", before="", after=state))

        states = {s: value(metrics, "runestone_circuit_breaker_state", provider="a", state=s) for s in STATES}
        assert states == {s: float(s == state) for s in STATES}


STATES = ("closed", "open", "half_open")


def test_codes_of_upstreams_make_no_series_without_end(metrics: Metrics) -> None:
    for number in range(500):
        metrics.handle(REQUEST(outcome=f"their_code_{number}"))
    for outcome in ("client_gone", "upstream_timeout", "server_error", "their_code_1"):
        metrics.handle(REQUEST(outcome=outcome))

    counted = labelled(read(metrics), "runestone_requests_total")
    outcomes = {key[0]: number for key, number in counted.items()}
    assert sum(outcomes.values()) == 504
    assert len(outcomes) < 80
    assert outcomes["other"] == 500 - 64
    assert (outcomes["client_gone"], outcomes["upstream_timeout"], outcomes["server_error"]) == (1.0, 1.0, 1.0)
    assert outcomes["their_code_1"] == 2.0


@pytest.mark.anyio
async def test_restarts_are_counted_by_the_place_in_the_tree(metrics: Metrics, trace: Trace) -> None:
    node = ChildSpec(id="node", start=partial(Supervisor, [trace.child("a", name="a")]), type="supervisor")
    root = await start(partial(Supervisor, [node]), observers=[metrics.observe])
    for _ in range(2):
        ref = root.process.system.registry.lookup("a")
        assert ref is not None
        crash(ref, Boom())
        await settle()
    await root.stop()

    assert labelled(read(metrics), "runestone_actor_restarts_total") == {("root/node/a",): 2.0}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop, "debug": True}


@pytest.fixture
def trace() -> Trace:
    return Trace()


# -- what is there from the start ------------------------------------------------------------------------------------------


def test_the_series_of_a_provider_are_there_at_zero_from_the_start(metrics: Metrics) -> None:
    series = read(metrics)

    def start_of(name: str) -> dict[tuple[tuple[str, str], ...], float]:
        return {tuple(sorted(labels)): number for (found, labels), number in series.items() if found == name}

    assert start_of("runestone_provider_attempts_total") == {
        (("model", model), ("outcome", "ok"), ("provider", "a")): 0.0 for model in "mn"
    }
    assert start_of("runestone_circuit_breaker_transitions_total") == {
        (("provider", "a"), ("to", state)): 0.0 for state in STATES
    }
    assert start_of("runestone_circuit_breaker_state") == {
        (("provider", "a"), ("state", state)): float(state == "closed") for state in STATES
    }
    assert start_of("runestone_provider_throttled_total") == {(("provider", "a"),): 0.0}
    assert start_of("runestone_probes_total") == {(("outcome", "ok"), ("provider", "a")): 0.0}
    assert start_of("runestone_failover_exhausted_total") == {(("group", "g"),): 0.0}
    assert start_of("runestone_provider_health_score") == {(("provider", "a"),): 1.0}
    assert start_of("runestone_provider_up") == {(("provider", "a"),): 1.0}


def test_a_provider_that_is_added_again_keeps_what_was_counted(metrics: Metrics) -> None:
    metrics.handle(BreakerChanged(provider="a", before="closed", after="open"))
    metrics.score.at(provider="a").set(0.25)

    metrics.add_provider("a", ["m", "n"], ["g"])

    assert value(metrics, "runestone_circuit_breaker_state", provider="a", state="open") == 1.0
    assert value(metrics, "runestone_provider_health_score", provider="a") == 0.25


def test_two_nodes_of_one_process_count_apart(metrics: Metrics) -> None:
    other = Metrics()

    metrics.handle(ATTEMPT())

    assert labelled(read(metrics), "runestone_provider_attempts_total") == {("m", "ok", "a"): 1.0}
    assert labelled(read(other), "runestone_provider_attempts_total") == {}


def test_the_process_and_the_build_are_told() -> None:
    in_flight = 7
    series = read(Metrics(lambda: in_flight))

    numbers: dict[str, Any] = {name: number for (name, _), number in series.items()}
    assert numbers["runestone_request_in_flight"] == 7.0
    assert numbers["process_resident_memory_bytes"] > 10_000_000
    assert numbers["process_cpu_seconds_total"] > 0
    assert numbers["process_open_fds"] > 2
    (build,) = [dict(labels) for name, labels in series if name == "runestone_build_info"]
    assert build["version"] == runestone.__version__


def test_a_snapshot_holds_the_same_as_plain_numbers(metrics: Metrics) -> None:
    metrics.handle(ATTEMPT())
    metrics.handle(ATTEMPT(outcome="timeout"))

    snapshot = metrics.snapshot()

    assert snapshot["attempts"] == {"a,m,ok": 1.0, "a,n,ok": 0.0, "a,m,timeout": 1.0}
    assert snapshot["attempt_seconds"] == {"a,false": 2.0}
    assert snapshot["process"][""] > 0


# -- whatever a label holds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ['a"} 1\nevil_total{z="', "back\\slash", "new\nline", 'quo"te', "\\n", "umlaut ä", "{}", "=,", '\\"', " "],
)
def test_a_label_may_hold_anything_and_forges_no_series(name: str) -> None:
    metrics = Metrics()
    metrics.add_provider(name, [name], [])
    metrics.handle(ATTEMPT(provider=name, model=name))

    series = read(metrics)

    assert labelled(series, "runestone_provider_attempts_total") == {(name, "ok", name): 1.0}
    assert not any("evil" in found for found, _ in series)


def test_every_family_has_its_help_and_its_type(metrics: Metrics) -> None:
    families = {f.name: f for f in text_string_to_metric_families(metrics.render().decode())}

    assert families["runestone_requests"].type == "counter"
    assert families["runestone_request_duration_seconds"].type == "histogram"
    assert families["runestone_provider_up"].type == "gauge"
    assert all(family.documentation for family in families.values())
