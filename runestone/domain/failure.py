"""What can go wrong at a provider, and how each kind is treated: one table, read by every other module.

The kinds and their treatment are those of the outcome table of the contract ("What counts"): a failure moves the breaker, a neutral
end moves nothing, a throttle or a quarantine takes the provider (or one model) out for a while without a breaker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from attrs import evolve, frozen

from runestone.domain.outcome import Outcome

FailureKind = Literal[
    "refused",  # connection refused or unreachable: nothing was sent
    "disconnected",  # the connection was lost after the request had gone out, before an answer
    "dns",
    "tls",
    "connect_timeout",
    "first_token_timeout",
    "timeout",
    "idle_timeout",
    "server_error",
    "overloaded",
    "rate_limited",
    "quota_exceeded",
    "credentials",
    "forbidden",
    "not_found",
    "caller_error",
    "error_event",
    "truncated",
    "invalid_answer",
    "too_large",
    "unsupported",  # this provider cannot serve a field of the request: nothing was sent
]
_RETRIED_IF_ASKED: Final = frozenset({408, 409})  # statuses that some servers heal from, and say so
_SHORTEST_SECRET: Final = 8  # characters: what is shorter would take the place of ordinary words
_MASK: Final = "***"


@frozen(kw_only=True)
class Treatment:
    """How one kind of failure is judged, and how it is told to a client of another wire."""

    outcome: Outcome
    retry: bool  # may be tried again at the same provider
    failover: bool  # may be tried at another provider
    status: int
    type: str
    code: str


def _failure(code: str, *, retry: bool, status: int = 502) -> Treatment:
    return Treatment(outcome="failure", retry=retry, failover=True, status=status, type="server_error", code=code)


TREATMENTS: Final[dict[FailureKind, Treatment]] = {
    "refused": _failure("upstream_unreachable", retry=True),
    "disconnected": _failure("upstream_unreachable", retry=True),
    "dns": _failure("upstream_unreachable", retry=False),
    "tls": _failure("upstream_tls_error", retry=False),
    "connect_timeout": _failure("upstream_timeout", retry=False, status=504),
    "first_token_timeout": _failure("upstream_timeout", retry=False, status=504),
    "timeout": _failure("upstream_timeout", retry=False, status=504),
    "idle_timeout": _failure("upstream_stalled", retry=False, status=504),
    "server_error": _failure("upstream_error", retry=True),
    "overloaded": _failure("overloaded", retry=True, status=503),
    "error_event": _failure("upstream_error", retry=True),
    "truncated": _failure("upstream_truncated", retry=False),
    "invalid_answer": _failure("upstream_invalid_answer", retry=False),
    "too_large": _failure("upstream_too_large", retry=False),
    "rate_limited": Treatment(
        outcome="neutral", retry=True, failover=True, status=429, type="rate_limit_error", code="rate_limit_exceeded"
    ),
    "quota_exceeded": Treatment(
        outcome="neutral", retry=False, failover=True, status=429, type="insufficient_quota", code="insufficient_quota"
    ),
    "credentials": Treatment(
        outcome="neutral", retry=False, failover=True, status=502, type="server_error", code="upstream_credentials"
    ),
    "forbidden": Treatment(
        outcome="neutral", retry=False, failover=True, status=403, type="permission_error", code="upstream_forbidden"
    ),
    "not_found": Treatment(
        outcome="neutral", retry=False, failover=True, status=404, type="invalid_request_error", code="model_not_found"
    ),
    "unsupported": Treatment(
        outcome="neutral",
        retry=False,
        failover=True,
        status=400,
        type="invalid_request_error",
        code="unsupported_parameter",
    ),
    "caller_error": Treatment(
        outcome="neutral", retry=False, failover=False, status=400, type="invalid_request_error", code="invalid_request"
    ),
}


@frozen(kw_only=True)
class Failure:
    """What happened to one attempt at one provider. ``message`` holds no secret and no URL."""

    kind: FailureKind
    message: str
    status: int | None = None  # the upstream's, if it answered
    type: str | None = None  # the upstream's own words, if it gave any
    code: str | None = None
    param: str | None = None
    retry_after_seconds: float | None = None
    should_retry: bool | None = None  # the upstream's ``x-should-retry``
    headers: tuple[tuple[str, str], ...] = ()  # the upstream's headers that a client of the same wire may see
    body: bytes | None = None  # the upstream's error body, for a client of the same wire

    @property
    def treatment(self) -> Treatment:
        """How this kind of failure is judged."""
        return TREATMENTS[self.kind]

    def without(self, secrets: Iterable[str]) -> Failure:
        """The same, with ``***`` for each of ``secrets``: some upstreams say which key they were sent. Short words are none."""
        failure = self
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET:
                failure = failure._without(secret)
        return failure

    def _without(self, secret: str) -> Failure:
        told = (self.message, self.type, self.code, self.param, *(value for _, value in self.headers))
        written = secret.encode()
        if not any(text is not None and secret in text for text in told) and written not in (self.body or b""):
            return self

        def masked(text: str | None) -> str | None:
            return None if text is None else text.replace(secret, _MASK)

        return evolve(
            self,
            message=self.message.replace(secret, _MASK),
            type=masked(self.type),
            code=masked(self.code),
            param=masked(self.param),
            headers=tuple((name, value.replace(secret, _MASK)) for name, value in self.headers),
            body=None if self.body is None or written not in self.body else self.body.replace(written, _MASK.encode()),
        )

    @property
    def may_retry(self) -> bool:
        """Whether the same provider may be tried again. The upstream's no goes before the table, and so does its yes with a 408 or a 409;
        of the other statuses that are never retried it changes none.
        """
        if self.should_retry and self.status in _RETRIED_IF_ASKED:
            return True
        return self.treatment.retry and self.should_retry is not False

    @property
    def may_fail_over(self) -> bool:
        """Whether another provider may be tried: what may be tried again at all may be tried anywhere."""
        return self.treatment.failover or self.may_retry


class UpstreamError(Exception):
    """An attempt failed; :attr:`failure` says how."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.message}")
        self.failure = failure
