"""The prompt without a terminal: what keys do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from runestone.console.commands import Live
from runestone.console.repl import prompt
from runestone.console.repl.link import Link
from runestone.console.repl.session import Session

Shows = Callable[[Buffer], bool]


def names(kind: Live) -> list[str]:
    return ["anthropic-default", "openai-default"] if kind == "providers" else []


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe:
        yield pipe


def made(keys: PipeInput, *earlier: str) -> PromptSession[str]:
    session = Session(Link(Path("/nowhere")), interactive=True)
    return prompt.prompt_session(session, InMemoryHistory(earlier), names, input=keys, output=DummyOutput())


def line(keys: PipeInput, typed: str, shows: Shows, *earlier: str, then: str = "") -> str:
    """The line that is read when ``typed`` is typed, then, when it ``shows`` what it should, ``then`` and Enter."""
    asking = made(keys, *earlier)

    async def read() -> str:
        async with asyncio.timeout(20):
            reading = asyncio.create_task(asking.prompt_async())
            keys.send_text(typed)
            while not reading.done() and not shows(asking.default_buffer):
                await asyncio.sleep(0.005)
            keys.send_text(f"{then}\r")
            return await reading

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [
        ("provider restart an\t", "provider restart anthropic-default "),
        ("prov restart open\t", "prov restart openai-default "),
        ("stat\t", "status "),
        ("provider rest\t", "provider restart "),
        ("top --sort mail\t", "top --sort mailbox "),
        ("\\wat\t", "\\watch "),
        ("log level warn\t", "log level warning "),
        ("what-if openai-default fail\t", "what-if openai-default failure_threshold="),  # its value follows at once
        ("pro\t", "provider"),  # what all have in common
    ],
)
def test_tab_completes_what_there_is(keys: PipeInput, typed: str, becomes: str) -> None:
    assert line(keys, typed, lambda buffer: buffer.text == becomes) == becomes


def test_tab_completes_the_path_of_a_file_where_one_is_wanted(keys: PipeInput, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text("{}")
    typed = f"cost estimate --request {tmp_path}/req"

    assert line(keys, f"{typed}\t", lambda buffer: buffer.text.endswith("json")) == f"{typed}uest.json"


def test_typing_goes_on_behind_what_was_completed(keys: PipeInput) -> None:
    read = line(keys, "\\wat\t", lambda buffer: buffer.text == "\\watch ", then="2s")

    assert read == "\\watch 2s"


def test_an_arrow_recalls_the_line_before(keys: PipeInput) -> None:
    assert line(keys, "\x1b[A", lambda buffer: bool(buffer.text), "status", "providers") == "providers"


def test_what_was_typed_before_is_suggested_and_taken_with_an_arrow(keys: PipeInput) -> None:
    earlier = "failover show default-chat-service"

    read = line(keys, "fail", lambda buffer: buffer.suggestion is not None, earlier, then="\x1b[C")

    assert read == earlier


@pytest.mark.parametrize(("key", "raises"), [("half a li\x03", KeyboardInterrupt), ("\x04", EOFError)])
def test_an_interrupt_and_the_end_of_input_are_told_apart(
    keys: PipeInput, key: str, raises: type[BaseException]
) -> None:
    keys.send_text(key)

    with pytest.raises(raises):
        made(keys).prompt()


def test_a_node_that_does_not_answer_holds_no_key_up(keys: PipeInput) -> None:
    asked, answer = threading.Event(), threading.Event()

    def names(_: Live) -> list[str]:
        asked.set()
        answer.wait(20)
        return []

    async def read() -> str:
        async with asyncio.timeout(20):
            reading = asyncio.create_task(asking.prompt_async())
            keys.send_text("provider show \t")
            while not asked.is_set():
                await asyncio.sleep(0.005)
            keys.send_text("mine")
            while not asking.default_buffer.text.endswith("mine"):
                await asyncio.sleep(0.005)
            assert not answer.is_set()
            answer.set()
            keys.send_text("\r")
            return await reading

    session = Session(Link(Path("/nowhere")), interactive=True)
    asking = prompt.prompt_session(session, InMemoryHistory(), names, input=keys, output=DummyOutput())

    assert asyncio.run(read()) == "provider show mine"
