"""The guide's calls over a gateway in this process and over one in another: the same answers, the same refusals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from runestone.api import (
    Acting,
    CircuitBreakerManager,
    FailoverManager,
    Finished,
    Node,
    OperationError,
    ProviderAdapter,
    ProviderFactory,
    ProviderPool,
    RemoteNode,
    Started,
    TelemetryHandler,
    TextDelta,
    ToolCallDelta,
)
from runestone.config.settings import ConfigurationError
from runestone.telemetry.events import Event
from tests.e2e.node import Gateway, Upstream, eventually

pytestmark = pytest.mark.anyio
HELLO = {"model": "openai-default/gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["in process", "remote"])
async def node(
    request: pytest.FixtureRequest,
    primary: Upstream,
    secondary: Upstream,
    tmp_path: Path,
    serve: Callable[..., Gateway],
) -> AsyncIterator[Node | RemoteNode]:
    if request.param == "remote":
        async with RemoteNode(serve().socket) as remote:
            yield remote
        return
    environ = {
        "OPENAI_API_KEY": "sk-upstream-openai",
        "OPENAI_BASE_URL": primary.url,
        "ANTHROPIC_API_KEY": "sk-upstream-anthropic",
        "ANTHROPIC_BASE_URL": secondary.url,
        "FAILOVER_STRATEGY": "priority",
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "in-process.sock"),
        "RUNESTONE_LEDGER_URL": f"sqlite://{tmp_path}/ledger.sqlite",
    }
    async with Node(environ=environ) as local:
        yield local


async def refusal(call: Any) -> str:
    with pytest.raises(OperationError) as refused:
        await call
    return refused.value.reason


async def test_providers_and_groups_come_and_go(node: Node | RemoteNode, primary: Upstream) -> None:
    factory = ProviderFactory(node)
    config = {
        "api_key": "sk-custom",
        "base_url": primary.url,
        "timeout": 180_000,
        "retry_attempts": 5,
        "headers": {"x-team": "t"},
    }
    added = await factory.register_provider("custom", "openai", config)
    group = await factory.create_failover_group("mine", ["custom"], {"strategy": "fastest_first", "max_attempts": 5})
    changed = await factory.set_provider("custom", {"timeout": "3m", "default_model": "gpt-4o"})

    assert (added["status"], added["incarnation"]) == ("up", 1)
    assert (group["members"], group["strategy"]) == (["custom"], "fastest_first")
    assert (changed["incarnation"], changed["default_model"]) == (2, "gpt-4o")
    stats = await FailoverManager(node).get_failover_stats("mine")
    assert [m["name"] for m in stats["members"]] == ["custom"]
    chosen = (await FailoverManager(node).explain("mine", "gpt-4o"))["candidates"][0]
    assert (chosen["provider"], chosen["verdict"]) == ("custom", "first")

    await factory.delete_failover_group("mine")
    await factory.unregister_provider("custom")

    assert await refusal(FailoverManager(node).get_failover_stats("mine")) == "not_found"
    assert await refusal(factory.get_metrics("custom")) == "not_found"


async def test_refusals_have_the_guide_s_words(node: Node | RemoteNode) -> None:
    factory, breakers = ProviderFactory(node), CircuitBreakerManager(node)

    assert await refusal(factory.register_provider("x", "openai", {})) == "missing_api_key"
    assert await refusal(factory.register_provider("x", "nonsense", {"api_key": "k"})) == "unsupported_provider"
    assert await refusal(factory.register_provider("x", "openai", {"api_key": "k", "timeot": 1})) == "invalid"
    assert await refusal(factory.register_provider("openai-default", "openai", {"api_key": "k"})) == "conflict"
    assert await refusal(factory.create_failover_group("g", ["nobody"])) == "missing_providers"
    assert await refusal(factory.delete_failover_group("default-chat-service")) == "refused"
    assert await refusal(breakers.get_circuit_state("nobody")) == "not_found"
    assert await refusal(breakers.register_provider("openai-default", {"failure_threshold": 0})) == "invalid"
    assert await refusal(factory.set_provider("openai-default", {})) == "refused"


async def test_an_act_has_its_reason_and_a_dry_run_is_told_and_not_made(node: Node | RemoteNode) -> None:
    because, trying = Acting(node, reason="it is INC-42"), Acting(node, dry_run=True)
    await CircuitBreakerManager(because).reset_circuit("openai-default")
    await CircuitBreakerManager(because).get_circuit_state("openai-default")
    await CircuitBreakerManager(node).reset_circuit("openai-default")
    added = await ProviderFactory(trying).register_provider("late", "openai", {"api_key": "k"})
    grouped = await ProviderFactory(trying).create_failover_group("late", ["openai-default"])
    await ProviderFactory(trying).unregister_provider("openai-default")
    no_edit = await refusal(CircuitBreakerManager(trying).reset_circuit("openai-default"))
    wrong = await refusal(ProviderFactory(trying).register_provider("late", "openai", {}))

    acts = (await TelemetryHandler(node).get_events(name="admin.acted"))["events"]
    assert [one["reason"] for one in acts[:2]] == ["it is INC-42", None]
    assert [one["outcome"] for one in acts] == ["ok", "ok", *["dry_run"] * 3, "usage", "missing_api_key"]
    assert (added["dry_run"], added["done"][0]) == (True, "provider late: started")
    assert grouped["done"] == ["groups: changed"]
    assert (no_edit, wrong) == ("usage", "missing_api_key")
    assert "late" not in (await ProviderFactory(node).get_metrics())["providers"]
    assert await CircuitBreakerManager(node).get_circuit_state("openai-default") == "closed"


async def test_an_invalid_value_is_told_with_everything_that_is_wrong(node: Node | RemoteNode) -> None:
    config = {"api_key": "sk-canary", "base_url": "ftp://x", "timeout": -1}
    with pytest.raises(OperationError) as refused:
        await ProviderFactory(node).register_provider("x", "openai", config)

    assert [problem.split(";")[0] for problem in refused.value.problems] == [
        "runtime: providers.x.base_url: is not a usable address",
        "runtime: providers.x.timeout_ms: is not a time in range",
    ]
    assert "canary" not in repr(refused.value) + str(refused.value.problems)


async def test_breakers_are_read_tuned_and_reset(node: Node | RemoteNode) -> None:
    breakers = CircuitBreakerManager(node)
    tuned = await breakers.register_provider("openai-default", {"failure_threshold": 10, "half_open_limit": 5})
    await node.ask("POST", "/v1/breakers/openai-default/trip")

    assert (tuned["failure_threshold"], tuned["half_open_limit"]) == (10, 5)
    assert await breakers.get_circuit_state("openai-default") == "open"
    dashboard = await TelemetryHandler(node).get_health_dashboard()
    assert dashboard["overall_health"] == "degraded"
    (alert,) = (alert for alert in dashboard["alerts"] if alert["severity"] == "error")
    assert (alert["kind"], alert["about"]) == ("breaker_open", "openai-default")
    assert alert["command"] == "runestone ctl breaker reset openai-default"
    await breakers.reset_circuit("openai-default")
    assert await breakers.get_circuit_state("openai-default") == "closed"


async def test_a_chat_streams_as_typed_events_and_its_real_end_is_the_last(
    node: Node | RemoteNode, primary: Upstream
) -> None:
    heard: list[object] = []
    events = [event async for event in ProviderAdapter(node).stream_chat(HELLO, heard.append)]

    assert isinstance(events[0], Started)
    assert (events[0].provider, events[0].model) == ("openai-default", "gpt-4o-mini")
    assert "".join(e.text for e in events if isinstance(e, TextDelta)).startswith("openai")
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "stop"
    assert events[-1].usage is not None
    assert heard == events
    metrics = await ProviderFactory(node).get_metrics("openai-default")
    assert metrics["outcomes"] == {"ok": 1}
    assert (await ProviderFactory(node).get_metrics())["providers"]["openai-default"] == metrics


async def test_a_tool_call_comes_in_pieces(node: Node | RemoteNode) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    request = {**HELLO, "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "f"}}}
    events = [event async for event in ProviderAdapter(node).stream_chat(request)]

    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert calls[0].name == "f"
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "tool_calls"


async def test_a_chat_that_fails_raises_and_never_finishes(node: Node | RemoteNode, primary: Upstream) -> None:
    adapter = ProviderAdapter(node)

    async def chat(request: dict[str, Any], **options: Any) -> list[object]:
        seen: list[object] = []
        async for event in adapter.stream_chat(request, seen.append, **options):
            assert event is seen[-1]
        return seen

    assert await refusal(chat({"model": "nobody-knows", "messages": HELLO["messages"]})) == "model_not_found"
    assert await refusal(chat(HELLO, group="nobody")) == "unknown_group"
    assert await refusal(chat({"model": "gpt-4o"})) == "invalid_request"
    assert await refusal(chat({"messages": HELLO["messages"]})) == "invalid_request"
    await node.ask("POST", "/v1/breakers/anthropic-default/trip")
    primary.fault("cut_after=3")
    seen: list[object] = []
    with pytest.raises(OperationError) as broken:
        async for _ in adapter.stream_chat(HELLO, seen.append):
            pass
    assert any(isinstance(event, TextDelta) for event in seen)
    assert broken.value.reason == "truncated"
    assert not any(isinstance(event, Finished) for event in seen)
    await node.ask("POST", "/v1/breakers/openai-default/trip")
    assert await refusal(chat({"model": "gpt-4o-mini", "messages": HELLO["messages"]})) == "no_providers_available"


async def test_a_chat_that_is_left_in_the_middle_leaves_nothing(node: Node | RemoteNode, primary: Upstream) -> None:
    primary.fault("pace=0.2")
    events = ProviderAdapter(node).stream_chat(HELLO)
    async for event in events:
        if isinstance(event, TextDelta):
            break
    await events.aclose()  # type: ignore[attr-defined] # it is a generator

    async def left() -> tuple[int, int]:
        shown = (await node.ask("GET", "/v1/providers/openai-default"))["provider"]
        return shown["in_flight"], primary.state()["open_streams"]

    for _ in range(200):
        if await left() == (0, 0):
            break
        await asyncio.sleep(0.05)
    assert await left() == (0, 0)


async def test_the_pool_runs_chats_by_themselves_and_tells_how_they_ended(
    node: Node | RemoteNode, primary: Upstream
) -> None:
    heard: list[object] = []

    async def listen(event: object) -> None:
        heard.append(event)

    async with ProviderPool(node) as pool:
        one = await pool.stream_request(HELLO, listen)
        two = await pool.stream_request(HELLO, listen)
        assert one != two
        await pool.wait(one)
        await pool.wait(two)
        assert sum(isinstance(event, Finished) for event in heard) == 2
        assert await refusal(pool.wait(one)) == "not_found"
        assert await refusal(pool.stream_request({**HELLO, "model": "nobody-knows"}, listen)) == "model_not_found"
        primary.fault("pace=0.5")
        await pool.stream_request(HELLO, listen)  # the end of the pool ends it


async def test_costs_are_estimated_by_provider_and_what_has_no_price_is_none(node: Node | RemoteNode) -> None:
    await ProviderFactory(node).register_provider("own", "openai", {"api_key": "k", "default_model": "home-made"})
    parts = [{"type": "text", "text": "x" * 4000}]  # which nobody counts
    request = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": parts}], "max_tokens": 1000}
    costs = await ProviderFactory(node).estimate_costs(request)
    own = await ProviderFactory(node).estimate_costs({**request, "model": "home-made"})

    # 1,007 tokens in (4,000 characters / 4, a message, the reply's start), 1,000 out; 0.15 and 0.60 dollars a million
    assert costs["openai-default"] == Decimal("0.00015105") + Decimal("0.0006")
    # the same at 3 and 15 dollars
    assert costs["anthropic-default"] == Decimal("0.003021") + Decimal("0.015")
    assert own["own"] is None


async def test_health_check_asks_for_real(node: Node | RemoteNode, primary: Upstream) -> None:
    await ProviderFactory(node).register_provider(
        "nowhere", "openai", {"api_key": "k", "base_url": "http://127.0.0.1:9/v1"}
    )
    found = await ProviderFactory(node).health_check("all")

    assert {name: probe["ok"] for name, probe in found.items()} == {
        "openai-default": True,
        "anthropic-default": True,
        "nowhere": False,
    }
    assert primary.requests() == []


async def test_events_are_found_by_name_provider_and_number(node: Node | RemoteNode) -> None:
    telemetry = TelemetryHandler(node)
    async for _ in ProviderAdapter(node).stream_chat(HELLO):
        pass

    page = await telemetry.get_events("attempt.*", provider="openai-default", limit=2)
    rest = await telemetry.get_events("attempt.*", since=page["events"][0]["seq"])

    assert [e["event"] for e in page["events"]] == ["attempt.content", "attempt.finished"]
    assert rest["events"][0] == page["events"][1]
    assert (rest["next"], rest["missed"]) == (page["next"], 0)
    assert await refusal(telemetry.get_events("breker.*")) == "not_found"
    assert await refusal(telemetry.get_events(limit=0)) == "refused"


async def test_a_handler_hears_every_event_until_it_is_detached_and_one_that_fails_harms_nobody(
    node: Node | RemoteNode,
) -> None:
    heard, calls = list[Event](), list[Event]()

    def broken(event: Event) -> None:
        calls.append(event)
        raise ZeroDivisionError

    telemetry = TelemetryHandler(node)
    if isinstance(node, RemoteNode):
        with pytest.raises(OperationError, match="in this process"):
            telemetry.attach(heard.append)
        return
    telemetry.attach(broken)
    detach = telemetry.attach(heard.append)
    async for _ in ProviderAdapter(node).stream_chat(HELLO):
        pass
    detach()
    async for _ in ProviderAdapter(node).stream_chat(HELLO):
        pass

    assert [event.name for event in heard] == [
        "request.started",
        "attempt.started",
        "attempt.content",
        "request.finished",
        "attempt.finished",
    ]
    assert len(calls) == 10
    assert (await node.ask("GET", "/v1/status"))["dropped"]["handler_failures"] == 10


async def test_a_handler_apart_may_take_its_time(node: Node | RemoteNode) -> None:
    if isinstance(node, RemoteNode):
        return
    heard, free = list[Event](), threading.Event()

    def slow(event: Event) -> None:
        free.wait()
        heard.append(event)

    TelemetryHandler(node).attach(slow, apart=True)
    async for _ in ProviderAdapter(node).stream_chat(HELLO):
        pass

    assert heard == []
    free.set()
    await asyncio.to_thread(eventually, lambda: len(heard) == 5, lambda: f"{heard}")


async def test_a_chat_from_inside_is_told_and_counted_as_a_request_with_a_route_of_its_own(
    node: Node | RemoteNode, primary: Upstream
) -> None:
    adapter, telemetry = ProviderAdapter(node), TelemetryHandler(node)
    async for _ in adapter.stream_chat(HELLO):
        pass
    primary.fault("status=400")
    assert await refusal(drained(adapter.stream_chat(HELLO))) == "invalid_request"
    assert await refusal(drained(adapter.stream_chat({**HELLO, "model": "llama-9"}))) == "model_not_found"
    primary.fault("cut_after=3")
    with pytest.raises(OperationError):
        await drained(adapter.stream_chat(HELLO))
    primary.fault("pace=0.2")
    events = adapter.stream_chat(HELLO)
    async for _ in events:
        break
    await events.aclose()  # type: ignore[attr-defined] # it is a generator

    async def told() -> list[tuple[object, ...]]:
        found = (await telemetry.get_events("request.finished"))["events"]
        return [(e["route"], e["status"], e["outcome"], e["attempts"], e["provider"]) for e in found]

    while len(await told()) < 5:
        await asyncio.sleep(0.02)
    assert await told() == [
        ("inside", 200, "ok", 1, "openai-default"),
        ("inside", 400, "caller_error", 1, None),
        ("inside", 404, "model_not_found", 0, None),
        ("inside", 200, "truncated", 1, "openai-default"),
        ("inside", 200, "client_gone", 1, "openai-default"),
    ]
    started = (await telemetry.get_events("request.started"))["events"]
    assert {(e["route"], e["stream"], e["key"]) for e in started} == {("inside", True, "")}
    metrics = await ProviderFactory(node).get_metrics()
    assert metrics["node"]["requests"] == 5
    booked = await ProviderFactory(node).get_costs(by="outcome")
    assert {name: line["requests"] for name, line in booked.items()} == {
        "ok": 1, "caller_error": 1, "truncated": 1, "cancelled": 1,
    }  # fmt: skip


async def drained(events: AsyncIterator[Any]) -> None:
    async for _ in events:
        pass


async def test_a_node_in_this_process_serves_sdks_too(primary: Upstream, tmp_path: Path) -> None:
    environ = {
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": primary.url,
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "s.sock"),
        "RUNESTONE_LEDGER_URL": "none",
    }
    async with Node(environ=environ) as node, openai.AsyncOpenAI(base_url=node.url, api_key="any") as client:
        answer = await client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}])
        assert answer.choices[0].finish_reason == "stop"
        async with RemoteNode(node.socket) as remote:
            assert (await remote.ask("GET", "/v1/status"))["status"] == "degraded"
    assert await refusal(node.ask("GET", "/v1/status")) == "unavailable"


async def test_what_is_wrong_with_the_settings_is_raised_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        async with Node(environ={"OPENAI_TIMEOUT": "soon"}):
            raise AssertionError


async def test_a_socket_that_nobody_listens_on_is_told(tmp_path: Path) -> None:
    async with RemoteNode(tmp_path / "nobody.sock") as node:
        assert await refusal(ProviderFactory(node).get_metrics()) == "unreachable"
        with pytest.raises(OperationError, match="no running node"):
            async for _ in ProviderAdapter(node).stream_chat(HELLO):
                raise AssertionError
