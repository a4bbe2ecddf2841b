"""The older completions, as clients speak them: a prompt, and text that goes on from it."""

from __future__ import annotations

from typing import Final

from runestone.providers.codecs.completions import answer_writer, request_reader
from runestone.providers.codecs.completions.stream_writer import TextWriter
from runestone.providers.codecs.wire import ClientWire

CLIENT: Final = ClientWire(read_request=request_reader.read, write_answer=answer_writer.write, stream_writer=TextWriter)
