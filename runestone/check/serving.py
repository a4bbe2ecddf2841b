"""The boxes about requests: endpoints, failover, breakers, errors, the rollback."""

from __future__ import annotations

from typing import Any, Final

import httpx

from runestone.api import CircuitBreakerManager, FailoverManager, ProviderFactory, TelemetryHandler
from runestone.check.site import HELLO, Site, Unticked, fields, require, said
from runestone.check.stage import CLAUDE, FAILURES, GPT, RECOVERY_MS
from runestone.domain.routing import DEFAULT_GROUP, is_throw_away

#: Each route of :4003, a request for it, and what its answer must hold.
ROUTES: Final[tuple[tuple[str, dict[str, Any], str], ...]] = (
    ("/v1/chat/completions", {"model": GPT, "messages": HELLO}, "choices"),
    ("/v1/completions", {"model": GPT, "prompt": "Hello"}, "choices"),
    ("/v1/responses", {"model": GPT, "input": "Hello"}, "output"),
    ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hello"}, "data"),
    ("/v1/messages", {"model": CLAUDE, "max_tokens": 100, "messages": HELLO}, "content"),
    ("/v1/messages/count_tokens", {"model": CLAUDE, "messages": HELLO}, "input_tokens"),
)
_USABLE: Final = ("up", "recovering", "saturated")
_BEFORE_CONTENT: Final = ("refused", "503", "cut after=1", "error_event", "garbage", "stall")
NOT_TRIED: Final = "it takes keys alone and none was given, so :4003 was only seen to refuse (--key-env VARIABLE)"


async def endpoints(site: Site) -> str:
    """Every route answers as its wire says, somebody takes requests, and every provider answers a free question."""
    for path, body, holds in ROUTES:
        answer = await site.call("POST", path, body, group=site.stage.both)
        if site.closed:
            require(answer.status_code == 401, f"POST {path} without a key: {said(answer)}")
        else:
            good = answer.status_code == 200 and holds in fields(answer)
            require(good, f"POST {path}: {said(answer)}", "runestone ctl events --name 'request.*' -n 20")
    if not site.closed:
        await _others(site)
    await _somebody_serves(site)
    names = [provider["name"] for provider in await site.providers()]
    for name in names:
        found = (await ProviderFactory(site.node).health_check(name))[name]
        require(found["ok"], f"{name} {found['message']}", f"runestone ctl health check {name}")
    served = NOT_TRIED if site.closed else f"{len(ROUTES) + 2} routes of {site.public} answer, streams too"
    return f"{served}; {', '.join(names)}: reached"


async def _others(site: Site) -> None:
    models = await site.call("GET", "/v1/models")
    require(fields(models).get("object") == "list", f"GET /v1/models: {said(models)}")
    described = await site.call("GET", "/openapi.json")
    require("paths" in fields(described), f"GET /openapi.json: {said(described)}")
    stream = await site.call(
        "POST", "/v1/chat/completions", {"model": GPT, "messages": HELLO, "stream": True}, group=site.stage.both
    )
    require(
        stream.text.endswith("data: [DONE]\n\n"), f"a stream of /v1/chat/completions has no end: {stream.text[-200:]!r}"
    )


async def _somebody_serves(site: Site) -> None:
    members = (await FailoverManager(site.node).get_failover_stats(DEFAULT_GROUP))["members"]
    if any(member["status"] in _USABLE for member in members):
        return
    missing = (await site.ask("/v1/status"))["missing"]
    why = [f"{one['name']}: {one['reason']}: {one['message']}" for one in missing]
    why += [f"{member['name']} is {member['status']}" for member in members]
    command = "runestone config check" if missing else f"runestone ctl failover show {DEFAULT_GROUP}"
    raise Unticked(f"nobody in {DEFAULT_GROUP} takes requests ({'; '.join(why) or 'it has no member'})", command)


async def failover(site: Site) -> str:
    """A request goes to the next provider in each way in which the first can fail before its first content."""
    stage = site.stage
    await _no_rollback(site)
    await stage.renew()
    told = await site.chat(stage.both)
    require(told.whole and told.provider == stage.first.name, f"with both there, {told.words}")
    for fault in _BEFORE_CONTENT:
        await stage.renew(fault)
        before = stage.first.requests
        told = await site.chat(stage.both)
        require(
            told.whole and told.provider == stage.second.name, f"where the first has the fault {fault!r}, {told.words}"
        )
        require(fault == "refused" or stage.first.requests > before, f"the first was not asked before {fault!r}")
    alone = [group["name"] for group in await _groups(site) if len(group["members"]) == 1]
    note = f"; {', '.join(alone)}: one provider, so there is nobody to go to" if alone else ""
    return f"gone to the next one after {', '.join(_BEFORE_CONTENT)}{note}"


async def _no_rollback(site: Site) -> None:
    require(
        (await site.ask("/v1/status"))["mode"] != "legacy",
        "legacy mode: there is no failover",
        "runestone ctl mode enhanced",
    )
    for group in await _groups(site):
        command = f"runestone ctl mode enhanced --group {group['name']}"
        require(group["mode"] != "legacy", f"{group['name']} is in legacy mode: it has no failover", command)


async def _groups(site: Site) -> list[dict[str, Any]]:
    return [group for group in (await site.ask("/v1/groups"))["groups"] if not is_throw_away(group["name"])]


async def breakers(site: Site) -> str:
    """Failures open a breaker, an open one lets no call through, and it closes when its provider is well again."""
    stage, manager = site.stage, CircuitBreakerManager(site.node)
    for name, breaker in [(p["name"], p["breaker"]) for p in await site.providers()]:
        turn_on = f"runestone ctl provider set {name} --circuit-breaker true"
        require(breaker["mode"] != "measuring", f"the breaker of {name} only measures, and never opens", turn_on)
        reset = f"runestone ctl breaker reset {name}"
        require(breaker["mode"] == "auto", f"the breaker of {name} is {breaker['mode'].replace('_', ' ')}", reset)
    await stage.renew("503")
    for _ in range(FAILURES):
        await site.chat(stage.alone)
    state = await manager.get_circuit_state(stage.first.name)
    require(state == "open", f"after {FAILURES} failures in a row the breaker is {state}")
    before = stage.first.requests
    told = await site.chat(stage.alone)
    require(told.failure == "no_providers_available", f"while the breaker is open, {told.words}")
    require(stage.first.requests == before, "a call went through an open breaker")
    await stage.first.set_fault("none")

    async def served() -> bool:
        return (await site.chat(stage.alone)).whole

    await site.eventually(served, f"the breaker did not let a probe through {RECOVERY_MS} ms after it opened")
    state = await manager.get_circuit_state(stage.first.name)
    require(state == "closed", f"after a good probe the breaker is {state}")
    return f"opened after {FAILURES} failures, refused without a call, closed after a good probe"


async def errors(site: Site) -> str:
    """What is wrong is told in the words of the client's wire, once, and never as an answer."""
    shapes: tuple[tuple[str, Any, int], ...] = (
        ("/v1/chat/completions", b"{", 400),
        ("/v1/chat/completions", {"model": "no-such-model", "messages": HELLO}, 404),
        ("/v1/chat/completions", {"messages": HELLO}, 400),
        ("/v1/messages", {"model": CLAUDE}, 400),
        ("/v1/no-such-path", {}, 404),
    )
    for path, body, status in shapes:
        _shaped(
            path, await site.call("POST", path, body, content_type="application/json"), 401 if site.closed else status
        )
    stage = site.stage
    await stage.renew("400")
    calls = stage.first.requests, stage.second.requests
    told = await site.chat(stage.both)
    now = stage.first.requests, stage.second.requests
    once = told.failure is not None and now == (calls[0] + 1, calls[1])
    require(once, f"a request that the provider finds wrong: {told.words}, after {sum(now) - sum(calls)} calls")
    await stage.renew("cut after=4")
    told = await site.chat(stage.both)
    broken = told.text and told.failure is not None and not told.whole
    require(broken, f"a stream that breaks off in the middle is not told: {told.words}")
    await stage.renew("503")
    await stage.second.set_fault("503")
    told = await site.chat(stage.both)
    require(told.failure is not None and not told.text, f"where both fail, {told.words}")
    where = NOT_TRIED if site.closed else f"{len(shapes)} wrong requests refused in their wire's words"
    return f"{where}; a 400 told after one call, a broken stream told in-band"


def _shaped(path: str, answer: httpx.Response, status: int) -> None:
    data = fields(answer)
    error = data.get("error")
    shaped = isinstance(error, dict) and isinstance(error.get("message"), str) and isinstance(error.get("type"), str)
    if path.startswith("/v1/messages"):
        shaped = shaped and data.get("type") == "error"
    require(
        answer.status_code == status and shaped,
        f"POST {path} is answered with {said(answer)}, not {status} in its shape",
    )


async def legacy(site: Site) -> str:
    """The rollback serves and does not fail over, and the guide's calls answer."""
    stage = site.stage
    await stage.renew()
    told = await site.chat(stage.legacy)
    require(told.whole and told.provider == stage.first.name, f"in a group in legacy mode {told.words}")
    await stage.renew("503")
    before = stage.second.requests
    told = await site.chat(stage.legacy)
    calm = told.failure is not None and stage.second.requests == before
    require(calm, f"in a group in legacy mode there was a failover: {told.words}")
    await FailoverManager(site.node).get_failover_stats(DEFAULT_GROUP)
    await TelemetryHandler(site.node).get_health_dashboard()
    await ProviderFactory(site.node).get_metrics("all")
    for provider in await site.providers():
        await CircuitBreakerManager(site.node).get_circuit_state(provider["name"])
    mode = (await site.ask("/v1/status"))["mode"]
    return f"legacy mode serves without failover; the guide's calls answer; the node is in {mode} mode"
