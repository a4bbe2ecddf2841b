"""Listening sockets. They belong to the ``state`` actor and outlive every listener; each incarnation of one serves a ``dup()``."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import resource
import socket
import stat
import struct
from functools import cache
from pathlib import Path
from typing import Final

from attrs import define, field
from loguru import logger

from runestone.config.run_directory import observe_socket

_MOST_LEAVING: Final = 1024
BACKLOG: Final = 4096  # connections that the system keeps until they are accepted; Linux keeps no more by itself
_DIRECTORY_OF_A_GROUP = 0o750
_OBSERVERS_MODE = 0o660
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_USER_TIMEOUT_MS = (
    30_000  # unacknowledged data for this long means that the reader is gone; hypercorn has no write timeout
)
_DESCRIPTORS = 65_536
_OTHER_DESCRIPTORS = 100  # listeners, logs, the console, connections that are kept
_CREDENTIALS = struct.Struct("3i")
_PATH_LIMIT = 107  # bytes of a unix socket's path on Linux


class BindError(Exception):
    """An address cannot be had; the message says which and why."""


def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening TCP socket on ``host``:``port`` (0 for any free port). Raises :class:`BindError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = "is in use by another program" if error.errno == errno.EADDRINUSE else error.strerror
        raise BindError(f"{host}:{port} {reason}") from None
    listener.settimeout(0.0)
    return listener


@cache
def most_connections() -> int:
    """How many connections of clients the process has file descriptors for, each with a call upstream; its limit is raised first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    have = _DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    return max((have - _OTHER_DESCRIPTORS) // 2, 1)


def most_leaving() -> int:
    """How many refused connections are kept until their clients have read why: beyond it they are closed at once."""
    return min(_MOST_LEAVING, most_connections() // 4)


def http_url(listener: socket.socket) -> str:
    """The URL of a listening TCP socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def peer(connection: socket.socket) -> tuple[int, int] | None:
    """The process at the other end of a unix socket, as the kernel knows it: its pid (0: in no namespace of ours) and uid."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


@define(slots=True, eq=False)
class UnixSocket:
    """A listening unix socket, and its file, which goes with it if it is still its own."""

    path: Path
    listener: socket.socket
    _identity: tuple[int, int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        status = self.path.stat()
        self._identity = status.st_dev, status.st_ino

    def close(self) -> None:
        """Stop listening."""
        self.listener.close()
        with contextlib.suppress(FileNotFoundError):
            status = self.path.stat()
            if (status.st_dev, status.st_ino) == self._identity:
                self.path.unlink()


@define(slots=True, eq=False)
class AdminSocket:
    """The admin socket, and beside it the one for observers: in a private directory, 0600 from their first moment, locked against a
    second instance, unlinked at the end.
    """

    admin: UnixSocket
    observers: UnixSocket
    _lock: int
    _closed: bool = field(default=False, init=False)

    @property
    def path(self) -> Path:
        """Of the admin socket."""
        return self.admin.path

    @property
    def listener(self) -> socket.socket:
        """Of the admin socket."""
        return self.admin.listener

    @classmethod
    def bind(cls, path: Path, observe_group: str | None = None) -> AdminSocket:
        """Bind ``path`` and what is beside it; a dead socket there is replaced, a live one never.

        Members of ``observe_group`` may use the socket for observers. Raises :class:`BindError`.
        """
        beside = observe_socket(path)
        if len(os.fsencode(beside)) > _PATH_LIMIT:
            raise BindError(f"{beside} is longer than the {_PATH_LIMIT} bytes that a unix socket's path may have")
        group = None if observe_group is None else _group_id(observe_group)
        try:
            is_new = not path.parent.exists()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if is_new and group is not None:
                os.chown(path.parent, -1, group)
                path.parent.chmod(_DIRECTORY_OF_A_GROUP)
            _check_directory(path.parent, group)
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BindError(f"{path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise BindError(f"{path}: another instance is running and listens there") from None
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, lock)
            admin = _bound(path)
            undo.callback(admin.close)
            observers = _bound(beside)
            undo.callback(observers.close)
            if group is not None:
                _open_to(beside, group)
            undo.pop_all()
            return cls(admin, observers, lock)

    def close(self) -> None:
        """Stop listening and remove the files. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self.observers.close()
        self.admin.close()
        os.close(self._lock)


def _bound(path: Path) -> UnixSocket:
    try:
        return UnixSocket(path, listen_unix(path))
    except OSError as error:
        raise BindError(f"{path}: {error.strerror or error}") from None


def _group_id(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise BindError(f"admin.observe_group: there is no group {group!r} on this machine") from None


def _open_to(path: Path, group: int) -> None:
    try:
        os.chown(path, -1, group)
        path.chmod(_OBSERVERS_MODE)
    except OSError as error:
        about = "the user of this process must be in it"
        raise BindError(
            f"{path}: cannot be given to the group of admin.observe_group: {error.strerror}; {about}"
        ) from None


def _check_directory(path: Path, group: int | None) -> None:
    """Who owns the directory of a socket, or may write there, can put another one in its place."""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        message = f"{path} belongs to uid {status.st_uid}, who could put another socket there"
        raise BindError(f"{message}; set RUNESTONE_ADMIN_SOCKET to a place in a directory of uid {os.geteuid()}")
    if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
        logger.warning("{} may be written to by others, who could put another socket there: chmod go-w {}", path, path)
    passes = status.st_mode & stat.S_IXOTH or (status.st_gid == group and status.st_mode & stat.S_IXGRP)
    if group is not None and not passes:
        raise BindError(f"{path} lets no member of admin.observe_group pass: chgrp {group} {path} && chmod g+x {path}")


def listen_unix(path: Path) -> socket.socket:
    """A listening unix socket of mode 0600; a dead one there is replaced, a live one never. Raises ``OSError``."""
    if path.is_socket():
        if _answers(path):
            raise OSError(errno.EADDRINUSE, "another program listens there")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # mode 0600 from the first moment: no window between bind and chmod
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    listener.settimeout(0.0)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
