"""Where the admin socket is, for the node that makes it and for the commands that look for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def admin_socket(environ: Mapping[str, str] = os.environ) -> Path:
    """``RUNESTONE_ADMIN_SOCKET``, else ``admin.sock`` in the service's, the user's or a temporary run directory."""
    if path := environ.get("RUNESTONE_ADMIN_SOCKET"):
        return Path(path)
    if directory := environ.get("RUNTIME_DIRECTORY"):
        return Path(directory.split(":")[0]) / "admin.sock"
    if directory := environ.get("XDG_RUNTIME_DIR"):
        return Path(directory) / "runestone" / "admin.sock"
    return Path(environ.get("TMPDIR") or tempfile.gettempdir()) / f"runestone-{os.getuid()}" / "admin.sock"
