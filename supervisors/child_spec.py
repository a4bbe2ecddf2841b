"""How a child is started, stopped and restarted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

from attrs import Attribute, field, frozen

from supervisors.restart import Backoff, Restart

if TYPE_CHECKING:
    from supervisors.gen_server import GenServer

ShutdownPolicy = float | Literal["brutal_kill", "infinity"]
ChildType = Literal["worker", "supervisor"]


def _one_of(*allowed: str) -> Callable[[object, Attribute[Any], object], None]:
    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if value not in allowed:
            raise ValueError(f"{attribute.name} must be one of {', '.join(allowed)}, not {value!r}")

    return check


@frozen(kw_only=True)
class ChildSpec:
    """One child of a supervisor.

        ChildSpec(id="counter", start=Counter, name="counter", restart="transient")

    * ``id`` - its name within the supervisor.
    * ``start`` - builds a *new* behaviour for each incarnation, so that a restart never meets an old object: a class, or a
      ``functools.partial`` of one.
    * ``restart`` - ``"permanent"`` (the default) is always restarted, also after a normal end; ``"transient"`` after an abnormal end
      only; ``"temporary"`` never, and its spec goes with it.
    * ``shutdown`` - seconds that it has to stop in before it is killed (5 by default); ``"brutal_kill"`` kills at once, without
      ``terminate``; ``"infinity"`` waits as long as it takes, the default for a supervisor.
    * ``type`` - ``"worker"`` or ``"supervisor"``: for ``count_children``, and for the default of ``shutdown``.
    * ``significant`` - its end may end the supervisor, by ``auto_shutdown``; not for a permanent child.
    * ``name`` - registered before ``init`` and free again before anybody sees the exit.
    * ``start_timeout`` - an ``init`` that takes longer is cancelled and has failed. By default it may take for ever.
    * ``backoff`` - makes restarts wait; see :class:`~supervisors.Backoff`.

    A wrong value raises ``ValueError``, which names the option.
    """

    id: str
    start: Callable[..., GenServer[Any]]
    restart: Restart = field(default="permanent", validator=_one_of(*get_args(Restart)))
    type: ChildType = field(default="worker", validator=_one_of(*get_args(ChildType)))
    shutdown: ShutdownPolicy = field()
    significant: bool = field(default=False)
    name: str | None = None
    start_timeout: float | None = field(default=None)
    backoff: Backoff | None = None

    @shutdown.default
    def _shutdown_default(self) -> ShutdownPolicy:
        return "infinity" if self.type == "supervisor" else 5.0

    @shutdown.validator
    def _check_shutdown(self, _: object, value: object) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if not number and value not in ("brutal_kill", "infinity"):
            raise ValueError(f"shutdown must be seconds from 0, brutal_kill or infinity, not {value!r}")

    @significant.validator
    def _check_significant(self, _: object, value: bool) -> None:  # noqa: FBT001 - attrs calls it so
        if value and self.restart == "permanent":
            raise ValueError("significant: a permanent child never ends for good, so it cannot be significant")

    @start_timeout.validator
    def _check_start_timeout(self, _: object, value: float | None) -> None:
        if value is not None and value <= 0:
            raise ValueError(f"start_timeout must be above 0, not {value}")
