"""Where the admin socket is, for the node that makes it and for the commands that look for it."""

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


def stacks_socket(admin: Path) -> Path:
    """The socket beside the admin socket that answers while the event loop is stuck."""
    return admin.with_name(f"{admin.name}.stacks")


def _held(file: str | None) -> str | None:
    """What ``file`` holds. One that cannot be read is told where a node loads its settings; a command looks in the run directory."""
    if not file:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
