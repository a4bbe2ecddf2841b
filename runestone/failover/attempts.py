"""The one loop of retries and failover. It runs in the request's own task: Admit -> Lease | Wait | Quote | Exhausted, until one answers.

Up to the commit point (the first content, or a real end) any candidate may still answer; after it, what goes wrong is told to the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from attrs import evolve

from runestone.config.settings import Price, TimeoutSettings
from runestone.costs.estimate import estimated
from runestone.costs.estimates import Estimates
from runestone.costs.prices import is_quick, quotation
from runestone.domain.catalogue import wire_of
from runestone.domain.chat import ChatRequest
from runestone.domain.errors import InvalidRequest, NoProviderAvailable, RunestoneError, UpstreamFailed
from runestone.domain.failure import Failure, UpstreamError
from runestone.domain.routing import Choice
from runestone.failover.call import UpstreamCall
from runestone.providers.codecs import codec_for
from runestone.providers.messages import (
    RESTART_SECONDS,
    WILLED,
    Admission,
    Admit,
    Exhausted,
    Lease,
    Quote,
    Tried,
    Unroutable,
    Wait,
    told,
)
from runestone.telemetry.bus import Bus
from runestone.telemetry.events import AttemptStarted, ContentBegan, Failover, Retry
from supervisors import ActorExited, Via, run_blocking

_RESTARTED_TRIES = 20  # to reach a failover actor that is being restarted, or a provider


class Attempts:
    """The attempts of one request. Use it as a context manager: leaving it closes the upstream and gives the lease back."""

    def __init__(
        self,
        chat: ChatRequest,
        failover: Via,
        timeouts: TimeoutSettings,
        bus: Bus,
        *,
        deadline: float,
        prices: Mapping[str, Price],
        estimates: Estimates | None = None,
        trial: bool = False,
    ) -> None:
        """``trial``: an operator's own call. It is made once, and to a provider that he has drained, too."""
        self._chat = chat
        self._estimates = Estimates() if estimates is None else estimates
        self._prices = prices
        self._failover = failover
        self._timeouts = timeouts
        self._bus = bus
        self._admit = Admit(
            model=chat.model,
            group=chat.group,
            key=chat.key,
            key_groups=chat.key_groups,
            api=chat.api,
            trial=trial,
            request_id=chat.request_id,
            deadline=deadline,
        )
        self._call: UpstreamCall | None = None
        self._patience = _RESTARTED_TRIES  # how often to wait for a provider that is being restarted
        self._waited_seconds = 0.0  # before the next call
        self._past_seconds = 0.0  # that calls which are over have taken
        self.calls = 0
        self.group: str | None = None

    @property
    def upstream_seconds(self) -> float:
        """How long upstream calls have been out."""
        return self._past_seconds + (0.0 if self._call is None else self._call.seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call is not None:
            await self._call.close()
            if self._call.ended:
                self._estimates.answered(self._chat, self._call.lease.choice.model, self._call.usage)

    async def open(self) -> UpstreamCall:
        """Call candidates until one has passed its commit point.

        Raises:
            NoProviderAvailable: nobody would take the request.
            UpstreamFailed: all that took it have failed; the last failure is told.
            InvalidRequest: no candidate can serve a field of the request.
        """
        while True:
            match await self._ask():
                case Wait(seconds=seconds):
                    await asyncio.sleep(seconds)
                    self._waited_seconds += seconds
                    self._admit = evolve(self._admit, waited=True)
                case Quote(choices):
                    priced = await self._quoted(choices)
                    self._admit = evolve(self._admit, prices=priced)
                case Exhausted() as exhausted if exhausted.restarting and self._patience:
                    self._patience -= 1
                    await asyncio.sleep(RESTART_SECONDS)
                case Exhausted() as exhausted:
                    self.group = exhausted.group
                    raise self._give_up(exhausted)
                case Unroutable(error):
                    raise error
                case lease:
                    try:
                        return await self._attempt(lease)
                    except UpstreamError as error:
                        if self._admit.trial:
                            raise UpstreamFailed(error.failure, same_wire=True) from None
                        self._failed(lease, error.failure)

    async def _quoted(self, choices: Sequence[tuple[Choice, str]]) -> dict[str, float | None]:
        """What the request is estimated to cost at each; on a thread, if a price must be looked up."""
        usage, correction = estimated(self._chat.body), self._estimates.correction
        if is_quick(usage, choices, self._prices):
            return quotation(usage, choices, self._prices, correction)
        return await run_blocking(quotation, usage, choices, self._prices, correction)

    async def _ask(self) -> Admission:
        """One admission. An actor that dies with it has taken no decision, so it is asked again: the next incarnation answers.

        It has no deadline of its own: the request's bounds it, and a suspended actor makes requests wait, not fail.
        """
        for left in range(_RESTARTED_TRIES, -1, -1):
            try:
                return await self._failover.call(self._admit, timeout=None)
            except ActorExited:
                if not left:
                    raise
            await asyncio.sleep(RESTART_SECONDS)
        raise AssertionError

    async def _attempt(self, lease: Lease) -> UpstreamCall:
        self.calls += 1
        self.group = lease.plan.group
        self._tell(lease)
        codec = codec_for(lease.settings.kind, self._chat.api)
        call = self._call = UpstreamCall(self._chat, lease, codec, self._timeouts, self._bus, number=self.calls)
        try:
            await call.open()
        except UpstreamError as error:
            self._call = None
            self.calls -= error.failure.kind == "unsupported"
            await call.close()
            self._past_seconds += call.seconds
            raise
        if lease.settings.telemetry:
            self._bus.emit(
                ContentBegan(
                    request_id=self._chat.request_id,
                    number=self.calls,
                    provider=lease.choice.provider,
                    model=lease.choice.model,
                    seconds=call.seconds,
                )
            )
        return call

    def _tell(self, lease: Lease) -> None:
        waited, self._waited_seconds = self._waited_seconds, 0.0
        if not lease.settings.telemetry:
            return
        request_id, target, group = self._chat.request_id, lease.choice.provider, lease.plan.group
        if self._admit.tried:
            last = self._admit.tried[-1]
            origin, reason = last.choice.provider, last.failure.kind
            if origin == target:
                self._bus.emit(Retry(request_id=request_id, provider=target, reason=reason, waited_seconds=waited))
            else:
                self._bus.emit(
                    Failover(request_id=request_id, group=group, origin=origin, target=target, reason=reason)
                )
        self._bus.emit(
            AttemptStarted(
                request_id=request_id,
                number=self.calls,
                provider=target,
                model=lease.choice.model,
                group=group,
                refusals=told(lease.refusals) if lease.refusals else (),
            )
        )

    def _failed(self, lease: Lease, failure: Failure) -> None:
        """Note the failure for the next admission; the caller's own error ends the loop at once."""
        if not failure.may_fail_over:
            raise UpstreamFailed(failure, same_wire=wire_of(lease.settings.kind) == self._chat.wire)
        tried = self._admit.tried
        if tried and tried[-1].choice.provider == lease.choice.provider:
            tried, calls = tried[:-1], tried[-1].calls + 1
        else:
            calls = 1
        now = Tried(choice=lease.choice, tier=lease.tier, kind=lease.settings.kind, calls=calls, failure=failure)
        self._admit = evolve(self._admit, plan=lease.plan, tried=(*tried, now), calls=self.calls, waited=False)

    def _give_up(self, exhausted: Exhausted) -> RunestoneError:
        """The last failure, if anybody was called; else why nobody would take the request."""
        served = [t for t in self._admit.tried if t.failure.kind != "unsupported"]
        refused1 = [r for r in exhausted.refusals if r.tier == 1]
        if served or (self._admit.tried and not refused1):
            last = (served or self._admit.tried)[-1]
            error = UpstreamFailed(last.failure, same_wire=wire_of(last.kind) == self._chat.wire)
            if (error.status == 429 or error.status >= 500) and error.retry_after_seconds is None:
                error.retry_after_seconds = exhausted.retry_after_seconds
            return error
        if refused1 and all(r.reason == "not_found" for r in refused1):
            message = f"No provider of the group {exhausted.group!r} knows this model. Ask for another one, or again in a minute."
            return InvalidRequest(message, status=404, code="model_not_found", param="model")
        throttled = exhausted.refusals and all(r.reason == "throttled" for r in exhausted.refusals)
        unserved = ", ".join(
            f"{r.provider} ({WILLED.get(r.reason, r.reason.replace('_', ' '))})" for r in exhausted.refusals
        )
        return NoProviderAvailable(
            f"No provider of the group {exhausted.group!r} takes requests now: {unserved or 'none is configured'}. Try again later.",
            status=429 if throttled else 503,
            code="rate_limit_exceeded" if throttled else "no_provider_available",
            retry_after_seconds=exhausted.retry_after_seconds,
        )
