"""Why an operation was refused or failed."""

from __future__ import annotations

from collections.abc import Sequence


class OperationError(Exception):
    """An operation that was refused or failed.

    ``reason`` is a word for programs: the migration guide's atom where it has one (``missing_api_key``, ``unsupported_provider``,
    ``missing_providers``, ``not_found``, ``no_providers_available``). The message is for people; ``problems`` has one line for each
    thing that is wrong, where there are several.
    """

    def __init__(self, reason: str, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.problems = tuple(problems)
