"""The node as the boxes meet it: by its admin socket, as a client of :4003, and on :4004."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, NoReturn, Self, cast

import httpx
from attrs import evolve, frozen

from runestone.api import ChatEvent, Finished, OperationError, ProviderAdapter, RemoteNode, Started, TextDelta
from runestone.check.stage import GPT, Stage
from runestone.domain.routing import is_throw_away

HELLO: Final[list[dict[str, str]]] = [{"role": "user", "content": "Hello"}]
_TRIES: Final = 4  # at a node that has no room for a moment
_PAUSE_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.05


class Unticked(Exception):
    """A box is not ticked: why, and the command that helps."""

    def __init__(self, why: str, command: str = "runestone ctl status") -> None:
        super().__init__(why)
        self.command = command


def require(fact: object, why: str, command: str = "runestone ctl status") -> None:
    """Raise :class:`Unticked` unless ``fact`` holds."""
    if not fact:
        raise Unticked(why, command)


@frozen
class Told:
    """What became of a chat: who answered, the text, whether it came to its end, and the reason if it failed."""

    provider: str | None = None
    text: str = ""
    whole: bool = False
    failure: str | None = None
    message: str = ""

    @property
    def words(self) -> str:
        """The same in words."""
        if self.failure is not None:
            return f"{self.failure}: {self.message}"
        return f"{self.provider} answered" + ("" if self.whole else ", and did not come to an end")


@frozen(kw_only=True)
class Site:
    """One node. ``key`` is sent to :4003; ``closed``: that takes keys alone, and none was given."""

    node: RemoteNode
    http: httpx.AsyncClient
    public: str
    health: str
    key: str | None
    closed: bool
    stage: Stage

    @classmethod
    async def met(cls, node: RemoteNode, http: httpx.AsyncClient, key: str | None, stage: Stage) -> Self:
        """The node, once it has said where it listens. Raises :class:`OperationError`."""
        where = (await node.ask("GET", "/v1/status"))["listeners"]
        site = cls(
            node=node, http=http, public=where["public"], health=where["health"], key=key, closed=False, stage=stage
        )
        try:
            refused = (await site.call("GET", "/v1/models")).status_code == 401
        except Unticked:  # nobody listens there, which a box will tell
            return site
        if refused and key is not None:
            raise OperationError(
                "refused", "the node does not know the key; give --key-env the variable of one of its own"
            )
        return evolve(site, closed=refused)

    async def ask(self, path: str) -> dict[str, Any]:
        """What the node tells by its admin socket."""
        return await self.node.ask("GET", path)

    async def providers(self) -> list[dict[str, Any]]:
        """The real ones."""
        found = (await self.ask("/v1/providers"))["providers"]
        return [provider for provider in found if not is_throw_away(provider["name"])]

    async def alerts(self, *kinds: str) -> list[dict[str, str]]:
        """What is wrong now, of these kinds."""
        found = (await self.ask("/v1/dashboard"))["dashboard"]["alerts"]
        return [alert for alert in found if alert["kind"] in kinds]

    async def call(
        self, method: str, path: str, body: Any = None, *, group: str | None = None, **headers: str
    ) -> httpx.Response:
        """A request to :4003. A node that has no room for it at once is asked again; an address that nobody serves unticks."""
        more = {"authorization": f"Bearer {self.key}"} if self.key else {}
        more |= {"x-runestone-group": group} if group else {}
        more |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        for left in range(_TRIES, 0, -1):
            answer = await self.answer(method, f"{self.public}{path}", headers=more, **content)
            if answer.status_code != 503 or "retry-after" not in answer.headers or left == 1:
                return answer
            await asyncio.sleep(_PAUSE_SECONDS)
        raise AssertionError

    async def look(self, path: str, **headers: str) -> httpx.Response:
        """A request to :4004."""
        return await self.answer("GET", f"{self.health}{path}", headers=headers)

    async def answer(self, method: str, url: str, **options: Any) -> httpx.Response:
        """The answer to a request to anywhere; one that never comes unticks."""
        try:
            return await self.http.request(method, url, **options)
        except httpx.HTTPError as error:
            _unanswered(url, error)

    async def chat(self, group: str, *, model: str = GPT) -> Told:
        """A chat in ``group`` by the admin socket."""
        told = Told()
        request = {"model": model, "messages": HELLO}
        chat = ProviderAdapter(self.node).stream_chat(request, group=group)
        try:
            async with aclosing(cast("AsyncGenerator[ChatEvent, None]", chat)) as events:
                async for event in events:
                    match event:
                        case Started(provider=provider):
                            told = evolve(told, provider=provider)
                        case TextDelta(text):
                            told = evolve(told, text=told.text + text)
                        case Finished():
                            told = evolve(told, whole=True)
                        case _:
                            pass
        except OperationError as error:
            if error.reason == "unreachable":
                raise
            return evolve(told, failure=error.reason, message=str(error))
        return told

    async def eventually(self, check: Callable[[], Awaitable[Any]], why: str, seconds: float = 10.0) -> Any:
        """Wait until ``check`` gives something true, and return that; unticks if it never does."""
        end = asyncio.get_running_loop().time() + seconds
        while not (value := await check()):
            require(asyncio.get_running_loop().time() < end, why)
            await asyncio.sleep(_LOOK_SECONDS)
        return value


def said(answer: httpx.Response) -> str:
    """The status of ``answer``, and its error's words."""
    error = fields(answer).get("error")
    words = f" {error.get('code') or error.get('type')}: {error.get('message')}" if isinstance(error, dict) else ""
    return f"{answer.status_code}{words}"


def fields(answer: httpx.Response) -> Mapping[str, Any]:
    """The JSON object that ``answer`` is; empty if it is none."""
    try:
        data = answer.json()
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _unanswered(url: str, error: httpx.HTTPError) -> NoReturn:
    raise Unticked(f"{url} does not answer: {str(error) or type(error).__name__}", "runestone ctl status") from None
