"""The keys of clients in the environment: ``RUNESTONE_API_KEYS``, a comma list, and ``RUNESTONE_API_KEYS_FILE``, one a line."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from runestone.config.settings import InboundKey

if TYPE_CHECKING:
    from runestone.config.load import Reader

_HEX_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")


def digest(key: str) -> bytes:
    """What is kept of a key: of its bytes, whatever they are in a variable."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def keys(read: Reader) -> tuple[InboundKey, ...]:
    """A comma list; a file of ``name:key-or-sha256`` lines with ``#`` before a comment."""
    listed = list(filter(None, map(str.strip, read.environ.get("RUNESTONE_API_KEYS", "").split(","))))
    found = [InboundKey(f"key{number}", digest(key)) for number, key in enumerate(listed, 1)]
    if not listed and read.environ.get("RUNESTONE_API_KEYS", "").strip():
        read.problem("RUNESTONE_API_KEYS", "holds no key", "commas alone", "keys with commas between them")
    if path := read.environ.get("RUNESTONE_API_KEYS_FILE"):
        found += _in_file(read, path)
    return tuple(found)


def _in_file(read: Reader, path: str) -> list[InboundKey]:
    name, known = "RUNESTONE_API_KEYS_FILE", len(read.problems)
    found: list[InboundKey] = []
    for number, line in enumerate((read.file(name, path) or "").splitlines(), 1):
        owner, _, key = (part.strip() for part in line.partition(":"))
        if owner.startswith("#") or not line.strip():
            continue
        if not owner or not key:
            read.problem(name, f"line {number} is not a key", "no name:key", "name:key, or name:sha256 in hex")
            continue
        found.append(InboundKey(owner, bytes.fromhex(key) if _HEX_DIGEST.fullmatch(key) else digest(key)))
    if not found and len(read.problems) == known:
        # a file was meant to protect the node: an empty one must not open it
        read.problem(name, "holds no key", "a file without any", "name:key, or name:sha256 in hex")
    return found
