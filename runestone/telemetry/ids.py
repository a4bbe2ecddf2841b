"""Where ids come from that must differ and need not be secret: of requests, traces and rows of the ledger."""

from __future__ import annotations

import os
import random
from typing import Final

_random = random.Random()  # seeded by the system
os.register_at_fork(after_in_child=_random.seed)  # in a fork too, or two processes would draw the same

#: So many random bits, as a number.
random_bits: Final = _random.getrandbits
