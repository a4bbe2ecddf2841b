"""The settings in force, for everybody who must see a change of them at once."""

from __future__ import annotations

from attrs import define

from runestone.config.settings import Settings


@define(slots=True, eq=False)
class Live:
    """Holds them. One writer, the configuration actor; any number of readers in the same loop, who see one whole value or the next."""

    settings: Settings
