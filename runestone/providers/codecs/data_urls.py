"""Files inside a body of OpenAI's wire."""

from __future__ import annotations

import base64
import binascii

from runestone.domain.conversation import Cache, Document, Image, Refused


def image_at(url: object, place: str, cache: Cache | None = None) -> Image:
    """The picture that ``url`` names or holds. Raises :class:`Refused`."""
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        return Image(url=url, cache=cache, where=place)
    media, data = _parts(url, place)
    return Image(media_type=media, data=data, cache=cache, where=place)


def document_in(url: object, title: object, place: str, cache: Cache | None = None) -> Document:
    """The file that ``url`` holds. Raises :class:`Refused`."""
    media, data = _parts(url, place)
    if media == "text/plain":
        try:
            data = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, ValueError):
            raise Refused(place, f"{place} is not UTF-8 text in base64.") from None
    return Document(
        media_type=media, data=data, title=title if isinstance(title, str) else None, cache=cache, where=place
    )


def _parts(url: object, place: str) -> tuple[str, str]:
    """Media type and base64 text of a ``data:`` URL."""
    if isinstance(url, str) and url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        media, *parameters = head.split(";")
        if comma and "base64" in parameters:
            return media.strip().lower(), data
    raise Refused(place, f"{place} must be a data: URL in base64 or, for an image, an http(s) URL.")
