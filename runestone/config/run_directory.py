"""Where the admin socket is, for the node that makes it and for the commands that look for it; and where what lasts is kept."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def admin_socket(environ: Mapping[str, str] = os.environ) -> Path:
    """``RUNESTONE_ADMIN_SOCKET`` (or what ``RUNESTONE_ADMIN_SOCKET_FILE`` holds), else ``admin.sock`` in a run directory.

    The run directory is the service's (``RUNTIME_DIRECTORY``, by systemd), the user's, or one in the directory for temporary files.
    """
    if path := environ.get("RUNESTONE_ADMIN_SOCKET", "").strip() or _held(environ.get("RUNESTONE_ADMIN_SOCKET_FILE")):
        return Path(path)
    if directory := environ.get("RUNTIME_DIRECTORY"):
        return Path(directory.split(":")[0]) / "admin.sock"
    if directory := environ.get("XDG_RUNTIME_DIR"):
        return Path(directory) / "runestone" / "admin.sock"
    return Path(environ.get("TMPDIR") or tempfile.gettempdir()) / f"runestone-{os.getuid()}" / "admin.sock"


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """What must outlive a restart is here: the service's (``STATE_DIRECTORY``, by systemd), or the user's.

    Without a home it is a directory in the one for temporary files, which outlives a process, and no more.
    """
    if directory := environ.get("STATE_DIRECTORY"):
        return Path(directory.split(":")[0])
    if directory := environ.get("XDG_STATE_HOME"):
        return Path(directory) / "runestone"
    if directory := environ.get("HOME"):
        return Path(directory) / ".local" / "state" / "runestone"
    return Path(environ.get("TMPDIR") or tempfile.gettempdir()) / f"runestone-{os.getuid()}"


def stacks_socket(admin: Path) -> Path:
    """The socket beside the admin socket that answers while the event loop is stuck."""
    return admin.with_name(f"{admin.name}.stacks")


def observe_socket(admin: Path) -> Path:
    """The socket beside the admin socket for those who may look and do nothing else."""
    return admin.with_name("observe.sock" if admin.name == "admin.sock" else f"{admin.name}.observe")


def _held(file: str | None) -> str | None:
    """What ``file`` holds. One that cannot be read is told where a node loads its settings; a command looks in the run directory."""
    if not file:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
