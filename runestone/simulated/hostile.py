"""Answers that no honest server gives, as bytes: HTTP itself is broken in them, or they never end."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain, count, repeat
from typing import Any, Final

from runestone.domain.faults import Fault
from runestone.simulated.wires import Text, Wire

_PIECE: Final = 64 * 1024


def answer(fault: Fault, body: Mapping[str, Any], wire: Wire, text: Text) -> Iterator[bytes] | None:
    """All bytes of the answer to ``body`` if ``fault`` is one of these, maybe without an end. The connection closes behind them."""
    stream = bool(body.get("stream"))
    kind = "text/event-stream" if stream else "application/json"
    head = f"HTTP/1.1 {fault.status or 200} Told\r\ncontent-type: {kind}\r\n"
    if fault.retry_after is not None:
        head += f"retry-after: {fault.retry_after:g}\r\n"
    if fault.many_headers is not None or fault.wrong_length is not None:
        more = "".join(f"x-filler-{n}: x\r\n" for n in range(fault.many_headers or 0))
        whole = _whole(body, wire, text)
        length = max(len(whole) + (fault.wrong_length or 0), 0)
        return iter([f"{head}{more}content-length: {length}\r\n\r\n".encode(), whole])
    endless: Iterator[bytes] | None = None
    if fault.endless_head:
        return chain([head.encode()], (f"x-filler-{n}: {'x' * 1000}\r\n".encode() for n in count()))
    if fault.endless_line:
        endless = chain([b'data: {"x":"' if stream else b'{"x":"'], repeat(b"x" * _PIECE))
    elif fault.comments:
        endless = repeat((b": wait a little\n\n" if stream else b" " * 64) * 512)
    elif fault.gzip_bomb:
        head, endless = f"{head}content-encoding: gzip\r\n", _bomb()
    return None if endless is None else chain([f"{head}\r\n".encode()], endless)


def _whole(body: Mapping[str, Any], wire: Wire, text: Text) -> bytes:
    """The body of a good answer."""
    if body.get("stream"):
        return b"".join([*wire.events(body, text), wire.terminal()])
    return json.dumps(wire.whole(body, text)).encode()


def _bomb() -> Iterator[bytes]:
    """Zeros, compressed as they go."""
    packer, zeros = zlib.compressobj(9, wbits=31), bytes(1024 * 1024)
    while True:
        yield packer.compress(zeros)
