"""Settings: from the environment into frozen values, every problem told at once."""
