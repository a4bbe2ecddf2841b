"""Where the ledger is kept: the URL of a file of SQLite or of a PostgreSQL database, whose password is never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from attrs import frozen

from runestone.config.kinds import PLACES, Invalid
from runestone.config.run_directory import state_directory
from runestone.domain.secret import Secret

OFF: Final = "none"
_FILE: Final = "ledger.sqlite"
_DEMO_FILE: Final = "ledger-demo.sqlite"
_POSTGRES: Final = ("postgresql", "postgres")
_CREDENTIALS: Final = re.compile(r"(?<=//)[^@/]*@")


@frozen
class LedgerUrl:
    """The URL of a ledger, or where it is: a table as a secret's. It is a secret, for it may hold a password."""

    allowed: str = (
        '"sqlite:///absolute/path", "postgresql://user:password@host/database", "none", '
        'or { env = "NAME" }, { file = "/path" } or { credential = "name" }'
    )

    def read(self, value: Any) -> Secret:
        """The URL; nothing is :data:`OFF`."""
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(text, str):
            raise Invalid("is not a URL", "a table" if isinstance(text, Mapping) else "no text", self.allowed)
        if (text := text.strip()).lower() in ("", OFF):
            return Secret(OFF)
        try:
            usable = _is_usable(urlsplit(text))
        except ValueError:
            usable = False
        if not usable or not text.isprintable():
            raise Invalid("is not the URL of a ledger", shown_url(Secret(text)), self.allowed)
        return Secret(text)

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"anyOf": [{"type": "string"}, *PLACES]}


def _is_usable(url: SplitResult) -> bool:
    if url.scheme == "sqlite":
        return not url.netloc and len(url.path) > 1 and not url.query and not url.fragment
    return url.scheme in _POSTGRES and bool(url.netloc or url.query)


def is_postgres(url: Secret) -> bool:
    """Whether it needs the driver, which is an extra."""
    return urlsplit(url.reveal()).scheme in _POSTGRES


def sqlite_path(url: Secret) -> Path | None:
    """The file, where the URL names one."""
    parts = urlsplit(url.reveal())
    return Path("/" + unquote(parts.path).lstrip("/")) if parts.scheme == "sqlite" else None


def default_url(environ: Mapping[str, str], *, demo: bool = False) -> str:
    """A file in the state directory; what simulated providers are paid is kept apart."""
    return f"sqlite://{quote(str(state_directory(environ) / (_DEMO_FILE if demo else _FILE)))}"


def shown_url(url: Secret) -> str:
    """As it may be told: without user, password and options."""
    text = url.reveal()
    if text != OFF and "://" not in text:
        return "***"
    return _CREDENTIALS.sub("***@", re.split(r"[?#]", text, maxsplit=1)[0])[:200]
