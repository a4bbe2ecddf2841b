"""The admin socket and the one for observers: modes, owners, the lock, and what they find in their place."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from runestone.http.sockets import AdminSocket, BindError, peer

MINE = str(os.getgid())
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a socket, in a directory that is not there yet."""
    return tmp_path / "run" / "admin.sock"


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines of the log."""
    lines: list[str] = []
    number = logger.add(lambda line: lines.append(str(line)))
    yield lines
    logger.remove(number)


def mode(path: Path) -> int:
    """Of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_both_sockets_are_their_owners_alone_in_a_directory_that_is_too(path: Path) -> None:
    bound = AdminSocket.bind(path)

    assert (mode(path.parent), mode(path), mode(path.with_name("observe.sock"))) == (0o700, 0o600, 0o600)
    bound.close()
    bound.close()
    assert [file.name for file in path.parent.iterdir()] == ["admin.sock.lock"]


def test_a_group_gets_the_socket_for_observers_and_no_more(path: Path) -> None:
    bound = AdminSocket.bind(path, MINE)

    observers = path.with_name("observe.sock")
    assert (mode(path.parent), mode(path), mode(observers)) == (0o750, 0o600, 0o660)
    assert (path.parent.stat().st_gid, observers.stat().st_gid) == (os.getgid(), os.getgid())
    bound.close()


def test_a_directory_that_lets_the_group_not_pass_is_left_alone_and_told(path: Path) -> None:
    path.parent.mkdir(mode=0o700)

    with pytest.raises(BindError, match=rf"chgrp {MINE} {path.parent} && chmod g\+x {path.parent}"):
        AdminSocket.bind(path, MINE)

    assert mode(path.parent) == 0o700
    path.parent.chmod(0o750)
    AdminSocket.bind(path, MINE).close()
    path.parent.chmod(0o711)
    AdminSocket.bind(path, MINE).close()


def test_a_group_that_there_is_not_is_told(path: Path) -> None:
    with pytest.raises(BindError, match="no group 'no-such-group'"):
        AdminSocket.bind(path, "no-such-group")


@as_root
def test_a_directory_of_somebody_else_is_refused(path: Path) -> None:
    path.parent.mkdir()
    os.chown(path.parent, 65534, 65534)

    with pytest.raises(BindError, match=f"{path.parent} belongs to uid 65534"):
        AdminSocket.bind(path)

    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(("its_mode", "is_told"), [(0o700, 0), (0o755, 0), (0o770, 1), (0o777, 1), (0o1777, 0)])
def test_a_directory_in_which_others_may_write_is_told(
    path: Path, said: list[str], its_mode: int, is_told: int
) -> None:
    path.parent.mkdir()
    path.parent.chmod(its_mode)

    AdminSocket.bind(path).close()

    assert len([line for line in said if f"chmod go-w {path.parent}" in line]) == is_told


def test_a_second_instance_is_refused_and_the_first_keeps_its_sockets(path: Path) -> None:
    first = AdminSocket.bind(path)

    with pytest.raises(BindError, match="another instance"):
        AdminSocket.bind(path)

    for name in (path, path.with_name("observe.sock")):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(name))
    first.close()
    AdminSocket.bind(path).close()


@pytest.mark.parametrize("name", ["admin.sock", "observe.sock"])
def test_a_dead_socket_is_replaced_and_a_live_one_never(path: Path, name: str) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path.with_name(name)))
        other.listen()
        with pytest.raises(BindError, match=f"{name}: another program listens there"):
            AdminSocket.bind(path)
        assert path.with_name(name).exists()

    bound = AdminSocket.bind(path)
    bound.close()
    assert not path.with_name(name).exists()


def test_a_socket_that_somebody_has_put_in_its_place_is_not_removed(path: Path) -> None:
    bound = AdminSocket.bind(path)
    path.unlink()
    path.touch()

    bound.close()

    assert path.exists()


def test_two_sockets_in_one_directory_do_not_share_that_for_observers(path: Path) -> None:
    one, other = AdminSocket.bind(path), AdminSocket.bind(path.with_name("b.sock"))

    assert (one.observers.path.name, other.observers.path.name) == ("observe.sock", "b.sock.observe")
    one.close()
    other.close()


def test_a_path_is_too_long_where_that_beside_it_is(tmp_path: Path) -> None:
    longest = tmp_path / ("x" * (107 - len(str(tmp_path)) - len("/admin.sock") - 1)) / "admin.sock"

    with pytest.raises(BindError, match="107 bytes"):
        AdminSocket.bind(longest)


def test_the_kernel_knows_who_has_connected(path: Path) -> None:
    bound = AdminSocket.bind(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        connection, _ = bound.listener.accept()
        with connection:
            assert peer(connection) == (os.getpid(), os.getuid())
    bound.close()
