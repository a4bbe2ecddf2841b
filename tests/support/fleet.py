"""Provider actors in a tree of their own, and what it takes to ask them. Runs on virtual time: nothing here has a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from attrs import define

from runestone.config.settings import GroupSettings, ProviderSettings, ServerSettings, Settings
from runestone.domain.failure import Failure, FailureKind, UpstreamError
from runestone.domain.routing import DEFAULT_GROUP, Choice, Plan
from runestone.domain.secret import Secret
from runestone.failover.router import FailoverRouter
from runestone.providers import names
from runestone.providers.memory import ProviderMemory
from runestone.providers.messages import Acquire, Admission, Admit, Declined, Exhausted, Lease, Refused, Round, Tried
from runestone.providers.provider import Provider
from runestone.providers.transport import Transport
from runestone.resilience.breaker import Breaker, BreakerPolicy
from runestone.resilience.retry import RetryPolicy
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import Event
from supervisors import (
    NO_REPLY,
    ActorRef,
    Call,
    Caller,
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    Registry,
    Supervisor,
    Via,
    start,
)
from supervisors.introspection import dead_letters
from supervisors.testing import Recorder, crash, settle

T = TypeVar("T")
MODEL = "gpt-4o-mini"


class Wire:
    """What leases carry. Nobody is at its other end."""

    async def handle_async_request(self, request: object) -> NoReturn:
        """Refused."""
        raise UpstreamError(failure("refused"))


def provider(name: str, *, breaker: BreakerPolicy | None = None, **more: Any) -> ProviderSettings:
    """The settings of a provider; its breaker opens at three failures for ten seconds."""
    options: dict[str, Any] = {
        "kind": "openai",
        "api_key": Secret("none"),
        "default_model": MODEL,
        "retry": RetryPolicy(jitter=False),
    } | more
    policy = breaker or BreakerPolicy(failure_threshold=3, recovery_timeout_seconds=10.0, jitter=0.0)
    return ProviderSettings(name=name, base_url="http://nowhere.invalid", breaker=policy, **options)


def remembering(settings: ProviderSettings) -> ProviderMemory:
    """The memory of a provider whose transport is up."""
    return ProviderMemory(settings=settings, breaker=Breaker.new(settings.breaker), transport=cast("Transport", Wire()))


def group(*members: str, **options: Any) -> GroupSettings:
    """The group that a request without one goes to."""
    return GroupSettings(name=DEFAULT_GROUP, providers=members, **options)


def failure(kind: FailureKind = "server_error", **options: Any) -> Failure:
    """A failure of that kind."""
    return Failure(kind=kind, message=kind, **options)


def acquire(name: str = "a", model: str = MODEL) -> Acquire:
    """What failover forwards to a provider."""
    choice = Choice(name, model)
    plan = Plan(group=DEFAULT_GROUP, tier1=(choice,))
    admit = Admit(model=model, deadline=1e9)
    return Acquire(round=Round(admit=admit, plan=plan, left=()), choice=choice, tier=1, panic=False)


def release(lease: Lease, failed: Failure | None = None) -> None:
    """End a call as :class:`UpstreamCall` does: well, or by ``failed``."""
    lease.release("success" if failed is None else failed.treatment.outcome, failed)


class LastResort(GenServer[object]):
    """Stands where failover does: whatever is declined is over."""

    def handle_call(self, message: Call[Any], caller: Caller[Any]) -> object:
        """Tell the refusal to the request."""
        assert isinstance(message, Declined)
        caller.reply(Exhausted(group=DEFAULT_GROUP, reason="refused", refusals=(message.refused,)))
        return NO_REPLY


@define(eq=False)
class Fleet:
    """A running tree of providers, failover and requests, and what has been told of it."""

    memories: dict[str, ProviderMemory]
    registry: Registry
    bus: Bus
    root: ActorRef
    events: list[Event]
    seen: Recorder
    settings: Settings

    @property
    def failover(self) -> Via:
        """The router."""
        return self.registry.via(names.FAILOVER)

    @property
    def requests(self) -> Via:
        """What requests are adopted by."""
        return self.registry.via(names.REQUESTS)

    def ref(self, name: str = "a") -> ActorRef:
        """The present incarnation of a provider actor."""
        ref = self.registry.lookup(names.provider(name))
        assert ref is not None
        return ref

    def told(self, kind: type[T]) -> list[T]:
        """The events of that type so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def crashes(self) -> int:
        """How often an actor has crashed."""
        return sum(type(e).__name__ == "CrashReport" for e in self.seen.events)

    async def ask(self, name: str = "a", model: str = MODEL) -> Admission:
        """Ask a provider for a lease, as failover would."""
        return await self.registry.via(names.provider(name)).call(acquire(name, model))

    async def lease(self, name: str = "a", model: str = MODEL) -> Lease:
        """A lease that must be granted."""
        answer = await self.ask(name, model)
        assert isinstance(answer, Lease), answer
        return answer

    async def refused(self, name: str = "a", model: str = MODEL) -> Refused:
        """A refusal that must come."""
        answer = await self.ask(name, model)
        assert isinstance(answer, Exhausted), answer
        (refusal,) = answer.refusals
        return refusal

    async def fails(self, *kinds: FailureKind, name: str = "a", **options: Any) -> None:
        """One call for each of ``kinds``, which it ends."""
        for kind in kinds:
            release(await self.lease(name), failure(kind, **options))
        await settle()

    async def succeeds(self, times: int = 1, name: str = "a") -> None:
        """As many calls that end well."""
        for _ in range(times):
            release(await self.lease(name))
        await settle()

    async def crash(self, name: str = "a") -> None:
        """Crash a provider actor; the next incarnation is up when this returns."""
        crash(self.ref(name), RuntimeError("a bug"))
        await settle()

    def request(self, work: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        """A task that is a request: adopted, so that it can own leases."""

        async def run() -> T:
            async with self.requests.adopt():
                return await work()

        return asyncio.create_task(run())

    def late_replies(self) -> int:
        """Replies that nobody waited for any more."""
        return dead_letters(self.root)["late_reply"]


@asynccontextmanager
async def fleet(
    *providers: ProviderSettings,
    groups: Sequence[GroupSettings] = (),
    router: bool = False,
    max_restarts: int = 1000,
    chance: Callable[[], float] = lambda: 0.5,
    **settings: Any,
) -> AsyncIterator[Fleet]:
    """Provider actors under one supervisor, and a router if asked for, till the end of the block. They may crash as they like."""
    memories = {p.name: remembering(p) for p in providers}
    registry, bus, seen = Registry(), Bus(), Recorder()
    events: list[Event] = []
    bus.subscribe(events.append)
    whole = Settings(
        server=ServerSettings(admin_socket=Path("none"), **settings.pop("server", {})),
        providers=providers,
        groups=tuple(groups) or (group(*memories),),
        **settings,
    )
    failover = partial(FailoverRouter, whole, memories, registry, bus, chance) if router else LastResort
    children = [
        *(
            ChildSpec(id=n, start=partial(Provider, m, registry, bus, chance), name=names.provider(n))
            for n, m in memories.items()
        ),
        ChildSpec(id="failover", start=failover, name=names.FAILOVER),
        ChildSpec(id="requests", start=DynamicSupervisor, type="supervisor", name=names.REQUESTS),
    ]
    root = await start(partial(Supervisor, children, max_restarts=max_restarts), registry=registry, observers=[seen])
    try:
        yield Fleet(memories, registry, bus, root, events, seen, whole)
    finally:
        await root.stop()


def tried(lease: Lease, failed: Failure | None = None, *, calls: int = 1) -> Tried:
    """What the loop of attempts notes of a lease whose call has failed."""
    kind = lease.settings.kind
    return Tried(choice=lease.choice, tier=lease.tier, kind=kind, calls=calls, failure=failed or failure())
