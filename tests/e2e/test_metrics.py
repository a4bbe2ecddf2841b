"""What is counted is what happened: held against the load's own counts and those of the providers, and across crashes of who counts."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runestone.console.client import AdminClient
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO
from tests.support.plain import PLAIN

WHOLE = {**HELLO, "stream": False}
STREAM = {**HELLO, "stream": True}
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(node: Gateway) -> tuple[Series, set[str]]:
    """Every series, and the names of the metrics that may only rise."""
    families = list(text_string_to_metric_families(node.health("/metrics").text))
    rising = {f.name for f in families if f.type in ("counter", "histogram")}
    series = {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}
    return series, rising


def by(series: Series, metric: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The sums of ``metric`` by those labels, zeros left out."""
    sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for (name, pairs), value in series.items():
        if name == metric:
            sums[tuple(dict(pairs)[label] for label in labels)] += value
    return {key: value for key, value in sums.items() if value}


def test_every_metric_has_its_series_before_anything_has_happened(node: Gateway) -> None:
    def bare() -> set[str]:
        return {f.name for f in text_string_to_metric_families(node.health("/metrics").text) if not f.samples}

    expected = {"runestone_provider_concurrency_limit"}  # of providers that have one
    eventually(lambda: bare() == expected, lambda: f"{bare()}")


async def _load(node: Gateway, bodies: list[dict[str, object]], *, leave: bool = False) -> Counter[int]:
    """Send them, eight at a time; statuses. ``leave``: go away at the first byte of the answer."""
    told: Counter[int] = Counter()
    room = asyncio.Semaphore(8)

    async def one(client: httpx.AsyncClient, body: dict[str, object]) -> None:
        async with room, client.stream("POST", f"{node.base_url}/chat/completions", json=body) as answer:
            if leave:
                await anext(answer.aiter_raw())
            else:
                await answer.aread()
            told[answer.status_code] += 1

    async with httpx.AsyncClient(**PLAIN, timeout=60.0) as client:
        await asyncio.gather(*(one(client, body) for body in bodies))
    return told


def test_counts_are_those_of_the_load_and_of_the_providers(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream
) -> None:
    node = serve(
        RETRY_MAX_ATTEMPTS="1",
        OPENAI_CIRCUIT_BREAKER="false",
        ANTHROPIC_CIRCUIT_BREAKER="false",
        FAILOVER_HEALTH_THRESHOLD="0",
    )

    def load(bodies: list[dict[str, object]], *, leave: bool = False) -> Counter[int]:
        return asyncio.run(_load(node, bodies, leave=leave))

    told = load([WHOLE, STREAM] * 15)
    told += load([{**WHOLE, "model": f"llama-{n}"} for n in range(4)])
    primary.fault("503 50% seed=7")
    told += load([WHOLE, STREAM] * 10)
    primary.fault("status=400")
    told += load([WHOLE] * 3)
    primary.fault("pace=0.2")
    gone = load([STREAM] * 5, leave=True)
    assert gone == {200: 5}
    assert told == {200: 50, 404: 4, 400: 3}

    def all_counted() -> bool:
        return by(scrape(node)[0], "runestone_requests_total", "outcome").get(("client_gone",)) == 5

    eventually(all_counted, "those who left are counted")
    eventually(lambda: node.provider("openai-default")["in_flight"] == 0, "their calls have ended")
    series, _ = scrape(node)
    asked = {"openai-default": len(primary.requests()), "anthropic-default": len(secondary.requests())}
    stood_in = asked["anthropic-default"]
    assert 0 < stood_in < 20

    assert by(series, "runestone_requests_total", "status_class", "outcome") == {
        ("2xx", "ok"): 50,
        ("2xx", "client_gone"): 5,
        ("4xx", "model_not_found"): 4,
        ("4xx", "caller_error"): 3,
    }
    assert by(series, "runestone_requests_total", "stream") == {("true",): 30, ("false",): 32}
    assert by(series, "runestone_request_duration_seconds_count", "outcome") == {
        ("ok",): 50,
        ("client_gone",): 5,
        ("client_error",): 7,
    }
    assert by(series, "runestone_overhead_seconds_count", "route") == {("/v1/chat/completions",): 58}
    assert by(series, "runestone_provider_attempts_total", "provider") == {(n,): count for n, count in asked.items()}
    assert by(series, "runestone_provider_duration_seconds_count", "provider") == {(n,): c for n, c in asked.items()}
    assert by(series, "runestone_provider_attempts_total", "provider", "outcome") == {
        ("openai-default", "ok"): 50 - stood_in,
        ("openai-default", "server_error"): stood_in,
        ("openai-default", "client_error"): 3,
        ("openai-default", "cancelled"): 5,
        ("anthropic-default", "ok"): stood_in,
    }
    assert by(series, "runestone_failovers_total", "from", "to", "reason") == {
        ("openai-default", "anthropic-default", "server_error"): stood_in
    }
    assert by(series, "runestone_provider_failures_total", "provider") == {("openai-default",): stood_in + 3}
    assert by(series, "runestone_request_in_flight", "route") == {}
    metrics = node.ctl("metrics")["metrics"]
    assert metrics["node"]["requests"] == 62
    assert {n: found["attempts"] for n, found in metrics["providers"].items()} == asked
    assert metrics["providers"]["openai-default"]["success_rate"] == round((50 - stood_in) / 50, 4)


def test_counters_never_go_down_though_who_counts_crashes(serve: Callable[..., Gateway]) -> None:
    node = serve("--allow-faults")
    admin = AdminClient(node.socket)
    before, rising = scrape(node)

    for name in ("telemetry", "provider:openai-default", "telemetry", "provider:anthropic-default", "telemetry"):
        node.post(WHOLE)
        crashed = admin.request("POST", "/v1/crash", {"name": name})["incarnation_before"]
        eventually(partial(_lives_again, admin, name, crashed), f"{name} is back")
        node.post(WHOLE)
        after, _ = scrape(node)
        fallen = {k: (v, after.get(k)) for k, v in before.items() if _rises(k[0], rising) and after.get(k, 0) < v}
        assert fallen == {}
        before = after

    assert 5 <= by(before, "runestone_requests_total", "outcome")["ok",] <= 10
    restarts = by(before, "runestone_actor_restarts_total", "actor", "reason")
    assert restarts["runestone/node/telemetry", "crashed"] == 3
    assert restarts["runestone/node/fleet/providers/openai-default/provider", "crashed"] == 1
    assert by(before, "runestone_admin_actions_total", "action", "outcome") == {("POST /v1/crash", "ok"): 5}
    (storm,) = (a for a in node.ctl("status")["alerts"] if a["kind"] == "restart_storm")
    assert (storm["severity"], storm["command"]) == ("warning", "runestone ctl tree")


def _rises(name: str, rising: set[str]) -> bool:
    return any(
        name == metric or name.removeprefix(metric) in ("_total", "_bucket", "_sum", "_count") for metric in rising
    )


def _lives_again(admin: AdminClient, name: str, before: int) -> bool:
    """Whether a process, by its name, runs in a later incarnation than ``before``."""

    def find(node: dict[str, Any]) -> bool:
        here = node["name"] == name and node["state"] == "running" and node["incarnation"] > before
        return here or any(map(find, node["children"]))

    return find(admin.request("GET", "/v1/tree")["tree"])


def test_a_thousand_names_of_clients_make_no_series(node: Gateway) -> None:
    def storm(count: int) -> None:
        bodies = [
            {**WHOLE, "model": f'{kind}{n}"}} 1\nup{{x="'} for n in range(count) for kind in ("openai/", "gpt-", "")
        ]
        asyncio.run(_load(node, [*bodies, {**WHOLE, "model": "openai-default/gpt-x"}]))

    storm(1)
    at = ("runestone_actor_mailbox_depth", frozenset({("actor", "runestone/node/public")}))
    eventually(lambda: at in scrape(node)[0], "the tree has been looked at")
    before = set(scrape(node)[0])

    storm(333)

    series, _ = scrape(node)
    assert set(series) == before
    assert sum(by(series, "runestone_requests_total", "outcome").values()) == 1004


def test_each_message_of_the_actors_that_a_chat_passes_is_timed(node: Gateway) -> None:
    def timed(what: str) -> dict[str, float]:
        found = by(scrape(node)[0], f"runestone_actor_handle_seconds_{what}", "actor")
        return {actor.rpartition("/")[2]: value for (actor,), value in found.items()}

    at = ("runestone_actor_mailbox_depth", frozenset({("actor", "runestone/node/failover")}))
    eventually(lambda: at in scrape(node)[0], "the tree has been looked at")
    before, begun = timed("count").get("failover", 0), timed("sum").get("failover", 0)

    for _ in range(5):
        assert node.post(WHOLE).status_code == 200

    assert timed("count")["failover"] - before >= 5
    assert 0 < timed("sum")["failover"] - begun < 5
    assert timed("count")["provider"] >= 5


def test_a_providers_and_a_groups_series_come_and_go_with_them(node: Gateway) -> None:
    def named(word: str) -> set[str]:
        return {name for name, pairs in scrape(node)[0] if any(word in v.split("/") for _, v in pairs)}

    node.ctl(
        "provider", "add", "late", "--kind", "ollama", "--base-url", "http://127.0.0.1:9/v1", "--default-model", "m"
    )
    node.ctl("group", "create", "late-group", "--members", "late,openai-default")
    eventually(lambda: named("late") and named("late-group"), "they are counted")
    assert "runestone_failovers_total" in named("late-group")
    node.post({**WHOLE, "model": "late/m"})
    eventually(lambda: "runestone_actor_mailbox_depth" in named("late"), "its processes have been looked at")

    node.ctl("group", "delete", "late-group")
    eventually(lambda: not named("late-group"), "the group's series are gone")
    node.ctl("provider", "remove", "late")
    eventually(lambda: not named("late"), "the provider's series are gone")


def test_a_provider_without_telemetry_is_in_no_metric_and_in_no_figures(node: Gateway) -> None:
    node.ctl("provider", "set", "openai-default", "--telemetry", "false")
    node.post(WHOLE)
    node.post(WHOLE)

    eventually(lambda: "openai-default" not in node.health("/metrics").text, "its series are gone")
    assert node.health("/metrics?format=json").json()["providers"].keys() == {"anthropic-default"}
    assert node.ctl("metrics", "openai-default")["metrics"]["telemetry"] is False
    assert by(scrape(node)[0], "runestone_requests_total", "outcome") == {("ok",): 2}


def test_a_wrong_key_a_limit_and_a_group_that_is_out_are_told_with_what_helps(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream
) -> None:
    node = serve(RUNESTONE_REQUEST_DEADLINE_MS="5000")  # nobody waits for half a minute
    primary.fault("status=401")
    secondary.fault("429 retry_after=30")
    node.post(WHOLE)

    def alerts() -> dict[tuple[str, str], dict[str, str]]:
        return {(a["kind"], a["about"]): a for a in node.ctl("status")["alerts"]}

    key, limit, group = (
        ("quarantined", "openai-default"),
        ("throttled", "anthropic-default"),
        ("group_out", "default-chat-service"),
    )
    told = eventually(lambda: (found := alerts()).keys() >= {key, limit, group} and found, "all three are told")

    assert told[key]["message"].startswith("openai-default is quarantined: it refuses the gateway's key")
    assert told[key]["command"] == "runestone ctl provider set openai-default --key-env VARIABLE"
    assert "429" in told[limit]["message"]
    assert told[group]["command"] == "runestone ctl failover show default-chat-service"
    assert [told[one]["severity"] for one in (key, limit, group)] == ["error", "warning", "error"]
    later = alerts()
    assert {one: later[one]["since"] for one in told} == {one: told[one]["since"] for one in told}
    series, _ = scrape(node)
    assert by(series, "runestone_provider_quarantined_total", "provider", "reason") == {
        ("openai-default", "credentials"): 1
    }
    assert by(series, "runestone_failover_exhausted_total", "group") == {("default-chat-service",): 1}
    primary.fault("none")
    node.ctl("provider", "restart", "openai-default")
    assert not alerts().keys() & {key, group}


@pytest.mark.parametrize("wrong", ["[retry]\nmax_attempts = 0\n", "[retry\n"])
def test_a_reload_that_is_refused_is_told_until_one_is_taken(
    serve: Callable[..., Gateway], tmp_path_factory: pytest.TempPathFactory, wrong: str
) -> None:
    file = tmp_path_factory.mktemp("config") / "runestone.toml"
    file.write_text("[retry]\nmax_attempts = 2\n")
    node = serve(RUNESTONE_CONFIG=str(file))

    def told() -> tuple[float, float, list[str]]:
        series, _ = scrape(node)
        nothing: frozenset[tuple[str, str]] = frozenset()
        alerts = [a["command"] for a in node.ctl("status")["alerts"] if a["kind"] == "config_refused"]
        return (
            series["runestone_config_last_reload_success", nothing],
            series["runestone_config_last_reload_success_timestamp_seconds", nothing],
            alerts,
        )

    assert told()[::2] == (1.0, [])
    at = told()[1]
    file.write_text(wrong)
    assert node.ctl_raw("config", "reload").returncode != 0
    assert told() == (0.0, at, ["runestone config check"])
    file.write_text("[retry]\nmax_attempts = 3\n")
    node.ctl("config", "reload")
    assert told()[::2] == (1.0, [])
    assert told()[1] > at


def test_the_dashboard_and_the_scrape_agree(node: Gateway) -> None:
    for _ in range(5):
        node.post(STREAM)

    series, _ = scrape(node)
    told = json.loads(node.health("/metrics?format=json").text)
    assert told["node"]["requests"] == sum(by(series, "runestone_requests_total", "outcome").values()) == 5
    tokens = {kind: count for kind, count in told["node"]["tokens"].items() if count}
    assert tokens == {kind: count for (kind,), count in by(series, "runestone_tokens_total", "type").items()}
    dashboard = AdminClient(node.socket).request("GET", "/v1/dashboard")["dashboard"]
    health = dashboard["provider_health"]["openai-default"]
    assert (dashboard["overall_health"], health["status"]) == ("healthy", "up")
    assert health["latency_ms"]["p50"] > 0
