"""A fault in front of a provider that runs in another process: the client and the breaker see what the same fault at the provider shows.

The rows are those of the faults at the provider; what differs is how often that is called, which never hears of what never reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from runestone.domain.faults import UnknownFault, differences, parse
from runestone.providers.faulty import IN_FRONT, Front
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.rows import MODELS, WIRES, House, Wire, housed
from tests.e2e.streams import HELLO
from tests.e2e.test_faults import ROWS, Row
from tests.support.plain import PLAIN

WHOLE = {**HELLO, "stream": False}
PINNED = {**WHOLE, "model": "openai-default/gpt-4o-mini"}
AROUND = ("cut_after", "reset_after", "stall_after", "error_event_after", "invalid_json_after", "cut_at", "reset_at")
SLOW = ("stall_at", "slow", "slow_first_token", "pace")


def answers_itself(fault: str) -> bool:
    said = [name for name in differences(parse(fault)) if name not in ("rate", "seed", "times", "retry_after")]
    return "status" in said or not set(said) <= {*AROUND, *SLOW}


def calls(row: Row) -> int:
    """How often the provider is called: by none of the attempts that the fault answers."""
    if not answers_itself(row.fault):
        return row.calls
    return row.calls - 1 if "times=1" in row.fault else 0


def _cases() -> Iterator[object]:
    for row in ROWS:
        if not set(differences(parse(row.fault))) <= set(IN_FRONT):
            continue
        for provider in row.providers:
            for stream in row.streams:
                for client in WIRES if stream else (provider,):
                    name = f"{row.fault}, {provider} to {client}, {'stream' if stream else 'whole'}"
                    yield pytest.param(row, provider, client, stream, id=name)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, _openai: Upstream, _anthropic: Upstream) -> Iterator[House]:
    with housed(tmp_path_factory.mktemp("fronts"), _openai, _anthropic, "--allow-faults") as it:
        yield it


def put(house: House, provider: Wire, fault: str) -> None:
    house.admin.request("POST", f"/v1/providers/{provider}-default/fault", {"spec": fault})


@pytest.mark.parametrize(("row", "provider", "client", "stream"), list(_cases()))
def test_a_fault_in_front_has_the_effect_of_the_same_fault_at_the_provider(
    house: House, row: Row, provider: Wire, client: Wire, stream: bool
) -> None:
    house.clean()
    expected = (row.same if row.same and provider == client else row.ends)[WIRES.index(client)]
    put(house, provider, row.fault)
    try:
        seen = house.ask(f"{provider}-default/{MODELS[provider]}", client=client, stream=stream)
        after = house.provider(provider)
    finally:
        put(house, provider, "none")

    assert seen.ending == expected
    assert (house.calls(provider), after["breaker"]["consecutive_failures"], after["status"]) == (
        calls(row),
        row.failures,
        row.status,
    )
    assert after["fault"] == row.fault


def test_the_rows_hold_what_works_in_front() -> None:
    said = {name for row in ROWS for name in differences(parse(row.fault))}

    assert set(IN_FRONT) - said <= {"rate", "seed"}


@pytest.mark.parametrize(
    "fault",
    ["gzip_bomb", "endless_head", "endless_line", "comments", "many_headers", "wrong_length", "no_done", "done_twice"],
)
def test_what_makes_no_sense_in_front_is_refused_by_name_with_what_does(fault: str) -> None:
    with pytest.raises(UnknownFault, match=f"^{fault} makes sense at a simulated provider alone.*stall_after"):
        Front.saying(fault)


@pytest.fixture
def node(serve: Callable[..., Gateway]) -> Gateway:
    return serve("--allow-faults", OPENAI_CIRCUIT_BREAKER="false", RETRY_MAX_ATTEMPTS="1")


def test_a_person_switches_it_on_sees_it_and_switches_it_off(node: Gateway, primary: Upstream) -> None:
    on = node.ctl_raw("fault", "openai-default", "503", "retry_after=5")

    refused = node.post(PINNED)
    table, alerts = node.ctl_raw("providers").stdout, node.ctl("status")["alerts"]
    off = node.ctl("fault", "openai-default", "none")
    served = node.post(PINNED)

    assert "503 retry_after=5" in on.stdout
    assert (refused.status_code, served.status_code) == (503, 200)
    assert "503 retry_after=5" in table
    [alert] = [alert for alert in alerts if alert["kind"] == "fault_on"]
    assert alert["message"] == "openai-default has a fault switched on: 503 retry_after=5"
    assert alert["command"] == "runestone ctl fault openai-default none"
    assert off["fault"] == "none"
    assert [alert["kind"] for alert in node.ctl("status")["alerts"] if alert["kind"] == "fault_on"] == []
    assert primary.state()["requests"] == 1


def test_it_stays_over_a_crash_and_a_restart_until_it_is_switched_off(node: Gateway, primary: Upstream) -> None:
    node.ctl("fault", "openai-default", "503")
    before = node.provider("openai-default")["incarnation"]

    node.ctl("crash", "provider:openai-default")
    eventually(lambda: node.provider("openai-default")["incarnation"] > before, "it is back")
    after_a_crash = node.post(PINNED).status_code
    node.ctl("provider", "restart", "openai-default", "--hard")
    after_a_restart = node.post(PINNED).status_code

    assert (after_a_crash, after_a_restart, primary.state()["requests"]) == (503, 503, 0)
    assert node.provider("openai-default")["fault"] == "503"


def test_with_a_seed_the_same_requests_get_it_each_time(node: Gateway, primary: Upstream) -> None:
    def statuses() -> list[int]:
        node.ctl("fault", "openai-default", "503", "50%", "seed=7")
        return [node.post(PINNED).status_code for _ in range(12)]

    first, second = statuses(), statuses()

    assert first == second
    assert set(first) == {200, 503}
    assert primary.state()["requests"] == first.count(200) * 2


def test_nobody_takes_a_probe_of_a_provider_that_is_refused_in_front(node: Gateway) -> None:
    node.ctl("fault", "openai-default", "refused")

    found = node.ctl("health", "check", "openai-default", check=False)["health"]["openai-default"]
    node.ctl("fault", "openai-default", "503")
    there = node.ctl("health", "check", "openai-default")["health"]["openai-default"]

    assert (found["ok"], there["ok"]) == (False, True)
    assert "connection refused" in found["message"]


def test_failover_and_breaker_do_in_front_what_they_are_for(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve("--allow-faults", CIRCUIT_BREAKER_FAILURE_THRESHOLD="2", RETRY_MAX_ATTEMPTS="1")
    node.ctl("fault", "openai-default", "503")

    answers = [node.post(WHOLE) for _ in range(3)]

    assert {answer.headers["x-runestone-provider"] for answer in answers} == {"anthropic-default"}
    assert primary.state()["requests"] == 0
    assert node.provider("openai-default")["breaker"]["consecutive_failures"] >= 1


def test_streams_that_run_when_it_is_switched_on_run_on(node: Gateway, primary: Upstream) -> None:
    primary.fault("pace=0.05")
    body = {**HELLO, "model": "openai-default/gpt-4o-mini"}
    with httpx.stream("POST", f"{node.base_url}/chat/completions", json=body, **PLAIN, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        node.ctl("fault", "openai-default", "cut after=0")
        rest = list(lines)

    assert "data: [DONE]" in rest
    assert "[DONE]" not in node.post(body).text


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["fault", "nobody", "503"], 3, "there is no provider 'nobody'"),
        (["fault", "openai-default", "explode"], 1, "'explode' is not a fault"),
        (["fault", "openai-default", "gzip_bomb"], 1, "in front of one work refused, reset"),
    ],
)
def test_what_cannot_be_is_refused_in_words(node: Gateway, arguments: list[str], code: int, says: str) -> None:
    done = node.ctl_raw(*arguments)

    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


def test_where_it_is_not_enabled_it_is_refused_and_nothing_happens(serve: Callable[..., Gateway]) -> None:
    node = serve()

    done = node.ctl_raw("fault", "openai-default", "503")

    assert done.returncode == 1
    assert "serve --allow-faults" in done.stderr
    assert node.post(PINNED).status_code == 200


def test_a_provider_that_was_added_to_a_demo_has_its_fault_in_front(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve("--demo")
    arguments = ["--kind", "compatible", "--base-url", primary.url, "--default-model", "m"]
    node.ctl("provider", "add", "extra", *arguments)

    in_front = node.ctl("fault", "extra", "503")
    at_the_provider = node.ctl("fault", "openai-default", "gzip_bomb")

    assert (in_front["fault"], at_the_provider["fault"]) == ("503", "gzip_bomb")
    assert node.post({**WHOLE, "model": "extra/m"}).status_code == 503
    assert {p["name"]: p["fault"] for p in node.ctl("providers")["providers"]} == {
        "anthropic-default": None,
        "extra": "503",
        "openai-default": "gzip_bomb",
    }
    assert primary.state()["requests"] == 0
