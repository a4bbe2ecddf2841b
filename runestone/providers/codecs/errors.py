"""Upstream errors as failures: HTTP error answers, and error events inside a 200. One table for both wires, whose shapes agree.

No key and no URL of the upstream survives in a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from attrs import frozen

from runestone.domain.failure import Failure, FailureKind
from runestone.domain.secret import ANY_KEY_BEGINS
from runestone.resilience.retry import retry_after_seconds

_MESSAGE_CHARACTERS: Final = 2000
_KEYS: Final = re.compile(rf"\b{ANY_KEY_BEGINS}[\w*.-]{{4,}}|(?i:\bbearer\s+|\bx-api-key\W{{1,4}})[\w*.~+/=-]{{4,}}")
_URLS: Final = re.compile(r"\b[a-z][a-z0-9+.-]{0,20}://[^\s\"'<>]+", re.IGNORECASE)
_SECRETS_IN_BYTES: Final = re.compile(rb"%s|(?i:%s)" % (_KEYS.pattern.encode(), _URLS.pattern.encode()))
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]+")
_HEADERS: Final = re.compile(r"retry-after(?:-ms)?|x-ratelimit-[a-z0-9-]+|anthropic-ratelimit-[a-z0-9-]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e\t]*")
_SPENT: Final = re.compile(r"insufficient_quota|billing|spend_limit")
_NO_CREDIT: Final = "credit balance is too low"  # an ordinary 400 but for its words
_LIMITED: Final = re.compile(r"rate_?limit|too_many_requests|\b429\b")
_BUSY: Final = re.compile(r"overloaded|engine_overloaded|\b529\b")

_STATUSES: Final[dict[int, FailureKind]] = {
    400: "caller_error",
    401: "credentials",
    402: "quota_exceeded",
    403: "forbidden",
    404: "not_found",
    408: "timeout",
    409: "caller_error",  # its own idempotency key is in use
    411: "caller_error",
    413: "caller_error",
    414: "caller_error",
    415: "caller_error",
    422: "caller_error",
    429: "rate_limited",
    431: "caller_error",
    529: "overloaded",
}


@frozen(kw_only=True)
class ErrorWords:
    """What an upstream said of an error, cleaned."""

    message: str | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None

    @property
    def hints(self) -> str:
        """The words that tell kinds of errors apart."""
        return f"{self.type} {self.code}".lower()


def failure_of_answer(status: int, headers: Mapping[str, str], body: bytes, *, now_epoch: float) -> Failure:
    """What an HTTP answer other than 200 stands for."""
    answer = _object(body)
    error = answer.get("error")
    words = error_words(error) if error is not None else ErrorWords()
    return Failure(
        kind=_kind_of_status(status, words),
        message=words.message or f"the provider answered with status {status}",
        status=status,
        type=words.type,
        code=words.code,
        param=words.param,
        retry_after_seconds=retry_after_seconds(headers, now_epoch),
        should_retry={"true": True, "false": False}.get(headers.get("x-should-retry", "").lower()),
        headers=tuple(
            (name, value)
            for name, value in headers.items()
            if _HEADERS.fullmatch(name) and _HEADER_VALUE.fullmatch(value)
        ),
        body=_passed_on(body, answer) if error is not None else None,
    )


def failure_of_event(error: object) -> Failure:
    """What the ``error`` of an event, or of a body, inside a 200 stands for."""
    words = error_words(error)
    return Failure(
        kind=_kind_of_event(words),
        message=words.message or "the provider broke off with an error",
        type=words.type,
        code=words.code,
        param=words.param,
    )


def error_words(error: object) -> ErrorWords:
    """Read an error of either wire; anything else than an object is taken for its message."""
    if not isinstance(error, Mapping):
        return ErrorWords(message=_clean(error))
    details = error.get("details")
    code = error.get("code")
    if code is None and isinstance(details, Mapping):
        code = details.get("error_code")
    return ErrorWords(
        message=_clean(error.get("message")),
        type=_clean(error.get("type")),
        code=_clean(code),
        param=_clean(error.get("param")),
    )


def _kind_of_status(status: int, words: ErrorWords) -> FailureKind:
    kind = _STATUSES.get(status)
    if status in (400, 429) and (_SPENT.search(words.hints) or _NO_CREDIT in (words.message or "").lower()):
        return "quota_exceeded"
    if kind is not None:
        return kind
    if 500 <= status <= 599:
        return "overloaded" if _BUSY.search(words.hints) else "server_error"
    return "invalid_answer"


def _kind_of_event(words: ErrorWords) -> FailureKind:
    if _SPENT.search(words.hints):
        return "quota_exceeded"
    if _LIMITED.search(words.hints):
        return "rate_limited"
    if _BUSY.search(words.hints):
        return "overloaded"
    return "error_event"


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _passed_on(body: bytes, answer: dict[str, Any]) -> bytes | None:
    """The error body for a client of the same wire: byte for byte, unless it holds a key or a URL."""
    try:
        cleaned = _without_secrets(answer)
        return body if cleaned == answer and not _SECRETS_IN_BYTES.search(body) else orjson.dumps(cleaned)
    except (RecursionError, orjson.JSONEncodeError):
        return None


def _without_secrets(value: Any) -> Any:
    match value:
        case str():
            return _scrubbed(value)
        case dict():
            return {_scrubbed(name): _without_secrets(item) for name, item in value.items()}
        case list():
            return [_without_secrets(item) for item in value]
        case _:
            return value


def _clean(text: object) -> str | None:
    if isinstance(text, int) and not isinstance(text, bool):
        return str(text)
    if not isinstance(text, str) or not text:
        return None
    return _scrubbed(_CONTROLS.sub(" ", text)[:_MESSAGE_CHARACTERS])


def _scrubbed(text: str) -> str:
    return _URLS.sub("[url]", _KEYS.sub("***", text))
