"""The most that may be asked for: the node refuses more, and the help of each command tells it."""

from __future__ import annotations

from typing import Final

LISTED: Final = 1000  # events, lines of the log, requests, changes of a breaker
ACTORS: Final = 10_000
LEVELS_OF_TREE: Final = 100
TRACED_MESSAGES: Final = 10_000
TRACE_SECONDS: Final = 3600.0
SUSPENSION_SECONDS: Final = 3600.0
ACTIVITY_SECONDS: Final = 60.0
BLOCK_SECONDS: Final = 30.0
LOG_LEVEL_SECONDS: Final = 24 * 3600.0
DRAIN_SECONDS: Final = 24 * 3600.0
