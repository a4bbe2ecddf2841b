"""The body of an upstream's answer, as those who read it see it, whatever it comes over."""

from __future__ import annotations

from typing import Self

import httpx

from runestone.domain.failure import UpstreamError


class UpstreamStream(httpx.AsyncByteStream):
    """The bytes of one answer as they arrive. Whoever got it must :meth:`aclose` it in every case; that waits for nothing."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        raise NotImplementedError

    def fail(self, error: UpstreamError) -> None:
        """Make the read in progress, and every later one, raise ``error``."""
        raise NotImplementedError
