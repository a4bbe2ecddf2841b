"""OpenAI's chat completions, as clients and as providers speak them."""

from __future__ import annotations

from typing import Final

from runestone.providers.codecs.openai import answer_reader, answer_writer, request_reader, request_writer
from runestone.providers.codecs.openai.stream_reader import ChunkReader
from runestone.providers.codecs.openai.stream_writer import ChunkWriter
from runestone.providers.codecs.wire import ClientWire, ProviderWire

CLIENT: Final = ClientWire(
    read_request=request_reader.read, write_answer=answer_writer.write, stream_writer=ChunkWriter
)
PROVIDER: Final = ProviderWire(
    path="/chat/completions",
    write_request=request_writer.write,
    read_answer=answer_reader.read,
    stream_reader=ChunkReader,
)
