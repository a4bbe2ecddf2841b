"""OpenAI's responses, as clients speak them: items in, items out."""

from __future__ import annotations

from typing import Final

from runestone.providers.codecs.responses import answer_writer, request_reader
from runestone.providers.codecs.responses.stream_writer import ItemWriter
from runestone.providers.codecs.wire import ClientWire

CLIENT: Final = ClientWire(read_request=request_reader.read, write_answer=answer_writer.write, stream_writer=ItemWriter)
