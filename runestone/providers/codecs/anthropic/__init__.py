"""Anthropic's messages, as clients and as providers speak them."""

from __future__ import annotations

from typing import Final

from runestone.providers.codecs.anthropic import answer_reader, answer_writer, request_reader, request_writer
from runestone.providers.codecs.anthropic.stream_reader import EventReader
from runestone.providers.codecs.anthropic.stream_writer import EventWriter
from runestone.providers.codecs.wire import ClientWire, ProviderWire

CLIENT: Final = ClientWire(
    read_request=request_reader.read, write_answer=answer_writer.write, stream_writer=EventWriter
)
PROVIDER: Final = ProviderWire(
    path="/messages",
    write_request=request_writer.write,
    read_answer=answer_reader.read,
    stream_reader=EventReader,
)
