"""What prompts share, as runs of tokens with a name."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import NamedTuple

from blis_sim.workload.request import RequestSpec


class Run(NamedTuple):
    """Tokens of a prompt up to ``end``; ``key`` None = nobody else's.

    Two prompts have the same token at a position when their runs there have one key and all
    before is the same, too.
    """

    key: Hashable | None
    end: int


def named_runs(spec: RequestSpec) -> Iterator[Run]:
    """Yield the runs of a prompt without block hashes, in order, none of them empty.

    The prefix of a group comes first; then the conversation of a session, which goes on in
    the answer, or a known prompt, or what nobody else has.
    """
    prefix = spec.prefix_tokens if spec.prefix_group is not None else 0
    if prefix:
        yield Run(("group", spec.prefix_group), prefix)
    if spec.prompt_tokens > prefix:
        yield Run(content_key(spec), spec.prompt_tokens)


def content_key(spec: RequestSpec) -> Hashable | None:
    """Return the name of what stands behind the prefix; None = nobody else has it."""
    if spec.session_id is not None:
        return "session", spec.session_id, spec.prefix_group, spec.prefix_tokens
    if spec.prompt_id is not None:
        return "prompt", spec.prompt_id, spec.prefix_group, spec.prefix_tokens
    return None
