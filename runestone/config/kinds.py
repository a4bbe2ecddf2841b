"""What a setting may be: how its value is read, whether it comes as text or from TOML, what is allowed, and how editors are told.

Each kind is one small value; it stands in the ``Annotated`` type of a setting (see :mod:`runestone.config.document`).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, Protocol, get_args
from urllib.parse import SplitResult, urlsplit

from attrs import frozen

from runestone.domain.chat import Region, Tier
from runestone.domain.secret import Secret, looks_secret

FACTORS: Final = tuple(w for w in (*get_args(Tier), *get_args(Region)) if w not in ("standard", "any", "other"))
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([0-9]{1,15})|([0-9]{1,15}(?:\.[0-9]+)?)(ms|s|m|h)")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,15}")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_USERINFO: Final = re.compile(r"//.*@", re.DOTALL)
_HEX_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")
_LONGEST_SECONDS: Final = 86400.0


class Invalid(ValueError):
    """A value that cannot be taken: what is wrong with it, what was got (never a secret), what is allowed."""

    def __init__(self, what: str, got: str, allowed: str, below: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.got = got
        self.allowed = allowed
        self.below = below  # where in the value


class Kind(Protocol):
    """How values of one kind are read."""

    @property
    def allowed(self) -> str:
        """What may stand here, for people."""
        ...

    def read(self, value: Any) -> Any:
        """``value`` as the program has it. Raises :class:`Invalid`."""
        ...

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""
        ...


def shown(value: Any) -> str:
    """``value`` as it may be told in a message: short, no key, and nothing of a table or a list, which may hold some."""
    match value:
        case str():
            return "***" if looks_secret(value) else repr(value[:60])
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
        case _:
            return f"a value of type {type(value).__name__}"


@frozen
class Whole:
    """A whole number from ``low`` to ``high``."""

    low: int
    high: int

    @property
    def allowed(self) -> str:
        """What may stand here."""
        return f"{self.low} to {self.high}"

    def read(self, value: Any) -> int:
        """A number, or text that is one."""
        number = int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value
        if isinstance(number, bool) or not isinstance(number, int) or not self.low <= number <= self.high:
            raise Invalid("is not a whole number in range", shown(value), self.allowed)
        return number

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"anyOf": [{"type": "integer", "minimum": self.low, "maximum": self.high}, _REFERENCE]}


@frozen
class Number:
    """A number from ``low`` to ``high``."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        """What may stand here."""
        return f"{self.low:g} to {self.high:g}"

    def read(self, value: Any) -> float:
        """A number, or text that is one."""
        try:
            number = math.nan if isinstance(value, bool) or not isinstance(value, int | float | str) else float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if not self.low <= number <= self.high:
            raise Invalid("is not a number in range", shown(value), self.allowed)
        return number

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"anyOf": [{"type": "number", "minimum": self.low, "maximum": self.high}, _REFERENCE]}


@frozen
class Flag:
    """A yes or no."""

    allowed: str = "true or false"

    def read(self, value: Any) -> bool:
        """A boolean, or a word for one."""
        if isinstance(value, bool):
            return value
        word = value.lower() if isinstance(value, str) else ""
        if word not in _TRUE | _FALSE:
            raise Invalid("is not a yes or no", shown(value), self.allowed)
        return word in _TRUE

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"anyOf": [{"type": "boolean"}, _REFERENCE]}


@frozen
class Duration:
    """A time: whole milliseconds, or text with a unit. It is read as seconds; ``low`` is in seconds too."""

    low: float = 0.001
    warn: bool = False  # under a second it is likely to be a mistake

    @property
    def allowed(self) -> str:
        """What may stand here."""
        longest = f"{_LONGEST_SECONDS / 3600:g} h"
        return f'milliseconds such as 120000, or "120s"; from {self.low * 1000:g} ms to {longest}'

    def read(self, value: Any) -> float:
        """Seconds."""
        seconds = math.nan
        if isinstance(value, int) and not isinstance(value, bool):
            seconds = value / 1000
        elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip('"'))) is not None:
            milliseconds, number, unit = match.groups()
            seconds = int(milliseconds) / 1000 if milliseconds else round(float(number) * _UNITS[unit], 6)
        if not self.low <= seconds <= _LONGEST_SECONDS:
            raise Invalid("is not a time in range", shown(value), self.allowed)
        return seconds

    def schema(self) -> dict[str, Any]:
        """For editors."""
        text = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"}
        bounds = {"minimum": round(self.low * 1000), "maximum": round(_LONGEST_SECONDS * 1000)}
        return {"anyOf": [{"type": "integer", **bounds}, text, _REFERENCE]}


@frozen
class Choice:
    """One of ``options``."""

    options: tuple[str, ...]
    upper: bool = False  # taken in any case

    @property
    def allowed(self) -> str:
        """What may stand here."""
        return ", ".join(self.options)

    def read(self, value: Any) -> str:
        """The option."""
        word = (value.upper() if self.upper else value.lower()) if isinstance(value, str) else ""
        if word not in self.options:
            near = difflib.get_close_matches(word, self.options, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise Invalid("is not known", shown(value), self.allowed + hint)
        return word

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"anyOf": [{"enum": list(self.options)}, _REFERENCE]}


@frozen
class Text:
    """Text that is not empty."""

    allowed: str = "text"

    def read(self, value: Any) -> str:
        """The text."""
        if not isinstance(value, str) or not value.strip():
            raise Invalid("is not a text", shown(value), self.allowed)
        return value.strip()

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"type": "string", "minLength": 1}


@frozen
class Location:
    """The path of a file or a socket."""

    allowed: str = "a path"

    def read(self, value: Any) -> Path:
        """The path."""
        return Path(Text(self.allowed).read(value))

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"type": "string", "minLength": 1}


@frozen
class Address:
    """A base URL. It is taken as it is, without the slash at its end."""

    allowed: str = "http(s)://host[:port]/path without user, query and fragment"

    def read(self, value: Any) -> str:
        """The URL."""
        try:
            plain_url(value if isinstance(value, str) else "")
        except ValueError:
            got = repr(_without_secrets(value)) if isinstance(value, str) else shown(value)
            raise Invalid("is not a usable address", got, self.allowed) from None
        return str(value).rstrip("/")

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"anyOf": [{"type": "string", "pattern": "^https?://[^@?#\\s]+$"}, _REFERENCE]}


#: Where a secret may be instead of in the text, as editors are told.
PLACES: Final = tuple(
    {"type": "object", "properties": {name: {"type": "string"}}, "required": [name], "additionalProperties": False}
    for name in ("env", "file", "credential")
)


@frozen
class SecretValue:
    """A secret, or where it is: ``{ env = "NAME" }``, ``{ file = "/path" }``, ``{ credential = "name" }``. It is resolved before."""

    allowed: str = 'the key alone, or { env = "NAME" }, { file = "/path" } or { credential = "name" }'

    def read(self, value: Any) -> Secret:
        """The secret."""
        key = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(key, str):
            raise Invalid("is not a secret", "a table" if isinstance(key, Mapping) else "no text", self.allowed)
        if not key:
            raise Invalid("cannot be a key", "an empty text", "the key alone")
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise Invalid("cannot be a key", "white space or other than ASCII in it", "the key alone")
        return Secret(key)

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"anyOf": [{"type": "string", "minLength": 1}, *PLACES]}


@frozen
class Digest:
    """A SHA-256 in hexadecimal digits."""

    allowed: str = "64 hexadecimal digits"

    def read(self, value: Any) -> bytes:
        """The digest."""
        if not isinstance(value, str) or not _HEX_DIGEST.fullmatch(value):
            raise Invalid("is not a SHA-256", "something else", self.allowed)  # it may be the key itself
        return bytes.fromhex(value)

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"anyOf": [{"type": "string", "pattern": f"^{_HEX_DIGEST.pattern}$"}, _REFERENCE]}


@frozen
class Names:
    """A list of names."""

    allowed: str = 'a list of names, such as ["openai-default"]'

    def read(self, value: Any) -> tuple[str, ...]:
        """The names, each once."""
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) and one for one in value):
            raise Invalid("is not a list of names", shown(value), self.allowed)
        return tuple(dict.fromkeys(value))

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"type": "array", "items": {"type": "string", "minLength": 1}}


@frozen
class Headers:
    """Headers by name. Their values are never shown: a key may be among them."""

    allowed: str = 'a table of texts, such as { x-team = "search" }'

    def read(self, value: Any) -> dict[str, str]:
        """The headers."""
        if not isinstance(value, Mapping):
            raise Invalid("is not a table of headers", "something else", self.allowed)
        for name, text in value.items():
            if not _HEADER.fullmatch(name):
                raise Invalid("is not the name of a header", shown(name), "letters, digits and dashes", (name,))
            if not isinstance(text, str) or not text.isprintable() or not text.isascii():
                raise Invalid("cannot be a header", "no printable text", self.allowed, (name,))
        return dict(value)

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"type": "object", "additionalProperties": {"type": "string"}}


@frozen
class Money:
    """A price, 0 or more."""

    allowed: str = "a number that is not negative"

    def read(self, value: Any) -> Decimal:
        """Exactly as it is written."""
        try:
            number = (
                Decimal(str(value)) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
            )
        except InvalidOperation:
            number = None
        if number is None or not number.is_finite() or number < 0:
            raise Invalid("is not a price", shown(value), self.allowed)
        return number

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}


@frozen
class Factors:
    """How many times as dear tokens are, by tier and region."""

    allowed: str = (
        f"numbers that are not negative by {', '.join(FACTORS[:-1])} or {FACTORS[-1]}, such as {{ batch = 0.5 }}"
    )

    def read(self, value: Any) -> dict[str, Decimal]:
        """Exactly as they are written."""
        if not isinstance(value, Mapping):
            raise Invalid("is not a table of factors", shown(value), self.allowed)
        factors = {}
        for name, number in value.items():
            if name not in FACTORS:
                raise Invalid("names no tier or region", shown(name), self.allowed, (str(name),))
            try:
                factors[name] = Money().read(number)
            except Invalid:
                raise Invalid("is not a factor", shown(number), self.allowed, (name,)) from None
        return factors

    def schema(self) -> dict[str, Any]:
        """For editors."""
        number = Money().schema()
        return {"type": "object", "properties": dict.fromkeys(FACTORS, number), "additionalProperties": False}


@frozen
class Shares:
    """Weights by provider."""

    allowed: str = "numbers above 0 by provider, such as { openai-default = 2 }"

    def read(self, value: Any) -> dict[str, float]:
        """The weights."""
        if not isinstance(value, Mapping):
            raise Invalid("is not a table of weights", shown(value), self.allowed)
        for name, share in value.items():
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1e6:
                raise Invalid("is not a weight", shown(share), self.allowed, (name,))
        return {name: float(share) for name, share in value.items()}

    def schema(self) -> dict[str, Any]:
        """For editors."""
        return {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}}


@frozen
class Equals:
    """Models that are equal: by model, then by provider or kind, the model there."""

    allowed: str = 'tables such as "gpt-4o" = { anthropic = "claude-sonnet-4-5" }'

    def read(self, value: Any) -> dict[str, dict[str, str]]:
        """The map."""
        if not isinstance(value, Mapping):
            raise Invalid("is not a table of models", shown(value), self.allowed)
        for model, there in value.items():
            if not isinstance(there, Mapping) or not all(isinstance(name, str) and name for name in there.values()):
                raise Invalid("is not a table of models", shown(there), self.allowed, (model,))
        return {model: dict(there) for model, there in value.items()}

    def schema(self) -> dict[str, Any]:
        """For editors."""
        inner = {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}}
        return {"type": "object", "additionalProperties": inner}


_REFERENCE: Final[dict[str, Any]] = {"type": "string", "pattern": r"\$\{"}


def is_name(text: str) -> bool:
    """Whether a provider, group or key may be called so."""
    return _NAME.fullmatch(text) is not None


def plain_url(text: str) -> SplitResult:
    """The parts of a base URL. Raises ``ValueError`` for what is none."""
    url = urlsplit(text)
    odd = "@" in url.netloc or url.fragment or url.query or url.port == 0
    if url.scheme not in ("http", "https") or not url.hostname or odd or any(c.isspace() for c in text):
        raise ValueError(text)
    return url


def _without_secrets(address: str) -> str:
    """An address as far as it may be shown: no user, no password, no query, and nothing at all of what is no address."""
    if "//" not in address:
        return "***"
    return re.split(r"[?#]", _USERINFO.sub("//***@", address), maxsplit=1)[0][:100]
