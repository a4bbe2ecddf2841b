"""The vocabulary of the gateway: pure values."""
