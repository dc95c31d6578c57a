"""Names of policies as users of BLIS write them: what they mean here, and what is missing.

They are written out, because the help of a command must not load the models of settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from blis_sim.errors import ConfigError, unknown_name


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words for one kind of policy.

    Attributes
    ----------
    what : str
        What they are names of.
    meanings : mapping
        Word -> name in a scenario.
    missing : mapping
        Words of BLIS for what is not simulated -> the nearest word that is.
    """

    what: str
    meanings: Mapping[str, str]
    missing: Mapping[str, str] = field(default_factory=dict)

    def read(self, typed: str, where: str) -> str:
        """Return the name in a scenario for a word; ConfigError when there is none.

        Parameters
        ----------
        typed : str
            The word in any case, with hyphens or underscores.
        where : str
            How the user named the setting.
        """
        word = typed.strip().lower().replace("_", "-")
        if word in self.missing:
            raise ConfigError(
                f"{where} must be a {self.what} that is simulated; got {word}, which only BLIS "
                f"has; nearest: {self.missing[word]}"
            )
        if word not in self.meanings:
            raise ConfigError(unknown_name(where, typed, self.meanings))
        return self.meanings[word]


def _same(*words: str) -> dict[str, str]:
    """Return words that mean themselves."""
    return {word: word for word in words}


ROUTING = Vocabulary(
    "routing policy",
    _same(
        "round-robin",
        "random",
        "least-loaded",
        "power-of-two",
        "shortest-expected-ttft",
        "session-affinity",
        "prefix-affinity",
        "weighted",
        "vllm-dp",
    ),
    {"always-busiest": "random"},
)
SCORERS = Vocabulary(
    "scorer",
    _same(
        "queue-depth",
        "load-balance",
        "kv-utilization",
        "prefix-affinity",
        "precise-prefix-cache",
        "running-requests",
        "active-tokens",
        "session-affinity",
    ),
    {
        "active-requests": "load-balance",
        "load-aware": "queue-depth",
        "no-hit-lru": "precise-prefix-cache",
    },
)
ADMISSION = Vocabulary(
    "admission policy",
    _same("always-admit", "token-bucket", "tier-shed", "reject-all"),
    {"gaie-legacy": "tier-shed"},
)
SCHEDULERS = Vocabulary(
    "scheduler",
    {**_same("fcfs", "priority", "sjf"), "priority-fcfs": "priority"},
    {"reverse-priority": "priority-fcfs"},
)
PRIORITIES = Vocabulary(
    "priority policy",
    _same("constant"),
    {
        "slo-based": "constant, with workload.priority of each client",
        "inverted-slo": "constant, with workload.priority of each client",
    },
)
DECIDERS = Vocabulary(
    "decider",
    {**_same("always", "never", "uncached-prefix"), "prefix-threshold": "uncached-prefix"},
    {"direct-to-decode": "never", "adaptive": "uncached-prefix"},
)
QUEUE_ORDERS = Vocabulary(
    "queue order",
    {**_same("fcfs", "priority", "slo-deadline"), "fifo": "fcfs"},
)
METRICS = Vocabulary(
    "metric",
    _same("queue-depth", "kv-utilization", "concurrency", "predicted-ttft"),
)
