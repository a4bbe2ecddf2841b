"""The routes on which models are asked, as data: what differs between them and is no codec's business."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from runestone.domain.chat import Api, Wire

_OPENAI: Final = frozenset({b"openai-organization", b"openai-project", b"openai-beta", b"idempotency-key"})
_ANTHROPIC: Final = frozenset({b"anthropic-version", b"anthropic-beta", b"idempotency-key"})


@frozen(kw_only=True)
class Route:
    """One route. ``needs`` is the field without which there is no question, ``forwarded`` the headers that a provider may see."""

    path: str
    api: Api
    wire: Wire
    needs: str
    streams: bool = True
    forwarded: frozenset[bytes] = _OPENAI


ROUTES: Final = (
    Route(path="/v1/chat/completions", api="chat", wire="openai", needs="messages"),
    Route(path="/v1/responses", api="responses", wire="openai", needs="input"),
    Route(path="/v1/completions", api="completions", wire="openai", needs="prompt"),
    Route(path="/v1/embeddings", api="embeddings", wire="openai", needs="input", streams=False),
    Route(path="/v1/messages", api="messages", wire="anthropic", needs="messages", forwarded=_ANTHROPIC),
    Route(
        path="/v1/messages/count_tokens",
        api="count_tokens",
        wire="anthropic",
        needs="messages",
        streams=False,
        forwarded=_ANTHROPIC,
    ),
)
