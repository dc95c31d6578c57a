"""What requests say: lengths of prompts and answers, and what prompts have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple, Protocol

import numpy as np

from blis_sim.rng import named_stream
from blis_sim.workload.base import Int64Array
from blis_sim.workload.lengths import Lengths


class Contents(NamedTuple):
    """The contents of consecutive requests, column by column; the names are RequestSpec's."""

    prompt_tokens: Int64Array
    output_tokens: Int64Array
    prefix_group: Iterable[str | None]
    prefix_tokens: Iterable[int]
    prompt_id: Iterable[str | None]


class Prompts(Protocol):
    """Where contents come from."""

    def walk(self, seed: int, names: tuple[str, ...]) -> Callable[[int], Contents]:
        """Return a function that draws the contents of the next so many requests.

        Parameters
        ----------
        seed : int
            Seed of the run, >= 0.
        names : tuple of str
            Beginning of the names of the random streams.
        """
        ...


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """A prefix of ``num_tokens`` in front of every prompt, one of ``num_groups`` texts.

    ``names`` begins the names of the groups; with ``is_shared`` and one group it is the name.
    """

    num_tokens: int
    num_groups: int = 1
    name: str = "prefix"
    is_shared: bool = False

    def group_names(self) -> list[str]:
        """Return the name of each group."""
        if self.is_shared and self.num_groups == 1:
            return [self.name]
        return [f"{self.name}-{number}" for number in range(self.num_groups)]


@dataclass(frozen=True, slots=True)
class DrawnPrompts:
    """Prompts of their own, behind a shared prefix if there is one.

    Prompt lengths, output lengths and prefix groups have a random stream each, so that
    changing one of them leaves the others as they are.

    Attributes
    ----------
    prompt, output : Lengths
        Their lengths; the prompt without its shared prefix.
    prefix : SharedPrefix or None
        Its groups are drawn uniformly.
    """

    prompt: Lengths
    output: Lengths
    prefix: SharedPrefix | None = None

    def walk(self, seed: int, names: tuple[str, ...]) -> Callable[[int], Contents]:
        """Return a function that draws the contents of the next so many requests."""
        prompt_rng = named_stream(seed, *names, "prompt_tokens")
        output_rng = named_stream(seed, *names, "output_tokens")
        group_rng = named_stream(seed, *names, "prefix_group")
        prefix = self.prefix
        prefix_tokens = prefix.num_tokens if prefix else 0
        group_names = prefix.group_names() if prefix else []

        def draw(count: int) -> Contents:
            groups: Iterable[str | None] = repeat(None)
            if group_names:
                drawn = group_rng.integers(len(group_names), size=count).tolist()
                groups = [group_names[number] for number in drawn]
            return Contents(
                self.prompt.draw(prompt_rng, count) + prefix_tokens,
                self.output.draw(output_rng, count),
                groups,
                repeat(prefix_tokens),
                repeat(None),
            )

        return draw

    def __str__(self) -> str:
        text = f"prompt {self.prompt}, output {self.output}"
        if self.prefix is not None:
            groups = self.prefix.num_groups
            text += f"; {self.prefix.num_tokens} prefix tokens in {groups} group(s)"
        return text


@dataclass(frozen=True, slots=True)
class PromptPool:
    """A pool of prompts sent again and again; those of a group begin with one system prompt.

    Prompt ``i`` of the pool belongs to group ``i % num_groups``, so that prompts in turn go
    round the groups.

    Attributes
    ----------
    num_groups, num_prompts_per_group : int
        The pool has ``num_groups * num_prompts_per_group`` prompts.
    system_prompt_len : int
        Tokens that the prompts of a group begin with.
    question : Lengths
        Tokens behind them; each prompt of the pool has its own.
    output : Lengths
        Answers, drawn for each request.
    is_random : bool
        Draw prompts uniformly; otherwise they are sent in turn.
    name : str
        Begins the names of groups and prompts.
    """

    num_groups: int
    num_prompts_per_group: int
    system_prompt_len: int
    question: Lengths
    output: Lengths
    is_random: bool = False
    name: str = ""

    @property
    def num_prompts(self) -> int:
        """Prompts in the pool."""
        return self.num_groups * self.num_prompts_per_group

    def walk(self, seed: int, names: tuple[str, ...]) -> Callable[[int], Contents]:
        """Return a function that draws the contents of the next so many requests."""
        output_rng = named_stream(seed, *names, "output_tokens")
        order_rng = named_stream(seed, *names, "prompt_order")
        question_rng = named_stream(seed, *names, "prompt_tokens")
        lengths = self.question.draw(question_rng, self.num_prompts) + self.system_prompt_len
        groups = [f"{self.name}group-{number}" for number in range(self.num_groups)]
        num_sent = 0

        def draw(count: int) -> Contents:
            nonlocal num_sent
            if self.is_random:
                chosen = order_rng.integers(self.num_prompts, size=count)
            else:
                chosen = np.arange(num_sent, num_sent + count) % self.num_prompts
                num_sent += count
            numbers = chosen.tolist()
            has_prefix = self.system_prompt_len > 0
            return Contents(
                lengths[chosen],
                self.output.draw(output_rng, count),
                [groups[n % self.num_groups] for n in numbers] if has_prefix else repeat(None),
                repeat(self.system_prompt_len),
                [f"{self.name}prompt-{n}" for n in numbers],
            )

        return draw

    def __str__(self) -> str:
        order = "drawn at random" if self.is_random else "in turn"
        return (
            f"a pool of {self.num_prompts:,} prompts {order} ({self.num_groups} system prompts of "
            f"{self.system_prompt_len} tokens, questions of {self.question}), output {self.output}"
        )
