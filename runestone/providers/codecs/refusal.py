"""A field of a request that another wire cannot express."""

from __future__ import annotations


class Refused(Exception):
    """Raised deep in a translation; its codec turns it into ``Unsupported``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
