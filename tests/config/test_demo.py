"""The settings of ``serve --demo``."""

from __future__ import annotations

from pathlib import Path

from runestone.config.build import build
from runestone.config.load import read, with_simulated

OPENAI, ANTHROPIC = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"


def test_every_provider_is_a_simulated_one_whatever_keys_the_environment_holds() -> None:
    environ = {"OPENAI_API_KEY": "sk-real", "OPENAI_BASE_URL": "https://real.example/v1", "OPENAI_TIMEOUT": "5s"}

    settings = build(with_simulated(read(environ), openai_url=OPENAI, anthropic_url=ANTHROPIC), {}).settings

    assert [(p.name, p.base_url) for p in settings.providers] == [
        ("openai-default", OPENAI),
        ("anthropic-default", ANTHROPIC),
    ]
    assert {p.api_key.reveal() for p in settings.providers if p.api_key} == {"sk-simulated"}
    assert settings.refusals == ()
    assert settings.providers[0].timeout_seconds == 5.0


def test_a_file_s_other_providers_are_left_out_and_its_groups_lose_them(tmp_path: Path) -> None:
    file = tmp_path / "runestone.toml"
    file.write_text(
        "[providers.mine]\nkind = 'openai'\napi_key = 'sk-real'\nbase_url = 'https://real.example/v1'\n"
        "[groups.fast]\nmembers = ['mine', 'openai-default']\n[retry]\nmax_attempts = 7\n"
    )
    sources = with_simulated(read({}, file), openai_url=OPENAI, anthropic_url=ANTHROPIC)

    settings = build(sources, {}).settings

    assert [p.name for p in settings.providers] == ["openai-default", "anthropic-default"]
    assert {g.name: g.providers for g in settings.groups}["fast"] == ("openai-default",)
    assert settings.providers[0].retry.max_attempts == 7
    assert "real.example" not in repr(settings)
