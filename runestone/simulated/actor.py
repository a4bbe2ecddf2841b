"""The simulated providers of ``serve --demo``, as one process of the tree."""

from __future__ import annotations

from typing import Any

from runestone.simulated.server import SimulatedProvider
from supervisors import ExitReason, GenServer


class Simulation:
    """Both providers. Bound before the tree starts, so that the settings know their addresses."""

    def __init__(self) -> None:
        self.providers = {name: SimulatedProvider(name=name) for name in ("openai-default", "anthropic-default")}

    async def bind(self) -> None:
        """Listen."""
        for provider in self.providers.values():
            await provider.start()

    async def set_fault(self, name: str, spec: str) -> dict[str, Any]:
        """Switch the fault of one. Raises ``KeyError`` for an unknown name, ``ValueError`` for what is no fault."""
        provider = self.providers[name]
        await provider.set_fault(spec)
        return provider.state()

    def faults(self) -> dict[str, str]:
        """What is switched on, by the name of the provider; ``none`` where nothing is."""
        return {name: provider.spec for name, provider in self.providers.items()}

    @property
    def openai_url(self) -> str:
        """The base URL of the one that stands for OpenAI."""
        return self.providers["openai-default"].url

    @property
    def anthropic_url(self) -> str:
        """The base URL of the one that stands for Anthropic."""
        return self.providers["anthropic-default"].url

    def actor(self) -> Simulated:
        """The process that owns them."""
        return Simulated(self)


class Simulated(GenServer[object]):
    """Closes the providers when it ends, and has them back where they were when it begins again; a crash of it leaves them serving."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def init(self) -> None:
        """Have both there again."""
        for provider in self._simulation.providers.values():
            await provider.reopen()

    async def terminate(self, reason: ExitReason) -> None:
        """Close both."""
        for provider in self._simulation.providers.values():
            await provider.close()
