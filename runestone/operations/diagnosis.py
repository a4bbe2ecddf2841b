"""``doctor``: one look at the node, and what the rules find in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from runestone.operations import snapshot
from runestone.operations.doctor import RULES, examine
from runestone.operations.findings import LEVELS
from runestone.operations.fleet import Fleet
from runestone.operations.node import Node
from runestone.operations.operation import Operation

Body = Mapping[str, Any]
Answer = dict[str, Any]


@frozen
class DoctorActions:
    """What may be asked about the health of ``node``."""

    node: Node
    fleet: Fleet

    def table(self) -> list[Operation]:
        """All of them."""
        return [Operation("GET", "/v1/doctor", self.examine)]

    async def examine(self, _: str, __: Body) -> Answer:
        """All findings, the worst first, how many of each level, and whether there is no error among them."""
        found = examine(snapshot.take(self.node, self.fleet))
        counts = Counter(finding.level for finding in found)
        return {
            "findings": [finding.as_data() for finding in found],
            "healthy": not counts["error"],
            "counts": {level: counts[level] for level in LEVELS},
            "rules": len(RULES),
        }
