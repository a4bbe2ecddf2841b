"""The faults that break HTTP itself, that never end, or that strike at a byte: each does what it says, seen from the wire."""

from __future__ import annotations

import socket
import zlib
from typing import Any

import httpx
import pytest

from tests.simulated.running import BODY, PATHS, Running, eventually
from tests.simulated.test_faults import BROKEN, TERMINALS, WIRES, events, outcomes, raw, read
from tests.support.plain import PLAIN


def received(sim: Running, size: int, wire: str = "openai", **more: Any) -> bytes:
    """At least ``size`` bytes of the connection, fewer if it ends before."""
    with socket.create_connection(sim.address, timeout=10) as client:
        client.sendall(raw(**more).replace(b"/chat/completions", PATHS[wire].encode()))
        parts = b""
        while len(parts) < size and (data := client.recv(65536)):
            parts += data
    eventually(lambda: not sim.state()["open_streams"])
    return parts


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_ends_the_connection_without_an_answer(any_sim: Running, stream: bool) -> None:
    any_sim.fault("cut")
    assert received(any_sim, 1, stream=stream) == b""
    eventually(lambda: outcomes(any_sim) == ["cut"])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("at", [0, 1, 100])
@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_body_breaks_off_at_exactly_that_byte(sim: Running, wire: str, stream: bool, at: int, fault: str) -> None:
    whole = sim.post(wire, stream=stream).content
    sim.fault(f"{fault} at={at}")
    with (
        httpx.Client(**PLAIN) as client,
        client.stream("POST", f"{sim.provider.url}{PATHS[wire]}", json={**BODY, "stream": stream}) as response,
    ):
        body, error = read(response)
    assert error in BROKEN
    assert body == whole[:at] or (fault == "reset" and whole.startswith(body))  # a reset may overtake what was sent
    eventually(lambda: outcomes(sim) == ["served", "cut"])


def test_a_cut_at_the_last_byte_leaves_out_the_end_of_the_message_alone(sim: Running) -> None:
    whole = sim.post(stream=True).content
    sim.fault(f"cut at={len(whole)}")
    with sim.stream() as response:
        assert read(response) == (whole, httpx.RemoteProtocolError)
    sim.fault(f"cut at={len(whole) + 1}")
    with sim.stream() as response:
        assert read(response) == (whole, None)


def test_a_body_stalls_at_exactly_that_byte_until_the_client_leaves(sim: Running) -> None:
    sim.fault("stall at=70")
    with sim.stream() as response:
        body, data = b"", response.iter_raw()
        while len(body) < 70:
            body += next(data)
        assert len(body) == 70
    eventually(lambda: outcomes(sim) == ["client_gone"])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_answer_comes_byte_by_byte_and_whole(sim: Running, wire: str, stream: bool) -> None:
    whole = sim.post(wire, stream=stream).content
    sim.fault("slow=0.00001")
    assert sim.post(wire, stream=stream).content == whole
    sim.fault("slow=1000 tokens=3")
    with sim.stream(wire):
        eventually(lambda: sim.state()["open_streams"] == 1)
    eventually(lambda: outcomes(sim)[-1] == "client_gone")


@pytest.mark.parametrize("wire", WIRES)
def test_invalid_json_is_not_complete(sim: Running, wire: str) -> None:
    sim.fault("invalid_json")
    assert sim.post(wire).content == b'{"id": "simulated", "choices": [{'
    assert events(sim.post(wire, stream=True).content) == [b'data: {"id": "simulated", "choices": [{\n\n']
    sim.fault("none")
    whole = events(sim.post(wire, stream=True).content)
    sim.fault("invalid_json after=3")
    got = events(sim.post(wire, stream=True).content)
    assert got[:3] + got[4:] == whole


@pytest.mark.parametrize("wire", WIRES)
def test_done_twice_has_content_behind_the_end(sim: Running, wire: str) -> None:
    whole = sim.post(wire, stream=True).content
    sim.fault("done_twice")
    assert sim.post(wire, stream=True).content == whole + TERMINALS[wire] + whole.removesuffix(TERMINALS[wire])


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_leads_to_the_same_place(sim: Running, status: int) -> None:
    sim.fault(f"redirect={status}")
    answer = sim.post()
    assert (answer.status_code, answer.headers["location"]) == (status, "/v1/chat/completions")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True])
def test_more_is_promised_than_comes(sim: Running, wire: str, stream: bool) -> None:
    sim.fault("wrong_length=7")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        sim.post(wire, stream=stream)
    eventually(lambda: outcomes(sim) == ["cut"])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("stream", [False, True])
def test_less_is_promised_than_comes(sim: Running, wire: str, stream: bool) -> None:
    whole = sim.post(wire, stream=stream).content
    sim.fault("wrong_length=-20")
    told, _, came = received(sim, 1 << 20, wire, stream=stream).partition(b"\r\n\r\n")
    assert came == whole
    assert b"content-length: %d" % (len(whole) - 20) in told


def test_many_headers_stand_before_a_good_answer(sim: Running) -> None:
    sim.fault("many_headers=50")
    answer = sim.post()
    assert sum(name.startswith("x-filler-") for name in answer.headers) == 50
    assert "choices" in answer.json()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "repeated"),
    [("endless_head", b"x-filler-"), ("endless_line", b"xxxxxxxx"), ("comments", b""), ("gzip_bomb", b"")],
)
def test_what_is_endless_goes_on_until_the_client_leaves(
    any_sim: Running, fault: str, repeated: bytes, stream: bool
) -> None:
    any_sim.fault(fault)
    came = received(any_sim, 400_000, stream=stream)
    assert len(came) >= 400_000
    assert came.count(b"\r\n\r\n") == (fault != "endless_head") or fault == "gzip_bomb"
    assert repeated in came[300_000:]
    assert outcomes(any_sim) == ["client_gone"]


def test_a_hostile_answer_may_have_another_status(sim: Running) -> None:
    sim.fault("429 gzip_bomb retry_after=3")
    assert received(sim, 1000).startswith(b"HTTP/1.1 429 Told\r\ncontent-type: application/json\r\nretry-after: 3\r\n")


def test_endless_comments_are_nothing_but_comments_and_white_space(sim: Running) -> None:
    sim.fault("comments")
    assert set(received(sim, 100_000, stream=True).partition(b"\r\n\r\n")[2].split(b"\n")[:-1]) == {
        b": wait a little",
        b"",
    }
    assert received(sim, 100_000).partition(b"\r\n\r\n")[2].strip() == b""


def test_a_bomb_is_a_thousand_times_what_comes(sim: Running) -> None:
    sim.fault("gzip_bomb")
    body = received(sim, 20_000, stream=True).partition(b"\r\n\r\n")[2]
    assert len(zlib.decompressobj(wbits=31).decompress(body)) > 500 * len(body)


def test_a_seed_makes_the_rate_draw_the_same_ones_again(sim: Running) -> None:
    drawn: list[list[int]] = []
    with httpx.Client(**PLAIN) as client:
        for seed in (7, 7, 8):
            sim.fault(f"503 50% seed={seed}")
            url = f"{sim.provider.url}/chat/completions"
            drawn.append([client.post(url, json=BODY).status_code for _ in range(30)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == {200, 503}
