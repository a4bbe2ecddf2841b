"""HTTP: the public port, the health port, and what keeps hypercorn honest."""
