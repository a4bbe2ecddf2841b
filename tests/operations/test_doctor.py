"""The doctor's rules over snapshots: each finds its trouble and nothing else, and says what helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from runestone.config.build import build
from runestone.config.load import read
from runestone.config.settings import (
    AuthSettings,
    GroupSettings,
    InboundKey,
    ProviderSettings,
    ServerSettings,
    Settings,
)
from runestone.operations.doctor import RULES, examine
from runestone.operations.findings import LEVELS, Finding
from runestone.operations.snapshot import ActorSight, ProviderSight, Snapshot
from runestone.resilience.retry import RetryPolicy
from runestone.telemetry.alerts import Alert, Condition
from runestone.telemetry.clock import Clock, Jump

NOW = 10_000.0
KEYS = AuthSettings(keys=(InboundKey("mine", b"digest"),))
SERVER = ServerSettings(admin_socket=Path("/nowhere"))


def settings(**more: Any) -> Settings:
    return Settings(**{"server": SERVER, "auth": KEYS, **more})


def sound(**more: Any) -> Snapshot:
    """A node that has nothing to say."""
    usual: dict[str, Any] = {
        "now": NOW,
        "settings": settings(),
        "providers": (ProviderSight(name="a"), ProviderSight(name="b")),
        "actors": (ActorSight(path="runestone/node/failover", depth=3, age_seconds=0.1),),
        "in_flight": 10,
        "connections": (79, 100),
        "descriptors": (100, 1024, 4096),
        "pid": 7,
        "reach_seconds": 4000.0,
    }
    return Snapshot(**usual | more)


def alert(kind: str, about: str = "a", severity: Any = "error", since: float = NOW, command: str = "x") -> Alert:
    condition = Condition(kind=kind, about=about, severity=severity, message=f"{about} {kind}", command=command)
    return Alert(condition=condition, since=since)


def seen(*alerts: Alert, **more: Any) -> Snapshot:
    return sound(alerts=alerts, **more)


def sights(**of_a: Any) -> Snapshot:
    return sound(providers=(ProviderSight(name="a", **of_a), ProviderSight(name="b")))


def configured(attempts: int = 3, timeout: float = 120.0, **more: Any) -> Snapshot:
    """Two providers in a group; the first has these attempts and this timeout."""
    both = tuple(
        ProviderSettings(
            name=name,
            kind="openai",
            base_url="https://x/v1",
            default_model="m",
            timeout_seconds=seconds,
            retry=RetryPolicy(max_attempts=tries),
        )
        for name, seconds, tries in (("a", timeout, attempts), ("b", 120.0, 3))
    )
    group = GroupSettings(name="g", providers=("a", "b"))
    return sound(
        settings=settings(providers=both, groups=(group,), **more),
        providers=tuple(
            ProviderSight(name=p.name, timeout_seconds=p.timeout_seconds, attempts=p.retry.max_attempts) for p in both
        ),
    )


def test_a_sound_node_has_no_findings() -> None:
    assert examine(sound()) == []
    assert examine(configured()) == []


@pytest.mark.parametrize(
    ("snapshot", "rule", "level", "says", "command"),
    [
        (seen(alert("down")), "down", "error", "a down", "x"),
        (seen(alert("throttled", severity="warning")), "throttled", "warning", "a throttled", "x"),
        (seen(alert("recovering", severity="warning")), "recovering", "info", "a recovering", "x"),
        (seen(alert("breaker_open", since=NOW - 299)), "breaker_open", "warning", "a breaker_open", "x"),
        (seen(alert("breaker_open", since=NOW - 360)), "breaker_open", "error", "for 6 min: a breaker_open", "x"),
        (seen(alert("missing_api_key")), "missing_api_key", "warning", "a missing_api_key", "x"),
        (
            seen(alert("breaker_open"), providers=(ProviderSight(name="a", mode="forced_open"), ProviderSight(name="b"))),
            "breaker_forced_open", "error", "until `breaker auto` or `reset`", "x",
        ),
        (
            seen(
                alert("breaker_open", since=NOW - 900),
                providers=(ProviderSight(name="a", mode="forced_open", forced_for_seconds=30.0), ProviderSight(name="b")),
            ),
            "breaker_forced_open", "warning", "for 30 s more", "x",
        ),
        (
            seen(alert("saturated", severity="warning"), providers=(ProviderSight(name="a", limit=8), ProviderSight(name="b"))),
            "saturated", "warning", "a saturated", "runestone ctl provider set a --max-concurrency 16",
        ),
        (sights(mode="disabled"), "breaker_disabled", "warning", "refuses nobody", "runestone ctl breaker reset a"),
        (
            sights(circuit_breaker=False),
            "no_breaker", "info", "no circuit breaker", "runestone ctl provider set a --circuit-breaker true",
        ),
        (
            sound(actors=(ActorSight(path="runestone/x", state="suspended", depth=5000, age_seconds=50.0),)),
            "actor_suspended", "warning", "5000 messages wait", "runestone ctl actor resume runestone/x",
        ),
        (
            sound(actors=(ActorSight(path="runestone/x", depth=1000),)),
            "mailbox_deep", "warning", "1000 messages wait", "runestone ctl actor show runestone/x",
        ),
        (
            sound(actors=(ActorSight(path="runestone/x", depth=1, age_seconds=5.0),)),
            "mailbox_deep", "warning", "the oldest for 5.0 s", "runestone ctl actor show runestone/x",
        ),
        (sound(unsaved=("groups.x.members",)), "unsaved_changes", "warning", "a file for --config", "runestone ctl config export"),
        (
            sound(unsaved=tuple("abcdefg"), config_file=Path("/etc/r.toml")),
            "unsaved_changes", "warning", "(a, b, c, d, e …): put what this prints into /etc/r.toml", "runestone ctl config export",
        ),
        (sound(needs_restart=("server.port",)), "needs_restart", "warning", "server.port", "runestone ctl config diff"),
        (sound(allow_faults=True), "faults_allowed", "info", "--allow-faults", "runestone serve"),
        (sound(allow_faults=True, demo=True), "demo", "info", "simulated", "runestone serve"),
        (sound(providers=()), "no_provider", "error", "OPENAI_API_KEY", "runestone config check"),
        (
            sound(providers=(ProviderSight(name="a", status="throttled"), ProviderSight(name="b", status="throttled"))),
            "all_throttled", "error", "429", "runestone ctl providers",
        ),
        (sound(providers=(ProviderSight(name="a"),)), "no_failover", "info", "a alone", "runestone ctl provider add --help"),
        (
            sound(settings=settings(auth=AuthSettings())),
            "no_inbound_keys", "warning", "any program on this machine", "runestone config explain keys.NAME.key",
        ),
        (
            sound(settings=settings(auth=AuthSettings(), server=evolve(SERVER, host="0.0.0.0"))),
            "no_inbound_keys", "error", "anybody who reaches 0.0.0.0", "runestone config explain keys.NAME.key",
        ),
        (
            sights(base_url="http://10.0.0.1:8000/v1"),
            "plain_http", "warning", "10.0.0.1", "runestone ctl provider set a --base-url https://10.0.0.1:8000/v1",
        ),
        (
            configured(attempts=20, max_upstream_calls=20),
            "many_calls", "warning", "20 upstream calls: a is tried 20 times", "runestone ctl provider set a --retry-attempts 3",
        ),
        (
            configured(timeout=700.0),
            "timeouts_beyond_deadline", "warning", "make 820 s, more than the 600 s", "runestone ctl provider set a --timeout 300000",
        ),
        (
            sound(settings=settings(warnings=("env:X: odd", "file:1: keys and prompts go over plain http to h"))),
            "odd_setting", "warning", "env:X: odd", "runestone config check",
        ),
        (
            sound(unpriced=("m-9",)),
            "unknown_price", "warning", "'m-9'", "runestone config explain prices.NAME.input_per_million_usd",
        ),
        (
            sound(restarted={"runestone/node/ledger": 3}),
            "restarts_again", "warning", "3 times", "runestone ctl actor show runestone/node/ledger",
        ),
        (
            sound(restarted={"runestone/node/fleet/providers/a/provider": 4}),
            "restarts_again", "warning", "4 times", "runestone ctl provider restart a --hard",
        ),
        (sound(descriptors=(820, 1024, 1024)), "descriptors", "error", "820 of 1024", "prlimit --pid 7 --nofile=65536"),
        (sound(descriptors=(820, 1024, 4096)), "descriptors", "error", "820 of 1024", "prlimit --pid 7 --nofile=4096:"),
        (
            sound(connections=(80, 100)),
            "max_connections", "warning", "80 of 100", "runestone config explain server.max_connections",
        ),
        (sound(in_flight=1600), "max_requests", "warning", "1600 of 2000", "runestone config explain server.max_requests"),
        (
            sights(first_content_p95_seconds=12.0, streams=10),
            "slow", "warning", "12.0 s", "runestone ctl requests --slow --provider a",
        ),
        (sound(reach_seconds=20.0), "short_memory", "info", "20 s only", "runestone config explain events.keep"),
        (
            sound(jump=Jump(seconds=-7.25, at=NOW - 60)),
            "clock_jump", "warning", "jumped by -7.2 s", "timedatectl timesync-status",
        ),
    ],
)  # fmt: skip
def test_a_rule_finds_its_trouble_alone_and_says_what_helps(
    snapshot: Snapshot, rule: str, level: str, says: str, command: str
) -> None:
    (finding,) = examine(snapshot)

    assert (finding.rule, finding.level, finding.command) == (rule, level, command)
    assert says in finding.message


@pytest.mark.parametrize(
    "snapshot",
    [
        sights(base_url="http://127.0.0.1:8000/v1"),
        sights(base_url="http://localhost/v1"),
        configured(attempts=20),  # the most upstream calls bound it
        configured(timeout=480.0),
        sights(first_content_p95_seconds=50.0, streams=9),
        sights(first_content_p95_seconds=9.9, streams=900),
        sound(restarted={"x": 2}),
        sound(descriptors=None),
        sound(jump=Jump(seconds=9.0, at=NOW - 3600)),
        sound(jump=Jump(seconds=9.0, at=NOW + 30)),  # the clock went back since
        sound(reach_seconds=None),
    ],
)
def test_what_is_near_it_is_not_found(snapshot: Snapshot) -> None:
    assert examine(snapshot) == []


def test_a_log_level_is_told_only_if_somebody_has_turned_it_up_since(tmp_path: Path) -> None:
    made = build(read({"RUNESTONE_LOG_LEVEL": "debug", "RUNESTONE_API_KEYS": "a-key"}), {}).settings

    def rules(origin: str) -> list[str]:
        return [f.rule for f in examine(sound(settings=made, log_level_origin=origin))]

    assert "log_level" in rules("runtime")
    assert "log_level" not in rules("env:RUNESTONE_LOG_LEVEL")


def test_without_any_provider_a_missing_key_stays_an_error() -> None:
    found = examine(sound(providers=(), alerts=(alert("missing_api_key"),)))

    assert [(f.rule, f.level) for f in found] == [("missing_api_key", "error"), ("no_provider", "error")]


def test_the_worst_comes_first_and_a_finding_is_plain_data() -> None:
    found = examine(sound(allow_faults=True, unsaved=("x",), alerts=(alert("down", since=0.0),)))

    assert [f.level for f in found] == list(LEVELS)
    assert found[0].as_data() == {
        "level": "error", "rule": "down", "about": "a", "message": "a down", "since": "1970-01-01T00:00:00Z", "command": "x",
    }  # fmt: skip
    assert Finding(rule="r", level="info", about="a", message="m", command="c").as_data()["since"] is None


def test_every_rule_says_what_it_looks_for() -> None:
    assert all((rule.__doc__ or "").strip() for rule in RULES)


def test_a_clock_that_jumps_is_noticed_and_one_that_is_kept_right_is_not() -> None:
    clock = Clock()
    for second in range(100):
        clock = clock.observe(1000.0 + second * 1.001, float(second))
    assert clock.last is None

    ahead = clock.observe(1200.0, 100.0)
    back = ahead.observe(1101.0, 101.0)

    assert ahead.last is not None
    assert back.last is not None
    assert (round(ahead.last.seconds), ahead.last.at) == (100, 1200.0)
    assert (round(back.last.seconds), back.last.at) == (-100, 1101.0)
    assert back.observe(1102.0, 102.0).last == back.last
