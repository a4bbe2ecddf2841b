"""Tells the configuration when its file has changed. It needs the extra ``watch``."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

from runestone.configuration import ReloadNow
from runestone.providers import names
from supervisors import GenServer, Registry

_SETTLE_MS = 500  # an editor writes a file in several steps


class Watcher(GenServer[object]):
    """One for the file; its folder is watched, for editors and ConfigMaps put another file in its place."""

    def __init__(self, file: Path, registry: Registry) -> None:
        self._file = file
        self._configuration = registry.via(names.CONFIGURATION)
        self._over = asyncio.Event()

    def init(self) -> None:
        """Begin."""
        self.process.on_exit(lambda *_: self._over.set())
        self.spawn(self._watch(), name=f"watch:{self._file.name}")

    async def _watch(self) -> None:
        folder = self._file.resolve().parent
        async with aclosing(
            awatch(folder, stop_event=self._over, step=_SETTLE_MS // 2, debounce=_SETTLE_MS)
        ) as changes:
            async for _ in changes:
                self._configuration.cast(ReloadNow())
