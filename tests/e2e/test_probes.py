"""Active probes of real processes: free, told, and of no say but on who goes first while nobody is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from runestone.console.client import AdminClient
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO
from tests.e2e.test_health import total

WHOLE = {**HELLO, "stream": False}
OFTEN = {"RUNESTONE_PROBE_INTERVAL_MS": "100"}


def probed(node: Gateway, name: str, outcome: str = "ok") -> float:
    """How many probes of ``name`` have ended so."""
    return total(node, "runestone_probes_total", provider=name, outcome=outcome)


def asked_for_models(upstream: Upstream, times: int = 1) -> bool:
    return int(upstream.state()["lists"]) >= times


def score(node: Gateway, name: str = "openai-default") -> float:
    return float(node.health(f"/providers/{name}").json()["health_score"])


def served_by(node: Gateway) -> tuple[str, str]:
    """Who answers a request, and at which attempt."""
    answer = node.post(WHOLE)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-runestone-provider"], answer.headers["x-runestone-attempts"]


def test_an_idle_gateway_asks_for_models_and_sends_no_prompt(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream
) -> None:
    node = serve(**OFTEN)

    for upstream, name in ((primary, "openai-default"), (secondary, "anthropic-default")):
        eventually(partial(asked_for_models, upstream, 3), "it was asked for its models")
        eventually(partial(probed, node, name), "its probes are counted")
        shown = node.provider(name)
        assert shown["last_probe"]["what"] == "ok: answers"
        assert shown == {**node.health(f"/providers/{name}").json(), "last_probe": shown["last_probe"]}
        assert (shown["calls"], shown["failures"], shown["in_flight"], shown["last_success"]) == (0, 0, 0, None)
        assert upstream.state()["requests"] == 0
    assert total(node, "runestone_provider_attempts_total") == 0


def test_an_idle_provider_that_is_gone_is_passed_over_until_it_is_back(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream, tmp_path: Path
) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text(f'[providers.spare]\nkind = "openai"\nbase_url = "{secondary.url}"\napi_key = "sk-spare"\n')
    node = serve("--config", str(file), **OFTEN)
    assert served_by(node) == ("openai-default", "1")

    primary.fault("refused")
    eventually(lambda: score(node) == 0.0, "it is found gone")

    assert served_by(node) == ("spare", "1")
    assert node.provider("openai-default")["breaker"]["state"] == "closed"
    assert node.provider("openai-default")["last_probe"]["what"].startswith("unreachable: ")
    assert probed(node, "openai-default", "unreachable") >= 2
    (alert,) = AdminClient(node.socket).request("GET", "/v1/dashboard")["dashboard"]["alerts"]
    assert (alert["severity"], alert["about"]) == ("warning", "openai-default")
    assert alert["message"].startswith("openai-default has not taken a probe well: unreachable: ")
    assert total(node, "runestone_failovers_total") == 0
    assert [line for line in node.told().splitlines() if "probe of openai-default: unreachable" in line][1:] == []

    primary.fault("none")
    eventually(lambda: score(node) == 1.0, "it is found again")

    assert AdminClient(node.socket).request("GET", "/v1/dashboard")["dashboard"]["alerts"] == []
    assert served_by(node) == ("openai-default", "1")


def test_the_only_provider_of_a_family_is_asked_first_though_probes_find_it_gone_until_its_breaker_opens(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    """What a probe says is no refusal, and another model is another answer: the second tier serves after a call has failed."""
    node = serve(**OFTEN, RETRY_MAX_ATTEMPTS="1", CIRCUIT_BREAKER_FAILURE_THRESHOLD="2")
    primary.fault("refused")
    eventually(lambda: score(node) == 0.0, "it is found gone")

    assert served_by(node) == ("anthropic-default", "2")
    assert node.ctl("failover", "show", "default-chat-service")["failover"]["panics"] == 1
    assert served_by(node) == ("anthropic-default", "2")
    eventually(lambda: node.provider("openai-default")["breaker"]["state"] == "open", "two calls have failed")
    assert served_by(node) == ("anthropic-default", "1")


def test_an_open_breaker_is_not_moved_by_probes(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve(**OFTEN, RETRY_MAX_ATTEMPTS="1", CIRCUIT_BREAKER_FAILURE_THRESHOLD="2")
    primary.fault("status=500")
    for _ in range(2):
        node.post(WHOLE)
    primary.fault("none")
    before, asked = node.provider("openai-default")["breaker"], primary.state()["requests"]
    count = probed(node, "openai-default")

    eventually(lambda: probed(node, "openai-default") >= count + 5, "probes that end well")

    after = node.provider("openai-default")["breaker"]
    assert (before["state"], after["state"]) == ("open", "open")
    assert after["generation"] == before["generation"]
    assert after["retry_in_seconds"] < before["retry_in_seconds"] <= 66.0
    assert served_by(node)[0] == "anthropic-default"
    assert primary.state()["requests"] == asked


def test_probes_are_switched_off_for_one_provider_while_it_runs(
    serve: Callable[..., Gateway], primary: Upstream, secondary: Upstream
) -> None:
    node = serve(**OFTEN)
    eventually(lambda: asked_for_models(primary), "it is probed")

    node.ctl("provider", "set", "openai-default", "--probe-interval", "0")
    asked, other = primary.state()["lists"], secondary.state()["lists"]
    eventually(lambda: asked_for_models(secondary, other + 5), "the other one still is")

    assert primary.state()["lists"] == asked
    assert node.provider("openai-default")["last_probe"] is None


def test_probes_are_switched_on_by_a_file_that_is_read_again(
    serve: Callable[..., Gateway], primary: Upstream, tmp_path: Path
) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text("[providers.openai-default]\nprobe_interval_ms = 0\n")
    node = serve("--config", str(file), **OFTEN)
    eventually(lambda: probed(node, "anthropic-default") >= 3, "the other one is probed")
    assert primary.state()["lists"] == 0

    file.write_text("[providers.openai-default]\nprobe_interval_ms = 100\n")
    node.ctl("config", "reload")

    eventually(lambda: asked_for_models(primary, 2), "it is probed too")


def test_a_prober_that_crashes_takes_nobody_with_it(serve: Callable[..., Gateway], primary: Upstream) -> None:
    node = serve("--allow-faults", **OFTEN)
    before = node.provider("openai-default")["incarnation"]

    node.ctl("crash", "prober:openai-default")
    asked = primary.state()["lists"]

    eventually(lambda: asked_for_models(primary, asked + 2), "it is probed again")
    assert node.provider("openai-default")["incarnation"] == before
    assert served_by(node) == ("openai-default", "1")
