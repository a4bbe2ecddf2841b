"""Connections that are turned away, over real sockets: a whole answer, also for one that is still sending, and nothing is left."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from runestone.http.door import LOOK_SECONDS, Door, waiting
from runestone.http.sockets import bind_tcp

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "TCP_INFO"), reason="the length of the queue is known on Linux only"
)
LOOKS = 30


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with bind_tcp("127.0.0.1", 0) as bound:
        yield bound


def connected(listener: socket.socket, sending: bytes = b"") -> socket.socket:
    client = socket.create_connection(listener.getsockname(), timeout=5)
    client.sendall(sending)
    return client


def read(client: socket.socket) -> bytes:
    found = b""
    while more := client.recv(65536):
        found += more
    return found


class Lasting:
    """A door at which nobody is served, looked at until it turns people away."""

    def __init__(self, listener: socket.socket, patience: float = 0.2) -> None:
        self.refused = 0
        self.now = 0.0
        self.door = Door(listener.dup(), lambda: patience, self.count)

    def count(self, many: int) -> None:
        self.refused += many

    def look(self, times: int = LOOKS) -> None:
        for _ in range(times):
            self.now += LOOK_SECONDS
            self.door.look(self.now, accepted=0)


def test_who_has_waited_too_long_gets_a_whole_answer_and_the_few_next_ones_go_on_waiting(
    listener: socket.socket,
) -> None:
    clients = [connected(listener, b"GET / HTTP/1.1\r\n\r\n") for _ in range(10)]
    lasting = Lasting(listener)
    lasting.look()

    assert lasting.refused == 6
    for client in clients[:6]:
        head, _, body = read(client).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in head
        assert json.loads(body)["error"]["code"] == "overloaded"
    assert waiting(listener)[0] == 4
    lasting.door.close()
    for client in clients:
        client.close()


def test_one_that_is_still_sending_can_read_the_answer(listener: socket.socket) -> None:
    clients = [connected(listener) for _ in range(5)]
    lasting = Lasting(listener)
    lasting.look()
    clients[0].sendall(b"x" * 1000)
    lasting.look()  # by now it is closed

    assert read(clients[0]).endswith(b'"code":"overloaded"}}')
    lasting.door.close()
    for client in clients:
        client.close()


def test_one_that_sends_more_than_the_system_keeps_can_send_it_all_and_read_the_answer(listener: socket.socket) -> None:
    listener.listen(0)  # one may wait, and that is one too many
    lasting, answers = Lasting(listener, patience=0.0), list[bytes]()

    def send() -> None:
        with connected(listener, b"x" * 16_000_000) as client:
            answers.append(read(client))

    sender = threading.Thread(target=send)
    sender.start()
    while sender.is_alive():
        lasting.look(1)
        sender.join(0.02)
    lasting.look(100)

    assert answers[0].endswith(b'"code":"overloaded"}}')
    assert not lasting.door._open.get_map()
    lasting.door.close()


def test_clients_that_have_left_cost_nothing_and_no_socket_stays_open(listener: socket.socket) -> None:
    for _ in range(20):
        connected(listener).close()
    lasting = Lasting(listener)
    lasting.look(100)

    assert lasting.refused == 16
    assert not lasting.door._leaving
    lasting.door.close()


@pytest.mark.parametrize(("kept", "refused"), [(64, 0), (8, 5)])
def test_without_patience_set_those_are_turned_away_for_whom_the_system_has_no_room(
    listener: socket.socket, kept: int, refused: int
) -> None:
    listener.listen(kept)
    clients = [connected(listener) for _ in range(9)]
    lasting = Lasting(listener, patience=0.0)
    lasting.look(100)

    assert (lasting.refused, waiting(listener)) == (refused, (len(clients) - refused, kept))
    lasting.door.close()
    for client in clients:
        client.close()
