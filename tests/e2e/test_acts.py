"""What an operator does to a running gateway, each act seen in the traffic: under load, with streams open, and no stream dropped."""

from __future__ import annotations

import asyncio
import json
import time
import tomllib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runestone.api import (
    CircuitBreakerManager,
    FailoverManager,
    Node,
    OperationError,
    ProviderFactory,
    RemoteNode,
    TelemetryHandler,
)
from runestone.console.client import AdminClient, Refused
from tests.e2e.load import Client, Told
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO, streams

WHOLE = {**HELLO, "stream": False}
ANY = {**WHOLE, "model": "default-chat-service"}  # all members are equals
OPENAI, ANTHROPIC, GROUP = "openai-default", "anthropic-default", "default-chat-service"
CANARY = "canary0123456789"
LONG = "pace=0.1 tokens=100"  # a stream of ten seconds
ENDLESS = "pace=0.1 tokens=3000"
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def post(node: Gateway, path: str, **body: Any) -> dict[str, Any]:
    """An act by the admin socket itself: a process of ``ctl`` takes its time, and streams end."""
    return AdminClient(node.socket).request("POST", f"/v1/{path}", body)


def acted(node: Gateway, path: str, body: dict[str, Any]) -> bool:
    """Whether an act was done: an actor may be on its way back."""
    try:
        post(node, path, **body)
    except Refused as refused:
        if refused.code not in ("unavailable", "not_found"):
            raise
        return False
    return True


async def act(node: Gateway, path: str, **body: Any) -> dict[str, Any]:
    """The same beside the load."""
    return await asyncio.to_thread(partial(post, node, path, **body))


def shown(node: Gateway, name: str = OPENAI) -> dict[str, Any]:
    """One provider."""
    return dict(AdminClient(node.socket).request("GET", f"/v1/providers/{name}")["provider"])


def calls(node: Gateway) -> int:
    """How many calls the primary has been given ever."""
    return int(shown(node)["calls"])


async def until(check: Callable[[], Any], what: str, seconds: float = 30.0) -> None:
    """Wait for ``check``, beside the load."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"never: {what}"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def load(node: Gateway, body: dict[str, Any] = WHOLE, workers: int = 3) -> AsyncIterator[Told]:
    """Clients that ask again and again; each answer must be whole, or a refusal that says so."""
    client, over = Client(node.port, body, exact=False), asyncio.Event()

    async def work() -> None:
        while not over.is_set():
            await client.ask()
            await asyncio.sleep(0.05)  # as fast as it can would hold up what is beside it, and tell no more

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    try:
        await more(client.told)
        yield client.told
    finally:
        over.set()
        await asyncio.gather(*tasks)
    assert client.told.unanswered == {}


async def more(told: Told, count: int = 20) -> None:
    """Wait for as many answers."""
    so_far = sum(told.ends.values())
    await until(lambda: sum(told.ends.values()) >= so_far + count, f"{count} more answers")


def shares(primary: Upstream, secondary: Upstream) -> tuple[int, int]:
    """How many requests each has had."""
    return len(primary.requests()), len(secondary.requests())


async def moved(told: Told, primary: Upstream, secondary: Upstream, count: int = 20) -> tuple[int, int]:
    """How many requests each has had of the next ones; those that are under way do not count."""
    await more(told, 5)
    before = await asyncio.to_thread(shares, primary, secondary)
    await more(told, count)
    after = await asyncio.to_thread(shares, primary, secondary)
    return after[0] - before[0], after[1] - before[1]


# -- how they speak


def test_every_act_speaks_to_people_and_to_scripts(serve: Callable[..., Gateway]) -> None:
    node = serve()
    for command in (
        ["provider", "drain", OPENAI],
        ["provider", "drain", OPENAI, "--wait", "--timeout", "5s"],
        ["provider", "maint", OPENAI],
        ["provider", "maint", OPENAI, "--wait"],
        ["provider", "test", OPENAI],
        ["provider", "test", OPENAI, "--stream", "--model", "gpt-4o", "--prompt", "Hello"],
        ["provider", "ready", OPENAI],
        ["provider", "restart", OPENAI],
        ["provider", "restart", "all"],
        ["provider", "restart", "*-default", "--hard"],
        ["breaker", "trip", OPENAI, "--for", "5m"],
        ["breaker", "auto", OPENAI],
        ["breaker", "disable", OPENAI],
        ["group", "remove", GROUP, OPENAI],
        ["group", "add", GROUP, OPENAI],
        ["log", "level", "info", "--for", "10m"],
        ["config", "diff"],
        ["drain", "--timeout", "5s"],
        ["undrain"],
    ):
        before, *_ = command
        person, script = node.ctl_raw(*command), None
        if before != "group":  # which cannot be done twice
            script = node.ctl_raw("--json", *command)
            assert script.returncode == 0, (command, script)
            assert script.stderr == ""
            assert json.loads(script.stdout)["v"] == 1

        assert person.returncode == 0, (command, person)
        assert person.stdout.strip()
        assert person.stderr == ""


def test_a_refused_act_has_its_exit_code_and_says_why(node: Gateway) -> None:
    for command, code, says in (
        (["provider", "drain", "nobody"], 3, "no provider"),
        (["provider", "maint", "nobody"], 3, "no provider"),
        (["provider", "ready", "nobody"], 3, "no provider"),
        (["provider", "test", "nobody"], 3, "no provider"),
        (["provider", "drain", OPENAI, "--timeout", "5s"], 2, "--wait"),
        (["provider", "drain", OPENAI, "--wait", "--timeout", "soon"], 2, "--timeout"),
        (["provider", "restart", "groq-*"], 3, "there are anthropic-default, openai-default"),
        (["breaker", "auto", "nobody"], 3, "no provider"),
        (["breaker", "disable", "nobody"], 3, "no provider"),
        (["breaker", "trip", OPENAI, "--for", "-5m"], 2, "--for"),
        (["group", "add", "nobody", OPENAI], 3, "no group"),
        (["group", "add", GROUP, "nobody"], 3, "no such provider"),
        (["group", "remove", GROUP, "nobody"], 3, "no such provider"),
        (["group", "remove", GROUP, OPENAI, ANTHROPIC], 1, "without a member"),
        (["log", "level", "loud", "--for", "1m"], 78, "log.level"),
        (["log", "level", "debug", "--for", "48h"], 1, "86400 at most"),
        (["drain", "--timeout", "0s"], 2, "--timeout"),
    ):
        person = node.ctl_raw(*command)

        assert (person.returncode, person.stdout) == (code, ""), (command, person)
        assert says in person.stderr, (command, person.stderr)
    assert node.ctl("config", "diff")["changes"] == []


# -- drain, maint, ready


@pytest.mark.parametrize(("verb", "state"), [("drain", "draining"), ("maint", "maintenance")])
async def test_one_taken_out_of_service_gets_no_new_call_ends_its_streams_whole_and_serves_again_when_ready(
    node: Gateway, primary: Upstream, verb: str, state: str
) -> None:
    primary.fault(LONG)
    async with streams(node) as crowd:
        await crowd.start(10)
        primary.fault("none")
        async with load(node) as told:
            answer = await act(node, f"providers/{OPENAI}/{verb}")
            given = await asyncio.to_thread(calls, node)
            open_still = [not stream.whole for stream in crowd.all]
            waiting = asyncio.create_task(act(node, f"providers/{OPENAI}/{verb}", wait=True, seconds=50))
            await more(told, 40)
            ended = await crowd.finish()
            waited = await waiting
            later = await asyncio.to_thread(shown, node)
            upstream = len(await asyncio.to_thread(primary.requests))

            ready = await act(node, f"providers/{OPENAI}/ready")
            await until(lambda: calls(node) > given, "it is called again")

    assert (answer["state"], answer["before"]) == (state, "ready")
    assert answer["in_flight"] >= 10
    assert open_still == [True] * 10
    assert [stream.whole for stream in ended] == [True] * 10
    assert (waited["state"], waited["in_flight"]) == (state, 0)
    assert (later["calls"], later["status"], later["in_flight"], later["usable"]) == (given, state, 0, False)
    assert upstream == given
    assert (ready["state"], ready["before"]) == ("ready", state)
    assert set(told.ends) == {"whole"}


def test_one_word_tells_people_what_an_operator_has_made_of_a_provider(node: Gateway) -> None:
    for verb, word in (("drain", "draining"), ("maint", "maintenance"), ("ready", "ready")):
        node.ctl("provider", verb, OPENAI)

        person = node.ctl_raw("provider", "show", OPENAI).stdout.splitlines()
        told = [line for line in person if line.startswith(("admin state", "draining"))]
        assert [line.split() for line in told] == [["admin", "state", word]]
        assert "DRAINING" not in node.ctl_raw("providers", "-o", "wide").stdout.splitlines()[0]
        edited = node.ctl_raw("provider", "set", OPENAI, "--retry-attempts", "2").stdout.splitlines()
        assert [line.split() for line in edited if line.startswith(("admin state", "draining"))] == [
            ["admin", "state", word]
        ]
        assert shown(node)["draining"] == (word != "ready")


def test_what_an_operator_has_taken_out_outlasts_crashes_restarts_and_new_settings(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve("--allow-faults")
    node.ctl("provider", "maint", OPENAI)

    for path, body in (
        ("crash", {"name": f"provider:{OPENAI}"}),
        ("crash", {"name": f"provider:{OPENAI}"}),
        ("crash", {"name": f"transport:{OPENAI}"}),
        ("crash", {"name": "roster"}),
        (f"providers/{OPENAI}/restart", {}),
        (f"providers/{OPENAI}/restart", {"hard": True}),
        (f"providers/{OPENAI}", {"config": {"timeout": 100_000}}),
        ("config/reload", {}),
        (f"breakers/{OPENAI}/reset", {}),
    ):
        eventually(lambda path=path, body=body: acted(node, path, body), "it is done")  # type: ignore[misc]
        assert node.post(WHOLE).status_code == 200
        assert shown(node)["status"] == "maintenance", path

    assert primary.requests() == []
    eventually(lambda: acted(node, f"providers/{OPENAI}/ready", {}), "it is ready")
    assert node.post(WHOLE).headers["x-runestone-provider"] == OPENAI


@pytest.mark.parametrize(
    ("verb", "says"), [("drain", "drained by an operator"), ("maint", "in maintenance by an operator")]
)
def test_where_nobody_else_is_left_the_client_learns_what_the_operator_did(
    node: Gateway, primary: Upstream, secondary: Upstream, verb: str, says: str
) -> None:
    for name in (OPENAI, ANTHROPIC):
        node.ctl("provider", verb, name)

    for body in (WHOLE, {**WHOLE, "model": f"{OPENAI}/gpt-4o-mini"}, ANY):
        answer = node.post(body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_provider_available")
        assert f"{OPENAI} ({says})" in answer.json()["error"]["message"]
    told = node.ctl("failover", "explain", GROUP, "--model", "gpt-4o-mini")["explanation"]["candidates"]
    assert [(one["verdict"], one["why"]) for one in told] == [("skipped", f"is {says}")] * 2
    assert shares(primary, secondary) == (0, 0)


def test_maintenance_is_told_everywhere_and_nothing_that_is_wrong_with_it_is_an_error(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault("401")
    node.post(WHOLE)
    assert "quarantined" in {alert["kind"] for alert in node.ctl("status")["alerts"]}
    node.ctl("provider", "maint", OPENAI)

    status = node.ctl("status")
    about = [alert for alert in status["alerts"] if alert["about"] == OPENAI]

    assert status["out_of_service"] == {OPENAI: "maintenance"}
    assert [(alert["kind"], alert["severity"]) for alert in about] == [("maintenance", "warning")]
    assert about[0]["command"] == f"runestone ctl provider ready {OPENAI}"
    assert node.health(f"/providers/{OPENAI}").json()["status"] == "maintenance"
    assert node.health().json() == {"status": "degraded"}
    assert "an operator has it in maintenance" in node.ctl_raw("why", OPENAI).stdout
    assert list(node.ctl("health", "check", "all")["health"]) == [ANTHROPIC]
    metrics = node.health("/metrics").text
    eventually(
        lambda: (
            f'runestone_provider_admin_state{{provider="{OPENAI}",state="maintenance"}} 1'
            in node.health("/metrics").text
        ),
        lambda: metrics,
    )


async def test_a_wait_for_the_last_call_ends_by_its_time_and_by_ready(node: Gateway, primary: Upstream) -> None:
    primary.fault(ENDLESS)
    async with streams(node) as crowd:
        await crowd.start(2)
        late = await asyncio.to_thread(node.ctl_raw, "provider", "drain", OPENAI, "--wait", "--timeout", "300ms")
        still = await asyncio.to_thread(shown, node)
        waiting = asyncio.create_task(asyncio.to_thread(node.ctl_raw, "provider", "drain", OPENAI, "--wait"))
        await until(lambda: drains(node) == 1, "it waits")
        await act(node, f"providers/{OPENAI}/ready")
        taken_back = await waiting

    assert (late.returncode, late.stdout) == (6, "")
    assert "has 2 calls out still after 0.3 s; it stays draining" in late.stderr
    assert still["status"] == "draining"
    assert taken_back.returncode == 5
    assert "made ready again" in taken_back.stderr


def drains(node: Gateway) -> int:
    """How many wait for the primary's last call to end."""
    return int(AdminClient(node.socket).request("GET", f"/v1/actors/provider:{OPENAI}")["actor"]["status"]["drains"])


async def test_a_wait_for_the_last_call_outlasts_a_crash_of_the_actor(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve("--allow-faults")
    primary.fault(LONG)
    async with streams(node) as crowd:
        await crowd.start(2)
        waiting = asyncio.create_task(act(node, f"providers/{OPENAI}/drain", wait=True, seconds=50))
        await until(lambda: drains(node) == 1, "it waits")
        await act(node, "crash", name=f"provider:{OPENAI}")
        await until(lambda: drains(node) == 1, "it waits again")
        running = not waiting.done()
        ended = await crowd.finish()

        assert (await waiting)["in_flight"] == 0
    assert running
    assert [stream.whole for stream in ended] == [True] * 2


async def test_a_provider_that_is_being_removed_is_not_made_ready(node: Gateway, primary: Upstream) -> None:
    primary.fault(ENDLESS)
    async with streams(node) as crowd:
        await crowd.start(1)
        removing = asyncio.create_task(act(node, f"providers/{OPENAI}/remove"))
        await until(lambda: shown(node)["status"] == "leaving", "it leaves")
        refused = await asyncio.to_thread(node.ctl_raw, "provider", "ready", OPENAI)
        await crowd.leave()
        await removing

    assert refused.returncode == 5
    assert "being removed" in refused.stderr


# -- a try


@pytest.mark.parametrize("stream", [[], ["--stream"]])
@pytest.mark.parametrize("verb", ["drain", "maint", "ready"])
def test_a_try_is_one_tiny_call_that_is_booked_in_service_or_not(
    node: Gateway, primary: Upstream, secondary: Upstream, stream: list[str], verb: str
) -> None:
    node.ctl("provider", verb, OPENAI)

    told = node.ctl("provider", "test", OPENAI, *stream)["test"]

    assert (told["ok"], told["status"], told["model"], told["stream"]) == (True, 200, "gpt-4o-mini", bool(stream))
    assert 0 < told["first_content_ms"] <= told["total_ms"]
    assert told["input_tokens"] > 0
    assert float(told["cost_usd"]) > 0
    (sent,) = primary.requests()
    assert sent["body"]["max_tokens"] == 16
    assert sent["body"].get("stream", False) is bool(stream)
    assert secondary.requests() == []
    eventually(lambda: node.ctl("cost", "show")["total"]["calls"] == 1, "it is in the ledger")
    assert node.provider(OPENAI)["calls"] == 1


@pytest.mark.parametrize(
    ("fault", "outcome", "status"),
    [("401", "credentials", 401), ("503", "server_error", 503), ("refused", "refused", None)],
)
def test_a_try_that_fails_tells_the_providers_words_and_is_not_made_again(
    node: Gateway, primary: Upstream, secondary: Upstream, fault: str, outcome: str, status: int | None
) -> None:
    primary.fault(fault)

    person = node.ctl_raw("provider", "test", OPENAI)
    done = node.ctl_raw("--json", "provider", "test", ANTHROPIC if fault == "401" else OPENAI)

    assert person.returncode == 1
    assert outcome in person.stdout
    assert "sk-upstream" not in person.stdout
    told = json.loads(done.stdout)["test"]
    if fault != "401":
        assert (done.returncode, told["outcome"], told["status"]) == (1, outcome, status)
    assert len(primary.requests()) == {"401": 1, "503": 2, "refused": 0}[fault]
    assert len(secondary.requests()) == (1 if fault == "401" else 0)


def test_a_try_obeys_the_breaker_and_says_so(node: Gateway, primary: Upstream) -> None:
    node.ctl("breaker", "trip", OPENAI, "--for", "5m")

    done = node.ctl_raw("--json", "provider", "test", OPENAI)

    told = json.loads(done.stdout)["test"]
    assert (done.returncode, told["ok"], told["outcome"]) == (1, False, "not_asked")
    assert "its breaker is open" in told["message"]
    assert primary.requests() == []


def test_the_words_of_a_try_are_told_to_the_provider_alone(node: Gateway, primary: Upstream) -> None:
    for fault in ("none", "503"):
        primary.fault(fault)
        for stream in ([], ["--stream"]):
            answer = node.ctl_raw("provider", "test", OPENAI, "--prompt", CANARY, *stream)
            assert CANARY not in answer.stdout + answer.stderr

    assert all(CANARY in json.dumps(sent) for sent in primary.requests())
    told = [
        node.ctl("events", "--last", "1000"),
        node.ctl("provider", "show", OPENAI),
        node.detailed(),
        node.ctl("tree"),
    ]
    assert CANARY not in json.dumps(told)
    assert CANARY not in node.told()


# -- breakers


async def test_a_tripped_breaker_under_load_lets_no_call_through_until_it_decides_again(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault(LONG)
    async with streams(node) as crowd:
        await crowd.start(5)
        primary.fault("none")
        async with load(node) as told:
            tripped = await act(node, f"breakers/{OPENAI}/trip", seconds=300)
            given = await asyncio.to_thread(calls, node)
            await more(told, 40)
            later = await asyncio.to_thread(calls, node)
            lifted = await act(node, f"breakers/{OPENAI}/auto")
            await until(lambda: calls(node) > given, "it is called again")
        ended = await crowd.finish()

    assert (tripped["breaker"]["mode"], lifted["breaker"]["mode"]) == ("forced_open", "auto")
    assert 290 < tripped["breaker"]["retry_in_seconds"] <= 300
    assert later == given
    assert [stream.whole for stream in ended] == [True] * 5
    assert set(told.ends) == {"whole"}


def test_a_disabled_breaker_lets_failures_through_until_it_decides_again(node: Gateway, primary: Upstream) -> None:
    primary.fault("503")
    node.ctl("breaker", "disable", OPENAI)
    for _ in range(8):
        assert node.post({**WHOLE, "model": f"{OPENAI}/gpt-4o-mini"}).status_code == 503
    disabled = node.provider(OPENAI)
    node.ctl("breaker", "auto", OPENAI)
    node.post({**WHOLE, "model": f"{OPENAI}/gpt-4o-mini"})

    assert (disabled["breaker"]["mode"], disabled["breaker"]["state"]) == ("disabled", "closed")
    assert disabled["breaker"]["consecutive_failures"] >= 8
    assert node.provider(OPENAI)["breaker"]["state"] == "open"


# -- groups


async def test_shares_follow_the_strategy_and_the_members_and_no_stream_is_dropped(
    node: Gateway, primary: Upstream, secondary: Upstream
) -> None:
    primary.fault(LONG)
    async with streams(node) as crowd:
        await crowd.start(5)
        primary.fault("none")
        async with load(node, ANY) as told:
            by_priority = await moved(told, primary, secondary)
            await act(node, f"groups/{GROUP}", options={"strategy": "round_robin"})
            in_turn = await moved(told, primary, secondary, 40)
            removed = await act(node, f"groups/{GROUP}/remove", providers=[OPENAI])
            without = await moved(told, primary, secondary)
            added = await act(node, f"groups/{GROUP}/add", providers=[OPENAI])
            again = await moved(told, primary, secondary)
        ended = await crowd.finish()

    assert by_priority[0] >= 20
    assert by_priority[1] == 0
    assert abs(in_turn[0] - in_turn[1]) <= 4
    assert removed["group"]["members"] == [ANTHROPIC]
    assert without[0] == 0
    assert without[1] >= 20
    assert added["group"]["members"] == [ANTHROPIC, OPENAI]
    assert min(again) > 0
    assert [stream.whole for stream in ended] == [True] * 5
    assert set(told.ends) == {"whole"}


def test_changes_of_members_at_the_same_time_lose_none(serve: Callable[..., Gateway]) -> None:
    node = serve()
    names = [f"more-{number}" for number in range(6)]
    for name in names:
        node.ctl("provider", "add", name, "--kind", "openai", "--key-env", "PATH")
    node.ctl("group", "create", "crew", "--members", OPENAI)

    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(lambda name: node.ctl_raw("group", "add", "crew", name).returncode, names)) == [0] * 6

    (crew,) = [group for group in node.ctl("group", "list")["groups"] if group["name"] == "crew"]
    assert sorted(crew["members"]) == sorted([OPENAI, *names])
    assert node.ctl("group", "add", "crew", OPENAI)["group"]["done"] == []
    node.ctl("group", "remove", "crew", *names)
    assert node.ctl_raw("group", "remove", "crew", ANTHROPIC).returncode == 3
    assert node.ctl_raw("group", "remove", "crew", OPENAI).returncode == 1
    assert tomllib.loads(node.ctl("config", "export")["toml"])["groups"]["crew"]["members"] == [OPENAI]


# -- restart


def test_several_are_restarted_one_after_the_other_and_each_is_answered_for(node: Gateway) -> None:
    everybody = node.ctl("provider", "restart", "all")["restarted"]
    some = node.ctl("provider", "restart", "openai-*")["restarted"]

    assert [(one["provider"], one["incarnation"], one["error"]) for one in everybody] == [
        (ANTHROPIC, 2, None),
        (OPENAI, 2, None),
    ]
    assert [(one["provider"], one["incarnation"]) for one in some] == [(OPENAI, 3)]
    assert node.post(WHOLE).status_code == 200


# -- the log


def test_a_level_for_a_while_ends_by_itself_is_told_and_outlasts_a_crash(serve: Callable[..., Gateway]) -> None:
    node = serve("--allow-faults", RUNESTONE_LOG_LEVEL="INFO")
    held = node.ctl("log", "level", "warning", "--for", "10m")["log"]
    node.ctl("crash", "log")
    eventually(lambda: node.ctl_raw("log", "level", "debug", "--for", "5s").returncode == 0, "its actor is back")

    during = node.ctl("status")["log"]
    (change,) = node.ctl("config", "diff")["changes"]
    exported = node.ctl("config", "export")["toml"]
    eventually(lambda: node.ctl("status")["log"] == {"level": "INFO"}, "it is as before", 30)

    assert (held["level"], held["then"]) == ("WARNING", "INFO")
    assert (during["level"], during["then"]) == ("DEBUG", "INFO")
    assert (change["key"], change["value"], change["until"]) == ("log.level", "DEBUG", during["until"])
    assert "DEBUG" not in exported
    assert node.ctl("config", "diff")["changes"] == []
    assert "log level: INFO again" in node.told()


def test_a_level_for_good_takes_the_place_of_one_for_a_while(serve: Callable[..., Gateway]) -> None:
    node = serve(RUNESTONE_LOG_LEVEL="INFO")
    node.ctl("log", "level", "debug", "--for", "10m")

    for_good = node.ctl("log", "level", "info")["log"]

    tried = node.ctl("log", "level", "debug", "--for", "10m", "--dry-run")["log"]
    assert tried == {"level": "DEBUG", "then": "INFO"}
    assert node.ctl("status")["log"] == for_good == {"level": "INFO"}
    assert [change["key"] for change in node.ctl("config", "diff")["changes"]] == ["log.level"]


# -- the node


async def test_a_drained_node_refuses_what_is_new_ends_its_streams_whole_and_takes_requests_again(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault(LONG)
    async with streams(node) as crowd:
        await crowd.start(10)
        draining = asyncio.create_task(act(node, "drain", seconds=50))
        await until(lambda: node.health("/ready").status_code == 503, "it is not ready")
        refused = await asyncio.to_thread(node.post, WHOLE)
        status = await asyncio.to_thread(AdminClient(node.socket).request, "GET", "/v1/status")
        running = not draining.done()
        ended = await crowd.finish()
        drained = await draining
    calls = len(primary.requests())
    undrained = post(node, "undrain")
    served = node.post(WHOLE)

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert int(refused.headers["retry-after"]) >= 1
    assert (status["phase"], status["status"]) == ("draining", "draining")
    assert "node_draining" in {alert["kind"] for alert in status["alerts"]}
    assert running
    assert [stream.whole for stream in ended] == [True] * 10
    assert drained["in_flight"] == 0
    assert calls == 10
    assert undrained["phase"] == "ready"
    assert served.status_code == 200
    assert node.health("/ready").status_code == 200
    assert node.process.poll() is None


async def test_a_drain_that_takes_too_long_is_6_and_goes_on_and_one_taken_back_is_5(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault(ENDLESS)
    async with streams(node) as crowd:
        await crowd.start(1)
        late = await asyncio.to_thread(node.ctl_raw, "drain", "--timeout", "300ms")
        still = (await asyncio.to_thread(node.health, "/ready")).status_code
        waiting = asyncio.create_task(asyncio.to_thread(node.ctl_raw, "drain", "--timeout", "1h"))
        await until(lambda: node.log.read_text().count("draining by an operator") == 2, "the second one waits")
        await act(node, "undrain")
        taken_back = await waiting
        again = await asyncio.to_thread(node.health, "/ready")

    assert (late.returncode, still) == (6, 503)
    assert "1 requests are in flight still after 0.3 s" in late.stderr
    assert taken_back.returncode == 5
    assert again.status_code == 200


async def refusal(node: Gateway, path: str) -> str:
    """Why an act is refused."""
    with pytest.raises(Refused) as caught:
        await act(node, path)
    return caught.value.code


async def test_shutdown_ends_streams_whole_answers_and_ends_the_process_with_0(
    node: Gateway, primary: Upstream
) -> None:
    primary.fault(LONG)
    async with streams(node) as crowd:
        await crowd.start(10)
        shutting = asyncio.create_task(asyncio.to_thread(node.ctl_raw, "--json", "shutdown", "--timeout", "50s"))
        await until(lambda: node.health("/ready").status_code == 503, "it is not ready")
        refused = await asyncio.to_thread(node.post, WHOLE)
        again = [await refusal(node, verb) for verb in ("shutdown", "undrain")]
        ended = await crowd.finish()
        done = await shutting

    assert refused.status_code == 503
    assert again == ["conflict", "conflict"]
    assert [stream.whole for stream in ended] == [True] * 10
    assert (done.returncode, json.loads(done.stdout)) == (0, {"v": 1, "phase": "stopping", "cut": 0}), done
    assert node.process.wait(15) == 0
    assert not node.socket.exists()
    assert node.ctl_raw("status").returncode == 69


async def test_shutdown_tells_streams_that_outlast_its_time_and_ends_with_0(node: Gateway, primary: Upstream) -> None:
    primary.fault(ENDLESS)
    async with streams(node) as crowd:
        await crowd.start(2)
        done = await asyncio.to_thread(node.ctl_raw, "--json", "shutdown", "--timeout", "300ms")
        await crowd.finish()

    assert json.loads(done.stdout)["cut"] == 2
    assert all(stream.error is None and b'"code":"draining"' in stream.body for stream in crowd.all)
    assert not any(b"[DONE]" in stream.body for stream in crowd.all)
    assert node.process.wait(15) == 0


# -- from Python


async def test_the_calls_from_python_do_the_same_here_and_elsewhere(tmp_path: Path) -> None:
    environ = {
        "RUNESTONE_PORT": "0",
        "RUNESTONE_HEALTH_PORT": "0",
        "RUNESTONE_ADMIN_SOCKET": str(tmp_path / "admin.sock"),
    }
    async with Node(environ=environ, demo=True) as here, RemoteNode(here.socket) as elsewhere:
        for node in (here, elsewhere):
            factory, breakers, groups = ProviderFactory(node), CircuitBreakerManager(node), FailoverManager(node)
            drained = await factory.drain_provider(OPENAI, wait=True, timeout=5.0)
            kept = await factory.maintain_provider(OPENAI)
            tried = await factory.test_provider(OPENAI, stream=True)
            ready = await factory.ready_provider(OPENAI)
            assert [one["state"] for one in (drained, kept, ready)] == ["draining", "maintenance", "ready"]
            assert (tried["ok"], tried["stream"]) == (True, True)

            await breakers.trip_circuit(OPENAI, seconds=60.0)
            assert await breakers.get_circuit_state(OPENAI) == "open"
            assert (await factory.test_provider(OPENAI))["ok"] is False
            await breakers.auto_circuit(OPENAI)
            await breakers.disable_circuit(OPENAI)
            assert await breakers.get_circuit_state(OPENAI) == "closed"
            await breakers.auto_circuit(OPENAI)

            assert (await groups.remove_providers(GROUP, [OPENAI]))["members"] == [ANTHROPIC]
            assert (await groups.add_providers(GROUP, [OPENAI]))["members"] == [ANTHROPIC, OPENAI]
            assert [one["provider"] for one in await factory.restart_provider("all")] == [ANTHROPIC, OPENAI]
            assert [one["provider"] for one in await factory.restart_provider(OPENAI)] == [OPENAI]
            assert (await TelemetryHandler(node).set_log_level("debug", seconds=60.0))["then"] == "INFO"
            assert await TelemetryHandler(node).set_log_level("info") == {"level": "INFO"}
            await node.drain(5.0)
            await node.undrain()
            for refused, reason in (
                (factory.drain_provider("nobody"), "not_found"),
                (factory.test_provider("nobody"), "not_found"),
                (groups.remove_providers(GROUP, [OPENAI, ANTHROPIC]), "refused"),
                (groups.add_providers(GROUP, ["nobody"]), "missing_providers"),
                (elsewhere.shutdown(), "refused"),
            ):
                with pytest.raises(OperationError) as caught:
                    await refused
                assert caught.value.reason == reason
