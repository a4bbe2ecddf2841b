"""How far the node's estimates are off, learned from a sample of its requests: taken on the request path, worked on in an actor."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field, frozen

from runestone.costs import prices
from runestone.costs.correction import UNCORRECTED, Correction
from runestone.costs.estimate import estimated
from runestone.domain.chat import ChatRequest, Usage, stands_in
from supervisors import Cast, GenServer, Info, run_blocking

_ONE_IN: Final = 16  # requests of a model that is known; of one that is not, any
_MOST_WAITING: Final = 8  # samples, so that a second's work is a millisecond and what waits is no heap
_MOST_BYTES: Final = 256 * 1024  # of a request's body
_LEARN_SECONDS: Final = 1.0


@define(slots=True, eq=False)
class Estimates:
    """The correction in force, and the samples that wait for the actor. It outlives the actor."""

    correction: Correction = UNCORRECTED
    _requests: int = 0
    _samples: deque[tuple[Mapping[str, Any], str, int]] = field(factory=deque)

    def answered(self, chat: ChatRequest, model: str, usage: Usage | None) -> None:
        """A request was answered by ``model``, which has counted ``usage``. Takes a microsecond, and keeps few of them."""
        self._requests += 1
        if self._requests % _ONE_IN and model in self.correction.by_model:
            return
        if usage is None or len(self._samples) >= _MOST_WAITING or len(chat.raw) > _MOST_BYTES:
            return
        if stands_in(chat.api):
            self._samples.append((chat.body, model, usage.input_tokens))

    def learn(self) -> None:
        """Compare the samples that wait with their estimates."""
        while self._samples:
            body, model, real = self._samples.popleft()
            self.correction = self.correction.observed(model, estimated(body).input_tokens, real)


@frozen
class Learn(Info):
    """Time to look at the samples."""


class Estimator(GenServer[Cast]):
    """One for the node: learns each second, and loads the prices when it starts, so that nobody waits for them later."""

    def __init__(self, estimates: Estimates) -> None:
        self._estimates = estimates

    def init(self) -> None:
        """Load on a thread, and begin."""
        self.spawn(run_blocking(prices.load), name="prices")
        self.send_after(_LEARN_SECONDS, Learn())

    def handle_info(self, message: Info) -> None:
        """Learn."""
        if isinstance(message, Learn):
            self.send_after(_LEARN_SECONDS, Learn())
            self._estimates.learn()
