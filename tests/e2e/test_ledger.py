"""The ledger of real processes: what it holds after SIGTERM, kill -9, a lock and a full disk, beside what providers and metrics have counted."""

from __future__ import annotations

import resource
import signal
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runestone.console.client import AdminClient
from tests.e2e.node import Gateway, Upstream, eventually
from tests.e2e.streams import HELLO
from tests.ledger.server import server
from tests.support.plain import PLAIN as UNPROXIED

Serve = Callable[..., Gateway]
PLAIN = {**HELLO, "stream": False}
QUICK = {"RUNESTONE_LEDGER_INTERVAL_MS": "100"}


def ledger(node: Gateway) -> Path:
    return node.socket.parent / "ledger.sqlite"


def rows(path: Path) -> list[dict[str, Any]]:
    """All that is in the file, oldest first; what a process that was killed has left in its WAL too."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM calls ORDER BY id")]


def attempts(node: Gateway) -> Counter[tuple[str, str]]:
    """``runestone_provider_attempts_total`` by provider and outcome, with what is not 0."""
    counts: Counter[tuple[str, str]] = Counter()
    for labels, value in samples(node, "runestone_provider_attempts_total"):
        counts[labels["provider"], labels["outcome"]] += int(value)
    return +counts


def samples(node: Gateway, name: str) -> list[tuple[dict[str, str], float]]:
    families = text_string_to_metric_families(node.health("/metrics").text)
    return [(s.labels, s.value) for family in families for s in family.samples if s.name == name]


@contextmanager
def crowd(node: Gateway, threads: int = 8) -> Iterator[Callable[..., list[int]]]:
    """Many requests at once; their statuses, 0 for those that found nobody."""
    with httpx.Client(**UNPROXIED, timeout=60) as client, ThreadPoolExecutor(threads) as pool:

        def ask(body: dict[str, Any]) -> int:
            try:
                return client.post(f"{node.base_url}/chat/completions", json=body).status_code
            except httpx.TransportError:
                return 0

        yield lambda *bodies: list(pool.map(ask, bodies))


def alerts(node: Gateway) -> list[dict[str, Any]]:
    return list(AdminClient(node.socket).request("GET", "/v1/dashboard")["dashboard"]["alerts"])


def settled(node: Gateway, calls: int) -> dict[str, Any]:
    """The ledger by what ``ctl`` says, once it holds so many calls."""
    return dict(
        eventually(
            lambda: (told := node.ctl("cost", "show"))["total"]["calls"] >= calls and told, f"{calls} calls are booked"
        )
    )


def test_every_call_is_a_row_that_agrees_with_the_provider_and_the_metrics(
    serve: Serve, primary: Upstream, secondary: Upstream
) -> None:
    node = serve(
        **QUICK, RETRY_MAX_ATTEMPTS="2", CIRCUIT_BREAKER_FAILURE_THRESHOLD="1000", FAILOVER_HEALTH_THRESHOLD="0"
    )
    with crowd(node) as ask:
        primary.fault("503 40% seed=7")
        assert set(ask(*[PLAIN] * 60, *[HELLO] * 60)) == {200}
    settled(node, primary.state()["requests"] + secondary.state()["requests"])
    counted = attempts(node)

    assert node.stop() == 0

    booked = rows(ledger(node))
    assert Counter(row["provider"] for row in booked) == {
        "openai-default": primary.state()["requests"], "anthropic-default": secondary.state()["requests"],
    }  # fmt: skip
    assert Counter((row["provider"], row["outcome"]) for row in booked) == counted
    assert len({row["request_id"] for row in booked}) == sum(row["number"] == 1 for row in booked) == 120
    served = [row for row in booked if row["outcome"] == "ok" and not row["stream"]]
    assert {row["cost_picodollars"] is not None and row["input_tokens"] > 0 for row in served} == {True}
    assert {row["cost_picodollars"] for row in booked if row["outcome"] == "server_error"} == {0}


def test_sigterm_in_the_middle_of_a_crowd_loses_no_call(serve: Serve, primary: Upstream) -> None:
    node = serve(RUNESTONE_LEDGER_INTERVAL_MS="3600000")
    primary.fault("slow_first_token=0.05")
    with crowd(node, 16) as ask:
        pool = ThreadPoolExecutor(1)
        running = pool.submit(ask, *[PLAIN, HELLO] * 150)
        eventually(lambda: primary.state()["requests"] >= 150, "half of them have come")
        assert node.stop() == 0
        statuses = running.result()
    pool.shutdown()

    assert 0 in statuses  # it was in the middle
    assert len(rows(ledger(node))) == primary.state()["requests"]


def test_kill_9_loses_what_has_ended_since_the_last_write_and_no_more(serve: Serve, primary: Upstream) -> None:
    node = serve(RUNESTONE_LEDGER_INTERVAL_MS="300")
    with crowd(node) as ask:
        ask(*[PLAIN] * 40)
        eventually(lambda: node.ctl("status")["ledger"]["written"] == 40, "the first are written")
        ask(*[PLAIN] * 10)
    told = node.ctl("status")["ledger"]
    node.stop(signal.SIGKILL)

    kept = len(rows(ledger(node)))
    assert 40 <= told["written"] <= kept <= 50 == primary.state()["requests"]
    again = serve(RUNESTONE_LEDGER_URL=f"sqlite://{ledger(node)}")
    assert again.ctl("cost", "show")["total"]["calls"] == kept


def test_a_database_that_another_process_locks_gets_all_calls_later(serve: Serve, primary: Upstream) -> None:
    node = serve(**QUICK)
    node.post(PLAIN)
    settled(node, 1)
    with closing(sqlite3.connect(ledger(node), isolation_level=None)) as other, crowd(node) as ask:
        other.execute("BEGIN IMMEDIATE")
        assert set(ask(*[PLAIN] * 30)) == {200}
        eventually(lambda: "locked" in node.ctl("status")["ledger"]["state"], "it is told")
        assert set(ask(*[PLAIN] * 10)) == {200}
        assert len(rows(ledger(node))) == 1
        assert [alert["about"] for alert in alerts(node)] == ["ledger"]
        other.execute("COMMIT")

    eventually(lambda: node.ctl("status")["ledger"]["state"] == "ok", "it is written again", 30.0)
    eventually(lambda: len(rows(ledger(node))) == 41, "all are there")
    assert primary.state()["requests"] == 41
    eventually(lambda: "the ledger is written again" in node.told(), "it says so")
    log = node.told()
    assert (log.count("the ledger cannot be written"), log.count("the ledger is written again")) == (1, 1)


def test_a_full_disk_keeps_calls_waiting_until_there_is_room(serve: Serve, primary: Upstream) -> None:
    node = serve(**QUICK, RUNESTONE_LOG_LEVEL="ERROR")
    node.post(PLAIN)
    settled(node, 1)
    pid, (_, hard) = node.process.pid, resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
    wal = ledger(node).with_name("ledger.sqlite-wal").stat().st_size

    resource.prlimit(pid, resource.RLIMIT_FSIZE, (wal, hard))  # no file grows beyond that
    with crowd(node) as ask:
        assert set(ask(*[PLAIN] * 40)) == {200}
        eventually(lambda: node.ctl("status")["ledger"]["state"].startswith("failing"), "it is told")
        assert set(ask(*[PLAIN] * 20)) == {200}
    assert node.ctl("status")["ledger"]["waiting"] > 0
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    eventually(lambda: node.ctl("status")["ledger"]["waiting"] == 0, "all is written", 30.0)
    assert node.stop() == 0
    assert len(rows(ledger(node))) == 61 == primary.state()["requests"]


def test_a_path_that_cannot_be_used_harms_nobody_and_is_told_once(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    node = serve(**QUICK, RUNESTONE_LEDGER_URL=f"sqlite://{tmp_path}/file/ledger.sqlite")

    assert node.post(PLAIN).status_code == 200
    eventually(lambda: samples(node, "runestone_ledger_failures_total")[0][1] >= 3, "it tries")

    told = node.ctl("status")["ledger"]
    assert (told["waiting"], told["written"]) == (1, 0)
    refused = node.ctl_raw("cost", "show")
    assert (refused.returncode, "the ledger does not answer" in refused.stderr) == (1, True)
    assert node.stop() == 0
    log = node.told()
    assert log.count("the ledger cannot be written") == 1
    assert "the node ends, and 1 calls are not in the ledger" in log


def test_a_corrupt_file_is_left_alone_and_a_new_one_takes_its_place_when_it_is_moved_away(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "mine.sqlite"
    path.write_bytes(b"this is no database, but it may be somebody's\n" * 200)
    before = path.read_bytes()
    node = serve(**QUICK, RUNESTONE_LEDGER_URL=f"sqlite://{path}")
    assert node.post(PLAIN).status_code == 200
    eventually(lambda: "not a database" in node.ctl("status")["ledger"]["state"], "it is told")
    assert path.read_bytes() == before

    path.rename(tmp_path / "moved")

    eventually(lambda: node.ctl("status")["ledger"]["written"] == 1, "it is written to a new file", 20.0)
    path.unlink()  # under the node's feet
    assert node.post(PLAIN).status_code == 200
    eventually(
        lambda: node.ctl("status")["ledger"]["written"] == 2 and path.exists(), "a file that is gone is made anew"
    )
    assert len(rows(path)) == 1


def test_a_crash_of_its_actor_loses_no_call(serve: Serve, primary: Upstream) -> None:
    node = serve("--allow-faults", RUNESTONE_LEDGER_INTERVAL_MS="400")
    with crowd(node) as ask:
        ask(*[PLAIN] * 20)
        node.ctl("crash", "ledger")
        ask(*[PLAIN] * 20)
        eventually(lambda: node.ctl("status")["ledger"]["written"] == 40, "the next incarnation writes all")
        ask(*[PLAIN] * 20)
        assert node.stop() == 0
    assert len(rows(ledger(node))) == 60 == primary.state()["requests"]


def test_the_file_is_private_and_holds_no_key_and_no_prompt(serve: Serve, primary: Upstream) -> None:
    node = serve(**QUICK, RUNESTONE_API_KEYS_FILE="", RUNESTONE_API_KEYS="canary-inbound-key")
    body = {**PLAIN, "messages": [{"role": "user", "content": "canary-prompt"}]}
    mine = {"authorization": "Bearer canary-inbound-key"}
    assert node.post(body, mine).status_code == 200
    for model in (
        "sk-canary0123456789",
        "\x1b[2J\x07\u202e",
        "'; DROP TABLE calls; --",
        "\U0001f600" * 400,
        "a\x00b",
    ):
        node.post({**body, "model": f"openai-default/{model}"}, mine)
    asked = primary.state()["requests"]
    assert asked >= 5
    settled(node, asked)
    printed = node.ctl_raw("cost", "show", "--by", "model").stdout
    assert node.stop() == 0

    assert stat.S_IMODE(ledger(node).stat().st_mode) == 0o600
    assert len(rows(ledger(node))) == asked
    content = b"".join(path.read_bytes() for path in ledger(node).parent.glob("ledger.sqlite*"))
    assert b"canary" not in content
    assert b"sk-upstream" not in content
    assert "canary" not in printed
    assert [c for c in printed if not c.isprintable() and c != "\n"] == []


def test_a_provider_without_telemetry_has_no_row(serve: Serve, primary: Upstream) -> None:
    node = serve(**QUICK)
    node.ctl("provider", "set", "openai-default", "--telemetry", "false")
    assert node.post(PLAIN).status_code == 200
    node.ctl("provider", "set", "openai-default", "--telemetry", "true")
    assert node.post(PLAIN).status_code == 200

    assert settled(node, 1)["total"]["calls"] == 1
    assert primary.state()["requests"] == 2


def test_what_calls_cost_is_shown_and_forgotten_by_time(serve: Serve, primary: Upstream) -> None:
    node = serve(RUNESTONE_LEDGER_INTERVAL_MS="60000", RUNESTONE_API_KEYS="")
    primary.fault("503 times=1")
    node.post(PLAIN)
    node.post(PLAIN)

    told = node.ctl("cost", "show", "--since", "1h", "--by", "outcome")  # what waits is written first

    assert {line["name"]: (line["calls"], line["requests"]) for line in told["costs"]} == {
        "ok": (2, 1), "server_error": (1, 1),
    }  # fmt: skip
    assert told["total"]["unknown_cost_calls"] == 0
    (ok,) = (row for row in rows(ledger(node)) if row["outcome"] == "ok" and row["number"] == 1)
    per_call = ok["input_tokens"] * 150_000 + ok["output_tokens"] * 600_000  # gpt-4o-mini: $0.15 and $0.60 a million
    assert ok["cost_picodollars"] == per_call
    table = node.ctl_raw("cost", "show").stdout
    assert told["total"]["web_searches"] == told["total"]["batch_calls"] == 0
    assert "WEB SEARCHES" not in table
    wide = node.ctl_raw("cost", "show", "-o", "wide").stdout
    assert all(column in wide for column in ("WEB SEARCHES", "BATCH CALLS", "TOLD COST CALLS", "AUDIO INPUT TOKENS"))
    assert table.splitlines()[2].split()[:3] == ["PROVIDER", "CALLS", "REQUESTS"]
    assert table.splitlines()[-1].split()[:3] == ["TOTAL", "3", "2"]
    assert node.ctl("cost", "show", "--until", "2020-01-01", "--since", "2019-01-01")["total"]["calls"] == 0
    odd = node.ctl_raw("cost", "show", "--since", "yesterday")
    assert (odd.returncode, odd.stderr) == (
        1,
        "runestone: since must be a time ago such as 90m, 24h or 7d, or a date such as 2026-11-01 or 2026-11-01T08:30 (UTC)\n",
    )
    assert node.ctl("cost", "prune", "--before", "1h")["forgotten"] == 0
    assert node.ctl("cost", "prune", "--before", "2100-01-01")["forgotten"] == 3
    assert node.ctl("cost", "show")["total"]["calls"] == 0


def test_without_a_ledger_nothing_is_kept_and_that_is_said(serve: Serve) -> None:
    node = serve(**QUICK, RUNESTONE_LEDGER_URL="none")

    assert node.post(PLAIN).status_code == 200
    assert node.ctl("status")["ledger"] == {"state": "off"}
    assert "there is none" in node.ctl_raw("cost", "show").stderr
    assert not ledger(node).exists()


def test_what_is_too_old_is_forgotten_by_itself(serve: Serve) -> None:
    first = serve(**QUICK)
    first.post(PLAIN)
    settled(first, 1)
    assert first.stop() == 0
    with closing(sqlite3.connect(ledger(first))) as connection, connection:
        connection.execute("UPDATE calls SET ended_ms = ended_ms - 40 * 86400000")
    second = serve(**QUICK, RUNESTONE_LEDGER_URL=f"sqlite://{ledger(first)}", RUNESTONE_LEDGER_RETENTION_DAYS="30")

    eventually(lambda: rows(ledger(first)) == [], "it is gone")
    assert second.stop() == 0


def test_a_postgresql_that_is_gone_for_a_while_gets_all_calls_and_two_nodes_share_it(
    serve: Serve, primary: Upstream, tmp_path: Path
) -> None:
    with server() as database:
        (tmp_path / "url").write_text(database.url)
        nodes = [
            serve(**QUICK, RUNESTONE_LEDGER_URL="", RUNESTONE_LEDGER_URL_FILE=str(tmp_path / "url")) for _ in range(2)
        ]
        for node in nodes:
            assert node.post(PLAIN).status_code == 200
        eventually(lambda: nodes[0].ctl("cost", "show")["total"]["calls"] == 2, "both have written")
        database.stop()
        for node in nodes:
            with crowd(node) as ask:
                assert set(ask(*[PLAIN] * 20)) == {200}
        eventually(lambda: "failing" in nodes[0].ctl("status")["ledger"]["state"], "it is told")
        database.start()
        eventually(lambda: nodes[0].ctl("status")["ledger"]["waiting"] == 0, "the first has written all", 30.0)
        assert [node.stop() for node in nodes] == [0, 0]

        assert database.run("SELECT count(*), count(DISTINCT request_id) FROM runestone_calls") == "42|42"
    assert primary.state()["requests"] == 42
    assert [node for node in nodes if "canary-password" in node.told()] == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_ten_thousand_requests_are_ten_thousand_rows(serve: Serve, primary: Upstream, secondary: Upstream) -> None:
    node = serve(CIRCUIT_BREAKER_FAILURE_THRESHOLD="1000", FAILOVER_HEALTH_THRESHOLD="0")
    primary.fault("503 10% seed=3")
    with crowd(node, 32) as ask:
        assert set(ask(*[PLAIN, HELLO] * 5_000)) == {200}
    calls = primary.state()["requests"] + secondary.state()["requests"]
    settled(node, calls)
    counted = attempts(node)
    assert node.stop() == 0

    booked = rows(ledger(node))
    assert len(booked) == calls >= 10_000
    assert sum(row["number"] == 1 for row in booked) == 10_000
    assert Counter((row["provider"], row["outcome"]) for row in booked) == counted
