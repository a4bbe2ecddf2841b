"""The control, the records, and what a provider makes of requests that are none."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from runestone.simulated.connection import Record
from runestone.simulated.server import SimulatedProvider
from tests.simulated.running import QUESTION, Running, eventually
from tests.simulated.test_faults import raw
from tests.support.plain import PLAIN


def control(sim: Running, method: str, path: str, content: bytes = b"") -> httpx.Response:
    return httpx.request(method, f"{sim.provider.control_url}/_simulated{path}", content=content, **PLAIN)


def test_it_tells_what_it_has_seen(any_sim: Running) -> None:
    any_sim.post()
    eventually(lambda: not any_sim.state()["open_connections"])
    assert control(any_sim, "GET", "").json() == {
        "name": "sim",
        "fault": "none",
        "requests": 1,
        "lists": 0,
        "open_connections": 0,
        "open_streams": 0,
        "disconnects": 0,
    }


def test_a_fault_is_in_force_once_it_is_answered(any_sim: Running) -> None:
    for status in range(500, 506):
        answer = control(any_sim, "PUT", "/fault", b" status=%d " % status)
        assert (answer.status_code, answer.json()["fault"]) == (200, f"status={status}")
        assert any_sim.post().status_code == status
    assert control(any_sim, "PUT", "/fault").json()["fault"] == "none"
    assert any_sim.post().status_code == 200


def test_it_can_be_switched_while_it_refuses(any_sim: Running) -> None:
    with httpx.Client(**PLAIN, base_url=any_sim.provider.control_url) as client:
        for _ in range(5):
            assert client.put("/_simulated/fault", content="refused").json()["fault"] == "refused"
            with pytest.raises(httpx.ConnectError):
                any_sim.post()
            assert client.put("/_simulated/fault", content="none").json()["fault"] == "none"
            assert any_sim.post().status_code == 200


@pytest.mark.parametrize("text", [b"unheard", b"status=x", b"\xff\xfe"])
def test_what_is_no_fault_is_refused_and_changes_nothing(sim: Running, text: bytes) -> None:
    sim.fault("status=503")
    answer = control(sim, "PUT", "/fault", text)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert sim.state()["fault"] == "status=503"


def test_requests_are_recorded_with_what_became_of_them_and_without_keys(any_sim: Running) -> None:
    messages: Any = QUESTION
    any_sim.openai().chat.completions.create(model="m", messages=messages, seed=7)
    any_sim.anthropic().messages.create(model="m", max_tokens=5, messages=messages)
    any_sim.fault("reset")
    with pytest.raises(httpx.ReadError):
        any_sim.post()
    eventually(lambda: not any_sim.state()["open_streams"])

    found = control(any_sim, "GET", "/requests").json()["requests"]

    assert [(r["path"], r["outcome"]) for r in found] == [
        ("/v1/chat/completions", "served"),
        ("/v1/messages", "served"),
        ("/v1/chat/completions", "cut"),
    ]
    assert found[0]["body"] == {"model": "m", "messages": QUESTION, "seed": 7}
    assert found[0]["headers"]["authorization"] == "***test"
    assert found[0]["headers"]["content-type"] == "application/json"
    assert "sk-secret-of-the-test" not in str(found)


@pytest.mark.parametrize("key", ["short", "sk-0123456789"])
def test_a_short_key_is_not_shown_at_all(sim: Running, key: str) -> None:
    httpx.post(f"{sim.provider.url}/messages", json={}, headers={"x-api-key": key}, **PLAIN)
    assert sim.provider.records[0].headers["x-api-key"] == "***"


def test_only_the_last_thousand_are_kept_and_all_are_counted(sim: Running) -> None:
    for number in range(1010):
        sim.provider.note(Record("/v1/messages", {}, number))
    assert sim.state()["requests"] == 1010
    assert [r["body"] for r in control(sim, "GET", "/requests").json()["requests"]] == list(range(10, 1010))


def test_reset_forgets_the_requests_and_keeps_the_fault(sim: Running) -> None:
    sim.fault("status=503")
    sim.post()
    assert control(sim, "POST", "/reset").json()["requests"] == 0
    assert control(sim, "GET", "/requests").json() == {"requests": []}
    assert sim.post().status_code == 503


@pytest.mark.parametrize(("method", "path"), [("GET", "/other"), ("POST", "/fault"), ("DELETE", ""), ("PUT", "/reset")])
def test_other_paths_and_methods_are_not_found(sim: Running, method: str, path: str) -> None:
    assert control(sim, method, path).status_code == 404


@pytest.mark.parametrize("path", ["/chat/completions", "/messages"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b"{}", b'{"messages":7}', b'{"messages":[]}', b"[" * 100_000, b"\xff"]
)
def test_what_is_no_question_is_a_400_of_the_wire(sim: Running, path: str, body: bytes) -> None:
    answer = httpx.post(f"{sim.provider.url}{path}", content=body, **PLAIN)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "more",
    [
        {"tools": 7, "tool_choice": "required"},
        {"tools": [7], "tool_choice": "required"},
        {"tool_choice": {"function": 7}},
        {"stream_options": 7},
        {"messages": [7]},
        {"model": None},
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_odd_fields_are_no_crash(sim: Running, more: dict[str, Any], stream: bool) -> None:
    assert sim.post(stream=stream, **more).status_code == 200


@pytest.mark.parametrize("stream", [b"true", b"false"])
def test_half_a_character_in_the_question_is_no_crash(sim: Running, stream: bytes) -> None:
    body = b'{"model":"\\ud800","messages":[{"role":"user","content":"\\ud800"}],"stream":%s}' % stream
    for path in ("/chat/completions", "/messages"):
        answer = httpx.post(f"{sim.provider.url}{path}", content=body, **PLAIN)
        assert answer.status_code == 200
        answer.content.decode()


@pytest.mark.parametrize(
    "request_",
    [b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: x\r\n\r\n"],
)
def test_what_is_no_http_is_answered_and_closed(any_sim: Running, request_: bytes) -> None:
    with socket.create_connection(any_sim.address) as client:
        client.sendall(request_)
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


def test_a_head_without_a_body_and_paths_that_are_none(sim: Running) -> None:
    assert httpx.get(f"{sim.provider.url}/other", **PLAIN).status_code == 404
    assert httpx.get(f"{sim.provider.url}/messages", **PLAIN).status_code == 404
    with socket.create_connection(sim.address) as client:
        client.sendall(b"HEAD /v1/models HTTP/1.1\r\nhost: h\r\n\r\n")
        client.recv(10)


def test_a_client_that_waits_to_be_told_may_go_on(any_sim: Running) -> None:
    head, _, body = raw().partition(b"\r\n\r\n")
    with socket.create_connection(any_sim.address) as client, client.makefile("rb") as answer:
        client.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert answer.readline() == b"HTTP/1.1 100 \r\n"
        client.sendall(body)
        assert answer.readline() == b"\r\n"
        assert answer.readline() == b"HTTP/1.1 200 \r\n"


def test_requests_that_come_together_are_answered_one_after_the_other(any_sim: Running) -> None:
    with socket.create_connection(any_sim.address) as client, client.makefile("rb") as answers:
        client.sendall(raw() * 3)
        client.shutdown(socket.SHUT_WR)
        answers.read()
    eventually(lambda: not any_sim.state()["open_streams"])
    assert any_sim.state()["requests"] >= 1


def test_one_connection_serves_many_requests(any_sim: Running) -> None:
    with httpx.Client(**PLAIN) as client:
        for stream in (False, True, False, True):
            client.post(
                f"{any_sim.provider.url}/chat/completions", content=raw(stream=stream).partition(b"\r\n\r\n")[2]
            )
        assert any_sim.state()["open_connections"] == 1


def test_a_port_may_be_chosen_and_is_not_shared(any_sim: Running) -> None:
    chosen = SimulatedProvider(name="b")
    host, port = any_sim.address

    with pytest.raises(OSError, match="in use"):
        any_sim.run(chosen.start(host, port))
    any_sim.run(any_sim.provider.close())
    any_sim.run(chosen.start(host, port))

    assert chosen.url == f"http://{host}:{port}/v1"
    assert httpx.get(f"{chosen.url}/models", **PLAIN).status_code == 200
    any_sim.run(chosen.close())


def test_it_listens_on_the_newer_protocol_too(any_sim: Running) -> None:
    newer = SimulatedProvider(name="b")
    try:
        any_sim.run(newer.start("::1"))
    except OSError:
        pytest.skip("there is no IPv6 here")
    assert httpx.get(f"{newer.url}/models", **PLAIN).status_code == 200
    assert httpx.get(f"{newer.control_url}/_simulated", **PLAIN).json()["name"] == "b"
    any_sim.run(newer.close())


def test_closing_twice_and_switching_when_closed_do_nothing(any_sim: Running) -> None:
    any_sim.run(any_sim.provider.close())
    any_sim.fault("refused")
    any_sim.fault("none")
    any_sim.run(any_sim.provider.close())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(any_sim.address)
