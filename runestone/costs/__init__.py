"""What calls cost: prices, and estimates before the call.

Which calls are billed (:mod:`~runestone.costs.billing`); all others of a request that was retried, failed over or hedged are calls too:

================================================================  ==========  ============================================================
a call                                                            is billed   its cost
================================================================  ==========  ============================================================
that ended well, with a usage                                     whole       the price of the usage
that ended well, without a usage or with an empty one             unknown     ``None``
of ``count_tokens``                                               nothing     0
that broke, timed out or was left, and had told a usage           at least    the price of that usage: what was made since is not in it
that broke, timed out or was left with content, without a usage   unknown     ``None``
that broke or timed out before any content, or was left           unknown     ``None``: the provider may have worked, and may bill it
that was refused: no connection, a 4xx, a 429, a 5xx, a 529       nothing     0
================================================================  ==========  ============================================================

An OpenAI stream tells its usage at its end, an Anthropic one its input at the start and its output at the end: of a stream that is cut,
the first is unknown and the second known but for the output. A usage is priced whole or not at all: one sort of token, tier or region
without a price makes the cost ``None``. What is ``None`` is to be counted, never added up as 0.

A provider that says itself what it charges (OpenRouter, xAI, Perplexity) is believed, unless the operator has set a price of his own for
the model; the ledger marks such a cost.
"""
