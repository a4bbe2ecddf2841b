"""What a provider says when it fails, in its wire's words and shape, as its documentation has them."""

from __future__ import annotations

import json
from typing import Any, Final

_OPENAI: Final = {
    400: ("invalid_request_error", "invalid_request"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "model_not_found"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
_ANTHROPIC: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
HTML: Final = b"<html><body>upstream is unwell</body></html>"
NOT_JSON: Final = b"<<not json>>"
BROKEN_JSON: Final = b'{"id": "simulated", "choices": [{'
BROKEN_EVENT: Final = b"data: " + BROKEN_JSON + b"\n\n"


def openai_error(status: int) -> dict[str, Any]:
    """OpenAI's error body."""
    kind, code = _OPENAI.get(status, ("server_error", "server_error"))
    return {"error": {"message": f"simulated error {status}", "type": kind, "param": None, "code": code}}


def openai_error_event() -> bytes:
    """An error inside a stream of chat completions."""
    return b"data: " + json.dumps(openai_error(500)).encode() + b"\n\n"


def responses_error_event() -> bytes:
    """An error inside a stream of responses."""
    data = {"sequence_number": 0, "code": "server_error", "message": "simulated error 500", "param": None}
    return _event("error", data)


def anthropic_error(status: int) -> dict[str, Any]:
    """Anthropic's error body."""
    return {
        "type": "error",
        "error": {"type": _ANTHROPIC.get(status, "api_error"), "message": f"simulated error {status}"},
        "request_id": "req_simulated",
    }


def anthropic_error_event() -> bytes:
    """An error inside a stream of messages."""
    return _event("error", {"error": {"type": "overloaded_error", "message": "simulated overload"}})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()
