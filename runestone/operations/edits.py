"""What edits the settings, and so can be tried: it is checked and told with ``dry_run``, and not done."""

from __future__ import annotations

from typing import Final

EDITS: Final = frozenset(
    {
        "POST /v1/providers",
        "POST /v1/providers/{name}",
        "POST /v1/providers/{name}/remove",
        "POST /v1/breakers/{name}",
        "POST /v1/groups",
        "POST /v1/groups/{name}",
        "POST /v1/groups/{name}/add",
        "POST /v1/groups/{name}/remove",
        "POST /v1/groups/{name}/delete",
        "POST /v1/mode",
        "POST /v1/config/reload",
        "POST /v1/log/level",
    }
)
