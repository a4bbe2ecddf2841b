"""The settings of ``serve --demo``."""

from __future__ import annotations

from runestone.config.demo import demo
from runestone.config.load import load

OPENAI, ANTHROPIC = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"


def test_every_provider_is_a_simulated_one_whatever_keys_the_environment_holds() -> None:
    environ = {"OPENAI_API_KEY": "sk-real", "OPENAI_BASE_URL": "https://real.example/v1", "OPENAI_TIMEOUT": "5s"}

    settings = demo(load(environ, demo=True), OPENAI, ANTHROPIC)

    assert [(p.name, p.base_url) for p in settings.providers] == [
        ("openai-default", OPENAI),
        ("anthropic-default", ANTHROPIC),
    ]
    assert {p.api_key.reveal() for p in settings.providers if p.api_key} == {"sk-simulated"}
    assert settings.refusals == ()
    assert settings.providers[0].timeout_seconds == 5.0
