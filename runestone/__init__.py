"""Runestone: an OpenAI-compatible LLM gateway that stays up when providers do not."""

__version__ = "0.6.0"
