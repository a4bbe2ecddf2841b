"""All that is recorded as lines of JSON, each an event or a step of a provider's history; and a history back from such lines.

A history begins with a line ``{"history": NAME, "step": "start", …}`` that holds breaker and score as they were; each further one is a
step, with its own time (``now``, of the loop's clock) and ``at``, in epoch seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final, cast

import attrs
import cattrs
import orjson
from attrs import evolve, frozen
from cattrs.preconf.orjson import make_converter
from cattrs.strategies import configure_tagged_union

from runestone.operations.errors import OperationError
from runestone.operations.what_if import changes_of, compared
from runestone.resilience.breaker import Breaker, BreakerPolicy, State
from runestone.resilience.health import Health
from runestone.resilience.history import Chunk, Start, Step
from runestone.telemetry.logs import masked
from runestone.telemetry.recorder import Recorded

_FIELDS: Final[dict[str, tuple[str, ...]]] = {  # of the steps, behind the kind and the time
    "admit": ("lease", "request", "counts"),
    "refuse": ("until", "calls", "since"),
    "content": ("lease", "seconds", "prompt", "headroom", "chance", "generation", "probe"),
    "end": ("lease", "request", "outcome", "failure", "retry_after", "model", "slow", "chance", "generation", "probe"),
    "operate": ("act", "until"),
    "tune": ("policy",),
    "forget": ("why",),
    "begin": ("incarnation", "crashed"),
}
_CLOCK_SECONDS: Final = 1e-3
_TURN: Final = 50  # lines that are written without a pause
_WORDS: Final = ("request", "model")  # that clients have made up


@frozen(kw_only=True)
class Kept:
    """The history of one provider, its breaker, and until when they are what is known, in epoch seconds."""

    provider: str
    chunks: tuple[Chunk, ...]
    breaker: Breaker
    until: float


async def lines(events: Iterable[Recorded], histories: Iterable[Kept]) -> AsyncGenerator[dict[str, Any], None]:
    """Every line, the events first. Others have their turns meanwhile, however quickly somebody reads."""
    told = chain((event.as_data() for event in events), *map(_history, histories))
    for number, line in enumerate(told, 1):
        yield line
        if not number % _TURN:
            await asyncio.sleep(0)


def _history(kept: Kept) -> Iterator[dict[str, Any]]:
    name = kept.provider
    if not kept.chunks:
        return
    start, first = kept.chunks[0].start, kept.chunks[0].steps
    begun = first[0][1] if first else 0.0
    yield {
        "history": name,
        "step": "start",
        "at": begun + start.epoch,
        "now": begun,
        "breaker": _converter().unstructure(start.breaker, Breaker),
        "health": _converter().unstructure(start.health, Health),
    }
    for chunk in kept.chunks:
        for step in chunk.steps:
            yield {"history": name, **_step(step, chunk.start.epoch)}
    breaker = _converter().unstructure(kept.breaker, Breaker)
    yield {"history": name, "step": "stop", "at": kept.until, "breaker": breaker}


def _step(step: Step, epoch: float) -> dict[str, Any]:
    kind, now, *values = step
    fields = dict(zip(_FIELDS[kind], values, strict=True))
    for name in _WORDS:
        if name in fields:
            fields[name] = masked(str(fields[name]))
    if kind == "tune":
        fields["policy"] = attrs.asdict(cast("BreakerPolicy", fields["policy"]))
    return {"step": kind, "at": round(now + epoch, 6), "now": now, **fields}


def what_if(path: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to ``what-if`` from the file at ``path``.

    Raises:
        OperationError: ``failed`` where the file is none that `events export` has written, ``not_found`` where it has not this
            history, and for ``options`` as :func:`runestone.operations.what_if.changes_of`.
    """
    changes = changes_of(options)
    try:
        with Path(path).open("rb") as file:
            kept = _read(name, file)
    except OSError as error:
        raise OperationError("failed", f"{path}: {error.strerror}") from None
    except (ValueError, LookupError, TypeError, cattrs.BaseValidationError) as error:
        message = f"{path}: not as `events export` writes it: {type(error).__name__}"
        raise OperationError("failed", message) from None
    if kept is None:
        raise OperationError("not_found", f"{path} has no whole history of {name!r}; `events export` writes them")
    return {"v": 1, "what_if": {"provider": name, **compared(kept.chunks, changes, kept.until, kept.breaker)}}


def _read(name: str, file: Iterable[bytes]) -> Kept | None:
    chunks: list[Chunk] = []
    for text in file:
        line = orjson.loads(text)
        if not isinstance(line, dict):
            raise TypeError(line)
        if line.get("history") != name:
            continue
        if line["step"] == "start":
            chunks = [Chunk(_start(line))]
        elif line["step"] == "stop":
            breaker = _converter().structure(line["breaker"], Breaker)
            return Kept(provider=name, chunks=tuple(chunks), breaker=breaker, until=line["at"]) if chunks else None
        else:
            start, epoch = chunks[-1].start, line["at"] - line["now"]
            if abs(epoch - start.epoch) > _CLOCK_SECONDS:  # the clock on the wall was set
                chunks.append(Chunk(evolve(start, epoch=epoch)))
            chunks[-1].steps.append(_step_of(line))
    return None


def _start(line: Mapping[str, Any]) -> Start:
    breaker = _converter().structure(line["breaker"], Breaker)
    health = _converter().structure(line["health"], Health)
    return Start(breaker=breaker, health=health, epoch=line["at"] - line["now"])


def _step_of(line: Mapping[str, Any]) -> Step:
    values = [line[name] for name in _FIELDS[line["step"]]]
    if line["step"] == "tune":
        values = [BreakerPolicy(**line["policy"])]
    return cast("Step", (line["step"], line["now"], *values))


@cache
def _converter() -> cattrs.Converter:
    """Breakers with the name of their state in them."""
    converter = make_converter()
    configure_tagged_union(State, converter, tag_name="state")
    return converter
