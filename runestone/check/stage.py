"""The throw-away providers and groups: served by this process, known to the node while the check lasts, gone afterwards."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

from runestone.api import CircuitBreakerManager, OperationError, ProviderFactory, RemoteNode
from runestone.domain.routing import THROW_AWAY
from runestone.simulated.server import SimulatedProvider

GPT: Final = "gpt-4o-mini"
CLAUDE: Final = "claude-sonnet-4-5"
FAILURES: Final = 3  # in a row open the breaker
RECOVERY_MS: Final = 500
_IMPATIENT_MS: Final = 2000
_PATIENT_MS: Final = 15000
_OURS: Final = re.compile(rf"(providers|groups)\.({THROW_AWAY}[0-9a-f]{{6}}[a-z-]*)\.")  # as keys of `config diff`
_COMMON: Final[Mapping[str, Any]] = {
    "api_key": "check",
    "retry_attempts": 1,
    "telemetry": False,
    "probe_interval": 0,
    "circuit_breaker": {"failure_threshold": FAILURES, "recovery_timeout": RECOVERY_MS, "half_open_limit": 1},
}


class Stage:
    """Two providers, one for each wire, and the groups that name them: both, the first alone, and both in legacy mode."""

    def __init__(self, node: RemoteNode) -> None:
        self._node = node
        self.name = f"{THROW_AWAY}{secrets.token_hex(3)}"
        self.both, self.alone, self.legacy = self.name, f"{self.name}-alone", f"{self.name}-legacy"
        self.first = SimulatedProvider(name=f"{self.name}-first")
        self.second = SimulatedProvider(name=f"{self.name}-second")

    async def set_up(self) -> None:
        """Serve the providers and tell the node of them. Raises :class:`OperationError`.

        What is there by then, :meth:`clear` takes away.
        """
        factory = ProviderFactory(self._node)
        for provider, kind, model, patience in (
            (self.first, "openai", GPT, _IMPATIENT_MS),
            (self.second, "anthropic", CLAUDE, _PATIENT_MS),
        ):
            await provider.start()
            config = {**_COMMON, "base_url": provider.url, "default_model": model, "timeout": patience}
            await factory.register_provider(provider.name, kind, config)
            found = (await factory.health_check(provider.name))[provider.name]
            if not found["ok"]:
                message = (
                    f"the node does not reach the check at {provider.url} ({found['message']}); run it beside the node"
                )
                raise OperationError("failed", message)
        names = [self.first.name, self.second.name]
        options = {"strategy": "priority", "max_attempts": 2, "health_threshold": 0.0}
        await factory.create_failover_group(self.both, names, options)
        await factory.create_failover_group(self.alone, names[:1], options)
        await factory.create_failover_group(self.legacy, names, {**options, "mode": "legacy"})

    async def renew(self, fault: str = "none") -> None:
        """The first with ``fault`` and a closed breaker, the second healthy."""
        await self.first.set_fault(fault)
        await self.second.set_fault("none")
        await CircuitBreakerManager(self._node).reset_circuit(self.first.name)

    async def clear(self) -> None:
        """Take everything away again. Raises :class:`OperationError` if the node does not."""
        try:
            await remove_leftovers(self._node, self.name)
        finally:
            await self.first.close()
            await self.second.close()


async def remove_leftovers(node: RemoteNode, prefix: str = THROW_AWAY) -> list[str]:
    """Take away what a check has made and not taken away, and tell what it was: those whose names begin with ``prefix``.

    Only what was added at run time, by names as a check gives them, is touched.
    """
    changes = (await node.ask("GET", "/v1/config/diff"))["changes"]
    found = dict.fromkeys(match.groups() for change in changes if (match := _OURS.match(change["key"])) is not None)
    ours = [(kind, name) for kind, name in found if name.startswith(prefix)]
    factory = ProviderFactory(node)
    for kind, name in sorted(ours):  # groups first: nothing new goes to who leaves
        try:
            await (factory.delete_failover_group(name) if kind == "groups" else factory.unregister_provider(name))
        except OperationError as error:
            if error.reason != "not_found":
                raise
    return [name for kind, name in ours if kind == "providers"]
