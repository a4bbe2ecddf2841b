"""Each fault does what it says, seen from the wire."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from tests.simulated.running import BODY, PATHS, Running, eventually, running
from tests.support.plain import PLAIN

WIRES = list(PATHS)
TERMINALS = {"openai": b"data: [DONE]\n\n", "anthropic": b'event: message_stop\ndata: {"type": "message_stop"}\n\n'}
BROKEN = (httpx.RemoteProtocolError, httpx.ReadError)


def events(body: bytes) -> list[bytes]:
    return [event + b"\n\n" for event in body.split(b"\n\n") if event]


def outcomes(sim: Running) -> list[str]:
    return [record.outcome for record in sim.provider.records]


def read(response: httpx.Response) -> tuple[bytes, type[Exception] | None]:
    """What came, and how it broke off."""
    body = b""
    try:
        for data in response.iter_raw():
            body += data
    except httpx.HTTPError as error:
        return body, type(error)
    return body, None


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True])
def test_without_a_fault_everything_is_served(any_sim: Running, wire: str, stream: bool) -> None:
    answer = any_sim.post(wire, stream=stream)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == ("text/event-stream" if stream else "application/json")
    assert not stream or answer.content.endswith(TERMINALS[wire])
    eventually(lambda: outcomes(any_sim) == ["served"])


def test_refused_closes_the_port_and_the_connections_that_wait_and_none_opens_it_again(any_sim: Running) -> None:
    url = f"{any_sim.provider.url}/models"
    with httpx.Client(**PLAIN) as client:
        for _ in range(8):
            assert client.get(url).status_code == 200
            any_sim.fault("refused")
            eventually(lambda: not any_sim.state()["open_connections"])
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(any_sim.address)
            with pytest.raises(httpx.ConnectError):
                client.get(url)
            assert httpx.get(f"{any_sim.provider.control_url}/_simulated", **PLAIN).status_code == 200
            any_sim.fault("none")
        assert client.get(url).status_code == 200


def test_while_it_refuses_the_port_is_nobody_elses(any_sim: Running) -> None:
    any_sim.fault("refused")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(any_sim.address)
    any_sim.fault("none")
    assert any_sim.post().status_code == 200


def test_a_stream_that_is_open_when_it_begins_to_refuse_is_served_to_its_end_and_its_connection_then_closed(
    any_sim: Running,
) -> None:
    any_sim.fault("tokens=20 pace=0.01")
    with any_sim.stream() as response:
        any_sim.fault("refused")
        body, error = read(response)
        assert (body.endswith(TERMINALS["openai"]), error) == (True, None)
        eventually(lambda: not any_sim.state()["open_connections"])


@pytest.mark.parametrize("stream", [False, True])
def test_reset_breaks_the_connection_after_the_request(any_sim: Running, stream: bool) -> None:
    any_sim.fault("reset")
    with pytest.raises(httpx.ReadError):
        any_sim.post(stream=stream)
    eventually(lambda: outcomes(any_sim) == ["cut"])


@pytest.mark.parametrize("stream", [False, True])
def test_stall_never_answers_and_counts_the_client_that_leaves(any_sim: Running, stream: bool) -> None:
    any_sim.fault("stall")
    with socket.create_connection(any_sim.address) as client:
        client.sendall(raw(stream=stream))
        eventually(lambda: any_sim.state()["open_streams"] == 1)
        assert outcomes(any_sim) == ["open"]
    eventually(lambda: outcomes(any_sim) == ["client_gone"])
    eventually(lambda: any_sim.state()["disconnects"] == 1)


@pytest.mark.parametrize("wire", WIRES)
def test_garbage_is_nonsense_in_a_200(sim: Running, wire: str) -> None:
    sim.fault("garbage")
    assert (sim.post(wire).status_code, sim.post(wire).content) == (200, b"<<not json>>")
    assert events(sim.post(wire, stream=True).content) == [b"data: <<not json>>\n\n"]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True])
def test_empty_is_nothing_in_a_200(sim: Running, wire: str, stream: bool) -> None:
    sim.fault("empty")
    answer = sim.post(wire, stream=stream)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("wire", WIRES)
def test_an_error_event_is_an_error_in_a_200(sim: Running, wire: str) -> None:
    sim.fault("error_event")
    whole, stream = sim.post(wire), sim.post(wire, stream=True)
    assert (whole.status_code, stream.status_code) == (200, 200)
    assert whole.json()["error"]["message"] == "simulated error 500"
    (event,) = events(stream.content)
    assert b'"error": {' in event
    assert event.startswith(b"event: error\n" if wire == "anthropic" else b"data: ")


@pytest.mark.parametrize("wire", WIRES)
def test_no_done_leaves_out_the_terminal_event_and_nothing_else(sim: Running, wire: str) -> None:
    whole = sim.post(wire, stream=True).content
    sim.fault("no_done")
    assert sim.post(wire, stream=True).content == whole.removesuffix(TERMINALS[wire])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [204, 301, 400, 429, 500, 529, 599])
def test_a_status_is_an_error_of_the_wire(sim: Running, wire: str, stream: bool, status: int) -> None:
    sim.fault(f"status={status} retry_after=0.5")
    answer = sim.post(wire, stream=stream)
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "0.5")
    if status == 204:
        assert answer.content == b""
    else:
        assert answer.json()["error"]["message"] == f"simulated error {status}"
        assert (answer.json().get("type") == "error") is (wire == "anthropic")


def test_a_status_of_200_is_no_error(sim: Running) -> None:
    sim.fault("status=200")
    assert "choices" in sim.post().json()


@pytest.mark.parametrize("stream", [False, True])
def test_html_is_a_page_with_that_status(sim: Running, stream: bool) -> None:
    sim.fault("html=502 retry_after=3")
    answer = sim.post(stream=stream)
    assert (answer.status_code, answer.headers["content-type"], answer.headers["retry-after"]) == (
        502,
        "text/html",
        "3",
    )
    assert answer.text.startswith("<html>")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("number", [0, 1, 5])
@pytest.mark.parametrize("fault", ["cut_after", "reset_after"])
def test_a_stream_breaks_off_after_so_many_events(any_sim: Running, wire: str, number: int, fault: str) -> None:
    whole = events(any_sim.post(wire, stream=True).content)
    any_sim.fault(f"{fault}={number} pace=0.001")
    with any_sim.stream(wire) as response:
        body, error = read(response)
    assert error in BROKEN
    assert events(body) == whole[:number] or fault == "reset_after"  # a reset may overtake what was sent
    eventually(lambda: outcomes(any_sim) == ["served", "cut"])
    assert any_sim.state()["disconnects"] == 0


@pytest.mark.parametrize("wire", WIRES)
def test_a_stream_stalls_after_so_many_events_until_the_client_leaves(any_sim: Running, wire: str) -> None:
    whole = events(any_sim.post(wire, stream=True).content)
    any_sim.fault("stall_after=3")
    with any_sim.stream(wire) as response:
        body, data = b"", response.iter_raw()
        while len(events(body)) < 3:
            body += next(data)
        assert events(body) == whole[:3]
        assert any_sim.state()["open_streams"] == 1
    eventually(lambda: outcomes(any_sim) == ["served", "client_gone"])


@pytest.mark.parametrize("wire", WIRES)
def test_an_error_comes_after_so_many_events_and_ends_the_connection(sim: Running, wire: str) -> None:
    whole = events(sim.post(wire, stream=True).content)
    sim.fault("error_event_after=3")
    with sim.stream(wire) as response:
        body, error = read(response)
    assert error in BROKEN
    assert events(body)[:3] == whole[:3]
    assert len(events(body)) == 4
    assert b'"error": {' in events(body)[3]


@pytest.mark.parametrize("fault", ["cut_after=99", "reset_after=99", "stall_after=99", "error_event_after=99"])
def test_a_stream_that_is_shorter_is_whole(sim: Running, fault: str) -> None:
    sim.fault(fault)
    assert sim.post(stream=True).content.endswith(TERMINALS["openai"])


@pytest.mark.parametrize("fault", ["cut_after=0", "reset_after=0", "stall_after=0", "error_event_after=0", "no_done"])
def test_faults_of_streams_leave_whole_answers_alone(sim: Running, fault: str) -> None:
    sim.fault(fault)
    assert "choices" in sim.post().json()


def test_a_slow_first_token_comes_after_the_head(any_sim: Running) -> None:
    any_sim.fault("slow_first_token=1000")
    with any_sim.stream() as response:
        assert response.status_code == 200
        assert any_sim.state()["open_streams"] == 1
    eventually(lambda: outcomes(any_sim) == ["client_gone"])


def test_the_pace_is_between_events(any_sim: Running) -> None:
    any_sim.fault("pace=1000")
    with any_sim.stream() as response:
        assert len(events(next(response.iter_raw()))) == 1
    eventually(lambda: outcomes(any_sim) == ["client_gone"])


def test_slow_answers_are_answers(sim: Running) -> None:
    sim.fault("slow_first_token=0.01 pace=0.001")
    assert sim.post(stream=True).content.endswith(TERMINALS["openai"])
    assert "choices" in sim.post().json()


def test_so_many_requests_get_the_fault_and_then_no_more(sim: Running) -> None:
    sim.fault("status=503 times=2 tokens=3")
    assert [sim.post().status_code for _ in range(4)] == [503, 503, 200, 200]
    assert sim.post().json()["usage"]["completion_tokens"] == 3
    sim.fault("status=503 times=0")
    assert sim.post().status_code == 200
    sim.fault("status=503 times=1")
    assert [sim.post().status_code for _ in range(2)] == [503, 200]


def test_the_rate_says_how_many_get_the_fault_the_same_ones_each_time() -> None:
    drawn: list[list[int]] = []
    for seed in (1, 1, 2):
        with running(seed=seed) as sim, httpx.Client(**PLAIN) as client:
            sim.fault("status=503 rate=0.5")
            url = f"{sim.provider.url}/chat/completions"
            drawn.append([client.post(url, json=BODY).status_code for _ in range(40)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == {200, 503}


@pytest.mark.parametrize(("rate", "status"), [("0", 200), ("1", 503)])
def test_the_ends_of_the_rate_are_never_and_always(sim: Running, rate: str, status: int) -> None:
    sim.fault(f"status=503 rate={rate}")
    assert {sim.post().status_code for _ in range(10)} == {status}


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_in_the_middle_is_counted(any_sim: Running, reset: bool) -> None:
    any_sim.fault("tokens=1000000")
    with socket.create_connection(any_sim.address) as client:
        client.sendall(raw(stream=True))
        client.recv(1)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(lambda: outcomes(any_sim) == ["client_gone"])
    eventually(lambda: any_sim.state() | {"fault": ""} == {
        "name": "sim",
        "fault": "",
        "requests": 1,
        "lists": 0,
        "open_connections": 0,
        "open_streams": 0,
        "disconnects": 1,
    })  # fmt: skip


def test_many_that_leave_are_all_counted(any_sim: Running) -> None:
    any_sim.fault("stall_after=2")
    clients = [socket.create_connection(any_sim.address) for _ in range(100)]
    for client in clients:
        client.sendall(raw(stream=True))
    eventually(lambda: any_sim.state()["open_streams"] == 100)
    for client in clients:
        client.close()
    eventually(lambda: any_sim.state()["disconnects"] == 100)
    eventually(lambda: not any_sim.state()["open_connections"])


def test_closing_ends_streams_that_nobody_reads(any_sim: Running) -> None:
    any_sim.fault("tokens=1000000")
    with socket.create_connection(any_sim.address) as client:
        client.sendall(raw(stream=True))
        client.recv(1)
        any_sim.run(any_sim.provider.close())
        assert any_sim.state()["open_connections"] == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(any_sim.address)


def raw(**more: Any) -> bytes:
    """A request as bytes."""
    request = httpx.Request("POST", "http://h/v1/chat/completions", json={**BODY, **more})
    head = b"".join(b"%s: %s\r\n" % pair for pair in request.headers.raw)
    return b"POST /v1/chat/completions HTTP/1.1\r\n" + head + b"\r\n" + request.content
