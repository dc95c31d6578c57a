"""Conversations: how many rounds, what they say, how long people think."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blis_sim.rng import named_stream
from blis_sim.workload.clients import Conversation, Sessions, Source
from blis_sim.workload.durations import Durations
from blis_sim.workload.lengths import Lengths
from blis_sim.workload.request import RequestSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnConversations:
    """Conversations drawn from a seed.

    Attributes
    ----------
    rounds : Lengths
        Rounds of a conversation, >= 1.
    prompt, output : Lengths
        New tokens and answer of a round after the first, tokens.
    think : Durations
        From seeing an answer to sending the next round.
    accumulates : bool
        Whether a prompt holds the prompts and answers before it.
    max_context_tokens : int or None
        A round that would exceed it is not sent, nor are those after it.
    """

    rounds: Lengths
    prompt: Lengths
    output: Lengths
    think: Durations
    accumulates: bool = True
    max_context_tokens: int | None = None

    def walk(self, seed: int, names: tuple[str, ...]) -> Callable[[RequestSpec], Conversation]:
        """Return a function that draws the conversation of the next first round."""
        rounds_rng = named_stream(seed, *names, "session_rounds")
        prompt_rng = named_stream(seed, *names, "session_prompt_tokens")
        output_rng = named_stream(seed, *names, "session_output_tokens")
        think_rng = named_stream(seed, *names, "session_think_time")

        def conversation(first: RequestSpec) -> Conversation:
            more = int(self.rounds.draw(rounds_rng, 1)[0]) - 1
            return Conversation(
                (first.prompt_tokens, *self.prompt.draw(prompt_rng, more).tolist()),
                (first.output_tokens, *self.output.draw(output_rng, more).tolist()),
                tuple(self.think.draw_us(think_rng, more).tolist()),
            )

        return conversation

    def sessions(self, starts: Source, seed: int, names: tuple[str, ...]) -> Sessions:
        """Return the conversations begun by the requests of a source."""
        return Sessions(
            starts,
            self.walk(seed, names),
            accumulates=self.accumulates,
            max_context_tokens=self.max_context_tokens,
        )

    def __str__(self) -> str:
        history = "" if self.accumulates else " without history"
        rounds = str(self.rounds).replace("tokens", "rounds")
        return f"conversations of {rounds}{history}, thinking {self.think}"
