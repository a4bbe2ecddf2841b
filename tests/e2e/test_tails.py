"""Events and log lines as server-sent events on the admin socket, as `curl -N` and a browser's EventSource ask for them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.e2e.node import Gateway, eventually
from tests.support.plain import PLAIN

Told = dict[str, Any]


@contextmanager
def tailed(socket: Path, path: str, last_id: str | None = None, **query: str) -> Iterator[Iterator[Told]]:
    """The events that come on ``path``, one by one."""
    headers = {"accept": "text/event-stream"} | ({} if last_id is None else {"last-event-id": last_id})
    with (
        httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://node", timeout=20) as client,
        client.stream("GET", path, params=query, headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events_of(answer.iter_lines())


def events_of(lines: Iterator[str]) -> Iterator[Told]:
    event: Told = {}
    for line in lines:
        if not line and event:
            yield event
            event = {}
        elif line and not line.startswith(":"):
            field, _, value = line.partition(": ")
            event[field] = orjson.loads(value) if field == "data" else value


def test_an_event_is_told_as_it_comes_and_whoever_comes_back_goes_on_behind_it(node: Gateway) -> None:
    with tailed(node.socket, "/v1/events", name="breaker.changed") as told:
        node.ctl("breaker", "trip", "openai-default")
        tripped = next(told)
    node.ctl("breaker", "reset", "openai-default")
    with tailed(node.socket, "/v1/events", last_id=tripped["id"], name="breaker.changed") as told:
        reset = next(told)

    assert (tripped["event"], tripped["data"]["after"]) == ("breaker.changed", "open")
    assert int(tripped["id"]) == tripped["data"]["seq"] < int(reset["id"])
    assert reset["data"]["after"] == "closed"


def test_lines_of_the_log_are_told_as_they_come(node: Gateway) -> None:
    with tailed(node.socket, "/v1/log/lines", logger="runestone.operations.audit") as told:
        node.ctl("breaker", "reset", "openai-default")

        line = next(told)

    assert line["event"] == "line"
    assert "breakers/openai-default/reset" in line["data"]["event"]


def test_what_the_memory_has_forgotten_is_told_as_missed(serve: Any, tmp_path: Path) -> None:
    settings = tmp_path / "runestone.toml"
    settings.write_text("[events]\nkeep = 100\n")
    node = serve("--config", str(settings))
    for _ in range(130):
        httpx.get(f"{node.public_url}/v1/nowhere", **PLAIN)

    with tailed(node.socket, "/v1/events", last_id="1") as told:
        first = next(told)

    assert first["event"] == "missed"
    assert first["data"]["missed"] > 0


@pytest.mark.parametrize("socket", ["admin", "observe"])
def test_observers_have_tails_too_and_a_wrong_filter_is_refused_at_once(node: Gateway, socket: str) -> None:
    path = node.socket if socket == "admin" else node.socket.with_name("observe.sock")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://node") as client:
        answer = client.get("/v1/events", params={"name": "no.such"}, headers={"accept": "text/event-stream"})

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_somebody_who_leaves_a_tail_leaves_nothing_behind(node: Gateway) -> None:
    before = node.descriptors()
    for _ in range(20):
        with tailed(node.socket, "/v1/events"):
            pass

    assert node.ctl_raw("status").returncode == 0
    eventually(lambda: node.descriptors() <= before + 1, lambda: f"{node.descriptors()} of {before}")


@pytest.mark.parametrize("path", ["/v1/events", "/v1/log/lines"])
def test_a_node_that_stops_says_bye_and_ends_the_tail_whole(node: Gateway, path: str) -> None:
    with tailed(node.socket, path) as told:
        node.process.send_signal(signal.SIGTERM)
        last = list(told)[-1]
    node.process.wait(timeout=30)

    assert (last["event"], last["data"]) == ("bye", {"reason": "stopping"})
    assert node.process.returncode == 0
    assert "Traceback" not in node.told()


def test_a_drain_that_may_be_taken_back_ends_no_tail(node: Gateway) -> None:
    with tailed(node.socket, "/v1/events", name="admin.acted") as told:
        node.ctl("drain")
        node.ctl("undrain")

        assert [next(told)["data"]["route"] for _ in range(2)] == ["POST /v1/drain", "POST /v1/undrain"]
