"""Bugs to be planted: each changes one expression of the product, and the seeds must find it.

A bug is a piece of a function's source and what stands in its place; a piece that is there no more, or twice, is an error, so that the
list cannot outlive the code.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import sys
import textwrap
from typing import Any, Final

import pytest
from attrs import frozen

from tests.simulation.script import Profile

_FLAGS: Final = __future__.annotations.compiler_flag


@frozen
class Bug:
    """``old`` in the function ``where`` (``module:qualified name``) becomes ``new``; runs of ``profile`` are where it shows soonest."""

    name: str
    where: str
    old: str
    new: str
    profile: Profile = "faults"

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """For the time of ``monkeypatch``. Raises :class:`AssertionError` where the product has changed under the list."""
        path, _, qualified = self.where.partition(":")
        module = importlib.import_module(f"runestone.{path}")
        owner_name, _, name = qualified.rpartition(".")
        owner: Any = getattr(module, owner_name) if owner_name else module
        original = inspect.getattr_static(owner, name)
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.old) == 1, (
            f"{self.name}: {self.old!r} occurs {source.count(self.old)} times in {self.where}"
        )
        namespace: dict[str, Any] = {}
        code = compile(source.replace(self.old, self.new), f"<{self.name}>", "exec", flags=_FLAGS)
        exec(code, module.__dict__, namespace)
        if owner_name:
            monkeypatch.setattr(owner, name, namespace[name])
            return
        for other in list(sys.modules.values()):  # who has imported it by name
            if other.__name__.startswith("runestone.") and other.__dict__.get(name) is original:
                monkeypatch.setattr(other, name, namespace[name])


_ATTEMPTS: Final = "failover.attempts:Attempts."
_BREAKER: Final = "resilience.breaker:Breaker."
_CALL: Final = "failover.call:UpstreamCall."
_MEMORY: Final = "providers.memory:ProviderMemory."
_PLAN: Final = "failover.plan:"
_PROVIDER: Final = "providers.provider:Provider."
_ROUTER: Final = "failover.router:FailoverRouter."

BUGS: Final = (
    # -- leases and what is learnt from their ends
    Bug(
        "a cancel counts as a failure",
        f"{_CALL}__init__",
        '_outcome: Outcome = "neutral"',
        '_outcome: Outcome = "failure"',
        profile="leaving",
    ),
    Bug("a lease is not given back", f"{_CALL}close", "self.lease.release(self._outcome, self._failure)", "pass"),
    Bug(
        "a lease is given back while its call is open",
        f"{_CALL}_first_content",
        "parts: list[bytes] = []",
        'parts: list[bytes] = []; self.lease.release("neutral")',
    ),
    Bug("a request that has ended is watched on", f"{_PROVIDER}_released", "self.demonitor(monitor)", "pass"),
    Bug("every end is a good one", "resilience.health:Health.observe", '(outcome == "success")', "True"),
    Bug(
        "a crash forgets everything",
        f"{_PROVIDER}init",
        "memory.crashed_at is not None and now - memory.crashed_at < _CRASH_WINDOW_SECONDS",
        "True",
        profile="chaos",
    ),
    # -- the breaker
    Bug(
        "the breaker opens one failure late",
        f"{_BREAKER}_settle_closed",
        "failures >= self.policy",
        "failures > self.policy",
    ),
    Bug(
        "the breaker opens one failure early",
        f"{_BREAKER}_settle_closed",
        "failures >= self.policy.failure_threshold",
        "failures + 1 >= self.policy.failure_threshold",
    ),
    Bug(
        "the generation is ignored",
        f"{_BREAKER}settle",
        "permit.generation != self.generation",
        "False",
        profile="faults",
    ),
    Bug(
        "a probe is not given back",
        f"{_BREAKER}settle",
        "if permit.id in probes",
        'if permit.id in probes and outcome != "neutral"',
        profile="leaving",
    ),
    Bug(
        "the limit of probes is ignored",
        f"{_BREAKER}refusal",
        "len(out) < self.policy.half_open_limit",
        "True",
        profile="crowd",
    ),
    Bug(
        "one probe too many", f"{_BREAKER}refusal", "len(out) < self.policy", "len(out) <= self.policy", profile="crowd"
    ),
    Bug("an open breaker stays open", f"{_BREAKER}refusal", "case Open(until) if now < until:", "case Open(until):"),
    Bug(
        "an open breaker lets calls through",
        f"{_BREAKER}refusal",
        "case Open(until) if now < until:",
        "case Open(until) if until < now:",
    ),
    Bug(
        "what an operator has forced is ignored",
        f"{_BREAKER}refusal",
        "if until is None or now < until",
        "if until is not None and now < until",
        profile="chaos",
    ),
    Bug(
        "the first content is a success of any call",
        f"{_PROVIDER}_first_content",
        "record.permit is not None and record.permit.probe",
        "record.permit is not None",
    ),
    # -- the history of a provider
    Bug(
        "what an operator does is not in the history",
        f"{_MEMORY}operate",
        'self.note(("operate", now, act, until))',
        "pass",
        profile="chaos",
    ),
    Bug("the history forgets a chance", "providers.memory:LeaseRecord.ended", "self.slow, chance,", "self.slow, 0.5,"),
    Bug(
        "a chunk of the history knows its step already",
        f"{_MEMORY}note",
        "breaker=self.breaker",
        "breaker=self.breaker.reset()",
    ),
    # -- who is refused
    Bug(
        "a throttled provider is asked",
        f"{_MEMORY}refusal",
        "(wait := self.throttle.retry_after(now)) is not None",
        "(wait := None) is not None",
    ),
    Bug(
        "Retry-After is cut short",
        "resilience.throttle:Throttle.hit",
        "self._at_least(now + retry_after)",
        "self._at_least(now + min(retry_after, 1.0))",
    ),
    Bug(
        "a quarantined provider is asked",
        f"{_MEMORY}refusal",
        "(wait := self.quarantine.retry_after(model, now)) is not None",
        "(wait := None) is not None",
    ),
    Bug("a drained provider is asked", f"{_MEMORY}refusal", "if self.draining and", "if False and", profile="chaos"),
    Bug(
        "the limit of concurrent calls is one more",
        "resilience.concurrency:Concurrency.full",
        "in_flight >= limit",
        "in_flight > limit",
        profile="crowd",
    ),
    Bug(
        "a free place is offered to nobody in line",
        f"{_PROVIDER}_released",
        "if self._line:",
        "if False:",
        profile="crowd",
    ),
    # -- retries and failovers
    Bug(
        "a retry waits beyond the deadline",
        f"{_PLAN}retry_wait",
        "if now + seconds < admit.deadline else None",
        "if admit.deadline else None",
    ),
    Bug(
        "a retry does not heed Retry-After",
        f"{_PLAN}retry_wait",
        "last.failure.retry_after_seconds + _SETTLE_SECONDS",
        "0.0",
    ),
    Bug("what may not be retried is retried", f"{_PLAN}retry_wait", "not last.failure.may_retry or ", ""),
    Bug(
        "one retry too many",
        f"{_PLAN}retry_wait",
        "last.calls >= retry.max_attempts",
        "last.calls > retry.max_attempts",
    ),
    Bug("failover returns to a provider that has failed", f"{_PLAN}_tier", "c.provider not in failed and ", ""),
    Bug("one provider too many is tried", f"{_PLAN}turns", ">= rules.max_attempts", "> rules.max_attempts"),
    Bug(
        "one upstream call too many",
        f"{_PLAN}turns",
        "admit.calls >= rules.max_upstream_calls",
        "admit.calls > rules.max_upstream_calls",
    ),
    Bug(
        "tier 2 answers for a model that is not known",
        f"{_PLAN}turns",
        't.failure.kind == "not_found" and t.tier == 1',
        "False",
    ),
    Bug("nobody with a bad score is asked", f"{_PLAN}_tier", ", *((left[c.name], tier, True) for c in poor))", ",)"),
    Bug(
        "the budget of retries is never spent", f"{_ROUTER}_withdraw", "return granted", "return True", profile="storm"
    ),
    Bug(
        "round robin stands still",
        f"{_ROUTER}_scene",
        "cursor=self._cursors[plan.turn] - 1",
        "cursor=0",
        profile="calm",
    ),
    Bug("the caller's own error is tried elsewhere", f"{_ATTEMPTS}_failed", "not failure.may_fail_over", "False"),
    Bug(
        "retries are told as failovers",
        f"{_ATTEMPTS}_tell",
        "if origin == target:",
        "if origin != target:",
    ),
    Bug("a crash of failover fails requests", f"{_ATTEMPTS}_ask", "if not left:", "if left:", profile="chaos"),
    # -- the call and its stream
    Bug(
        "the commit point comes at the end",
        f"{_CALL}_first_content",
        "if piece.content or piece.finished:",
        "if piece.finished:",
    ),
    Bug("an upstream's stream is not closed", f"{_CALL}close", "await self._stream.aclose()", "pass"),
    Bug("a timer is left behind", f"{_CALL}close", "self._idle.stop()", "pass"),
    Bug("a slow client is its provider's fault", "failover.idle:IdleWatch.pause", "self._since = None", "pass"),
    Bug("a stall is endured", "failover.idle:IdleWatch._check", "self._stream.fail(", "(lambda _: None)("),
    Bug("a break after the commit point is a success", f"{_CALL}read", "self._note(piece.failure)", "self._succeed()"),
    Bug(
        "a truncated stream ends with [DONE]",
        "providers.codecs.openai.passthrough_stream:OpenAIStream.eof",
        "if self._finished:",
        "if True:",
    ),
    Bug(
        "a translated stream that broke ends with [DONE]",
        "providers.codecs.openai.stream_writer:ChunkWriter._failed",
        'return b""',
        "return _DONE",
    ),
    # -- the front
    Bug(
        "the deadline is a minute late",
        "http.inference:Inference._read_and_serve",
        "timeout.reschedule(deadline)",
        "timeout.reschedule(deadline + 60.0)",
    ),
    Bug(
        "nobody sees that a client has left",
        "http.disconnect:UntilDisconnect._watch",
        "self._task.cancel()",
        "pass",
        profile="leaving",
    ),
    Bug("an error is told after the end", "http.exchange:Exchange.tell", " and not self.complete", ""),
)
