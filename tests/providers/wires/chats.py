"""Hypothesis strategies: canonical chats within what a wire can say, and JSON of any kind."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from runestone.domain.conversation import (
    Block,
    Cache,
    Chat,
    Document,
    Format,
    Image,
    Reasoning,
    RedactedThinking,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
DATA = st.from_regex(r"(?:[A-Za-z0-9+/]{4}){1,4}", fullmatch=True)
SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(NAMES, st.just({"type": "string"}), max_size=2)}
)
CACHES = st.none() | st.builds(Cache, ttl=st.none() | st.sampled_from(["5m", "1h"]))


def odd(shapes: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies that look like ``shapes`` here and there, and like nothing elsewhere."""
    fields = {name: JSON | st.sampled_from(values) for name, values in shapes.items()}
    return st.fixed_dictionaries({}, optional=fields)


def texts(caches: st.SearchStrategy[Cache | None]) -> st.SearchStrategy[Text]:
    """Words, marked or not."""
    return st.builds(Text, WORDS, cache=caches)


def images(caches: st.SearchStrategy[Cache | None]) -> st.SearchStrategy[Image]:
    """Pictures of the kinds that every provider takes."""
    media = st.sampled_from(["image/png", "image/jpeg", "image/gif", "image/webp"])
    held = st.builds(Image, media_type=media, data=DATA, cache=caches)
    return held | st.builds(Image, url=st.just("https://x.test/a.png"), cache=caches)


TOOLS = st.lists(
    st.builds(Tool, name=NAMES, description=st.none() | WORDS, schema=SCHEMAS, strict=st.none() | st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda tool: tool.name,
).map(tuple)


@st.composite
def chats(draw: st.DrawFn, *, wire: str) -> Chat:
    """What the wire ``openai`` or ``anthropic`` can say, and gives back when it is read again."""
    anthropic = wire == "anthropic"
    caches = CACHES if anthropic else st.none()
    turns: list[Turn] = []
    if draw(st.booleans()):
        turns.append(Turn("system", (draw(texts(caches)),)))
    for number in range(draw(st.integers(1, 3))):
        turns.append(_user(draw, caches, anthropic=anthropic))
        if draw(st.booleans()):
            turns += _loop(draw, caches, number, anthropic=anthropic)
        elif draw(st.booleans()):
            turns.append(Turn("assistant", (draw(texts(caches)),)))
    tools = draw(TOOLS) if draw(st.booleans()) else ()
    return Chat(
        turns=tuple(turns),
        stream=draw(st.booleans()),
        max_tokens=draw(st.integers(20_000, 30_000)),
        temperature=draw(st.none() | st.floats(0, 1)),
        top_p=draw(st.none() | st.floats(0, 1)),
        stop=tuple(draw(st.lists(WORDS, max_size=4))),
        tools=tools,
        tool_choice=draw(_choices(tools)) if tools else None,
        format=draw(st.none() | st.builds(Format, kind=st.just("schema"), schema=_closed())),
        user=draw(st.none() | NAMES),
        tier=draw(st.sampled_from([None, "auto", "default"])),
    )


def _user(draw: st.DrawFn, caches: st.SearchStrategy[Cache | None], *, anthropic: bool) -> Turn:
    files = st.builds(Document, media_type=st.just("application/pdf"), data=DATA, title=WORDS, cache=caches)
    blocks = draw(st.lists(texts(caches) | images(caches) | files, min_size=1, max_size=3))
    return Turn("user", tuple(blocks))


def _loop(draw: st.DrawFn, caches: st.SearchStrategy[Cache | None], number: int, *, anthropic: bool) -> list[Turn]:
    calls = [
        ToolCall(id=f"c{number}_{i}", name=draw(NAMES), input=draw(st.dictionaries(NAMES, JSON, max_size=2)))
        for i in range(draw(st.integers(1, 2)))
    ]
    said: list[Block] = []
    if anthropic and draw(st.booleans()):
        said.append(draw(st.builds(Thinking, text=WORDS, signature=NAMES) | st.builds(RedactedThinking, data=NAMES)))
    if draw(st.booleans()):
        said.append(draw(texts(caches)))
    results: list[Block] = [ToolResult(id=call.id, content=(Text(draw(WORDS)),)) for call in calls]
    asked = Turn("assistant", (*said, *calls))
    return [asked, Turn("user", tuple(results))] if anthropic else [asked, *(Turn("user", (r,)) for r in results)]


def _choices(tools: tuple[Tool, ...]) -> st.SearchStrategy[ToolChoice | None]:
    modes = st.sampled_from(["auto", "required", "none"])
    named = st.sampled_from(tools).map(lambda tool: ToolChoice(mode="named", name=tool.name))
    return st.none() | modes.map(lambda mode: ToolChoice(mode=mode)) | named  # type: ignore[arg-type] # one of them


def _closed() -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(NAMES, st.just({"type": "string"}), max_size=2).map(
        lambda properties: {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    )


EFFORTS = st.sampled_from(["low", "medium", "high", "max"]).map(lambda effort: Reasoning(effort=effort))  # type: ignore[arg-type] # of them
