"""The laws that are judged when a request, or a whole run, is over."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from attrs import frozen

from runestone.config.settings import GroupSettings
from runestone.domain.errors import RunestoneError
from runestone.domain.failure import TREATMENTS
from runestone.domain.routing import Plan
from runestone.failover.router import directory
from runestone.resilience.replay import play
from tests.simulation.client import Client
from tests.simulation.ledger import Ledger
from tests.simulation.script import Question, Script
from tests.simulation.upstream import UpstreamCallRecord
from tests.support.fleet import Fleet

_LEAVING_SECONDS = 1.0
_AFTER_END_SECONDS = 0.5
_TAU_SECONDS = 30.0
_SLACK = 1e-6


@frozen
class Laws:
    """The laws over one run; what is broken goes to the ledger."""

    script: Script
    node: Fleet
    ledger: Ledger

    # -- one request -------------------------------------------------------------------------------------------------

    def plan(self, question: Question) -> Plan | None:
        """Who may be asked; ``None``: nobody."""
        try:
            return directory(self.node.settings).plan(question.model, question.group)
        except RunestoneError:
            return None

    def group(self, plan: Plan) -> GroupSettings:
        """The settings of the group."""
        return next(group for group in self.script.groups if group.name == plan.group)

    def at_the_end_of(self, client: Client) -> None:
        """A request is over: its answer against what its upstreams have said."""
        question, wrong = client.question, self.ledger.wrong
        name = f"question {question.number}"
        calls = self.ledger.of(question.number)
        self.ledger.note(
            f"{name} ends: {client.end} {client.status or ''} after {len(calls)} calls {self._words(client)}"
        )
        if client.starts > 1 or client.ends > 1 or client.late:
            wrong(f"{name} is answered more than once")
        if client.end == "nothing":
            wrong(f"{name} gets no answer")
        if any(call.ended is None for call in calls):
            wrong(f"{name} is over and its call is not")
        self._on_time(client, name)
        if client.status == 200 and (client.ends or question.stream):
            self._answered(client, name, calls)
        elif client.status:
            self._refused(client, name)
        plan = self.plan(question)
        if plan is not None:
            self._providers(client, name, calls, plan)
            if client.end == "told" and client.status != 200 and not question.pace:
                self._given_up(client, name, calls, plan)

    def _words(self, client: Client) -> str:
        return client.body.decode()[:160] if client.end == "told" and client.status != 200 else ""

    def _on_time(self, client: Client, name: str) -> None:
        question, now = client.question, self.ledger.now
        writes = 2 * question.pace
        if client.gone is not None and now > client.gone + _LEAVING_SECONDS + writes:
            self.ledger.wrong(f"{name} runs on though its client left at {client.gone:.3f}")
        if question.number < 1000 and now > client.began + self.ledger.deadline + writes + _SLACK:
            self.ledger.wrong(f"{name} runs on after its deadline")

    def _answered(self, client: Client, name: str, calls: list[UpstreamCallRecord]) -> None:
        wrong = self.ledger.wrong
        last = calls[-1] if calls else None
        if last is None:
            wrong(f"{name} is answered by nobody")
            return
        if client.ends == 0 and client.question.stream and not bytes(client.body).endswith((b"\n\n", b": ping\n", b"")):
            wrong(f"{name} is left with a torn event")
        found = client.heard
        source = found.source
        if found.wrong and (client.ends or "torn" not in found.wrong):
            wrong(f"{name} gets {found.wrong}")
        if source is not None and source[0] != last.number:
            wrong(f"{name} gets words of call {source[0]}, its last one was {last.number}")
        if found.whole and not last.behaviour.good:
            wrong(f"{name} takes for whole what was not: {last.behaviour}")
        if found.whole and (source is None or source[1] != len(last.tokens)):
            wrong(f"{name} takes for whole what lacks words: {found.text!r} of {last.said!r}")
        if client.ends and not found.whole and not found.error:
            wrong(f"{name} ends with neither a real end nor an error")
        if found.end and found.error:
            wrong(f"{name} gets both an error and a real end")
        if client.ends and not found.whole and last.judged == "ok" and not self.ledger.expired(client.question):
            wrong(f"{name} is told an error though its call {last.number} was good")
        if client.headers.get("x-runestone-provider") != last.provider:
            wrong(f"{name} is told that another one than {last.provider} answers")
        if client.headers.get("x-runestone-attempts") != str(len(calls)):
            wrong(f"{name} is told of {client.headers.get('x-runestone-attempts')} calls; there were {len(calls)}")

    def _refused(self, client: Client, name: str) -> None:
        if client.ends and client.status < 400:
            self.ledger.wrong(f"{name} gets the status {client.status}")
        if client.ends and not isinstance(json.loads(bytes(client.body)).get("error"), dict):
            self.ledger.wrong(f"{name} gets no words with the status {client.status}")
        outcomes = {event.outcome for event in self.ledger.finished.get(f"question-{client.question.number}", ())}
        if outcomes & (
            {"internal_error", "restarting"} if client.gone is None else {"internal_error"}
        ):  # it was cancelled
            self.ledger.wrong(f"{name} meets a bug of the gateway: {outcomes}")

    def _providers(self, client: Client, name: str, calls: list[UpstreamCallRecord], plan: Plan) -> None:
        group = self.group(plan)
        asked = {call.provider for call in calls}
        if len(asked) > (1 if group.mode == "legacy" else group.max_attempts):
            self.ledger.wrong(f"{name} has tried {len(asked)} providers")
        if not asked <= {choice.provider for choice in (*plan.tier1, *plan.tier2)}:
            self.ledger.wrong(f"{name} is sent to others than its plan has")
        unknown = [call for call in calls if call.judged == "not_found"]
        first = {choice.provider for choice in plan.tier1}
        if any(a.judged == "not_found" and a.provider in first and b.provider not in first for a, b in pairwise(calls)):
            self.ledger.wrong(f"{name} goes to tier 2 after {unknown[0].provider} has said that it has no such model")

    def _given_up(self, client: Client, name: str, calls: list[UpstreamCallRecord], plan: Plan) -> None:
        """Nobody who would have answered has been passed over; those who may have waited in a line were asked too long ago to tell."""
        ledger, now, group = self.ledger, self.ledger.now, self.group(plan)
        limited = any(self.node.memories[c.provider].settings.concurrency.limit for c in (*plan.tier1, *plan.tier2))
        expired = ledger.expired(client.question)
        if expired and not limited and self.script.quiet and not any(call.ended == now for call in calls):
            ledger.wrong(f"{name} slept into its deadline")
        asked = {call.provider for call in calls}
        over = len(calls) >= self.script.max_upstream_calls or len(asked) >= group.max_attempts
        ours = any(TREATMENTS[c.judged].failover is False for c in calls if c.judged in TREATMENTS)
        if expired or limited or over or ours or ledger.spent or group.mode == "legacy":
            return
        missing = any(call.judged == "not_found" for call in calls) or any(
            self.node.memories[c.provider].quarantine.reason(c.model, now) == "not_found" for c in plan.tier1
        )
        for choice in plan.tier1 if missing else (*plan.tier1, *plan.tier2):
            memory, standing = self.node.memories[choice.provider], ledger.standings[choice.provider]
            calm = standing.touched < now and not standing.disturbed
            if choice.provider not in asked and calm and memory.usable(choice.model, now):
                ledger.wrong(f"{name} gives up though {choice.provider} would have served it")

    # -- the whole run -----------------------------------------------------------------------------------------------

    def at_the_end(self, clients: Sequence[Client], injected: int) -> None:
        """All is over: nothing is left, and the books agree."""
        wrong, ledger = self.ledger.wrong, self.ledger
        by_number = {client.question.number: client for client in clients}
        for call in ledger.calls:
            self._judged(call, by_number[call.question])
        for name, memory in self.node.memories.items():
            if memory.leases or memory.waiting:
                wrong(f"{name} is left with {len(memory.leases)} leases and {memory.waiting} in line")
            self._replayed(name)
            process = self.node.ref(name).process
            if process.watching:
                wrong(f"{name} still watches {len(process.watching)} requests")
        for client in clients:
            told = ledger.finished.get(f"question-{client.question.number}", [])
            if len(told) != (client.began_at_all):
                wrong(f"question {client.question.number} is counted {len(told)} times")
            elif told and client.end == "whole" and told[0].outcome != "ok":
                wrong(f"question {client.question.number} is whole and counted as {told[0].outcome}")
        if self.node.crashes() > injected:
            wrong(f"{self.node.crashes()} crashes, of which {injected} were made")
        self._conserved(clients)
        if self.script.profile == "calm":
            self._fair(clients)

    def _judged(self, call: UpstreamCallRecord, client: Client) -> None:
        wrong, took = self.ledger.wrong, (math.inf if call.ended is None else call.ended) - call.began
        timeouts, settings = self.script.timeouts, self.node.memories[call.provider].settings
        stream = client.question.stream
        limit = min(timeouts.first_token_seconds, settings.timeout_seconds) if stream else settings.timeout_seconds
        if call.closed != call.streams:
            wrong(f"the stream of call {call.number} is closed {call.closed} times")
        if call.content_at is None and took > limit + _SLACK:
            wrong(f"call {call.number} waited {took:g} s for its first content, the limit is {limit:g} s")
        if stream and call.waited > timeouts.idle_seconds + _SLACK:
            wrong(f"call {call.number} was silent for {call.waited:g} s, the limit is {timeouts.idle_seconds:g} s")
        if call.judged in call.behaviour.failures:
            return
        silent = call.behaviour.ending == "stall" or call.behaviour.gap_seconds >= timeouts.idle_seconds - _SLACK
        match call.judged:
            case "cancelled" if client.gone is not None or self.ledger.expired(client.question):
                return
            case "first_token_timeout" if stream and took >= limit - _SLACK:
                return
            case "timeout" if not stream and took >= limit - _SLACK:
                return
            case "idle_timeout" if stream and took >= timeouts.idle_seconds - _SLACK and silent:
                return
            case _:
                wrong(f"call {call.number} was judged {call.judged}: {call.behaviour}")

    def at_rest(self) -> None:
        """Before time wipes everything out: what a score is made of is what happened, and a client that leaves has no part in it."""
        for name, standing in self.ledger.standings.items():
            self._replayed(name)
            if not standing.disturbed:
                self._remembered(name)

    def _remembered(self, name: str) -> None:
        health, ends = self.node.memories[name].health, self.ledger.standings[name].ends
        weights = [(math.exp(-(health.at - at) / _TAU_SECONDS), good) for at, good in ends]
        total, good = sum(w for w, _ in weights), sum(w for w, good in weights if good)
        if not math.isclose(health.all, total, abs_tol=1e-6) or not math.isclose(health.good, good, abs_tol=1e-6):
            self.ledger.wrong(f"{name} remembers {health.good:g} of {health.all:g}, it was {good:g} of {total:g}")

    def _replayed(self, name: str) -> None:
        """What is kept of a provider's history, played again, ends where the provider is, and says to each call what it was told."""
        memory = self.node.memories[name]
        course = [*play(memory.history.chunks())]
        if course and (course[-1].breaker, course[-1].health) != (memory.breaker, memory.health):
            self.ledger.wrong(f"{name} is {memory.breaker}, {memory.health}; its history says {course[-1]}")
        for played in course:
            match played.step:
                case ("admit", *_, counts) if counts and not played.said:
                    self.ledger.wrong(f"{name}: {played.step} was let through, its history says no")
                case ("refuse", *_) if played.said:
                    self.ledger.wrong(f"{name}: {played.step} was refused, its history says no")

    def _conserved(self, clients: Sequence[Client]) -> None:
        wrong, ledger = self.ledger.wrong, self.ledger
        by_question = [ledger.of(client.question.number) for client in clients]
        again = Counter(a.provider == b.provider for calls in by_question for a, b in pairwise(calls))
        if (ledger.retries, ledger.failovers) != (again[True], again[False]):
            wrong(f"{ledger.retries} retries and {ledger.failovers} failovers are told, there were {dict(again)}")
        firsts = sum(bool(calls) for calls in by_question)
        if len(ledger.calls) != firsts + again.total():
            wrong("calls are not firsts, retries and failovers")
        if not any(each.what == "crash failover" for each in self.script.disturbances):
            extra = sum(max(0, len(calls) - 1 - (len({c.provider for c in calls}) > 1)) for calls in by_question)
            seconds = max((call.began for call in ledger.calls), default=0.0)
            if extra > 30 + 3 * min(seconds, self.script.questions[-1].at + ledger.deadline * 2) + 0.2 * len(clients):
                wrong(f"{extra} retries are more than the budget has")
        if self.script.quiet and not any(ledger.expired(client.question) for client in clients):
            granted = {name: memory.calls for name, memory in self.node.memories.items()}
            made = Counter(call.provider for call in ledger.calls)
            if granted != {name: made[name] for name in granted}:
                wrong(f"{granted} leases were granted, {dict(made)} calls were made")

    def _fair(self, clients: Sequence[Client]) -> None:
        default = self.script.groups[0]
        asked = [self.ledger.of(client.question.number) for client in clients if client.question.number < 1000]
        if any(client.end != "whole" for client in clients):
            self.ledger.wrong("a request fails though nothing was wrong")
        if any(len(calls) != 1 for calls in asked):
            self.ledger.wrong("a request takes more than one call though nothing was wrong")
        share = Counter(dict.fromkeys(default.providers, 0))
        share.update(calls[0].provider for calls in asked if calls)
        if default.strategy == "round_robin" and max(share.values()) - min(share.values()) > 1:
            self.ledger.wrong(f"round robin goes round unfairly: {dict(share)}")
        if default.strategy == "priority" and share[default.providers[0]] != len(asked):
            self.ledger.wrong(f"priority does not go to the first: {dict(share)}")


def timers(loop: asyncio.AbstractEventLoop) -> list[str]:
    """The timers that are still set."""
    scheduled: list[asyncio.TimerHandle] = getattr(loop, "_scheduled", [])
    return [repr(handle) for handle in scheduled if not handle.cancelled()]
