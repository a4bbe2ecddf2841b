"""Settings that change while the node runs, driven from outside: signals, ``ctl``, and what clients and providers see of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO, streams
from tests.support.plain import PLAIN

OPENAI = "openai-default"
WHOLE = {**HELLO, "stream": False}
FILE = """
[retry]
max_attempts = {attempts}

[providers.second]
kind = "openai"
base_url = "{url}"
api_key = "sk-second"
default_model = "gpt-4o-mini"
timeout_ms = {timeout}

[groups.fast]
members = ["second"]

[models]
quick = {{ model = "gpt-4o-mini", group = "fast" }}
"""


def written(path: Path, upstream: Upstream, *, attempts: int = 3, timeout: int = 60000, more: str = "") -> Path:
    path.write_text(FILE.format(attempts=attempts, url=upstream.url, timeout=timeout) + more)
    path.chmod(0o600)
    return path


def incarnations(node: Gateway) -> dict[str, int]:
    return {p["name"]: p["incarnation"] for p in node.ctl("providers")["providers"]}


def reload(node: Gateway) -> dict[str, Any]:
    return node.ctl("config", "reload")


def served_by(node: Gateway, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> str:
    answer = node.post({**WHOLE, **(body or {})}, headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-runestone-provider"]


@pytest.fixture
def file(tmp_path: Path, primary: Upstream) -> Path:
    return written(tmp_path / "runestone.toml", primary)


@pytest.fixture
def configured(serve: Callable[..., Gateway], file: Path) -> Gateway:
    return serve("--config", str(file))


def test_a_file_s_providers_groups_and_aliases_serve(configured: Gateway, primary: Upstream) -> None:
    assert served_by(configured) == "openai-default"
    assert served_by(configured, {"model": "quick"}) == "second"
    assert served_by(configured, {"model": "fast"}) == "second"
    assert served_by(configured, headers={"x-runestone-group": "fast"}) == "second"
    assert served_by(configured, {"model": "second/gpt-4o"}) == "second"
    assert [r["body"]["model"] for r in primary.requests()][-1] == "gpt-4o"


def test_a_reload_restarts_the_one_actor_whose_settings_changed_and_no_stream_notices(
    configured: Gateway, file: Path, primary: Upstream
) -> None:
    primary.fault("pace=0.05")
    before = incarnations(configured)

    async def run() -> None:
        async with streams(configured) as crowd:
            await crowd.start(100)
            written(file, primary, timeout=61000)
            done = await anyio.to_thread.run_sync(reload, configured)
            assert done["done"] == ["provider second: restarted"]
            assert all(stream.whole for stream in await crowd.finish())

    anyio.run(run)

    assert incarnations(configured) == {**before, "second": before["second"] + 1}


def test_a_broken_file_changes_nothing_and_is_told_line_by_line(
    configured: Gateway, file: Path, primary: Upstream
) -> None:
    before = configured.ctl("config", "show")
    written(file, primary, more='[server]\nprot = 1\n[failover]\nstrategy = "fastest"\n')

    refused = configured.ctl_raw("config", "reload")

    assert refused.returncode == 78
    lines = refused.stderr.splitlines()
    assert any(
        "runestone.toml:18: server.prot: is not known" in line and "did you mean port?" in line for line in lines
    )
    assert any("runestone.toml:20: failover.strategy: is not known" in line for line in lines)
    assert configured.ctl("config", "show") == before
    assert served_by(configured, {"model": "quick"}) == "second"


def test_sighup_reads_the_file_again(configured: Gateway, file: Path, primary: Upstream) -> None:
    file.write_text(
        file.read_text().replace("[groups.fast]", "[groups.faster]").replace('group = "fast"', 'group = "faster"')
    )

    configured.process.send_signal(signal.SIGHUP)

    eventually(lambda: configured.post({**WHOLE, "model": "faster"}).status_code == 200, "the new group serves")
    assert configured.post({**WHOLE, "model": "fast"}).status_code == 404


def test_the_only_provider_is_restarted_and_changed_under_load_and_no_request_is_refused(
    serve: Callable[..., Gateway],
) -> None:
    node = serve(ANTHROPIC_API_KEY="")
    statuses: list[int] = []
    over = threading.Event()

    def client() -> None:
        with httpx.Client(**PLAIN, timeout=30) as one:
            while not over.is_set():
                statuses.append(one.post(f"{node.base_url}/chat/completions", json=WHOLE).status_code)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for each in clients:
        each.start()
    for number in range(10):
        node.ctl("provider", "restart", "openai-default", *(["--hard"] if number % 2 else []))
        node.ctl("provider", "set", "openai-default", "--timeout", f"{60 + number}s")
    over.set()
    for each in clients:
        each.join(30)

    assert set(statuses) == {200}, Counter(statuses)
    assert len(statuses) > 100
    assert node.provider("openai-default")["incarnation"] == 21


def test_a_watched_file_is_read_again_when_it_changes_also_by_another_in_its_place(
    serve: Callable[..., Gateway], file: Path, primary: Upstream
) -> None:
    node = serve("--config", str(file), "--watch")
    other = file.with_suffix(".new")
    other.write_text(
        file.read_text().replace("[groups.fast]", "[groups.swift]").replace('group = "fast"', 'group = "swift"')
    )
    other.rename(file)
    eventually(lambda: node.post({**WHOLE, "model": "swift"}).status_code == 200, "the new group serves")

    file.write_text("[nonsense")
    eventually(lambda: "configuration refused" in node.log.read_text(), "the broken file is refused")
    assert served_by(node, {"model": "quick"}) == "second"


def test_a_port_that_changed_is_told_to_need_a_restart(configured: Gateway, file: Path, primary: Upstream) -> None:
    written(file, primary, more="[admin]\nsocket = '/nowhere/admin.sock'\n")
    environment_wins = configured.ctl("config", "reload")
    assert environment_wins["needs_restart"] == []

    written(file, primary, more="[log]\nformat = 'pretty'\n")
    assert reload(configured)["needs_restart"] == ["log.format"]


def test_a_key_that_was_taken_away_is_refused_from_then_on(
    serve: Callable[..., Gateway], tmp_path: Path, primary: Upstream
) -> None:
    keys = '[keys.a]\nkey = "key-a"\n[keys.b]\nkey = "key-b"\n'
    file = written(tmp_path / "keys.toml", primary, more=keys)
    node = serve("--config", str(file))
    a, b = {"authorization": "Bearer key-a"}, {"authorization": "Bearer key-b"}
    assert (node.post(WHOLE, a).status_code, node.post(WHOLE, b).status_code) == (200, 200)

    written(file, primary, more=keys.partition("[keys.b]")[0])
    assert reload(node)["done"] == ["inbound keys: changed"]

    assert (node.post(WHOLE, a).status_code, node.post(WHOLE, b).status_code) == (200, 401)


def test_a_key_may_use_its_groups_only(serve: Callable[..., Gateway], tmp_path: Path, primary: Upstream) -> None:
    keys = '[keys.search]\nkey = "key-search"\ngroups = ["fast"]\n[keys.all]\nkey = "key-all"\n'
    node = serve("--config", str(written(tmp_path / "keys.toml", primary, more=keys)))
    mine = {"authorization": "Bearer key-search"}

    assert served_by(node, headers=mine) == "second"  # its own group, without asking
    assert served_by(node, {"model": "quick"}, mine) == "second"
    assert served_by(node, {"model": "second/gpt-4o"}, mine) == "second"
    refused = node.post(WHOLE, {**mine, "x-runestone-group": "default-chat-service"})
    pinned = node.post({**WHOLE, "model": "openai-default/gpt-4o"}, mine)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "group_not_allowed")
    assert (pinned.status_code, pinned.json()["error"]["code"]) == (403, "provider_not_allowed")
    assert served_by(node, {"model": "openai-default/gpt-4o"}, {"authorization": "Bearer key-all"}) == "openai-default"


def test_a_provider_registered_at_run_time_serves_and_survives_a_crash_of_every_actor(
    serve: Callable[..., Gateway], primary: Upstream
) -> None:
    node = serve("--allow-faults")
    added = run(
        node, "provider", "add", "custom", "--kind", "openai", "--base-url", primary.url, "--key-stdin", key="sk-custom"
    )
    assert added["done"][0] == "provider custom: started"
    assert served_by(node, {"model": "custom/gpt-4o-mini"}) == "custom"
    node.ctl("group", "create", "only-custom", "--members", "custom", "--strategy", "fastest_first")
    node.ctl("breaker", "set", "custom", "--failure-threshold", "10", "--recovery-timeout", "120s")

    for actor in (
        "provider:custom",
        "transport:custom",
        "roster",
        "failover",
        "configuration",
        "providers",
        "telemetry",
        "costs",
    ):
        node.ctl("crash", actor)
        eventually(lambda: node.post({**WHOLE, "model": "only-custom"}).status_code == 200, f"it serves after {actor}")

    shown = node.provider("custom")
    assert shown["breaker"]["failure_threshold"] == 10
    assert shown["breaker"]["recovery_timeout_seconds"] == 120.0


def test_an_edit_tells_what_each_setting_was_and_is_before_it_is_made_and_after(node: Gateway) -> None:
    words = ("provider", "set", OPENAI, "--timeout", "3s", "--retry-attempts", "2")

    tried, made, again = node.ctl(*words, "--dry-run"), node.ctl(*words), node.ctl(*words)

    changes = [
        {"key": "providers.openai-default.retry_attempts", "before": 3, "after": 2},
        {"key": "providers.openai-default.timeout_ms", "before": 120_000, "after": 3000},
    ]
    assert tried["changes"] == made["changes"] == changes
    assert (again["changes"], again["done"]) == ([], [])
    person = node.ctl_raw("provider", "set", OPENAI, "--timeout", "4s", "--dry-run").stdout.splitlines()
    assert "providers.openai-default.timeout_ms: 3000 -> 4000" in person
    assert f"{OPENAI}: its breaker and score would be kept" in person


def test_of_another_key_that_alone_is_told_and_that_what_was_learned_is_gone(node: Gateway) -> None:
    edit = ["provider", "set", OPENAI, "--key-stdin"]
    node.ctl("breaker", "trip", OPENAI)

    tried, made = run(node, *edit, "--dry-run", key="sk-another"), run(node, *edit, key="sk-another")

    told = {"key": "providers.openai-default.api_key", "before": "***", "after": "***"}
    for answer in (tried, made):
        assert (answer["changes"], answer["learned"]) == ([told], {OPENAI: "forgotten"})
    assert node.ctl("breaker", "show", OPENAI)["breaker"]["state"] == "closed"


def test_a_breaker_that_would_be_tuned_is_told_as_it_is_with_what_stays(node: Gateway) -> None:
    node.ctl("breaker", "trip", OPENAI)
    words = ("breaker", "set", OPENAI, "--failure-threshold", "9")

    tried = node.ctl(*words, "--dry-run")
    person = node.ctl_raw(*words, "--dry-run").stdout.splitlines()
    made = node.ctl(*words)

    assert (tried["breaker"]["state"], tried["breaker"]["failure_threshold"]) == ("open", 5)
    key = f"providers.{OPENAI}.circuit_breaker.failure_threshold"
    assert tried["changes"] == made["changes"] == [{"key": key, "before": 5, "after": 9}]
    assert tried["learned"] == made["learned"] == {OPENAI: "kept"}
    assert "kept" not in tried["breaker"]
    assert {f"{key}: 5 -> 9", f"{OPENAI}: its breaker and score would be kept"} <= set(person)
    assert (made["breaker"]["state"], made["breaker"]["failure_threshold"]) == ("open", 9)


def test_what_is_tuned_of_a_breaker_that_only_measures_waits(node: Gateway) -> None:
    node.ctl("provider", "set", OPENAI, "--circuit-breaker", "false")

    for more in (["--dry-run"], []):
        told = node.ctl("breaker", "set", OPENAI, "--failure-threshold", "9", *more)
        assert (told["breaker"]["mode"], told["breaker"]["failure_threshold"]) == ("measuring", 5)
        assert (told["breaker"]["kept"], told["changes"]) == ({"failure_threshold": 9}, [])
    tuned = [one for one in node.ctl("config", "diff")["changes"] if one["key"].startswith("breakers.")]
    assert [(one["value"], one["before"]) for one in tuned] == [(9, 5)]
    node.ctl("provider", "set", OPENAI, "--circuit-breaker", "true")
    assert node.ctl("breaker", "show", OPENAI)["breaker"]["failure_threshold"] == 9


def test_registrations_are_refused_with_the_guide_s_words(node: Gateway, primary: Upstream) -> None:
    def refusal(*arguments: str, code: int = 1) -> str:
        done = node.ctl_raw("--json", *arguments)
        assert done.returncode == code, done
        return str(json.loads(done.stdout)["error"]["code"])

    url = ("--base-url", primary.url)
    assert refusal("provider", "add", "x", "--kind", "openai", *url) == "missing_api_key"
    assert refusal("group", "create", "g", "--members", "nobody,openai-default", code=3) == "missing_providers"
    assert refusal("provider", "remove", "nobody", code=3) == "not_found"
    assert refusal("breaker", "set", "later", "--half-open-limit", "0", code=78) == "invalid"
    assert refusal("group", "delete", "cost-optimized-service") == "refused"
    assert refusal("failover", "explain", "nobody", "--model", "gpt-4o", code=3) == "not_found"
    assert refusal("failover", "explain", "default-chat-service", "--model", "nobody-knows") == "model_not_found"
    assert refusal("group", "create", "default-chat-service", "--members", "openai-default", code=5) == "conflict"
    assert refusal("breaker", "set", "openai-default", "--failure-threshold", "0", code=78) == "invalid"
    assert [g["name"] for g in node.ctl("group", "list")["groups"]] == [
        "cost-optimized-service",
        "default-chat-service",
    ]


def test_a_breaker_tuned_before_its_provider_is_there_is_applied_when_it_comes(
    node: Gateway, primary: Upstream
) -> None:
    kept = node.ctl("breaker", "set", "later", "--half-open-limit", "5")
    assert kept["breaker"] == {"provider": "later", "state": None, "kept": {"half_open_limit": 5}}

    run(node, "provider", "add", "later", "--kind", "openai", "--base-url", primary.url, "--key-stdin", key="sk-later")

    assert node.provider("later")["breaker"]["half_open_limit"] == 5


def test_a_removed_provider_gets_nothing_new_and_its_streams_end_whole(node: Gateway, primary: Upstream) -> None:
    primary.fault("pace=0.05")

    async def scene() -> None:
        async with streams(node) as crowd:
            await crowd.start(20)
            removed = await anyio.to_thread.run_sync(lambda: node.ctl("provider", "remove", "openai-default"))
            assert removed["done"][-1] == "provider openai-default: removed"
            assert all(stream.whole for stream in await crowd.finish())

    anyio.run(scene)

    assert served_by(node) == "anthropic-default"
    assert "openai-default" not in node.health("/metrics").text
    assert node.ctl_raw("provider", "show", "openai-default").returncode == 3


def test_new_requests_go_elsewhere_while_a_removed_provider_drains(node: Gateway, primary: Upstream) -> None:
    primary.fault("pace=0.2")
    with one_open_stream(node, primary):
        removal = threading.Thread(target=lambda: node.ctl("provider", "remove", "openai-default"))
        removal.start()
        eventually(lambda: served_by(node) == "anthropic-default", "the other one serves")
        assert removal.is_alive()
        before = len(primary.requests())
        assert [served_by(node) for _ in range(5)] == ["anthropic-default"] * 5
        assert len(primary.requests()) == before
    removal.join(30)


def test_legacy_mode_asks_the_first_member_alone_for_the_node_or_one_group(node: Gateway, primary: Upstream) -> None:
    primary.fault("status=503")
    assert node.post(WHOLE).status_code == 200  # the other provider stands in

    node.ctl("mode", "legacy")
    assert node.post(WHOLE).status_code >= 500
    node.ctl("mode", "enhanced")
    node.ctl("breaker", "reset", "openai-default")
    assert node.post(WHOLE).status_code == 200

    node.ctl("mode", "legacy", "--group", "default-chat-service")
    node.ctl("breaker", "reset", "openai-default")
    assert node.post(WHOLE).status_code >= 500
    assert node.ctl("failover", "show", "default-chat-service")["failover"]["mode"] == "legacy"
    assert served_by(node, {"model": "anthropic-default/claude-sonnet-4-5"}) == "anthropic-default"


def test_a_strategy_set_live_changes_who_serves(node: Gateway) -> None:
    assert {served_by(node) for _ in range(4)} == {"openai-default"}  # priority

    node.ctl("group", "set", "default-chat-service", "--members", "anthropic-default,openai-default")
    node.ctl("failover", "set-strategy", "default-chat-service", "round_robin")

    shares = [served_by(node, {"model": "default-chat-service"}) for _ in range(6)]
    assert shares.count("anthropic-default") == shares.count("openai-default") == 3


def test_what_was_changed_is_shown_and_exported_without_its_keys(
    node: Gateway, primary: Upstream, tmp_path: Path
) -> None:
    run(
        node,
        "provider",
        "add",
        "custom",
        "--kind",
        "openai",
        "--base-url",
        primary.url,
        "--key-stdin",
        key="sk-canary42",
    )
    node.ctl("group", "create", "mine", "--members", "custom,openai-default", "--weight", "custom=3")

    diff = {c["key"]: c["value"] for c in node.ctl("config", "diff")["changes"]}
    assert diff["providers.custom.api_key"] == "***"
    assert diff["groups.mine.weights.custom"] == 3.0
    exported = tmp_path / "exported.toml"
    exported.write_text(node.ctl("config", "export")["toml"])
    checked = subprocess.run(
        [sys.executable, "-m", "runestone", "config", "check", "--json", "--config", str(exported)],
        env={"CUSTOM_API_KEY": "sk-x", "OPENAI_API_KEY": "sk-y", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked
    assert json.loads(checked.stdout)["groups"]["mine"] == ["custom", "openai-default"]
    everything = [diff, exported.read_text(), node.told(), node.ctl("config", "show"), node.detailed()]
    assert "canary42" not in repr([*everything, node.ctl("status"), node.ctl("provider", "show", "custom")])


def test_failover_explain_tells_a_time_that_a_person_can_read(node: Gateway) -> None:
    node.post({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "stream": True})

    told = node.ctl("failover", "explain", "default-chat-service", "--model", "gpt-4o-mini")["explanation"]

    seconds = told["candidates"][0]["first_token_seconds"]
    assert seconds > 0
    assert seconds == round(seconds, 4)


def test_failover_explain_tells_who_would_serve_and_who_would_not_and_why(node: Gateway) -> None:
    node.ctl("breaker", "trip", "openai-default")

    told = node.ctl("failover", "explain", "default-chat-service", "--model", "gpt-4o-mini")["explanation"]

    by_name = {c["provider"]: c for c in told["candidates"]}
    assert by_name["openai-default"]["verdict"] == "skipped"
    assert by_name["openai-default"]["why"] == "its breaker is open until `breaker auto` or `reset`"
    assert by_name["anthropic-default"]["verdict"] == "first"
    assert by_name["anthropic-default"]["tier"] == 2
    assert served_by(node) == "anthropic-default"


def test_health_check_all_asks_each_provider_and_none_is_billed(
    node: Gateway, primary: Upstream, secondary: Upstream
) -> None:
    found = node.ctl("health", "check", "all")["health"]

    assert {name: probe["ok"] for name, probe in found.items()} == {"openai-default": True, "anthropic-default": True}
    assert primary.requests() == secondary.requests() == []


def run(node: Gateway, *arguments: str, key: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "runestone", "ctl", "--socket", str(node.socket), "--json", *arguments]
    done = subprocess.run(command, input=key + "\n", capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done
    return dict(json.loads(done.stdout))


@contextmanager
def one_open_stream(node: Gateway, upstream: Upstream) -> Iterator[None]:
    """A stream that is being read meanwhile."""
    reader = threading.Thread(target=lambda: node.post(HELLO))
    reader.start()
    eventually(lambda: upstream.state()["open_streams"] == 1, "the stream is open")
    yield
    reader.join(30)


PRICES = """
[groups.thrifty]
members = ["openai-default", "second"]
strategy = "cost_optimized"
models = {{ m = {{ openai-default = "m-large", second = "m-small" }} }}

[prices."m-large"]
input_per_million_usd = {large}
output_per_million_usd = 1

[prices."m-small"]
input_per_million_usd = 1
output_per_million_usd = 9
"""


def test_the_cheapest_provider_for_this_very_request_serves_and_prices_change_live(
    configured: Gateway, file: Path, primary: Upstream
) -> None:
    written(file, primary, more=PRICES.format(large=2))
    reload(configured)
    thrifty = {"x-runestone-group": "thrifty"}
    short = {"model": "m", "max_tokens": 1000}
    long = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "word " * 2000}]}

    assert served_by(configured, short, thrifty) == "openai-default"
    assert served_by(configured, long, thrifty) == "second"
    told = configured.ctl("failover", "explain", "thrifty", "--model", "m")["explanation"]
    assert [(c["provider"], c["price"]) for c in told["candidates"]] == [("openai-default", 0.003), ("second", 0.01)]

    written(file, primary, more=PRICES.format(large=2000))
    reload(configured)

    assert served_by(configured, short, thrifty) == "second"


def test_providers_of_other_kinds_are_added_as_their_row_says(node: Gateway, primary: Upstream) -> None:
    added = node.ctl("provider", "add", "local", "--kind", "ollama", "--base-url", primary.url)
    assert added["provider"]["kind"] == "ollama"

    assert served_by(node, {"model": "local/llama"}) == "local"
    assert served_by(node, {"model": "ollama/llama", "max_completion_tokens": 7}) == "local"
    request = primary.requests()[-1]
    assert "authorization" not in request["headers"]
    assert request["body"]["max_tokens"] == 7
    nowhere = node.ctl_raw("provider", "add", "cloud", "--kind", "azure")
    assert (nowhere.returncode, "needs a base_url" in nowhere.stderr) == (78, True)
    keyless = node.ctl_raw("provider", "add", "fast", "--kind", "groq")
    assert (keyless.returncode, "GROQ_API_KEY" in keyless.stderr) == (1, True)


def test_a_provider_s_key_is_found_in_its_vendor_s_variable_and_goes_to_its_vendor_alone(
    serve: Callable[..., Gateway], tmp_path: Path, primary: Upstream
) -> None:
    path = tmp_path / "runestone.toml"
    path.write_text(
        f'[providers.quick]\nkind = "groq"\n[providers.elsewhere]\nkind = "groq"\nbase_url = "{primary.url}"\n'
    )
    node = serve("--config", str(path), GROQ_API_KEY="gsk-1")

    assert node.provider("quick")["base_url"] == "https://api.groq.com/openai/v1"
    assert [(m["name"], m["reason"]) for m in node.ctl("status")["missing"]] == [("elsewhere", "missing_api_key")]
