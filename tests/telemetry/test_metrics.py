"""Every event is counted once, under the right labels, and Prometheus' own parser reads what is rendered."""

from __future__ import annotations

import shutil
import subprocess
import time
from functools import partial
from random import Random
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import runestone
from runestone.domain.chat import Usage
from runestone.domain.failure import TREATMENTS
from runestone.telemetry.commit import commit
from runestone.telemetry.events import (
    AdminActed,
    AttemptFinished,
    BreakerChanged,
    CallBooked,
    Event,
    Failover,
    FailoverExhausted,
    ProbeFinished,
    ProviderQuarantined,
    ProviderThrottled,
    RequestFinished,
    Retry,
)
from runestone.telemetry.metrics import Metrics, Sources
from runestone.telemetry.outcomes import CLASSES, FAILURE_CLASSES
from runestone.telemetry.series import EXPECTED_CAP, SERIES_CAP
from supervisors import ChildSpec, Supervisor, start
from supervisors.testing import VirtualTimeLoop, crash, settle
from tests.supervisors.actors import Boom, Trace

ROUTES = {"/v1/chat/completions": True, "/v1/embeddings": False}
KNOWN = {"a": ["m", "n"], "b": ["m"]}
GROUPS = {"g": ["a", "b"]}
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
    metrics = Metrics(routes=ROUTES)
    metrics.know(KNOWN, GROUPS)
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
    assert labelled(series, "runestone_request_duration_seconds_sum") == {("ok", "/v1/chat/completions", "true"): 0.3}


@pytest.mark.parametrize(
    ("status", "outcome", "kind"),
    [
        (200, "ok", "ok"),
        (200, "client_gone", "client_gone"),
        (0, "client_gone", "client_gone"),
        (404, "model_not_found", "client_error"),
        (429, "rate_limit_exceeded", "client_error"),
        (503, "no_provider_available", "server_error"),
        (200, "truncated", "server_error"),
        (0, "internal_error", "server_error"),
    ],
)
def test_the_duration_of_a_request_is_that_of_its_class(metrics: Metrics, status: int, outcome: str, kind: str) -> None:
    metrics.handle(REQUEST(status=status, outcome=outcome))

    counted = labelled(read(metrics), "runestone_request_duration_seconds_count")
    assert counted == {(kind, "/v1/chat/completions", "false"): 1.0}


def test_overhead_is_what_a_request_took_while_no_upstream_call_was_out(metrics: Metrics) -> None:
    metrics.handle(REQUEST(duration_seconds=0.3, upstream_seconds=0.298))
    metrics.handle(REQUEST(duration_seconds=0.3, upstream_seconds=0.3001))  # two clocks
    metrics.handle(REQUEST(attempts=0, duration_seconds=5.0, upstream_seconds=0.0))

    series = read(metrics)
    assert labelled(series, "runestone_overhead_seconds_count") == {("/v1/chat/completions",): 2.0}
    (total,) = labelled(series, "runestone_overhead_seconds_sum").values()
    assert total == pytest.approx(0.002)


def test_an_attempt_is_counted_by_provider_model_and_outcome(metrics: Metrics) -> None:
    for outcome in ("ok", "ok", "server_error", "overloaded", "cancelled"):
        metrics.handle(ATTEMPT(outcome=outcome))

    series = read(metrics)
    assert labelled(series, "runestone_provider_attempts_total") == {
        ("m", "ok", "a"): 2.0,
        ("m", "server_error", "a"): 2.0,
        ("m", "cancelled", "a"): 1.0,
    }
    assert labelled(series, "runestone_provider_failures_total") == {
        ("server_error", "a"): 1.0,
        ("overloaded", "a"): 1.0,
    }
    assert labelled(series, "runestone_provider_duration_seconds_count") == {("m", "a", "false"): 5.0}


def test_a_provider_that_cannot_serve_a_field_was_not_called(metrics: Metrics) -> None:
    metrics.handle(ATTEMPT(outcome="unsupported"))

    series = read(metrics)
    assert labelled(series, "runestone_provider_attempts_total") == {}
    assert labelled(series, "runestone_provider_duration_seconds_count") == {}
    assert labelled(series, "runestone_provider_failures_total") == {("unsupported", "a"): 1.0}


def test_every_kind_of_failure_is_of_a_class(metrics: Metrics) -> None:
    assert CLASSES.keys() == TREATMENTS.keys()
    for kind in TREATMENTS:
        metrics.handle(ATTEMPT(outcome=kind))

    series = read(metrics)
    assert labelled(series, "runestone_provider_failures_total") == {(kind, "a"): 1.0 for kind in TREATMENTS}
    counted = labelled(series, "runestone_provider_attempts_total")
    assert sum(counted.values()) == len(TREATMENTS) - 1  # all but the one for which nothing was sent
    assert {outcome for _, outcome, _ in counted} == set(FAILURE_CLASSES)


def test_only_a_stream_that_had_content_has_a_time_to_it(metrics: Metrics) -> None:
    metrics.handle(ATTEMPT(stream=False, first_content_seconds=0.1))
    metrics.handle(ATTEMPT(stream=True, first_content_seconds=None))
    metrics.handle(ATTEMPT(stream=True, first_content_seconds=0.25))

    series = read(metrics)
    assert labelled(series, "runestone_provider_time_to_first_chunk_seconds_count") == {("m", "a"): 1.0}
    assert labelled(series, "runestone_provider_time_to_first_chunk_seconds_sum") == {("m", "a"): 0.25}


def test_only_a_stream_that_came_whole_has_a_time_between_its_chunks(metrics: Metrics) -> None:
    metrics.handle(ATTEMPT(stream=True, first_content_seconds=0.1, chunk_seconds=0.02))
    metrics.handle(ATTEMPT(stream=True, first_content_seconds=0.1, chunk_seconds=0.03))
    metrics.handle(ATTEMPT(stream=True, first_content_seconds=0.1))
    metrics.handle(ATTEMPT(stream=False, first_content_seconds=0.1))

    series = read(metrics)
    assert labelled(series, "runestone_provider_time_per_output_chunk_seconds_count") == {("m", "a"): 2.0}
    assert labelled(series, "runestone_provider_time_per_output_chunk_seconds_sum") == {("m", "a"): 0.05}


def test_tokens_are_counted_by_their_type(metrics: Metrics) -> None:
    usage = Usage(input_tokens=10, output_tokens=20, cached_tokens=3, cache_write_tokens=5, reasoning_tokens=4)
    for _ in range(2):
        metrics.handle(ATTEMPT(usage=usage))

    assert labelled(read(metrics), "runestone_tokens_total") == {
        ("m", "a", "input"): 20.0,
        ("m", "a", "output"): 40.0,
        ("m", "a", "cached_input"): 6.0,
        ("m", "a", "cache_write"): 10.0,
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
        (
            Failover(group="none", origin="a", target="nobody", reason="dns"),
            "failovers",
            {"group": "other", "from": "a", "to": "other", "reason": "network"},
        ),
        (
            ProviderQuarantined(provider="a", model=None, reason="credentials", seconds=300.0),
            "provider_quarantined",
            {"provider": "a", "reason": "credentials"},
        ),
        (
            AdminActed(
                who="me", action="POST /v1/breakers/a/reset", outcome="ok", route="POST /v1/breakers/{name}/reset"
            ),
            "admin_actions",
            {"action": "POST /v1/breakers/{name}/reset", "outcome": "ok"},
        ),
        (
            CallBooked(request_id="r", provider="a", model="m", usage=None, cost_usd=None),
            "cost_unknown",
            {"provider": "a", "model": "m"},
        ),
        (
            CallBooked(request_id="r", provider="a", model="made-up", usage=None, cost_usd=1.0),
            "cost_usd",
            {"provider": "a", "model": "other"},
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

    assert labelled(read(metrics), "runestone_actor_restarts_total") == {("root/node/a", "crashed"): 2.0}
    assert metrics.restart_window.count(metrics.clock()) == 2


@pytest.mark.anyio
async def test_restarts_of_a_provider_that_is_not_counted_by_name_are_counted_together(
    metrics: Metrics, trace: Trace
) -> None:
    providers = ChildSpec(
        id="providers",
        start=partial(Supervisor, [trace.child(n, name=n) for n in ("a", "z", "x")]),
        type="supervisor",
    )
    root = await start(partial(Supervisor, [providers]), observers=[metrics.observe])
    for name in ("a", "z", "x"):
        ref = root.process.system.registry.lookup(name)
        assert ref is not None
        crash(ref, Boom())
        await settle()
    await root.stop()

    assert labelled(read(metrics), "runestone_actor_restarts_total") == {
        ("root/providers/a", "crashed"): 1.0,
        ("root/providers/other", "crashed"): 2.0,
    }


@pytest.mark.anyio
async def test_a_supervisor_that_gives_up_is_counted_by_its_place(metrics: Metrics, trace: Trace) -> None:
    inner = partial(Supervisor, [trace.child("a", name="a")], max_restarts=0)
    node = ChildSpec(id="node", start=inner, type="supervisor", restart="temporary")
    root = await start(partial(Supervisor, [node]), observers=[metrics.observe])
    ref = root.process.system.registry.lookup("a")
    assert ref is not None
    crash(ref, Boom())
    await settle()
    await root.stop()

    assert labelled(read(metrics), "runestone_supervisor_intensity_exceeded_total") == {("root/node",): 1.0}


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

    models = [("a", "m"), ("a", "n"), ("b", "m")]
    assert start_of("runestone_provider_attempts_total") == {
        (("model", model), ("outcome", outcome), ("provider", name)): 0.0
        for name, model in models
        for outcome in ("ok", "cancelled", *FAILURE_CLASSES)
    }
    assert start_of("runestone_tokens_total") == {
        (("model", model), ("provider", name), ("type", kind)): 0.0
        for name, model in models
        for kind in ("input", "output", "cached_input", "cache_write", "reasoning")
    }
    for name in ("runestone_cost_usd_total", "runestone_cost_unknown_total"):
        assert start_of(name) == {(("model", model), ("provider", name)): 0.0 for name, model in models}
    assert start_of("runestone_provider_failures_total") == {
        (("kind", kind), ("provider", name)): 0.0 for name in "ab" for kind in TREATMENTS
    }
    assert start_of("runestone_failovers_total") == {
        (("from", origin), ("group", "g"), ("reason", reason), ("to", target)): 0.0
        for origin, target in ("ab", "ba")
        for reason in FAILURE_CLASSES
    }
    requests = start_of("runestone_requests_total")
    assert requests.keys() >= {
        (("outcome", outcome), ("route", route), ("status_class", status), ("stream", stream))
        for route, stream in [
            ("/v1/chat/completions", "true"),
            ("/v1/chat/completions", "false"),
            ("/v1/embeddings", "false"),
        ]
        for status, outcome in [
            ("2xx", "ok"),
            ("5xx", "server_error"),
            ("4xx", "caller_error"),
            ("none", "client_gone"),
        ]
    }
    assert set(requests.values()) == {0.0}
    assert not any(("route", "/v1/embeddings") in labels and ("stream", "true") in labels for labels in requests)
    assert start_of("runestone_circuit_breaker_transitions_total") == {
        (("provider", name), ("to", state)): 0.0 for name in "ab" for state in STATES
    }
    assert start_of("runestone_circuit_breaker_state") == {
        (("provider", name), ("state", state)): float(state == "closed") for name in "ab" for state in STATES
    }
    assert start_of("runestone_probes_total") == {(("outcome", "ok"), ("provider", name)): 0.0 for name in "ab"}
    assert start_of("runestone_provider_throttled_total") == {(("provider", name),): 0.0 for name in "ab"}
    assert start_of("runestone_failover_exhausted_total") == {(("group", "g"),): 0.0}
    assert start_of("runestone_provider_health_score") == {(("provider", name),): 1.0 for name in "ab"}
    assert start_of("runestone_provider_up") == {(("provider", name),): 1.0 for name in "ab"}
    assert start_of("runestone_log_dropped_total") == {(): 0.0}
    assert start_of("runestone_event_handler_failures_total") == {(): 0.0}


def test_a_provider_that_is_added_again_keeps_what_was_counted(metrics: Metrics) -> None:
    metrics.handle(BreakerChanged(provider="a", before="closed", after="open"))
    metrics.score.at(provider="a").set(0.25)

    metrics.know(dict(KNOWN), dict(GROUPS))

    assert value(metrics, "runestone_circuit_breaker_state", provider="a", state="open") == 1.0
    assert value(metrics, "runestone_provider_health_score", provider="a") == 0.25


def test_two_nodes_of_one_process_count_apart(metrics: Metrics) -> None:
    other = Metrics()

    metrics.handle(ATTEMPT())

    assert labelled(read(metrics), "runestone_provider_attempts_total") == {("m", "ok", "a"): 1.0}
    assert labelled(read(other), "runestone_provider_attempts_total") == {}


def test_the_process_and_the_build_are_told() -> None:
    series = read(Metrics())

    numbers: dict[str, Any] = {name: number for (name, _), number in series.items()}
    assert numbers["process_resident_memory_bytes"] > 10_000_000
    assert numbers["process_virtual_memory_bytes"] > numbers["process_resident_memory_bytes"]
    assert numbers["process_cpu_seconds_total"] > 0
    assert 2 < numbers["process_open_fds"] < numbers["process_max_fds"]
    assert 0 <= time.time() - numbers["process_start_time_seconds"] < 24 * 3600
    (build,) = [dict(labels) for name, labels in series if name == "runestone_build_info"]
    assert (build["version"], build["commit"]) == (runestone.__version__, commit())


def test_what_nobody_tells_is_asked_for_at_a_scrape() -> None:
    sources = Sources(
        in_flight=lambda: {"/v1/chat/completions": 7, "other": 1},
        lag=lambda: 0.25,
        refused=lambda: 3,
        failures=lambda: 4,
        log_dropped=lambda: 5,
        dropped=lambda: {"ledger": 6},
        reload=lambda: (False, 1e9),
    )
    metrics = Metrics(sources, ROUTES)
    metrics.late(0.02)
    metrics.late(0.3)
    series = read(metrics)

    assert labelled(series, "runestone_request_in_flight") == {("/v1/chat/completions",): 7.0, ("other",): 1.0}
    assert labelled(series, "runestone_event_loop_lag_worst_seconds") == {(): 0.25}
    assert labelled(series, "runestone_event_loop_lag_seconds_count") == {(): 2.0}
    assert labelled(series, "runestone_event_loop_lag_seconds_sum") == {(): 0.32}
    assert labelled(series, "runestone_requests_shed_total") == {(): 3.0}
    assert labelled(series, "runestone_event_handler_failures_total") == {(): 4.0}
    assert labelled(series, "runestone_log_dropped_total") == {(): 5.0}
    assert labelled(series, "runestone_events_dropped_total") == {("ledger",): 6.0}
    assert series["runestone_config_last_reload_success", frozenset()] == 0.0
    assert series["runestone_config_last_reload_success_timestamp_seconds", frozenset()] == 1e9


def test_delays_of_retries_and_dollars_add_up(metrics: Metrics) -> None:
    for waited in (0.2, 0.4):
        metrics.handle(Retry(provider="a", reason="overloaded", waited_seconds=waited))
    for dollars in (0.25, 0.5, -1.0):  # a counter never goes down
        metrics.handle(CallBooked(request_id="r", provider="a", model="m", usage=None, cost_usd=dollars))

    series = read(metrics)
    assert labelled(series, "runestone_retries_total") == {("a", "server_error"): 2.0}
    (total,) = labelled(series, "runestone_retry_delay_seconds_sum").values()
    assert total == pytest.approx(0.6)
    assert labelled(series, "runestone_cost_usd_total") == {("m", "a"): 0.75}


# -- who comes and goes ----------------------------------------------------------------------------------------------------


def about(metrics: Metrics, word: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """The series that have ``word`` in a label."""
    return {key for key in read(metrics) if any(word in value.split("/") for _, value in key[1])}


def test_a_provider_that_goes_takes_its_series_along_and_leaves_the_others(metrics: Metrics) -> None:
    metrics.mailbox("runestone/node/fleet/providers/b/provider", 1, 3, 2, 0)
    metrics.mailbox("runestone/node/fleet/providers/a/provider", 1, 3, 2, 0)
    for event in EVENTS_OF_B:
        metrics.handle(event)
    metrics.handle(ATTEMPT())
    others = set(read(metrics)) - about(metrics, "b")

    metrics.know({"a": ["m", "n"]}, {"g": ["a"]})

    assert about(metrics, "b") == set()
    assert set(read(metrics)) == others
    assert value(metrics, "runestone_provider_attempts_total", provider="a", model="m", outcome="ok") == 1.0
    for event in EVENTS_OF_B:  # its last streams
        metrics.handle(event)
    assert about(metrics, "b") == set()
    assert value(metrics, "runestone_provider_attempts_total", provider="other", model="other", outcome="ok") == 1.0
    metrics.know(KNOWN, GROUPS)
    metrics.handle(EVENTS_OF_B[0])
    assert value(metrics, "runestone_provider_attempts_total", provider="b", model="m", outcome="ok") == 1.0


EVENTS_OF_B: tuple[Event, ...] = (
    ATTEMPT(provider="b", usage=Usage(input_tokens=1, output_tokens=1)),
    Failover(group="g", origin="a", target="b", reason="timeout"),
    Failover(group="g", origin="b", target="a", reason="timeout"),
    Retry(provider="b", reason="server_error"),
    ProviderThrottled(provider="b", seconds=1.0),
    ProviderQuarantined(provider="b", model=None, reason="credentials", seconds=1.0),
    BreakerChanged(provider="b", before="closed", after="open"),
    CallBooked(request_id="r", provider="b", model="m", usage=None, cost_usd=1.0),
)


def test_a_group_that_goes_takes_its_series_along(metrics: Metrics) -> None:
    metrics.know(KNOWN, {**GROUPS, "h": ["a", "b"]})
    metrics.handle(FailoverExhausted(group="h", reason="refused"))
    assert {name for name, _ in about(metrics, "h")} == {
        "runestone_failover_exhausted_total",
        "runestone_failovers_total",
    }

    metrics.know(KNOWN, GROUPS)
    metrics.handle(FailoverExhausted(group="h", reason="refused"))

    assert about(metrics, "h") == set()
    assert value(metrics, "runestone_failover_exhausted_total", group="other") == 1.0
    assert value(metrics, "runestone_failover_exhausted_total", group="g") == 0.0


def test_a_model_that_is_named_later_starts_at_zero_and_is_counted_from_then_on(metrics: Metrics) -> None:
    metrics.handle(ATTEMPT(model="new"))
    metrics.know({**KNOWN, "a": ["m", "n", "new"]}, GROUPS)
    assert value(metrics, "runestone_provider_attempts_total", provider="a", model="new", outcome="ok") == 0.0

    metrics.handle(ATTEMPT(model="new"))

    assert value(metrics, "runestone_provider_attempts_total", provider="a", model="new", outcome="ok") == 1.0
    assert value(metrics, "runestone_provider_attempts_total", provider="a", model="other", outcome="ok") == 1.0


def test_a_mailbox_is_counted_across_the_lives_of_its_actor(metrics: Metrics) -> None:
    at = "runestone/node/failover"
    for incarnation, depth, drops, taken in [(1, 5, 2, 10), (1, 0, 3, 25), (2, 1, 1, 4), (2, 2, 1, 5)]:
        metrics.mailbox(at, incarnation, depth, drops, taken)

    series = read(metrics)
    assert labelled(series, "runestone_actor_mailbox_depth") == {(at,): 2.0}
    assert labelled(series, "runestone_actor_mailbox_dropped_total") == {(at,): 4.0}
    assert labelled(series, "runestone_actor_messages_total") == {(at,): 30.0}
    assert series["runestone_actor_restarts_total", frozenset({("actor", at), ("reason", "crashed")})] == 0.0
    assert series["runestone_supervisor_intensity_exceeded_total", frozenset({("supervisor", "runestone/node")})] == 0.0


def test_processes_of_a_provider_that_is_not_counted_by_name_have_no_series(metrics: Metrics) -> None:
    metrics.mailbox("runestone/node/fleet/providers/quiet/provider", 1, 1, 1, 0)
    metrics.mailbox("runestone/node/fleet/providers/a/provider", 1, 1, 1, 0)
    metrics.mailbox("runestone/node/fleet/providers", 1, 1, 1, 0)

    assert about(metrics, "quiet") == set()
    assert set(metrics.mailbox_depth.values()) == {
        "runestone/node/fleet/providers/a/provider",
        "runestone/node/fleet/providers",
    }


def test_a_hundred_thousand_names_of_clients_make_no_series(metrics: Metrics) -> None:
    random = Random(7)

    def name() -> str:
        return f'{random.getrandbits(64):x}"}} 1\nä'

    def storm(count: int) -> None:
        usage = Usage(input_tokens=1, output_tokens=1)
        for _ in range(count):
            metrics.handle(ATTEMPT(model=name(), usage=usage, stream=True))
            metrics.handle(REQUEST(asked=name(), model=name(), route=name(), group=name(), key=name()))
            metrics.handle(CallBooked(request_id=name(), provider="a", model=name(), usage=usage, cost_usd=0.5))

    storm(1)
    before = set(read(metrics))

    storm(100_000)

    assert set(read(metrics)) == before
    assert value(metrics, "runestone_provider_attempts_total", provider="a", model="other", outcome="ok") == 100_001.0
    assert value(metrics, "runestone_cost_usd_total", provider="a", model="other") == 50_000.5
    assert len(metrics._of_attempts) < 10
    assert len(metrics._of_requests) < 10
    assert len(metrics._of_booked) < 10


def test_what_is_expected_leaves_room_for_what_happens() -> None:
    many = [f"p{n}" for n in range(30)]
    metrics = Metrics(routes=ROUTES)
    metrics.know({name: ["m"] for name in many}, {"g": many})
    assert len(metrics.failovers.values()) == EXPECTED_CAP

    for origin in many:
        metrics.handle(Failover(group="g", origin=origin, target="p29", reason="timeout"))

    assert sum(labelled(read(metrics), "runestone_failovers_total").values()) == 30.0


def test_a_metric_that_is_full_says_so(metrics: Metrics) -> None:
    for number in range(SERIES_CAP + 5):
        metrics.admin.at(action=str(number), outcome="ok")

    dropped = labelled(read(metrics), "runestone_metric_series_dropped_total")
    assert dropped == {("runestone_admin_actions_total",): 5.0}


@pytest.mark.anyio
async def test_what_is_rendered_with_pauses_is_the_same(metrics: Metrics) -> None:
    metrics.handle(ATTEMPT())

    paused = {f.name: f.samples for f in text_string_to_metric_families((await metrics.rendered()).decode())}

    at_once = {f.name: f.samples for f in text_string_to_metric_families(metrics.render().decode())}
    moving = {name for name in at_once if name.startswith("process_")}
    assert {n: s for n, s in paused.items() if n not in moving} == {n: s for n, s in at_once.items() if n not in moving}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say(metrics: Metrics) -> None:
    metrics.handle(ATTEMPT(stream=True))
    metrics.mailbox("runestone/node/failover", 1, 1, 0, 0)

    checked = subprocess.run(["promtool", "check", "metrics"], input=metrics.render(), capture_output=True, check=False)

    assert (checked.stdout, checked.stderr, checked.returncode) == (b"", b"", 0)


PAIR = {("to", "a"), ("reason", "timeout")}

# -- whatever a label holds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ['a"} 1\nevil_total{z="', "back\\slash", "new\nline", 'quo"te', "\\n", "umlaut ä", "{}", "=,", '\\"', " "],
)
def test_a_label_may_hold_anything_and_forges_no_series(name: str) -> None:
    metrics = Metrics()
    metrics.know({name: [name], "a": ["m"]}, {name: [name, "a"]})
    metrics.handle(ATTEMPT(provider=name, model=name))

    series = read(metrics)

    assert labelled(series, "runestone_provider_attempts_total") == {(name, "ok", name): 1.0}
    assert ("runestone_failover_exhausted_total", frozenset({("group", name)})) in series
    assert ("runestone_failovers_total", frozenset({*PAIR, ("from", name), ("group", name)})) in series
    assert not any("evil" in found for found, _ in series)


def test_every_family_has_its_help_and_its_type(metrics: Metrics) -> None:
    families = {f.name: f for f in text_string_to_metric_families(metrics.render().decode())}

    assert families["runestone_requests"].type == "counter"
    assert families["runestone_request_duration_seconds"].type == "histogram"
    assert families["runestone_provider_up"].type == "gauge"
    assert all(family.documentation for family in families.values())
