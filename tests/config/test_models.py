"""Which models are counted by name: those that the settings name, each at the providers that may be asked for it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from runestone.config.models import named_models
from runestone.config.settings import GroupSettings, ModelAlias, Price, ProviderSettings, ServerSettings, Settings
from runestone.domain.secret import Secret


def provider(name: str, kind: str, default: str, *models: str) -> ProviderSettings:
    return ProviderSettings(
        name=name, kind=kind, base_url="http://x.invalid", api_key=Secret("k"), default_model=default, models=models
    )


ONE = provider("one", "openai", "gpt-4o-mini", "ft:mine")
TWO = provider("two", "anthropic", "claude-sonnet-4-5")
SETTINGS = Settings(
    server=ServerSettings(admin_socket=Path("none")),
    providers=(ONE, TWO),
    groups=(
        GroupSettings(
            name="g", providers=("one", "two"), models={"best": {"one": "gpt-5", "anthropic": "claude-opus-4-1"}}
        ),
        GroupSettings(name="h", providers=("two",), models={"other": {"one": "gpt-not-here"}}),
    ),
    models={"fast": ModelAlias(model="openai/gpt-4.1-nano"), "wise": ModelAlias(model="claude-haiku-4-5")},
    prices={"gpt-priced": Price(input_per_million_usd=Decimal(1), output_per_million_usd=Decimal(2))},
)


def test_a_provider_is_counted_by_the_models_that_the_settings_name_for_it() -> None:
    assert named_models(ONE, SETTINGS) == {"gpt-4o-mini", "ft:mine", "gpt-5", "gpt-4.1-nano", "gpt-priced"}
    assert named_models(TWO, SETTINGS) == {"claude-sonnet-4-5", "claude-opus-4-1", "claude-haiku-4-5"}
