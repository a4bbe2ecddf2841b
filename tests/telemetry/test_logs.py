"""Logs: no key, no forged line, and nobody who logs ever waits."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NoReturn

import hypothesis.strategies as st
import orjson
import pytest
from attrs import define
from hypothesis import given
from loguru import logger

from runestone.domain.secret import Secret
from runestone.telemetry import logs
from runestone.telemetry.logs import masked
from tests.e2e.node import eventually

WORD = "hunter-2-is-the-word"
KEY = "sk-ant-api03-aBcDeFgHiJkLmNoP_123"
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # halves of characters too


def fail(text: str) -> NoReturn:
    raise ValueError(text)


@define(eq=False)
class Log:
    """What has been written, once the log was closed."""

    sink: logs.Sink
    stream: io.StringIO

    def text(self) -> str:
        logger.remove()
        return self.stream.getvalue()

    def lines(self) -> list[str]:
        return self.text().splitlines()

    def records(self) -> list[dict[str, str]]:
        return [orjson.loads(line) for line in self.lines()]


@pytest.fixture
def log() -> Iterator[Callable[..., Log]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hypercorn = logging.getLogger("hypercorn.error").level

    def configure(level: str = "DEBUG", form: str = "json", stream: io.StringIO | None = None) -> Log:
        stream = stream or io.StringIO()
        return Log(logs.configure(level, form, stream), stream)

    root.handlers = []
    yield configure
    logger.remove()
    logger.add(sys.stderr)
    root.handlers, root.level = handlers, level
    logging.getLogger("hypercorn.error").setLevel(hypercorn)


# -- secrets ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Authorization: Bearer {KEY}", "Authorization: Bearer ***"),
        (f"authorization: bearer   {KEY} and more", "authorization: bearer   *** and more"),
        (f"the key {KEY} is wrong", "the key sk-*** is wrong"),
        (f"('{KEY}',)", "('sk-***',)"),
        (f'{{"x-api-key": "{KEY}"}}', '{"x-api-key": "***"}'),
        ("x-api-key: 0123456789abcdef", "x-api-key: ***"),
        ("X-Api-Key=0123456789abcdef", "X-Api-Key=***"),
        ("{'x-api-key': '0123456789abcdef'}", "{'x-api-key': '***'}"),
        ("[(b'x-api-key', b'0123456789abcdef'), (b'a', b'b')]", "[(b'x-api-key', b'***'), (b'a', b'b')]"),
        ("(b'authorization', b'Bearer p@ss:w0rd!')", "(b'authorization', b'Bearer ***')"),
        ("api_key='0123456789abcdef', name='a'", "api_key='***', name='a'"),
        (f"two: {KEY} {KEY}", "two: sk-*** sk-***"),
        ("gsk_aBcDeFgHi12 xai-aBcDeFgHi12 pplx-aBcDeFgHi12", "gsk_*** xai-*** pplx-***"),
        ("nvapi-aBcDeFgHi12 'AIzaSyA-aBcDeFgHi12'", "nvapi-*** 'AIza***'"),
        ("maxai-large-v2, Aizawa-chat-large", "maxai-large-v2, Aizawa-chat-large"),
        ("task-force, ask-me, sk-short", "task-force, ask-me, sk-short"),
        ("no api key was sent", "no api key was sent"),
        ("set OPENAI_API_KEY or ANTHROPIC_API_KEY.", "set OPENAI_API_KEY or ANTHROPIC_API_KEY."),
    ],
)
def test_what_looks_like_a_key_is_masked_and_the_rest_is_not(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_no_key_is_in_a_message_an_exception_or_its_traceback(log: Callable[..., Log], form: str) -> None:
    one = log(form=form)

    logger.info("asked with {}", f"Bearer {KEY}")
    try:
        fail(f"refused: x-api-key: {KEY}")
    except ValueError:
        logger.exception("failed")
    logging.getLogger("httpx").warning("sent %s", {"authorization": f"Bearer {KEY}"})

    text = one.text()
    assert "aBcDeFgHi" not in text
    assert text.count("***") == {"json": 4, "pretty": 3}[form]  # json tells the error, and in the traceback again


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_a_local_variable_is_in_no_traceback(log: Callable[..., Log], form: str) -> None:
    one = log(form=form)

    def call(password: str) -> None:
        holder = [password, Secret(password)]
        assert holder
        raise RuntimeError("it broke")

    try:
        call(WORD)
    except RuntimeError:
        logger.exception("failed")

    text = one.text()
    assert "it broke" in text
    assert "in call" in text
    assert "hunter-2" not in text


# -- one line per record ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "pretty"])
@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "\x1b[31mred", "nul\x00", "\x85", "\u2028 \u2029", "tab\there", "\ud800"]
)
def test_a_message_is_one_line_and_moves_no_terminal(log: Callable[..., Log], form: str, text: str) -> None:
    one = log(form=form)

    logger.info("{}", text)

    (line,) = one.lines()
    assert line.isprintable()
    assert repr(text)[1:-1] in (line if form == "pretty" else orjson.loads(line)["event"])


@given(ANY_TEXT)
def test_whatever_is_masked_is_one_printable_line(text: str) -> None:
    shown = masked(text)

    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert shown.encode().decode() == shown


def test_no_line_of_an_exceptions_text_passes_for_a_record(log: Callable[..., Log]) -> None:
    one = log(form="pretty")

    try:
        fail("real\n12:00:00.000 INFO    forged")
    except ValueError:
        logger.exception("failed")

    first, *rest = one.lines()
    assert first.endswith("ERROR   failed")
    assert any("forged" in line for line in rest)
    assert all(line.startswith("  ") for line in rest)


def test_a_traceback_in_json_is_part_of_its_record(log: Callable[..., Log]) -> None:
    one = log()

    try:
        fail("real\nand more")
    except ValueError:
        logger.exception("failed")

    (record,) = one.records()
    assert (record["level"], record["event"], record["error"]) == ("ERROR", "failed", "ValueError: real\\nand more")
    assert "test_logs.py" in record["trace"]


# -- forms and levels ------------------------------------------------------------------------------------------------------


def test_json_has_time_level_logger_and_event(log: Callable[..., Log]) -> None:
    one = log()

    logger.warning("here {}", 1)

    (record,) = one.records()
    assert list(record) == ["ts", "level", "logger", "event"]
    assert datetime.fromisoformat(record["ts"]).tzinfo is not None
    assert (record["level"], record["event"]) == ("WARNING", "here 1")
    assert record["logger"].endswith("test_logs")


def test_pretty_has_a_time_of_day_a_level_and_the_message(log: Callable[..., Log]) -> None:
    one = log(form="pretty")

    logger.info("braces {{}} stay: {}", "{}")

    (line,) = one.lines()
    at, level, message = line.split(maxsplit=2)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", at)
    assert (level, message) == ("INFO", "braces {} stay: {}")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_auto_is_pretty_on_a_terminal_and_json_elsewhere(log: Callable[..., Log]) -> None:
    for stream, opening in ((Terminal(), ""), (io.StringIO(), "{")):
        one = log(form="auto", stream=stream)
        logger.info("hello")
        assert one.text().startswith("{") is bool(opening)


def test_what_is_below_the_level_is_left_out(log: Callable[..., Log]) -> None:
    one = log(level="WARNING")

    logger.info("no")
    logger.warning("yes")

    assert [record["event"] for record in one.records()] == ["yes"]


# -- the standard library's ------------------------------------------------------------------------------------------------


def test_the_standard_librarys_logs_come_along_under_their_own_names(log: Callable[..., Log]) -> None:
    one = log()

    logging.getLogger("supervisors").warning("%s restarts", "a")
    logging.getLogger("hypercorn.error").error("oops")
    logging.getLogger("odd").log(35, "between")
    logging.getLogger("chatty").info("no")

    assert [(r["logger"], r["level"], r["event"]) for r in one.records()] == [
        ("supervisors", "WARNING", "a restarts"),
        ("hypercorn.error", "ERROR", "oops"),
        ("odd", "Level 35", "between"),
    ]


def test_their_exceptions_come_along_too(log: Callable[..., Log]) -> None:
    one = log()

    try:
        fail("deep")
    except ValueError:
        logging.getLogger("x").exception("failed")
    logging.getLogger("x").error("no exception there", exc_info=True)  # noqa: LOG014 - somebody does

    first, second = one.records()
    assert first["error"] == "ValueError: deep"
    assert second["event"] == "no exception there"


async def cut_off() -> None:
    """A connection whose task is cancelled while it waits, which is how a server ends."""
    handling: list[asyncio.Task[None]] = []
    begun = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handling.extend(filter(None, [asyncio.current_task()]))
        begun.set()
        try:
            await reader.read()
        finally:
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await begun.wait()
        handling[0].cancel()
        await asyncio.wait(handling)
        await asyncio.sleep(0.01)
        writer.close()


def test_a_connection_that_is_cut_off_at_the_end_is_no_error(log: Callable[..., Log]) -> None:
    one = log(level="INFO")

    asyncio.run(cut_off())
    logging.getLogger("asyncio").error("a task", exc_info=RuntimeError("a bug"))

    assert [r["event"] for r in one.records()] == ["a task"]


def test_one_that_logs_with_arguments_that_do_not_fit_is_not_harmed(log: Callable[..., Log]) -> None:
    one = log()

    logging.getLogger("x").error("%d of %s", "two")  # noqa: PLE1206 - the mistake is the point

    assert [r["event"] for r in one.records()] == ["%d of %s ('two',)"]


# -- a writer that is slow or broken ---------------------------------------------------------------------------------------


class Stuck(io.StringIO):
    """Takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.free = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.free.wait()
        return super().write(text)


def test_what_does_not_fit_into_the_queue_is_dropped_and_counted_and_nobody_waits(
    log: Callable[..., Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_QUEUE", 10)
    stream = Stuck()
    one = log(stream=stream)
    logger.info("in the writer's hand")
    assert stream.entered.wait(20)

    for number in range(15):
        logger.info("{}", number)

    assert one.sink.dropped == 5
    stream.free.set()
    first, told, *rest = [r["event"] for r in one.records()]
    assert (first, rest) == ("in the writer's hand", [str(number) for number in range(10)])
    assert told == "dropped log lines: 5"


def test_the_end_is_not_held_up_by_a_stream_that_takes_nothing(
    log: Callable[..., Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_QUEUE", 2)
    monkeypatch.setattr(logs, "_STOP_SECONDS", 0.01)
    stream = Stuck()
    one = log(stream=stream)
    logger.info("in the writer's hand")
    assert stream.entered.wait(20)
    for number in range(3):
        logger.info("{}", number)

    assert one.text() == ""
    stream.free.set()


class Broken(io.StringIO):
    """Fails to write what asks for it."""

    def write(self, text: str) -> int:
        if "break" in text:
            raise BrokenPipeError
        return super().write(text)


def test_a_stream_that_fails_is_counted_and_the_next_record_is_written(log: Callable[..., Log]) -> None:
    one = log(stream=Broken())

    for text in ("before", "break", "after"):
        logger.info(text)
        eventually(lambda text=text: text in one.stream.getvalue() or one.sink.dropped, "it was taken")  # type: ignore[misc]

    assert [r["event"] for r in one.records()] == ["before", "after", "dropped log lines: 1"]
    assert one.sink.dropped == 1


def test_a_closed_stream_harms_nobody(log: Callable[..., Log]) -> None:
    one = log()
    one.stream.close()

    logger.info("lost")
    logger.remove()

    assert one.sink.dropped == 1


def test_the_end_of_the_process_loses_no_line() -> None:
    code = (
        "import sys\n"
        "from runestone.telemetry import logs\n"
        "from loguru import logger\n"
        "logs.configure('INFO', 'json')\n"
        "for n in range(3000): logger.info('{}', n)\n"
        "sys.exit(3)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 3
    assert [orjson.loads(line)["event"] for line in done.stderr.splitlines()] == [str(n) for n in range(3000)]
