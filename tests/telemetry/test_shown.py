"""The catalogue of events is documented, all of it, as the code has it."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import asdict

from runestone.domain.chat import Usage
from runestone.telemetry.events import CATALOGUE, AttemptFinished, ConfigChanged
from runestone.telemetry.shown import as_data, catalogue

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_has_every_event_with_its_fields_and_no_other() -> None:
    rows = [f"| `{row['event']}` | {row['fields']} | {row['when']} |" for row in catalogue()]
    _, _, after = README.read_text(encoding="utf-8").partition("| Event | Fields | |\n|---|---|---|\n")
    table, _, _ = after.partition("\n\n")

    assert table == "\n".join(rows)


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_event_says_what_it_means_and_has_no_field_that_its_record_has(name: str) -> None:
    fields = set(CATALOGUE[name].__struct_fields__)

    assert (CATALOGUE[name].__doc__ or "").strip()
    assert not fields & {"seq", "at", "event", "ts", "level", "logger"}


def test_what_is_shown_is_plain() -> None:
    usage = Usage(input_tokens=3, output_tokens=4)
    event = AttemptFinished(
        provider="a", model="m", stream=True, outcome="ok", duration_seconds=1 / 3, first_content_seconds=None, usage=usage
    )  # fmt: skip

    data = as_data(event)

    assert (data["duration_seconds"], data["first_content_seconds"], data["stream"]) == (0.333333, None, True)
    assert data["usage"] == asdict(usage)
    assert as_data(ConfigChanged(done=("a\nb",))) == {"done": ["a\\nb"]}
