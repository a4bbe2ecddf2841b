"""A node without inbound keys serves this machine's own programs, and no web page that its user has open."""

from __future__ import annotations

import pytest

from runestone.auth.loopback import refusal

JSON = (b"content-type", b"application/json")


def status(*headers: tuple[bytes, bytes]) -> int | None:
    refused = refusal(dict(headers))
    return None if refused is None else refused.status


@pytest.mark.parametrize(
    ("host", "refused"),
    [
        (b"localhost", None),
        (b"localhost:4003", None),
        (b"LOCALHOST:4003", None),
        (b"127.0.0.1:4003", None),
        (b"127.8.9.1", None),
        (b"[::1]:4003", None),
        (b"evil.example", 403),
        (b"evil.example:4003", 403),
        (b"127.evil.example", 403),
        (b"localhost.evil.example", 403),
        (b"0.0.0.0", 403),
        (b"192.168.1.5", 403),
        (b"evil.example#@localhost", 403),
        (b"evil.example@localhost", 403),
        (b"localhost/x?y", 403),
        (b"localhost:", None),
        (b"localhost:80:80", 403),
        (b"[::1", 403),
        (b"", 403),
        (b"\xff", 403),
    ],
)
def test_only_a_loopback_host_is_served(host: bytes, refused: int | None) -> None:
    assert status((b"host", host)) == refused


@pytest.mark.parametrize(
    ("origin", "refused"),
    [
        (b"http://localhost:3000", None),
        (b"http://127.0.0.1", None),
        (b"http://[::1]:3000", None),
        (b"https://evil.example", 403),
        (b"http://localhost.evil.example", 403),
        (b"null", 403),
        (b"", 403),
        (b"http://[", 403),
        (b"file://", 403),
    ],
)
def test_no_foreign_origin_is_served(origin: bytes, refused: int | None) -> None:
    assert status((b"host", b"localhost"), (b"origin", origin)) == refused


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ([], None),
        ([(b"content-length", b"0")], None),
        ([JSON, (b"content-length", b"10")], None),
        ([(b"content-type", b"Application/JSON; charset=utf-8"), (b"content-length", b"10")], None),
        ([(b"content-type", b"text/plain"), (b"content-length", b"10")], 415),
        ([(b"content-type", b"text/plain")], 415),
        ([(b"content-type", b"application/x-www-form-urlencoded")], 415),
        ([(b"content-type", b"multipart/form-data; boundary=x")], 415),
        ([(b"content-type", b"application/json-patch+json")], 415),
        ([(b"content-length", b"10")], 415),
        ([(b"transfer-encoding", b"chunked")], 415),
        ([(b"transfer-encoding", b"chunked"), JSON], None),
    ],
)
def test_a_body_is_served_only_as_json(headers: list[tuple[bytes, bytes]], refused: int | None) -> None:
    assert status((b"host", b"localhost"), *headers) == refused


def test_the_first_objection_is_told_with_what_to_do() -> None:
    refused = refusal({b"host": b"evil.example", b"content-type": b"text/plain"})

    assert refused is not None
    assert "RUNESTONE_API_KEYS" in refused.message
    assert refusal({b"host": b"localhost", b"content-type": b"text/plain"}).code == "unsupported_media_type"  # type: ignore[union-attr] # it is refused
