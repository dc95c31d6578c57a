"""Policies and scorers described for people: help and documentation iterate over these tables.

Nothing is imported, so that help starts at once.
"""

from __future__ import annotations

from typing import NamedTuple


class PolicyFacts(NamedTuple):
    """What a user should know of a routing policy."""

    name: str
    """As in ``RoutingPolicy``."""
    formula: str
    """Which candidate is chosen."""
    reads: str
    """The signals it sees: ``report`` (as old as ``snapshot_interval_s``), ``cache`` (as old as
    ``cache_signal_delay_s``), ``gateway`` (its own books, always fresh), ``model`` (asked of the
    instance at that moment), ``none``."""
    source: str
    """Counterparts elsewhere."""


class ScorerFacts(NamedTuple):
    """What a user should know of a scorer of the ``weighted`` policy."""

    name: str
    """As in ``Scorer``."""
    formula: str
    """The score of one candidate; min and max are over the candidates."""
    range: str
    """Values it can take; higher is better."""
    reads: str
    """As for policies."""
    source: str
    """Counterparts elsewhere."""


POLICIES: tuple[PolicyFacts, ...] = (
    PolicyFacts(
        "round-robin",
        "the next instance number after the last one sent to, cyclic: request i mod N",
        "none",
        "BLIS `round-robin`; SGLang, vLLM router `round_robin`",
    ),
    PolicyFacts("random", "any, with equal chances", "none", "SGLang, vLLM router `random`"),
    PolicyFacts(
        "least-loaded",
        "lowest waiting + running",
        "report",
        "BLIS `least-loaded`, which adds its own count of requests in flight",
    ),
    PolicyFacts(
        "power-of-two",
        "lower waiting + running of two different candidates drawn at random",
        "report",
        "SGLang, vLLM router `power_of_two`; the default of Ray Serve",
    ),
    PolicyFacts(
        "shortest-expected-ttft",
        "lowest time to the first token that the latency model expects",
        "model",
        "ours",
    ),
    PolicyFacts(
        "session-affinity",
        "where the session was last sent; least-loaded for new ones and without a session",
        "gateway, report",
        "llm-d `session-affinity-filter`",
    ),
    PolicyFacts(
        "prefix-affinity",
        "most matched tokens, then fewest outstanding; fewest outstanding alone when "
        "max - min > 64 and max > 1.5 * min outstanding",
        "gateway",
        "SGLang, vLLM router `cache_aware`; Ray `PrefixCacheAffinityRouter`",
    ),
    PolicyFacts(
        "weighted",
        "highest sum(weight * score) / sum(weight)",
        "as its scorers",
        "BLIS `weighted`; llm-d's scheduling profiles",
    ),
    PolicyFacts(
        "vllm-dp",
        "lowest 4 * (waiting + sent since the report) + running",
        "report, gateway",
        "vLLM `DPLBAsyncMPClient`; BLIS scorer `vllm-dp`, without those sent since",
    ),
)

SCORERS: tuple[ScorerFacts, ...] = (
    ScorerFacts(
        "queue-depth",
        "(max - waiting) / (max - min); 1 when all are equal",
        "0..1",
        "report",
        "llm-d `queue-scorer`; BLIS `queue-depth`",
    ),
    ScorerFacts(
        "load-balance",
        "1 / (1 + outstanding)",
        "> 0, <= 1",
        "gateway",
        "BLIS `load-balance`, which adds waiting + running as reported",
    ),
    ScorerFacts(
        "kv-utilization",
        "1 - used blocks / blocks",
        "0..1",
        "report",
        "llm-d `kv-cache-utilization-scorer`; BLIS `kv-utilization`",
    ),
    ScorerFacts(
        "prefix-affinity",
        "leading blocks of the prompt sent there before / full blocks of the prompt",
        "0..1",
        "gateway",
        "llm-d `prefix-cache-scorer`; BLIS `prefix-affinity`",
    ),
    ScorerFacts(
        "precise-prefix-cache",
        "(cached - min) / (max - min) leading tokens of the prompt; 1 when all are equal",
        "0..1",
        "cache",
        "BLIS `precise-prefix-cache`; llm-d `precise-prefix-cache-scorer`",
    ),
    ScorerFacts(
        "running-requests",
        "(max - running) / (max - min); 1 when all are equal",
        "0..1",
        "report",
        "llm-d `running-requests-size-scorer`; BLIS `running-requests`",
    ),
    ScorerFacts(
        "active-tokens",
        "(max - tokens) / (max - min) of prompts and answers so far; 1 when all are equal",
        "0..1",
        "report",
        "ours; llm-d `token-load-scorer` divides by a fixed number of tokens",
    ),
    ScorerFacts(
        "session-affinity",
        "1 where the session was last sent, else 0; 0 for all when there is no such candidate",
        "0 or 1",
        "gateway",
        "llm-d `session-affinity-scorer`",
    ),
)
