"""Which models the settings name: those alone are counted by name, for the rest is what clients happen to write."""

from __future__ import annotations

from runestone.config.settings import ProviderSettings, Settings
from runestone.domain.routing import family


def named_models(provider: ProviderSettings, settings: Settings) -> frozenset[str]:
    """The models that ``provider`` may be asked for and the settings name: as its own, in a group, behind an alias, or with a price."""
    own = {provider.default_model, *provider.models}
    equals = {
        equal[at]
        for group in settings.groups
        if provider.name in group.providers
        for equal in group.models.values()
        for at in (provider.name, provider.kind)
        if at in equal
    }
    elsewhere = {alias.model.rpartition("/")[2] for alias in settings.models.values()} | settings.prices.keys()
    return frozenset(filter(None, own | equals | {model for model in elsewhere if family(model) == provider.kind}))
