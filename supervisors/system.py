"""What every process of a tree inherits from its root."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from attrs import field, frozen

from supervisors.events import Event, LogObserver, ReportLimit
from supervisors.threads import Threads

if TYPE_CHECKING:
    from supervisors.process import Process
    from supervisors.registry import Registry

Observer = Callable[[Event], None]


@frozen(kw_only=True, eq=False)
class System:
    """One per root. There are no module globals: two trees in one loop know nothing of each other.

    * ``registry`` - where child specs register their ``name``.
    * ``fail_circular_calls`` - whether a call that waits for its own caller fails at once, rather than by its deadline.
    * ``observers`` - are told of each life-cycle event; see :mod:`supervisors.events`.
    * ``threads`` - where :func:`~supervisors.run_blocking` runs.
    * ``zombies`` - processes that have swallowed every cancellation and still run, though the tree has given them up.
    """

    registry: Registry
    fail_circular_calls: bool = False
    observers: tuple[Observer, ...] = (LogObserver(),)
    threads: Threads = field(factory=Threads, init=False)
    zombies: dict[Process, None] = field(factory=dict, init=False)
    pids: Iterator[int] = field(factory=lambda: itertools.count(1), init=False)
    reports: ReportLimit = field(factory=ReportLimit, init=False)

    @property
    def dead_letters(self) -> Counter[str]:
        """Messages that reached nobody, by cause: ``noproc``, ``late_reply``, ``mailbox_full``."""
        return self.registry.dead_letters

    def emit(self, event: Event) -> None:
        """Tell the observers. One that fails is logged, and changes nothing else."""
        for observer in self.observers:
            try:
                observer(event)
            except Exception:
                logging.getLogger("supervisors").exception("an observer failed at %s", type(event).__name__)
