"""``runestone check``: the migration guide's validation checklist, tried on a running node without harm to it.

What must fail fails at throw-away providers, which this process serves on loopback and the node knows while the check lasts. Real
providers get no call that costs anything, and nothing about them is changed.
"""
