"""Supervisors as plain data: what any history of theirs must look like, without a loop and without a clock."""

from __future__ import annotations

from collections import deque
from typing import Literal

from attrs import define, field

from supervisors import ExitReason, is_abnormal
from supervisors.restart import Restart
from supervisors.strategy import Strategy

State = Literal["running", "stopped"]


@define(eq=False)
class Child:
    """A child spec with its process, if it has one. The next ``failures`` inits fail."""

    id: str
    restart: Restart
    state: State = "stopped"
    starts: int = 0
    failures: int = 0


class Window:
    """Keeps every restart for ever."""

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self._max_restarts = max_restarts
        self._max_seconds = max_seconds
        self._entries: deque[float] = deque()

    def add(self, now: float) -> bool:
        """Whether one more at ``now`` is fine."""
        self._entries.append(now)
        return sum(now - entry <= self._max_seconds for entry in self._entries) <= self._max_restarts


@define
class SupervisorModel:
    """What OTP's ``supervisor`` does with requests and exits that come one at a time."""

    strategy: Strategy
    window: Window
    children: list[Child] = field(factory=list)
    alive: bool = True
    log: list[str] = field(factory=list)

    def find(self, id_: str) -> Child | None:
        """The child of that id."""
        return next((child for child in self.children if child.id == id_), None)

    def start_child(self, id_: str, restart: Restart, failures: int) -> str:
        """Start a child whose first inits fail so many times."""
        if (present := self.find(id_)) is not None:
            return "AlreadyStarted" if present.state == "running" else "AlreadyPresent"
        child = Child(id_, restart, failures=failures)
        if not self._start(child):
            return "StartFailed"
        self.children.append(child)
        return "ActorRef"

    def terminate_child(self, id_: str) -> str:
        """Stop a child and keep its spec, unless it is temporary."""
        child = self.find(id_)
        if child is None:
            return "NotFound"
        self._stop(child)
        return "Done"

    def restart_child(self, id_: str) -> str:
        """Start a stopped child."""
        child = self.find(id_)
        if child is None:
            return "NotFound"
        if child.state == "running":
            return "Running"
        return "ActorRef" if self._start(child) else "StartFailed"

    def delete_child(self, id_: str) -> str:
        """Forget a stopped child."""
        child = self.find(id_)
        if child is None:
            return "NotFound"
        if child.state == "running":
            return "Running"
        self.children.remove(child)
        return "Done"

    def end(self, id_: str, reason: ExitReason, *, terminates: bool, now: float) -> None:
        """A child ends by itself."""
        child = self.find(id_)
        assert child is not None
        child.state = "stopped"
        if terminates:
            self.log.append(f"-{id_}")
        if child.restart == "temporary":
            self.children.remove(child)
        elif child.restart == "permanent" or is_abnormal(reason):
            self._restart(child, now)

    def stop(self) -> None:
        """Stop it all, in reverse."""
        for child in reversed(self.children):
            self._stop(child, drop=False)
        self.alive = False

    def _restart(self, failed: Child, now: float) -> None:
        pending = self._group(failed)
        for child in reversed(pending):
            self._stop(child)
        while pending:
            if not self.window.add(now):
                self.stop()
                return
            started: list[Child] = []
            pending = [child for child in pending if child in self.children]
            for child in pending:
                if self._start(child):
                    started.append(child)
                    continue
                if self.strategy == "one_for_all":
                    for each in reversed(started):
                        self._stop(each)
                else:
                    pending = pending[pending.index(child) :]
                break
            else:
                return

    def _group(self, failed: Child) -> list[Child]:
        match self.strategy:
            case "one_for_one":
                return [failed]
            case "one_for_all":
                return list(self.children)
            case "rest_for_one":
                return self.children[self.children.index(failed) :]

    def _start(self, child: Child) -> bool:
        child.starts += 1
        if child.failures:
            child.failures -= 1
            self.log.append(f"!{child.id}")
            return False
        child.state = "running"
        self.log.append(f"+{child.id}")
        return True

    def _stop(self, child: Child, *, drop: bool = True) -> None:
        if child.state == "running":
            self.log.append(f"-{child.id}")
        child.state = "stopped"
        if drop and child.restart == "temporary":
            self.children.remove(child)


@define
class DynamicModel:
    """What a dynamic supervisor does: children by number, none of them kept when it is done."""

    max_children: int | None
    window: Window
    children: dict[int, Child] = field(factory=dict)
    alive: bool = True

    def start_child(self, number: int, restart: Restart, failures: int) -> str:
        """Start one more, if there is room."""
        if self.max_children is not None and len(self.children) >= self.max_children:
            return "MaxChildren"
        if failures:
            return "StartFailed"
        self.children[number] = Child(str(number), restart, state="running", starts=1)
        return "ActorRef"

    def terminate_child(self, number: int) -> str:
        """Stop one for good."""
        return "NotFound" if self.children.pop(number, None) is None else "Done"

    def end(self, number: int, reason: ExitReason, now: float) -> None:
        """One ends by itself."""
        child = self.children[number]
        if child.restart == "temporary" or (child.restart == "transient" and not is_abnormal(reason)):
            del self.children[number]
        else:
            child.starts += 1
            while self.window.add(now):
                if not child.failures:
                    return
                child.failures -= 1
                child.starts += 1
            self.children.clear()
            self.alive = False
