"""Providers: the wires they speak, the way to them, and the processes that watch over them."""
