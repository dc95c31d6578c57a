"""What a workload yields: one immutable record per request."""

from __future__ import annotations

from typing import NamedTuple


class RequestSpec(NamedTuple):
    """One request as the client sends it.

    A named tuple rather than a dataclass because a million of them are made per run.
    ``output_tokens`` is what the model will generate; the engine and the router never use
    it to decide anything.

    Attributes
    ----------
    request_id : int
        Position in the workload, from 0; unique and increasing in stream order.
    arrival_us : int
        Arrival at the gateway, microseconds from the start of the run, >= 0.
    prompt_tokens : int
        Prompt length, >= 1.
    output_tokens : int
        Tokens the model will generate, >= 0.
    max_output_tokens : int or None
        The client's limit on generated tokens, >= 0; None = no limit.
    prefix_group : str or None
        Requests of one group begin with the same ``prefix_tokens`` tokens.
    prefix_tokens : int
        Length of the shared prefix, 0 <= prefix_tokens <= prompt_tokens.
    session_id : str or None
        Requests of one session share their history: position i of the conversation
        (prompt and answer) holds the same token in every round that reaches it.
    round : int
        Round within the session, from 0.
    slo_class, tenant : str or None
        Labels for reports and policies.
    priority : int
        Lower is more urgent.
    timeout_us : int or None
        The client gives up this long after arrival; counted ``timed_out``.
    abort_us : int or None
        The client disconnects this long after arrival; counted ``aborted``.
    prompt_id : str or None
        Requests with the same one (and the same prefix) have the same prompt.
    block_hashes : tuple of int or None
        Identity of the prompt, ``hash_block_tokens`` tokens at a time; the last one may be
        partial. A number stands for its tokens and all before them: equal numbers mean equal
        prompts up to there. Given instead of a prefix, a prompt_id and a session's content.
    hash_block_tokens : int
        Tokens per entry of ``block_hashes``, >= 1.
    """

    request_id: int
    arrival_us: int
    prompt_tokens: int
    output_tokens: int
    max_output_tokens: int | None = None
    prefix_group: str | None = None
    prefix_tokens: int = 0
    session_id: str | None = None
    round: int = 0
    slo_class: str | None = None
    tenant: str | None = None
    priority: int = 0
    timeout_us: int | None = None
    abort_us: int | None = None
    prompt_id: str | None = None
    block_hashes: tuple[int, ...] | None = None
    hash_block_tokens: int = 512
