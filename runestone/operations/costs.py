"""What calls have cost: questions to the ledger, and forgetting."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from runestone.ledger.bookkeeper import Prune, Report, Unavailable
from runestone.ledger.report import BY, MOMENT, Query, moment, told
from runestone.operations.errors import OperationError
from runestone.operations.node import Node
from runestone.providers import names

_REPORT_SECONDS: Final = 60.0
_PRUNE_SECONDS: Final = 600.0
_SINCE: Final = "24h"


async def shown(node: Node, body: Mapping[str, Any]) -> dict[str, Any]:
    """Calls, tokens and costs ``since`` a moment (24 hours ago) ``until`` another (now), ``by`` provider or what else they have.

    Raises :class:`OperationError`: ``refused``, or ``unavailable`` where the ledger does not answer.
    """
    now_ms = time.time_ns() // 1_000_000
    by = body.get("by", "provider")
    if by not in BY:
        raise OperationError("refused", f"by must be one of {', '.join(BY)}")
    until_ms = (
        _moment(body, "until", now_ms) if body.get("until") is not None else now_ms + 1
    )  # those of this moment too
    query = Query(since_ms=_moment({"since": _SINCE, **body}, "since", now_ms), until_ms=until_ms, by=by)
    answer = await node.call(names.LEDGER, Report(query), timeout=_REPORT_SECONDS)
    if isinstance(answer, Unavailable):
        raise _unavailable(answer)
    return {**answer.as_data(), "ledger": node.books.status()}


async def pruned(node: Node, body: Mapping[str, Any]) -> dict[str, Any]:
    """Forget the calls that ended ``before`` a moment. Raises :class:`OperationError` as :func:`shown` does."""
    before_ms = _moment(body, "before", time.time_ns() // 1_000_000)
    answer = await node.call(names.LEDGER, Prune(before_ms), timeout=_PRUNE_SECONDS)
    if isinstance(answer, Unavailable):
        raise _unavailable(answer)
    return {"before": told(before_ms), "forgotten": answer}


def _unavailable(answer: Unavailable) -> OperationError:
    return OperationError("unavailable", f"the ledger does not answer: {answer.reason}")


def _moment(body: Mapping[str, Any], name: str, now_ms: int) -> int:
    try:
        return moment(str(body[name]), now_ms)
    except (KeyError, ValueError, OverflowError):
        raise OperationError("refused", f"{name} must be {MOMENT}") from None
