"""Requests that two servers could read differently, and other protocols."""

from __future__ import annotations

from typing import Any

import pytest

from runestone.http.guard import objection

Headers = list[tuple[bytes, bytes]]


def scope(headers: Headers | None = None, version: str = "1.1") -> dict[str, Any]:
    return {"type": "http", "http_version": version, "headers": headers or []}


def refused(headers: Headers | None = None, version: str = "1.1") -> tuple[int, str] | None:
    error = objection(scope(headers, version))
    return None if error is None else (error.status, error.code)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_ordinary_request_passes(version: str) -> None:
    assert refused([(b"host", b"here"), (b"content-length", b"2")], version) is None
    assert refused([(b"host", b"here"), (b"transfer-encoding", b"chunked")], version) is None
    assert refused([], version) is None


@pytest.mark.parametrize("version", ["2", "2.0", "3", "", "1.2", "0.9"])
def test_another_protocol_is_refused_before_anything_is_read(version: str) -> None:
    both = [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")]

    assert refused(both, version) == (505, "http_version_not_supported")


@pytest.mark.parametrize("order", [1, -1])
def test_two_lengths_are_smuggling_or_look_like_it(order: int) -> None:
    both = [(b"content-length", b"2"), (b"x", b"y"), (b"transfer-encoding", b"chunked")][::order]

    assert refused(both) == (400, "ambiguous_length")


@pytest.mark.parametrize(("count", "answer"), [(100, None), (101, (431, "headers_too_large"))])
def test_a_hundred_headers_are_enough(count: int, answer: tuple[int, str] | None) -> None:
    assert refused([(b"x", b"y")] * count) == answer


@pytest.mark.parametrize(("size", "answer"), [(32 * 1024, None), (32 * 1024 + 1, (431, "headers_too_large"))])
def test_names_and_values_together_have_a_bound(size: int, answer: tuple[int, str] | None) -> None:
    assert refused([(b"abcd", b"x" * (size // 2 - 4)), (b"efgh", b"y" * (size - size // 2 - 4))]) == answer
