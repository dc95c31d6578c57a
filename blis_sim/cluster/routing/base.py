"""The router protocol: what a policy sees, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from blis_sim.cluster.asked import Asked


class Report(Protocol):
    """What an instance reports of itself; as old as ``snapshot_interval_s`` allows.

    To be read at once: a fresh one changes with the instance.
    """

    @property
    def num_waiting(self) -> int:
        """Requests it was sent that are not in its running list."""

    @property
    def num_running(self) -> int:
        """Requests in its running list."""

    @property
    def kv_used_blocks(self) -> int:
        """KV blocks held by requests."""

    @property
    def kv_blocks(self) -> int:
        """KV blocks it has, >= 1."""

    @property
    def active_tokens(self) -> int:
        """Prompt tokens of all its requests, and the tokens generated for them so far."""

    @property
    def num_sent(self) -> int:
        """Requests it had been sent, ever, when it reported."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A report of some moment; the fields are those of `Report`."""

    num_waiting: int
    num_running: int
    kv_used_blocks: int
    kv_blocks: int
    active_tokens: int
    num_sent: int


class Candidate(Protocol):
    """An instance that could take the request."""

    index: int
    """Number of the instance."""
    num_sent: int
    """Requests the gateway has sent it, ever; always fresh."""
    num_outstanding: int
    """Requests the gateway has sent it that have not ended; always fresh."""
    block_size: int
    """Tokens per KV block."""

    def report(self) -> Report:
        """Return what it has reported."""

    def cached_prompt_tokens(self, asked: Asked) -> int:
        """Return how many leading tokens of the prompt its KV cache holds.

        As old as ``cache_signal_delay_s`` allows.
        """

    def expected_ttft_us(self, asked: Asked) -> int:
        """Return when its latency model expects the first token, from now.

        The time to compute the prompt tokens queued there and the request's own that are not
        cached, in full steps beside the decodes now running.
        """


class Choice(NamedTuple):
    """What a router answers."""

    position: int
    """Position of the chosen instance among the candidates."""
    scores: tuple[float, ...] | None = None
    """What each candidate scored, the highest wins; None where nothing was compared."""


class Router(Protocol):
    """Chooses an instance for each request.

    Ties go to the candidate that was sent the fewest requests, then to the lowest number.
    """

    def choose(self, asked: Asked, candidates: Sequence[Candidate]) -> Choice:
        """Choose one of at least one candidate; they are in the order of their numbers."""

    def sent(self, asked: Asked, candidate: Candidate) -> None:
        """Take note that the request goes to this candidate."""

    def forget(self, index: int) -> None:
        """Take note that an instance has stopped: nothing is cached there any more."""
