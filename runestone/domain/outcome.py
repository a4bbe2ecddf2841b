"""How a call is judged."""

from __future__ import annotations

from typing import Literal

Outcome = Literal["success", "failure", "neutral"]
