"""The names under which the processes of the tree are registered."""

from __future__ import annotations

from typing import Final

ROOT: Final = "runestone"
FAILOVER: Final = "failover"
REQUESTS: Final = "requests"
PROVIDERS: Final = "providers"
ROSTER: Final = "roster"
STATE: Final = "state"
SERVERS: Final = "servers"
TELEMETRY: Final = "telemetry"
COSTS: Final = "costs"
CONFIGURATION: Final = "configuration"
EVENTS: Final = "events"
LEDGER: Final = "ledger"
STACKS: Final = "stacks"
PUBLIC: Final = "public"
LOG: Final = "log"


def provider(name: str) -> str:
    """The provider actor called ``name``."""
    return f"provider:{name}"


def transport(name: str) -> str:
    """The transport actor of the provider called ``name``."""
    return f"transport:{name}"


def prober(name: str) -> str:
    """The prober of the provider called ``name``."""
    return f"prober:{name}"


def subtree(name: str) -> str:
    """The supervisor of the provider called ``name``."""
    return f"provider-tree:{name}"
