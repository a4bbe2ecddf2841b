"""The boxes about what the node tells: health, metrics, costs, performance, telemetry."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from statistics import median
from typing import Any, Final

from runestone.api import ProviderFactory, TelemetryHandler
from runestone.check.site import HELLO, Site, fields, require, said
from runestone.check.stage import GPT
from runestone.domain.routing import is_throw_away

_WORDS: Final = {"healthy": 200, "degraded": 200, "unhealthy": 503, "draining": 503}
_FAMILIES: Final = ("runestone_build_info", "runestone_requests_total", "runestone_event_loop_lag_seconds")
_ROUNDS: Final = 21
MOST_ADDED_MS: Final = 100.0  # by the node, at the median
MOST_HEALTH_MS: Final = 100.0


async def health(site: Site) -> str:
    """Each path of :4004 answers, in form and status."""
    answer = await site.look("/health")
    word = fields(answer).get("status")
    require(_WORDS.get(str(word)) == answer.status_code, f"GET /health: {answer.status_code} {answer.text[:100]}")
    live, ready = await site.look("/health/live"), await site.look("/health/ready")
    require(live.status_code == 200, f"GET /health/live: {live.status_code} {live.text[:100]}")
    require(ready.status_code == 200, f"GET /health/ready: {ready.status_code} {ready.text[:100]}")
    detailed = fields(await site.look("/health/detailed"))
    lacking = [key for key in ("version", "tree", "groups", "provider_health", "settings") if key not in detailed]
    require(not lacking, f"GET /health/detailed lacks {', '.join(lacking)}")
    told = fields(await site.look("/health/providers")).get("providers", {})
    for name in [provider["name"] for provider in await site.providers()]:
        one = fields(await site.look(f"/health/providers/{name}"))
        good = name in told and {"breaker", "health_score"} <= one.keys()
        require(good, f"GET /health/providers/{name} does not tell how it is", f"runestone ctl provider show {name}")
    nobody = await site.look("/health/providers/check-nobody")
    require(nobody.status_code == 404, f"GET /health/providers/check-nobody: {said(nobody)}")
    real = sum(not is_throw_away(name) for name in told)
    return f"{site.health}/health: {word}, live and ready, {real} providers told one by one"


async def metrics(site: Site) -> str:
    """Prometheus' text has what it must, and a request is counted in it."""
    before = await _scraped(site)
    for name in _FAMILIES:
        require(f"# TYPE {name} " in before, f"/health/metrics has no {name}")
    for provider in await site.providers():
        told = await ProviderFactory(site.node).get_metrics(provider["name"])
        counted = told.get("telemetry") is False or f'provider="{provider["name"]}"' in before
        require(counted, f"/health/metrics does not tell of {provider['name']}")
    await site.call("GET", "/v1/models")

    async def counted_one() -> bool:
        return _requests(await _scraped(site)) > _requests(before)

    await site.eventually(counted_one, "a request was not counted in runestone_requests_total")
    as_json = fields(await site.look("/health/metrics", accept="application/json"))
    require({"providers", "node"} <= as_json.keys(), "/health/metrics is no JSON for who asks for that")
    for alert in await site.alerts("events_lost"):
        require(fact=False, why=alert["message"], command=alert["command"])
    series = sum(1 for line in before.splitlines() if line and not line.startswith("#"))
    return f"{series} series, and a request is counted"


async def _scraped(site: Site) -> str:
    answer = await site.look("/health/metrics")
    require(answer.status_code == 200, f"GET /health/metrics: {said(answer)}")
    return answer.text


def _requests(text: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith("runestone_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def costs(site: Site) -> str:
    """A request has a price where one is known, a longer one a higher one, and the ledger keeps what was spent."""
    factory, ours = ProviderFactory(site.node), site.stage.first.name
    request: dict[str, Any] = {"model": GPT, "messages": HELLO, "max_tokens": 100}
    brief = await factory.estimate_costs(request)
    longer = await factory.estimate_costs({**request, "max_tokens": 1000})
    prices = Decimal(brief.get(ours) or 0), Decimal(longer.get(ours) or 0)
    told = f"{GPT} is estimated at {prices[0]} dollars for 100 tokens, at {prices[1]} for 1000"
    require(0 < prices[0] < prices[1], told, f"runestone config explain prices.{GPT}")
    for alert in await site.alerts("ledger_failing", "ledger_lost"):
        require(fact=False, why=alert["message"], command=alert["command"])
    ledger = (await site.ask("/v1/status"))["ledger"]["state"]
    if ledger != "off":
        await factory.get_costs(since="1h")
    unknown = [name for name, price in brief.items() if price is None and not is_throw_away(name)]
    note = f"; no price is known for {', '.join(unknown)}: set [prices]" if unknown else ""
    return f"{told}; the ledger is {ledger}{note}"


async def performance(site: Site) -> str:
    """What the node adds to an answer of the same provider, how soon :4004 answers, and whether its event loop keeps up."""
    stage = site.stage
    await stage.renew()
    request = {"model": GPT, "messages": HELLO}

    async def directly() -> None:
        await site.answer("POST", f"{stage.first.url}/chat/completions", json=request)

    async def through_the_node() -> None:
        if site.closed:
            require((told := await site.chat(stage.alone)).whole, told.words)
        else:
            answer = await site.call("POST", "/v1/chat/completions", request, group=stage.alone)
            require(answer.status_code == 200, said(answer))

    async def asking_for_health() -> None:
        await site.look("/health")

    took: dict[Callable[[], Awaitable[None]], list[float]] = {directly: [], through_the_node: [], asking_for_health: []}
    for _ in range(_ROUNDS):
        for call, seconds in took.items():
            started = time.perf_counter()
            await call()
            seconds.append(time.perf_counter() - started)
    bare, whole, asked = (median(seconds) * 1000 for seconds in took.values())
    told = f"the node adds {max(whole - bare, 0.0):.1f} ms at the median of {_ROUNDS}, /health takes {asked:.1f} ms"
    limits = f"; at most {MOST_ADDED_MS:g} and {MOST_HEALTH_MS:g} are good"
    require(whole - bare <= MOST_ADDED_MS and asked <= MOST_HEALTH_MS, told + limits, "runestone ctl top --sort busy")
    for alert in await site.alerts("loop_lag"):
        require(fact=False, why=f"{told}; {alert['message']}", command="runestone ctl top --sort busy")
    return told


async def telemetry(site: Site) -> str:
    """A request leaves its events, and none were lost on the way."""
    request_id = (await site.call("GET", "/v1/models")).headers.get("x-request-id", "")
    require(request_id, "an answer of :4003 has no x-request-id")

    async def told() -> bool:
        found = await TelemetryHandler(site.node).get_events(request=request_id)
        return any(event["event"] == "request.finished" for event in found["events"])

    await site.eventually(told, "a request has left no event request.finished", 5.0)
    for alert in await site.alerts("events_lost", "log_dropped"):
        require(fact=False, why=alert["message"], command=alert["command"])
    return "a request has left its events; none are lost"
