"""A client of the public port: one request through the whole front, over ASGI, as a server would carry it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

from attrs import define, field
from starlette.types import ASGIApp, Message, Scope

from tests.simulation.heard import Heard, heard
from tests.simulation.script import Question

End = Literal["whole", "told", "left", "nothing"]


@define(eq=False)
class Client:
    """What one client asks, and what it gets."""

    question: Question
    status: int = 0
    headers: dict[str, str] = field(factory=dict)
    body: bytearray = field(factory=bytearray)
    starts: int = 0
    ends: int = 0
    began: float = 0.0
    ended: float | None = None
    gone: float | None = None  # when it left
    crashed: BaseException | None = None
    late: bool = False  # something came after the end
    _left: asyncio.Event = field(factory=asyncio.Event)

    async def ask(self, app: ASGIApp) -> None:
        """Ask, and take what comes until the application is done."""
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        body = self._asked()
        inbox = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if inbox:
                return inbox.pop()
            await self._left.wait()
            return {"type": "http.disconnect"}

        try:
            await app(self._scope(len(body)), receive, self._send)
        finally:
            self.ended = loop.time()
            if self.ends:
                self._left.set()  # as a server says when the answer is whole

    async def leave(self, task: asyncio.Task[None]) -> None:
        """Leave at the time and in the way that the script says."""
        assert self.question.leaves is not None
        seconds, how = self.question.leaves
        await asyncio.sleep(seconds)
        if task.done() or self.ends:
            return
        self.gone = asyncio.get_running_loop().time()
        if how == "disconnect":
            self._left.set()
            return
        task.cancel()
        if how == "cancel twice":
            for _ in range(self.question.number % 4):
                await asyncio.sleep(0)
            task.cancel()

    @property
    def heard(self) -> Heard:
        """What the client makes of the body of a 200. One that is shorter than it was to be is an error to every client."""
        if not self.question.stream and len(self.body) != int(self.headers["content-length"]):
            return Heard(error=True)
        return heard(self.question.path, bytes(self.body), stream=self.question.stream)

    @property
    def began_at_all(self) -> int:
        """1 if the application was asked; one may leave before."""
        return int(self.ended is not None)

    @property
    def end(self) -> End:
        """How it ended for the client."""
        if self.ends and self.status == 200 and self.heard.whole:
            return "whole"
        if self.ends:
            return "told"
        return "left" if self.gone is not None else "nothing"

    async def _send(self, message: Message) -> None:
        """As hypercorn: what is sent is in the buffer at once, a slow client makes the writer wait, and nobody is told of one that left."""
        if self.gone is not None:
            return
        self.late = self.late or self.ends > 0
        if message["type"] == "http.response.start":
            self.starts += 1
            self.status = message["status"]
            self.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.ends += not message.get("more_body", False)
        await asyncio.sleep(self.question.pace)

    def _asked(self) -> bytes:
        question = self.question
        asked: dict[str, Any] = {
            "model": question.model,
            "stream": question.stream,
            "max_tokens": 100,
            "messages": [{"role": "user", "content": f"question {question.number} is this"}],
        }
        return json.dumps(asked).encode()

    def _scope(self, size: int) -> Scope:
        question = self.question
        headers = [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % size),
            (b"authorization", f"Bearer key-{question.key}".encode()),
            (b"x-request-id", b"question-%d" % question.number),
        ]
        if question.group is not None:
            headers.append((b"x-runestone-group", question.group.encode()))
        return {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": question.path,
            "query_string": b"",
            "headers": headers,
        }
