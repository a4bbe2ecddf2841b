"""Machines that are values: breaker, throttle, quarantine, health, retry, selection."""
