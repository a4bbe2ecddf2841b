"""How far estimates are off, by model: learned from what providers have counted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import evolve, field, frozen
from msgspec.structs import replace

from runestone.domain.chat import Usage

_WEIGHT: Final = 0.1  # of the latest request; the first ones weigh alike
_LEAST: Final = 0.25  # what is further off is no matter of a tokenizer: an image, a hidden prompt
_MOST: Final = 4.0
_FEWEST_TOKENS: Final = 32  # below it, a few tokens of frame are most of the request
_MOST_MODELS: Final = 256


@frozen
class Learned:
    """Real input tokens for an estimated one, over so many requests."""

    ratio: float
    requests: int


@frozen
class Correction:
    """The ratio of real to estimated input tokens, an exponentially weighted mean for each of the models observed last."""

    by_model: Mapping[str, Learned] = field(factory=dict)

    def observed(self, model: str, estimated_tokens: int, real_tokens: int) -> Correction:
        """After a request to ``model`` whose input was estimated and then counted by its provider."""
        if estimated_tokens < _FEWEST_TOKENS or real_tokens <= 0:
            return self
        ratio = min(max(real_tokens / estimated_tokens, _LEAST), _MOST)
        known = self.by_model.get(model, Learned(ratio, 0))
        requests = known.requests + 1
        learned = Learned(known.ratio + (ratio - known.ratio) * max(_WEIGHT, 1 / requests), requests)
        others = {name: value for name, value in self.by_model.items() if name != model}
        while len(others) >= _MOST_MODELS:
            del others[next(iter(others))]
        return evolve(self, by_model={**others, model: learned})

    def corrected(self, usage: Usage, model: str) -> Usage:
        """The estimate ``usage`` as it would be for ``model``: the same where nothing is known of it. Still an estimate."""
        known = self.by_model.get(model)
        return usage if known is None else replace(usage, input_tokens=max(1, round(usage.input_tokens * known.ratio)))


UNCORRECTED: Final = Correction()
