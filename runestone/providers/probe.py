"""A real and free question to a provider: its list of models, or where it has none, a connection.

No prompt is sent, nothing is billed, no breaker learns of it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import httpx
from attrs import frozen

from runestone.config.settings import ProviderSettings
from runestone.domain.failure import FailureKind, UpstreamError
from runestone.providers.codecs import codec_for
from runestone.providers.faulty import AnyTransport
from runestone.resilience.probing import ProbeOutcome

PROBE_SECONDS = 5.0
_BODY_BYTES = 64 * 1024
_NO_CONNECTION: Final[frozenset[FailureKind]] = frozenset({"refused", "dns", "tls", "connect_timeout"})
_NO_LIST: Final = (404, 405)
_STATUSES: Final[dict[int, tuple[ProbeOutcome, str]]] = {
    200: ("ok", "answers"),
    401: ("credentials", "refuses the API key"),
    403: ("credentials", "refuses the API key"),
    429: ("rate_limited", "answers with status 429"),
}


@frozen(kw_only=True)
class Probe:
    """What came of it: ``status`` of the answer if there was one, ``message`` in words, ``seconds`` it took."""

    outcome: ProbeOutcome
    status: int | None
    message: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether all is well, as far as such a question can tell."""
        return self.outcome == "ok"

    @property
    def lists_models(self) -> bool:
        """False where it has said that it has no such list."""
        return self.status not in _NO_LIST


async def probe(
    settings: ProviderSettings, transport: AnyTransport, *, lists_models: bool = True, timeout: float = PROBE_SECONDS
) -> Probe:
    """Ask ``settings``' provider for its models over ``transport``; without ``lists_models``, only connect.

    Never raises for what goes wrong there. It is ``unreachable`` only if nothing takes a connection; one that connects and then does not
    answer has an ``error``. ``timeout`` is for each of the two.
    """
    started = time.perf_counter()

    def took(outcome: ProbeOutcome, message: str, status: int | None = None) -> Probe:
        return Probe(outcome=outcome, status=status, message=message, seconds=time.perf_counter() - started)

    wrong = None
    if lists_models:
        try:
            async with asyncio.timeout(timeout):
                status = await _ask_for_models(settings, transport)
        except TimeoutError:
            wrong = f"no answer within {timeout:g} s"
        except UpstreamError as error:
            wrong = error.failure.message
            if error.failure.kind not in _NO_CONNECTION:
                return took("error", wrong)
        else:
            # one without a list is there and takes the key: that is no fault
            other: ProbeOutcome = "ok" if status in _NO_LIST else "error"
            return took(*_STATUSES.get(status, (other, f"answers with status {status}")), status)
    try:
        async with asyncio.timeout(timeout):
            await transport.connect(httpx.URL(settings.base_url))
    except TimeoutError:
        return took("unreachable", f"no connection within {timeout:g} s")
    except UpstreamError as error:
        return took("unreachable", error.failure.message)
    return took("ok", "takes connections") if wrong is None else took("error", wrong)


async def _ask_for_models(settings: ProviderSettings, transport: AnyTransport) -> int:
    response = await transport.handle_async_request(_request(settings))
    try:
        await _skim(response)
    finally:
        await response.aclose()
    return response.status_code


def _request(settings: ProviderSettings) -> httpx.Request:
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    headers |= codec_for(settings.kind).credentials(settings.api_key)
    headers |= {name.lower(): value for name, value in settings.headers.items()}
    return httpx.Request("GET", settings.base_url.rstrip("/") + "/models", headers=headers)


async def _skim(response: httpx.Response) -> None:
    """Read a short answer to its end, so that the connection may be kept."""
    size = 0
    async for data in response.stream:  # type: ignore[union-attr] # a response of our transport has an asynchronous one
        size += len(data)
        if size > _BODY_BYTES:
            return
