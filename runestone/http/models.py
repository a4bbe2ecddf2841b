"""``GET /v1/models`` and ``GET /v1/models/{id}``: what may be asked for here, in the shape of the client's wire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
from attrs import field, frozen
from starlette.types import Receive, Scope, Send

from runestone.config.live import Live
from runestone.config.settings import InboundKey
from runestone.domain.errors import InvalidRequest
from runestone.domain.routing import is_throw_away
from runestone.http.exchange import Exchange

_PATH = "/v1/models"


@frozen
class Models:
    """The models that providers are set to serve, aliases, and groups, which are models too. A key with groups sees those alone."""

    live: Live
    _created: int = field(factory=lambda: int(time.time()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        exchange: Exchange = scope["runestone.exchange"]
        exchange.route = _PATH
        if scope["method"] != "GET":
            raise InvalidRequest("This route takes GET only.", status=405, code="method_not_allowed")
        anthropic = exchange.dialect == "anthropic"
        entry = self._anthropic if anthropic else self._openai
        models = {name: entry(name, owner) for name, owner in self._names(exchange.key)}
        wanted = scope["path"].removeprefix(_PATH).removeprefix("/")
        if wanted and wanted not in models:
            raise InvalidRequest(
                f"The model {wanted[:100]!r} does not exist here. GET {_PATH} lists those that do.",
                status=404,
                code="model_not_found",
                param="model",
            )
        if wanted:
            data = models[wanted]
        elif anthropic:
            ids: list[str | None] = [*models] or [None]
            data = {"data": list(models.values()), "has_more": False, "first_id": ids[0], "last_id": ids[-1]}
        else:
            data = {"object": "list", "data": list(models.values())}
        body = orjson.dumps(data)
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await exchange.send({"type": "http.response.start", "status": 200, "headers": head})
        await exchange.send({"type": "http.response.body", "body": body})

    def _openai(self, name: str, owner: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": owner}

    def _anthropic(self, name: str, owner: str) -> dict[str, Any]:
        del owner
        created = datetime.fromtimestamp(self._created, UTC).isoformat().replace("+00:00", "Z")
        return {"type": "model", "id": name, "display_name": name, "created_at": created}

    def _names(self, key: InboundKey | None) -> Iterator[tuple[str, str]]:
        """Each name, and whose it is; the first owner counts."""
        settings = self.live.settings
        allowed = key.groups if key is not None else ()
        groups = [
            group for group in settings.groups if (group.name in allowed if allowed else not is_throw_away(group.name))
        ]
        members = {name for group in groups for name in group.providers}
        seen: set[str] = set()
        for provider in settings.providers:
            if is_throw_away(provider.name) and provider.name not in members:
                continue
            for model in (provider.default_model, *provider.models) if provider.name in members or not allowed else ():
                if model is not None and model not in seen:
                    seen.add(model)
                    yield model, provider.kind
        for name, alias in settings.models.items():
            if not allowed or alias.group is None or alias.group in allowed:
                yield name, "runestone"
        for group in groups:
            yield group.name, "runestone"
