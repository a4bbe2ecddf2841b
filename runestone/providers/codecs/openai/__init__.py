"""OpenAI's chat completions, as clients and as providers speak them."""

from __future__ import annotations

from functools import partial
from typing import Final

from runestone.domain.catalogue import Row
from runestone.domain.conversation import Chat
from runestone.providers.codecs.openai import answer_reader, answer_writer, request_reader, request_writer
from runestone.providers.codecs.openai.dialect import spoken
from runestone.providers.codecs.openai.stream_reader import ChunkReader
from runestone.providers.codecs.openai.stream_writer import ChunkWriter
from runestone.providers.codecs.wire import Body, ClientWire, ProviderWire

CLIENT: Final = ClientWire(
    read_request=request_reader.read, write_answer=answer_writer.write, stream_writer=ChunkWriter
)


def provider(row: Row) -> ProviderWire:
    """The wire as providers of ``row`` speak it."""

    def write_request(chat: Chat, model: str) -> tuple[Body, list[str]]:
        body, dropped = request_writer.write(chat, model)
        body, unsaid = spoken(row, body)
        return body, [*dropped, *unsaid]

    return ProviderWire(
        path="/chat/completions",
        write_request=write_request,
        read_answer=partial(answer_reader.read, row=row),
        stream_reader=partial(ChunkReader, row),
    )
