"""Failover: who is asked next, and the one loop that asks."""
