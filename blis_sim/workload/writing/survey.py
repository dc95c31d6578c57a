"""What a stream of requests uses: one walk over it, before it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from blis_sim.errors import ConfigError
from blis_sim.units import US_PER_S
from blis_sim.workload.request import RequestSpec

_DEFAULTS = tuple(RequestSpec._field_defaults.values())
_NUM_REQUIRED = len(RequestSpec._fields) - len(_DEFAULTS)
_OPTIONAL = RequestSpec._fields[_NUM_REQUIRED:]
_LABELS = {"prefix_group", "session_id", "slo_class", "tenant", "prompt_id"}

FACTS = (
    "max_output_tokens",
    "prefix_group",
    "session_id",
    "slo_class",
    "tenant",
    "priority",
    "timeout_us",
    "abort_us",
    "prompt_id",
    "block_hashes",
)
"""What a request may have beside its arrival and its lengths. A prefix_group stands for its
prefix_tokens, too, a session_id for the round."""


@dataclass(slots=True)
class Survey:
    """Counts over a stream.

    Attributes
    ----------
    num_requests : int
        Length of the stream.
    used : Counter
        Field of RequestSpec to the requests in which it is not the default.
    hash_sizes : Counter
        Tokens per block hash to the requests that have such hashes, in order of appearance.
    first_arrival_us : int
        The earliest arrival, microseconds.
    max_hash : int
        The largest block hash; -1 without any.
    num_tokens : int
        Tokens of all prompts and answers.
    max_tokens : int
        Tokens of the longest prompt or answer.
    num_renumbered : int
        Requests whose request_id is not their position in the stream.
    num_unanswered : int
        Requests with 0 output tokens.
    num_below_zero : int
        Requests with a priority below 0.
    num_padded : int
        Requests with a label that has blanks around it.
    num_empty_groups : int
        Requests with a prefix_group and no prefix_tokens.
    """

    num_requests: int = 0
    used: Counter[str] = field(default_factory=Counter)
    hash_sizes: Counter[int] = field(default_factory=Counter)
    first_arrival_us: int = 0
    max_hash: int = -1
    num_tokens: int = 0
    max_tokens: int = 0
    num_renumbered: int = 0
    num_unanswered: int = 0
    num_below_zero: int = 0
    num_padded: int = 0
    num_empty_groups: int = 0

    def not_kept(self, facts: Collection[str]) -> list[str]:
        """Return a sentence for each of the facts that occurs."""
        return [
            f"{fact} of {count_of(self.used[fact])} is not kept"
            for fact in FACTS
            if fact in facts and self.used[fact]
        ]

    def not_kept_first(self) -> list[str]:
        """Return the sentence of a format whose times begin with its first request."""
        if not self.first_arrival_us:
            return []
        seconds = self.first_arrival_us / US_PER_S
        return [f"the {seconds:.6f} s before the first arrival are not kept"]

    def not_kept_labels(self) -> list[str]:
        """Return the sentences of a format that has all labels."""
        losses = []
        if self.num_padded:
            losses.append(f"blanks around labels of {count_of(self.num_padded)} are not kept")
        if self.num_empty_groups:
            number = count_of(self.num_empty_groups)
            losses.append(f"prefix_group of {number} without prefix_tokens is not kept")
        return losses

    def _add(self, spec: RequestSpec) -> None:
        if spec[_NUM_REQUIRED:] != _DEFAULTS:
            self._add_facts(spec)
        tokens = spec.prompt_tokens, spec.output_tokens
        self.num_renumbered += spec.request_id != self.num_requests
        self.num_unanswered += not spec.output_tokens
        self.num_tokens += sum(tokens)
        self.max_tokens = max(self.max_tokens, *tokens)
        self.num_requests += 1

    def _add_facts(self, spec: RequestSpec) -> None:
        used, is_padded = self.used, False
        for name, value, default in zip(_OPTIONAL, spec[_NUM_REQUIRED:], _DEFAULTS, strict=True):
            if value == default:
                continue
            used[name] += 1
            if name in _LABELS and isinstance(value, str):
                stripped = value.strip()
                if not (stripped and value.isprintable()):
                    raise ConfigError(
                        f"{name} of request {spec.request_id} must be printable text; "
                        f"got {value!r}"
                    )
                is_padded |= stripped != value
        self.num_padded += is_padded
        self.num_below_zero += spec.priority < 0
        self.num_empty_groups += spec.prefix_group is not None and not spec.prefix_tokens
        if spec.block_hashes is not None:
            self.hash_sizes[spec.hash_block_tokens] += 1
            self.max_hash = max((self.max_hash, *spec.block_hashes))


def survey_requests(requests: Iterable[RequestSpec]) -> Survey:
    """Walk over a stream and count what it uses.

    Raises
    ------
    ConfigError
        There is no request, or a label cannot be written as text.
    """
    survey = Survey()
    for spec in requests:
        if not survey.num_requests:
            survey.first_arrival_us = spec.arrival_us
        survey._add(spec)
    if not survey.num_requests:
        raise ConfigError("the load must have at least one request to be written; got none")
    return survey


def count_of(number: int, noun: str = "request") -> str:
    """Return a number with its noun: ``1 request``, ``1,234 requests``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
