"""The settings of ``serve --demo``: the same, with simulated providers instead of real ones."""

from __future__ import annotations

from attrs import evolve

from runestone.config.settings import Settings
from runestone.domain.secret import Secret

_KEY = "sk-simulated"


def demo(settings: Settings, openai_url: str, anthropic_url: str) -> Settings:
    """``settings`` whose providers are the simulated ones at these base URLs; no real provider is ever contacted."""
    urls = {"openai": openai_url, "anthropic": anthropic_url}
    providers = tuple(evolve(p, base_url=urls[p.kind], api_key=Secret(_KEY)) for p in settings.providers)
    return evolve(settings, providers=providers, refusals=())
