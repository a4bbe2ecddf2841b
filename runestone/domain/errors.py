"""The errors that the gateway itself answers with.

    RunestoneError
    ├─ InvalidRequest        400, also 404, 405, 413, 415
    ├─ Unauthenticated       401
    ├─ NotAllowed            403
    ├─ NoProviderAvailable   429 or 503, with Retry-After
    ├─ Overloaded            503, with Retry-After
    ├─ Draining              503, with Retry-After
    ├─ DeadlineExceeded      504
    └─ UpstreamFailed        the last upstream failure, when every candidate was tried

Each has a status, a type, a code and a message that says what to do. Shapes are chosen where they are written (``runestone.http.errors``).
"""

from __future__ import annotations

from typing import ClassVar, Final

from runestone.domain.failure import Failure

_SAME_EVERYWHERE: Final = frozenset({413, 504})  # statuses that mean the same on both wires
_TRANSLATED: Final = frozenset(
    {"context_length_exceeded"}
)  # codes that a codec has found in the words of the other wire


class RunestoneError(Exception):
    """An error with everything that its rendering needs."""

    status: int = 500
    type: str = "server_error"
    code: str = "internal_error"
    should_retry: ClassVar[bool | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status


class InvalidRequest(RunestoneError):
    """The request itself cannot be served; sending it again changes nothing."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class Unauthenticated(RunestoneError):
    """No key, or a wrong one; the answer does not tell which."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class NotAllowed(RunestoneError):
    """A known caller asks for what it may not have."""

    status = 403
    type = "permission_error"
    code = "not_allowed"


class NoProviderAvailable(RunestoneError):
    """Every candidate refused before anything was sent."""

    status = 503
    type = "server_error"
    code = "no_provider_available"
    should_retry = False


class Overloaded(RunestoneError):
    """The node carries as much as it can; nothing of the request has been read."""

    status = 503
    type = "server_error"
    code = "overloaded"


class Draining(RunestoneError):
    """The node is draining and takes nothing new."""

    status = 503
    type = "server_error"
    code = "draining"


class DeadlineExceeded(RunestoneError):
    """The request's own deadline has passed."""

    status = 504
    type = "server_error"
    code = "deadline_exceeded"
    should_retry = False


class UpstreamFailed(RunestoneError):
    """Every candidate was tried and failed: the last failure, in the client's words.

    A client of the same wire gets the upstream's own status and words, another one those of the failure's kind. Our own wrong key is
    never told like the client's.
    """

    should_retry = False

    def __init__(self, failure: Failure, *, same_wire: bool) -> None:
        ours = failure.kind == "credentials"
        message = f"The provider refused the gateway's own key: {failure.message}" if ours else failure.message
        super().__init__(message, retry_after_seconds=failure.retry_after_seconds, param=failure.param)
        self.failure = failure
        self.same_wire = same_wire
        treatment, status = failure.treatment, failure.status
        self.status, self.type, self.code = treatment.status, treatment.type, treatment.code
        if ours or status is None or status < 400:
            return
        if same_wire:
            self.status, self.type, self.code = status, failure.type or self.type, failure.code or self.code
            return
        if status in _SAME_EVERYWHERE:
            self.status = status
        if failure.code in _TRANSLATED:
            self.code = failure.code
