"""What an operator does is told: who by their own words and by the kernel's, what, why, and what was otherwise before and after."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest

from runestone.console.client import AdminClient, Refused
from runestone.operations.edits import EDITS
from tests.e2e.node import Gateway, Upstream, eventually

CANARY = "sk-canary0123456789"


def acts(node: Gateway, **about: Any) -> list[dict[str, Any]]:
    """The events ``admin.acted`` of ``node``, with these fields."""
    found = node.ctl("events", "--name", "admin.acted", "--last", "1000")["events"]
    return [event for event in found if all(event[key] == value for key, value in about.items())]


def last(node: Gateway, **about: Any) -> dict[str, Any]:
    """The last of them."""
    return acts(node, **about)[-1]


def test_an_act_is_told_with_who_why_and_what_has_changed(node: Gateway) -> None:
    reason = "the vendor said so, ticket 4711"
    words = ["breaker", "trip", "openai-default", "--reason", reason]
    command = [sys.executable, "-m", "runestone", "ctl", "--socket", str(node.socket), *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        assert process.wait(30) == 0

    told = last(node)
    assert (told["uid"], told["pid"], told["reason"]) == (os.getuid(), process.pid, reason)
    assert told["who"].startswith(f"{getpass.getuser()}@")
    assert (told["action"], told["outcome"]) == ("POST /v1/breakers/openai-default/trip", "ok")
    assert told["before"] == {"status": "up", "breaker": "closed", "breaker_mode": "auto"}
    assert (told["after"]["breaker"], told["after"]["breaker_mode"]) == ("open", "forced_open")
    line = eventually(lambda: [line for line in node.log.read_text().splitlines() if reason in line], "it is logged")[0]
    assert f"uid {os.getuid()}, pid {process.pid}" in line
    assert "breaker: closed -> open" in line


@pytest.mark.parametrize(
    ("act", "before", "after"),
    [
        (["provider", "restart", "openai-default"], {"incarnation": 1}, {"incarnation": 2}),
        (
            ["provider", "set", "openai-default", "--timeout", "3s"],
            {"providers.openai-default.timeout_ms": 120_000},
            {"providers.openai-default.timeout_ms": 3000},
        ),
        (
            ["breaker", "set", "openai-default", "--failure-threshold", "9"],
            {"failure_threshold": 5},
            {"failure_threshold": 9},
        ),
        (
            ["failover", "set-strategy", "default-chat-service", "fastest_first"],
            {"groups.default-chat-service.strategy": "priority"},
            {"groups.default-chat-service.strategy": "fastest_first"},
        ),
        (["mode", "legacy"], {"server.mode": "enhanced"}, {"server.mode": "legacy"}),
        (
            ["mode", "legacy", "--group", "cost-optimized-service"],
            {"groups.cost-optimized-service.mode": "enhanced"},
            {"groups.cost-optimized-service.mode": "legacy"},
        ),
        (["log", "level", "info"], {"log.level": "DEBUG"}, {"log.level": "INFO"}),
        (
            ["log", "level", "info", "--for", "60s"],
            {"log.level": "DEBUG", "log.then": None},
            {"log.level": "INFO", "log.then": "DEBUG"},
        ),
        (["provider", "maint", "openai-default"], {"status": "up"}, {"status": "maintenance"}),
        (["breaker", "disable", "openai-default"], {"breaker_mode": "auto"}, {"breaker_mode": "disabled"}),
        (
            ["group", "remove", "cost-optimized-service", "anthropic-default"],
            {"groups.cost-optimized-service.members": "['openai-default', 'anthropic-default']"},
            {"groups.cost-optimized-service.members": "['openai-default']"},
        ),
        (["drain"], {"phase": "ready"}, {"phase": "draining"}),
        (["actor", "suspend", "failover", "--for", "60s"], {"state": "running"}, {"state": "suspended"}),
        (["breaker", "reset", "openai-default"], {}, {}),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_what_differs_is_told_and_nothing_else(
    node: Gateway, act: list[str], before: dict[str, Any], after: dict[str, Any]
) -> None:
    node.ctl(*act)

    told = last(node)
    interesting = {key: value for key, value in told["after"].items() if key in after or not after}
    assert {key: told["before"][key] for key in before} == before
    assert interesting == after
    assert set(told["before"]) == set(told["after"])
    assert len(told["after"]) <= len(after) + 1  # a provider that is set anew has a new incarnation


def test_a_new_provider_is_told_without_its_key_and_its_removal_likewise(node: Gateway, primary: Upstream) -> None:
    admin = AdminClient(node.socket)
    config = {"api_key": CANARY, "base_url": primary.url, "headers": {"x-secret": CANARY}}
    admin.request("POST", "/v1/providers", {"name": "late", "kind": "openai", "config": config})
    added = last(node)
    admin.request("POST", "/v1/providers/late", {"config": {"api_key": f"{CANARY}-other"}})
    keyed = last(node)
    admin.request("POST", "/v1/providers/late/remove")
    removed = last(node)

    assert added["after"]["providers.late.base_url"] == primary.url
    assert added["before"]["providers.late.base_url"] is None
    assert keyed["after"]["providers.late.api_key"] == "***"  # that it is another one is told, and no more
    assert removed["after"]["providers.late.base_url"] is None
    assert CANARY not in json.dumps([added, keyed, removed]) + node.told()


def test_a_refusal_is_told_with_its_reason_and_no_change(node: Gateway) -> None:
    node.ctl("group", "create", "g", "--members", "nobody", check=False)

    told = last(node)
    assert (told["outcome"], told["before"], told["after"]) == ("missing_providers", {}, {})


def test_words_of_a_caller_are_cut_and_forge_no_line(node: Gateway) -> None:
    headers = {"x-runestone-actor": "x" * 1000, "content-type": "application/json"}
    transport = httpx.HTTPTransport(uds=str(node.socket))
    with httpx.Client(transport=transport, base_url="http://node", headers=headers) as client:
        client.post(
            "/v1/breakers/openai-default/reset", params={"reason": f"a\n12:00:00 forged {CANARY} " + "y" * 1000}
        )

    told = last(node)
    assert len(told["who"]) == 200
    assert len(told["reason"]) <= 250
    assert "\n" not in told["reason"]
    assert CANARY not in node.told()
    assert not [line for line in node.told().splitlines() if line.startswith("12:00:00 forged")]


EDITED = (
    ["provider", "add", "late", "--kind", "ollama", "--base-url", "http://127.0.0.1:9/v1"],
    ["provider", "set", "openai-default", "--timeout", "3s"],
    ["provider", "remove", "openai-default"],
    ["breaker", "set", "openai-default", "--failure-threshold", "9"],
    ["group", "create", "mine", "--members", "openai-default"],
    ["group", "set", "default-chat-service", "--max-attempts", "2"],
    ["failover", "set-strategy", "default-chat-service", "fastest_first"],
    ["mode", "legacy"],
    ["log", "level", "error"],
    ["config", "reload"],
    ["group", "add", "doomed", "anthropic-default"],
    ["group", "remove", "default-chat-service", "anthropic-default"],
)


def test_a_dry_run_tells_what_an_edit_would_do_and_does_nothing(node: Gateway) -> None:
    node.ctl("group", "create", "doomed", "--members", "openai-default")
    before = node.ctl("config", "show"), node.ctl("config", "diff"), node.ctl("provider", "show", "openai-default")

    told = [node.ctl("--dry-run", *edit) for edit in (*EDITED, ["group", "delete", "doomed"])]

    assert all(one["dry_run"] for one in told)
    assert told[0]["done"] == ["provider late: started", "groups: changed"]
    assert told[1]["done"] == ["provider openai-default: restarted"]
    assert told[2]["done"] == ["groups: changed", "provider openai-default: removed"]
    assert told[5]["group"]["done"] == told[6]["group"]["done"] == ["groups: changed"]
    assert "would be done: mode: changed" in node.ctl_raw("mode", "legacy", "--dry-run").stdout
    after = node.ctl("config", "show"), node.ctl("config", "diff"), node.ctl("provider", "show", "openai-default")
    assert after[:2] == before[:2]
    assert after[2]["provider"]["incarnation"] == before[2]["provider"]["incarnation"]
    tried = acts(node, outcome="dry_run")
    assert {one["route"] for one in tried} == EDITS
    assert all(one["after"] == {} for one in tried)
    assert not [e for e in node.ctl("events", "--last", "1000")["events"] if e["event"] == "config.changed"][1:]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (["provider", "add", "openai-default", "--kind", "openai"], 5),
        (["provider", "add", "x", "--kind", "ollama", "--base-url", "nonsense"], 78),
        (["provider", "set", "nobody", "--timeout", "3s"], 3),
        (["group", "create", "g", "--members", "nobody"], 3),
        (["log", "level", "loud"], 78),
        (["provider", "restart", "openai-default"], 2),
        (["breaker", "trip", "openai-default"], 2),
        (["actor", "suspend", "failover"], 2),
    ],
)
def test_a_dry_run_refuses_what_the_edit_itself_would_and_what_is_none(
    node: Gateway, edit: list[str], code: int
) -> None:
    done = node.ctl_raw("--dry-run", *edit)

    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr
    assert node.ctl("config", "diff")["changes"] == []
    assert node.provider("openai-default")["incarnation"] == 1


def test_the_node_itself_tries_no_act_that_is_no_edit(node: Gateway) -> None:
    trying = AdminClient(node.socket, about={"dry_run": "true"})

    with pytest.raises(Refused, match="no edit of the settings") as refused:
        trying.request("POST", "/v1/breakers/openai-default/trip")

    assert refused.value.code == "usage"
    assert node.ctl("breaker", "show", "openai-default")["breaker"]["state"] == "closed"
