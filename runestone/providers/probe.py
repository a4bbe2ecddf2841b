"""A real and free question to a provider: its list of models. No prompt is sent, nothing is billed, no breaker learns of it."""

from __future__ import annotations

import asyncio
import time

import httpx
from attrs import frozen

from runestone.config.settings import ProviderSettings
from runestone.domain.failure import UpstreamError
from runestone.providers.codecs import codec_for
from runestone.providers.transport import Transport

PROBE_SECONDS = 5.0
_BODY_BYTES = 64 * 1024


@frozen(kw_only=True)
class Probe:
    """What came of it: ``status`` of the answer if there was one, ``message`` in words, ``seconds`` it took."""

    ok: bool
    status: int | None
    message: str
    seconds: float


async def probe(settings: ProviderSettings, transport: Transport, *, timeout: float = PROBE_SECONDS) -> Probe:
    """Ask ``settings``' provider for its models over ``transport``. Never raises for what goes wrong there."""
    started = time.perf_counter()

    def took(*, ok: bool, status: int | None, message: str) -> Probe:
        return Probe(ok=ok, status=status, message=message, seconds=time.perf_counter() - started)

    try:
        async with asyncio.timeout(timeout):
            response = await transport.handle_async_request(_request(settings))
            try:
                await _skim(response)
            finally:
                await response.aclose()
    except TimeoutError:
        return took(ok=False, status=None, message=f"no answer within {timeout:g} s")
    except UpstreamError as error:
        return took(ok=False, status=None, message=error.failure.message)
    status = response.status_code
    if status == 200:
        return took(ok=True, status=status, message="answers")
    if status in (401, 403):
        return took(ok=False, status=status, message="refuses the API key")
    # it is there and takes the key; that it lists no models is no fault
    return took(ok=status in (404, 405), status=status, message=f"answers with status {status}")


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
