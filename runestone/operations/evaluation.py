"""Python in a node that was started with ``serve --unsafe-eval``: whoever may open its admin socket may then do anything."""

from __future__ import annotations

import ast
import asyncio
import inspect
import traceback
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field, frozen
from loguru import logger

from runestone.operations.errors import OperationError
from runestone.operations.fleet import Fleet
from runestone.operations.node import Node
from runestone.operations.operation import Operation
from runestone.telemetry.logs import masked

Body = Mapping[str, Any]
Answer = dict[str, Any]
SECONDS: Final = 5.0  # for code that awaits; what does not await holds the event loop up for as long as it takes
CHARACTERS: Final = 65_536  # of what is printed, and of the value
_LOGGED: Final = 4096  # characters of the code
_CANCEL_SECONDS: Final = 1.0  # for code that is out of time to clean up
_FILE: Final = "<eval>"


@frozen
class EvaluationActions:
    """What may be evaluated: ``node``, ``fleet``, ``providers``, ``registry``, ``settings`` and ``asyncio`` are there by name."""

    node: Node
    fleet: Fleet

    def table(self) -> list[Operation]:
        """All of them."""
        return [Operation("POST", "/v1/eval", self.evaluate, tells="code")]

    async def evaluate(self, _: str, body: Body) -> Answer:
        """The value of an expression, or what statements print; ``await`` is allowed. Each time it begins with its names alone.

        Raises :class:`OperationError`: ``not_enabled``, ``refused``, ``timeout`` after :data:`SECONDS`, ``failed`` with the traceback.
        """
        if not self.node.unsafe_eval:
            raise OperationError("not_enabled", "eval is off; start the node with serve --unsafe-eval")
        code = body.get("code")
        if not isinstance(code, str) or not code.strip():
            raise OperationError("refused", "code must be a string that is not empty")
        logger.warning("eval: {}", masked(code)[:_LOGGED])
        printed = _Printed()
        task = asyncio.ensure_future(_run(code, self._names() | {"print": printed}))
        try:
            await asyncio.wait({task}, timeout=SECONDS)
        finally:
            task.cancel()
        if not task.done():
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
            raise OperationError("timeout", f"it was not over within {SECONDS:g} s, and is cancelled")
        if task.cancelled():
            raise OperationError("failed", "it has cancelled itself")
        if (error := task.exception()) is not None:
            raise OperationError("failed", _cut(printed.text + _told(error)))
        return {"value": None if task.result() is None else _cut(task.result() or ""), "printed": _cut(printed.text)}

    def _names(self) -> dict[str, Any]:
        node = self.node
        return {
            "asyncio": asyncio,
            "node": node,
            "fleet": self.fleet,
            "providers": node.memories,
            "registry": node.registry,
            "settings": node.settings,
        }


@define
class _Printed:
    """Stands for ``print``, so that what others write meanwhile does not mix with it."""

    text: str = field(default="", init=False)

    def __call__(self, *values: object, sep: str = " ", end: str = "\n") -> None:
        if len(self.text) <= CHARACTERS:
            self.text += sep.join(map(str, values)) + end


async def _run(code: str, names: dict[str, Any]) -> str | None:
    """What ``repr`` says of the value, if it is one and not ``None``. In a task of its own: whatever is raised is the task's."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        compiled, is_value = compile(code.strip(), _FILE, "eval", flags=flags), True
    except SyntaxError:
        compiled, is_value = compile(code, _FILE, "exec", flags=flags), False
    try:
        value = eval(compiled, names)  # noqa: S307 - that is what it is for, where somebody has asked for it
        if compiled.co_flags & inspect.CO_COROUTINE:
            value = await value
        return repr(value) if is_value and value is not None else None
    except (SystemExit, KeyboardInterrupt) as error:  # either would end the node from within a task
        raise RuntimeError(f"{type(error).__name__}: `shutdown` ends the node") from None


def _told(error: BaseException) -> str:
    """The traceback, from the evaluated code on."""
    frames = traceback.extract_tb(error.__traceback__)
    own = next((index for index, frame in enumerate(frames) if frame.filename == _FILE), len(frames))
    return "".join((*traceback.format_list(frames[own:]), *traceback.format_exception_only(error))).rstrip()


def _cut(text: str) -> str:
    shown = "\n".join(map(masked, text[:CHARACTERS].split("\n")))
    return shown if len(text) <= CHARACTERS else f"{shown} … (cut)"
