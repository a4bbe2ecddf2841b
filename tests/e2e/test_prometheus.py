"""A real Prometheus scrapes a real gateway: it counts what the clients and the providers have counted, and evaluates the rules."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from attrs import define, field, frozen

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO, streams
from tests.support.plain import PLAIN

OPS: Final = Path(__file__).parents[2] / "ops"
DASHBOARD: Final = OPS / "grafana" / "dashboards" / "runestone-overview.json"
WHOLE: Final = {**HELLO, "stream": False}
STREAMED: Final = {**HELLO, "stream_options": {"include_usage": True}}
CLAUDE: Final = {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": HELLO["messages"]}
pytestmark = [
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed"),
    pytest.mark.anyio,
]


@frozen
class Prometheus:
    """A running one."""

    client: httpx.Client

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        answer = self.client.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, (parameters, answer.text)
        return answer.json()["data"]

    def series(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values of ``expr`` now."""
        return [(one["metric"], float(one["value"][1])) for one in self.get("query", query=expr)["result"]]

    def query(self, expr: str) -> dict[tuple[str, ...], float]:
        """The values of ``expr`` now, by the values of their labels in the order of the labels' names."""
        result = self.get("query", query=expr)["result"]
        return {
            tuple(v for k, v in sorted(one["metric"].items()) if k != "__name__"): float(one["value"][1])
            for one in result
        }


@contextmanager
def prometheus(folder: Path, node: Gateway) -> Iterator[Prometheus]:
    """Prometheus with the configuration of ``ops/prometheus``, in a hurry, for the time of the block."""
    config = yaml.safe_load((OPS / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
    config["rule_files"] = [str(OPS / "prometheus" / file) for file in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [node.health_url.removeprefix("http://")]}]
    file, log = folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=folder, stdout=sink, stderr=subprocess.STDOUT)

    def listening() -> re.Match[str] | None:
        assert process.poll() is None, log.read_text()
        return re.search(r'msg="Listening on" address=(\S+)', log.read_text())

    try:
        url = f"http://{eventually(listening, 'it listens')[1]}"
        with httpx.Client(base_url=url, timeout=10, **PLAIN) as client:
            running = Prometheus(client)
            eventually(lambda: client.get("/-/ready").status_code == 200, "it is ready")
            eventually(lambda: list(running.query("up").values()) == [1.0], "it has reached the node", 20)
            yield running
    finally:
        process.terminate()
        process.wait(20)


# -- the load --------------------------------------------------------------------------------------------------------------


@define
class Load:
    """Clients that keep books of their own."""

    node: Gateway
    requests: Counter[tuple[str, ...]] = field(factory=Counter)  # by outcome, route, status class, stream
    attempts: int = 0
    tokens: Counter[tuple[str, ...]] = field(factory=Counter)  # by type

    async def ask(
        self, count: int, body: dict[str, Any], route: str = "/v1/chat/completions", outcome: str = "ok"
    ) -> None:
        """So many at once, to their ends."""
        async with httpx.AsyncClient(timeout=30, **PLAIN) as client:
            answers = [client.post(f"{self.node.public_url}{route}", json=body) for _ in range(count)]
            for answer in await asyncio.gather(*answers):
                self._book(answer.status_code, answer.headers, route, outcome, stream=bool(body.get("stream")))
                self._usage(answer)

    async def leave(self, count: int) -> None:
        """So many streams, left in their midst."""
        async with streams(self.node) as crowd:
            await crowd.start(count, HELLO)
            await crowd.leave()
        for stream in crowd.all:
            self._book(stream.status, stream.headers, "/v1/chat/completions", "client_gone", stream=True)

    def _book(self, status: int, headers: Any, route: str, outcome: str, *, stream: bool) -> None:
        self.requests[outcome, route, f"{status // 100}xx", str(stream).lower()] += 1
        self.attempts += int(headers.get("x-runestone-attempts", 0))

    def _usage(self, answer: httpx.Response) -> None:
        events = re.findall(r"^data: (\{.*)$", answer.text, re.MULTILINE) or [answer.text]
        for usage in filter(None, (json.loads(event).get("usage") for event in events)):
            self.tokens["input",] += usage.get("prompt_tokens") or usage.get("input_tokens", 0)
            self.tokens["output",] += usage.get("completion_tokens") or usage.get("output_tokens", 0)


async def a_mix(load: Load, primary: Upstream, secondary: Upstream) -> None:
    """All that can become of requests."""
    await load.ask(40, WHOLE)
    await load.ask(25, STREAMED)
    await load.ask(20, CLAUDE, "/v1/messages")
    await load.ask(7, {**WHOLE, "messages": "nonsense"}, outcome="missing_messages")
    primary.fault("503 60% seed=7")
    await load.ask(15, WHOLE)
    primary.fault("pace=0.2 tokens=200")
    await load.leave(6)
    primary.fault("none")
    await load.ask(5, {**WHOLE, "model": "anthropic/claude-sonnet-4-5"})
    secondary.fault("status=400")
    await load.ask(3, CLAUDE, "/v1/messages", outcome="caller_error")
    primary.fault("status=500")
    secondary.fault("status=500")
    await load.ask(4, WHOLE, outcome="server_error")


async def test_it_counts_what_the_clients_and_the_providers_have_counted(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream, tmp_path: Path
) -> None:
    node = serve(CIRCUIT_BREAKER_FAILURE_THRESHOLD="50", FAILOVER_HEALTH_THRESHOLD="0")
    with prometheus(tmp_path, node) as running:
        load = Load(node)
        await a_mix(load, primary, secondary)
        arrived: dict[tuple[str, ...], float] = {
            ("anthropic-default",): secondary.state()["requests"],
            ("openai-default",): primary.state()["requests"],
        }
        asked: dict[str, dict[tuple[str, ...], float]] = {
            "sum by (outcome, route, status_class, stream) (runestone_requests_total) > 0": dict(load.requests),
            "sum(runestone_request_duration_seconds_count)": {(): load.requests.total()},
            "sum by (provider) (runestone_provider_attempts_total)": arrived,
            "sum(runestone_provider_attempts_total)": {(): load.attempts},
            'sum(runestone_provider_attempts_total{outcome="cancelled"})': {(): 6},
            'sum by (type) (runestone_tokens_total{type=~"input|output"})': dict(load.tokens),
        }

        def counted() -> dict[str, dict[tuple[str, ...], float]]:
            return {expr: running.query(expr) for expr in asked}

        await asyncio.to_thread(eventually, lambda: counted() == asked, lambda: f"{counted()} is {asked}")

        again = running.query("sum(runestone_retries_total) + sum(runestone_failovers_total)")
        reached = load.requests.total() - 7  # nonsense is not passed on
        assert again == {(): load.attempts - reached}
        assert load.attempts > reached

        assert complaints(node.health("/metrics").content) == []

        booked = node.ctl("cost", "show", "--since", "1h")["total"]
        of_ledger = {
            "sum(runestone_ledger_calls_total)": booked["calls"],
            "sum(runestone_provider_attempts_total)": booked["calls"],
            'sum(runestone_tokens_total{type="input"})': booked["input_tokens"],
            'sum(runestone_tokens_total{type="output"})': booked["output_tokens"],
            "sum(runestone_cost_unknown_total)": booked["unknown_cost_calls"],
            "round(sum(runestone_cost_usd_total), 1e-9)": float(booked["cost_usd"]),
        }

        def counted_as_booked() -> bool:
            return all(running.query(expr) == {(): pytest.approx(number)} for expr, number in of_ledger.items())

        await asyncio.to_thread(eventually, counted_as_booked, lambda: f"{of_ledger}")
        assert booked["cost_usd"] != "0"


# -- the dashboard ---------------------------------------------------------------------------------------------------------

#: Panels that may have nothing to show while nothing happens, and what it is that they would show. Their texts say so, or the dashboard's.
AT_REST: Final = {
    "Failed requests": "shares",
    "Request duration": "percentiles", "Overhead": "percentiles", "Time to the first content, p95": "percentiles",
    "Time between chunks, p95": "percentiles", "Call duration, p95": "percentiles", "Waits before retries, p95": "percentiles",
    "Calls in flight": "a limit, where there is one", "Mailboxes": "messages that wait", "Settings": "acts",
}  # fmt: skip


async def test_every_query_of_the_dashboard_shows_something_once_all_of_it_has_happened(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream, tmp_path: Path
) -> None:
    node = serve(CIRCUIT_BREAKER_FAILURE_THRESHOLD="50", FAILOVER_HEALTH_THRESHOLD="0", RETRY_BASE_DELAY_MS="1")
    with prometheus(tmp_path, node) as running:
        await asyncio.to_thread(eventually, lambda: running.query("runestone_request_in_flight"), "it is scraped")
        await asyncio.to_thread(
            eventually,
            lambda: {title for title, _ in _blank(running)} <= AT_REST.keys(),
            lambda: f"{[one for one in _blank(running) if one[0] not in AT_REST]} show nothing at rest",
            20,
        )

        node.ctl("provider", "set", "openai-default", "--max-concurrency", "50")
        await asyncio.to_thread(
            eventually, lambda: running.query("runestone_provider_concurrency_limit"), "there is a limit"
        )
        load = Load(node)
        left = set(_blank(running))

        async def more() -> None:
            await a_mix(load, primary, secondary)
            primary.fault("none")
            secondary.fault("none")
            node.ctl("actor", "suspend", "failover", "--for", "2s")
            await load.ask(3, WHOLE)

        for _ in range(5):
            task = asyncio.ensure_future(more())
            while not task.done():
                left &= set(await asyncio.to_thread(_blank, running))
            await task
            if not left:
                break
        assert left == set()
        for panel in _panels():
            for target in panel["targets"]:
                _fits(panel, target, running.series(_chosen(target["expr"])))


def _blank(running: Prometheus) -> list[tuple[str, str]]:
    """Panels, each with a query of theirs that shows no number."""
    return [
        (panel["title"], target["expr"])
        for panel in _panels()
        for target in panel["targets"]
        if not any(math.isfinite(value) for _, value in running.series(_chosen(target["expr"])))
    ]


def _fits(panel: dict[str, Any], target: dict[str, Any], series: list[tuple[dict[str, str], float]]) -> None:
    """What Grafana makes of the answer: legends without holes, one colour for each state, a bucket for each row of a heat map."""
    names = {_legend(target["legendFormat"], labels) for labels, _ in series}
    for labels, value in series:
        if panel["type"] == "state-timeline":
            assert _word(panel, value)
        if target.get("format") == "heatmap":
            assert float(labels["le"]) > 0
    assert len(names) == len(series), (panel["title"], "two series have one name")
    if panel["type"] == "stat":
        assert len(series) == 1


def _word(panel: dict[str, Any], value: float) -> str:
    """What a state-timeline says for a value."""
    (found,) = [m["options"] for m in panel["fieldConfig"]["defaults"]["mappings"] if f"{value:g}" in m["options"]]
    return str(found[f"{value:g}"]["text"])


async def test_the_states_of_the_dashboard_are_those_that_the_providers_are_in(node: Gateway, tmp_path: Path) -> None:
    panels = [panel for panel in _panels() if panel["type"] == "state-timeline"]
    with prometheus(tmp_path, node) as running:

        def shown() -> dict[tuple[str, str], str]:
            return {
                (panel["title"], labels["provider"]): _word(panel, value)
                for panel in panels
                for labels, value in running.series(_chosen(panel["targets"][0]["expr"]))
            }

        node.ctl("breaker", "trip", "openai-default")
        node.ctl("provider", "maint", "anthropic-default")
        wanted = {
            ("Circuit breakers", "openai-default"): "open",
            ("Circuit breakers", "anthropic-default"): "closed",
            ("Put out of service", "openai-default"): "ready",
            ("Put out of service", "anthropic-default"): "maintenance",
        }
        await asyncio.to_thread(eventually, lambda: shown() == wanted, lambda: f"{shown()}")
        node.ctl("provider", "drain", "anthropic-default")
        wanted["Put out of service", "anthropic-default"] = "draining"
        await asyncio.to_thread(eventually, lambda: shown() == wanted, lambda: f"{shown()}")


def _legend(text: str, labels: dict[str, str]) -> str:
    """The name of a series; a label that it has not is a hole."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels[found[1]], text)


async def test_the_choices_of_the_dashboard_are_the_nodes_the_providers_and_the_models(
    node: Gateway, tmp_path: Path
) -> None:
    with prometheus(tmp_path, node) as running:
        choices = {}
        for variable in json.loads(DASHBOARD.read_text(encoding="utf-8"))["templating"]["list"][1:]:
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert match is not None
            choices[variable["name"]] = running.get(f"label/{match[2]}/values", **{"match[]": _chosen(match[1])})

    assert choices == {
        "instance": [node.health_url.removeprefix("http://")],
        "provider": ["anthropic-default", "openai-default"],
        "model": ["claude-sonnet-4-5", "gpt-4o-mini"],
    }


def complaints(exposition: bytes) -> list[str]:
    """What ``promtool check metrics`` has against it."""
    done = subprocess.run(["promtool", "check", "metrics"], input=exposition, capture_output=True, check=False)
    return done.stderr.decode().splitlines()


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"]


def _chosen(expr: str) -> str:
    """``expr`` as Grafana asks it with everything chosen."""
    chosen = {"$__rate_interval": "30s", "$instance": ".*", "$provider": ".*", "$model": ".*"}
    return re.sub(r"\$\w+", lambda m: chosen[m[0]], expr)


async def test_its_rules_are_evaluated_and_fire(node: Gateway, primary: Upstream, tmp_path: Path) -> None:
    with prometheus(tmp_path, node) as running:
        load = Load(node)
        node.ctl("breaker", "trip", "anthropic-default")
        primary.fault("status=500")
        await load.ask(1, WHOLE)
        failed = 'runestone_requests_total{status_class="5xx"} > 0'
        await asyncio.to_thread(eventually, lambda: running.query(failed), "the first failure is seen")
        await load.ask(20, WHOLE)

        def alerts() -> dict[tuple[str, str], dict[str, Any]]:
            return {(a["labels"]["alertname"], a["state"]): a for a in running.get("alerts")["alerts"]}

        await asyncio.to_thread(
            eventually,
            lambda: {("RunestoneFailoverExhausted", "firing"), ("RunestoneBreakerOpen", "pending")} <= alerts().keys(),
            lambda: f"{alerts().keys()}",
        )
        fired = alerts()["RunestoneFailoverExhausted", "firing"]
        assert fired["labels"]["severity"] == "page"
        assert fired["annotations"]["summary"].startswith("The group default-chat-service on 127.0.0.1:")
        rules = [rule for group in running.get("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in rules} == set(_named())
        assert [(r["name"], r.get("lastError")) for r in rules if r["health"] != "ok"] == []
        texts = " ".join(text for alert in alerts().values() for text in alert["annotations"].values())
        assert [odd for odd in ("<error", "<no value>", "{{") if odd in texts] == []


def _named() -> Iterator[str]:
    for file in ("recording.yml", "alerts.yml"):
        for group in yaml.safe_load((OPS / "prometheus" / file).read_text(encoding="utf-8"))["groups"]:
            yield from (rule.get("alert") or rule["record"] for rule in group["rules"])
