"""What makes a request by httpx plain: no proxy and no key of the environment, and one TLS context for all."""

from __future__ import annotations

import ssl
from typing import Any

PLAIN: Any = {"trust_env": False, "verify": ssl.create_default_context()}  # making one is most of a request's time
