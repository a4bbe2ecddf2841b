"""What a client sees of one request in four words, for tables of faults: how an answer ended, and what became of the provider."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
from attrs import define, frozen

from runestone.console.client import AdminClient
from tests.e2e.node import Gateway, Upstream, eventually, gateway
from tests.support.plain import PLAIN

Wire = Literal["openai", "anthropic"]
WIRES: tuple[Wire, ...] = ("openai", "anthropic")
PATHS = {"openai": "/chat/completions", "anthropic": "/messages"}
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5"}
ENDS = {"openai": b"data: [DONE]\n\n", "anthropic": b'event: message_stop\ndata: {"type":"message_stop"}\n\n'}
SPACES = re.compile(rb'(?<=[:,{])\s+(?=["{\[])')
QUICK = {
    "FAILOVER_STRATEGY": "priority",
    "RETRY_BASE_DELAY_MS": "1",
    "RETRY_MAX_ATTEMPTS": "2",
    "RUNESTONE_FIRST_TOKEN_TIMEOUT_MS": "400",
    "RUNESTONE_IDLE_TIMEOUT_MS": "300",
    "OPENAI_TIMEOUT": "1000",
    "ANTHROPIC_TIMEOUT": "1000",
    "RUNESTONE_REQUEST_DEADLINE_MS": "20000",
}  # a healthy answer takes some milliseconds


@frozen
class Seen:
    """An answer as it came."""

    wire: Wire
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON of the events of a stream."""
        lines = [line for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        return [dict(json.loads(line.removeprefix(b"data: "))) for line in lines]

    @property
    def streamed(self) -> bool:
        """Whether it is a stream."""
        return self.headers["content-type"].startswith("text/event-stream")

    @property
    def told(self) -> list[str]:
        """The errors in it: the code, or Anthropic's type."""
        found = self.events if self.streamed else [dict(json.loads(self.body))]
        word = "code" if self.wire == "openai" else "type"
        return [str(data["error"][word]) for data in found if data.get("error")]

    @property
    def ending(self) -> str:
        """``200 whole``, ``502 upstream_truncated``, or ``200 then upstream_truncated``; what is none of them is shown."""
        whole = SPACES.sub(b"", self.body).endswith(SPACES.sub(b"", ENDS[self.wire])) if self.streamed else True
        whole = whole and self.body.count(ENDS["openai"].strip()) + self.body.count(b"event: message_stop") <= 1
        match self.told:
            case [] if whole and self.status == 200:
                return "200 whole"
            case [word] if (
                self.streamed and ENDS["openai"].strip() not in self.body and b"message_stop" not in self.body
            ):
                return f"{self.status} then {word}"
            case [word] if not self.streamed:
                return f"{self.status} {word}"
            case _:
                return f"{self.status}, errors {self.told}, whole: {whole}: {self.body!r}"

    @property
    def text(self) -> str:
        """What the model said."""
        if not self.streamed:
            data = json.loads(self.body)
            return str(data["choices"][0]["message"]["content"] if "choices" in data else data["content"][0]["text"])
        parts = []
        for event in self.events:
            parts += [choice["delta"].get("content") or "" for choice in event.get("choices", ())]
            parts.append(event["delta"].get("text", "") if event.get("type") == "content_block_delta" else "")
        return "".join(parts)


@define
class House:
    """One gateway over both providers, for many rows: each begins with a clean slate."""

    node: Gateway
    upstreams: Mapping[Wire, Upstream]
    client: httpx.Client
    admin: AdminClient

    def clean(self, **faults: str) -> None:
        """No throttle, no quarantine, closed breakers; the providers have forgotten everything and have ``faults``."""
        for wire, upstream in self.upstreams.items():
            for fault in ("refused", faults.get(wire, "none")):  # the first closes what connections were kept
                self.client.put(f"{upstream.control}/_simulated/fault", content=fault).raise_for_status()
            self.client.post(f"{upstream.control}/_simulated/reset").raise_for_status()
            self.admin.request("POST", f"/v1/breakers/{wire}-default/reset")

    def ask(self, model: str, *, client: Wire = "openai", stream: bool = False, **more: Any) -> Seen:
        """One request, to its last byte."""
        body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}], **more}
        answer = self.client.post(f"{self.node.base_url}{PATHS[client]}", json={**body, "stream": stream})
        return Seen(client, answer.status_code, answer.headers, answer.content)

    def calls(self, wire: Wire) -> int:
        """Requests that have reached the provider."""
        return int(self.client.get(f"{self.upstreams[wire].control}/_simulated").json()["requests"])

    def provider(self, wire: Wire) -> dict[str, Any]:
        """The provider as the console sees it, once nothing is in flight."""
        return dict(eventually(lambda: self._idle(wire), "the lease is back"))

    def _idle(self, wire: Wire) -> dict[str, Any] | None:
        found = self.admin.request("GET", f"/v1/providers/{wire}-default")["provider"]
        return None if found["in_flight"] else dict(found)


@contextmanager
def housed(folder: Path, openai: Upstream, anthropic: Upstream, *arguments: str, **environment: str) -> Iterator[House]:
    """A gateway with short timeouts over both providers, for the time of the block; ``arguments`` are those of ``serve``."""
    keys = {"OPENAI_API_KEY": "sk-upstream-openai", "ANTHROPIC_API_KEY": "sk-upstream-anthropic"}
    urls = {"OPENAI_BASE_URL": openai.url, "ANTHROPIC_BASE_URL": anthropic.url}
    with (
        gateway(folder, {**keys, **urls, **QUICK, **environment}, *arguments) as node,
        httpx.Client(timeout=30, **PLAIN) as client,
    ):
        house = House(node, {"openai": openai, "anthropic": anthropic}, client, AdminClient(node.socket))
        yield house
        house.clean()
