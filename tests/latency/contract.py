"""What every latency model must obey; subclass :class:`LatencyContract` per implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blis_sim.latency.base import Batch, LatencyModel, PrefillChunk

MAX_CONTEXT = 200_000
Factory = Callable[[], LatencyModel]

CHUNKS = st.builds(PrefillChunk, st.integers(0, MAX_CONTEXT), st.integers(1, 16_384))
PREFILLS = st.lists(CHUNKS, max_size=5)
CONTEXTS = st.lists(st.integers(1, MAX_CONTEXT), max_size=6)
DECODES = st.lists(st.integers(1, MAX_CONTEXT), min_size=1, max_size=6)

# The tests are inherited by one class per implementation, which Hypothesis asks to confirm.
contract = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.differing_executors],
)


@dataclass
class Prompt:
    prompt_tokens: int


def make_batch(contexts: list[int], prefills: list[PrefillChunk] | None = None) -> Batch:
    return Batch(len(contexts), sum(contexts), prefills or [])


def advanced(batch: Batch, num_steps: int) -> Batch:
    """Return a decode-only batch as it is ``num_steps`` steps later."""
    grown = batch.sum_decode_context + num_steps * batch.num_decodes
    return replace(batch, sum_decode_context=grown)


class LatencyContract:
    """One test per sentence of the protocol; ``factories`` are the models it is tried on."""

    factories: ClassVar[dict[str, Factory]]

    @classmethod
    @cache
    def models(cls) -> list[LatencyModel]:
        assert cls.factories, "a contract without a model proves nothing"
        return [make() for make in cls.factories.values()]

    @contract
    @given(CONTEXTS, PREFILLS)
    def test_step_time_is_a_positive_integer(
        self, contexts: list[int], prefills: list[PrefillChunk]
    ) -> None:
        """A step lasts a whole number of microseconds, at least one, and never for ever."""
        for model in self.models():
            step_us = model.step_time(make_batch(contexts, prefills))
            assert type(step_us) is int
            assert 1 <= step_us < 10**12

    @contract
    @given(st.integers(0, 10**7))
    def test_other_times_are_integers_from_0(self, prompt_tokens: int) -> None:
        """Frontend, output, scheduling and preemption time are whole numbers >= 0."""
        for model in self.models():
            for time_us in (
                model.queueing_time(Prompt(prompt_tokens)),
                model.output_token_time(),
                model.scheduling_time(),
                model.preemption_time(),
            ):
                assert type(time_us) is int
                assert 0 <= time_us < 10**12

    @contract
    @given(st.integers(0, 10**6), st.integers(1, 10**6))
    def test_queueing_grows_with_the_prompt(self, prompt_tokens: int, more: int) -> None:
        """A longer prompt does not pass the frontend faster."""
        for model in self.models():
            shorter = model.queueing_time(Prompt(prompt_tokens))
            assert shorter <= model.queueing_time(Prompt(prompt_tokens + more))

    @contract
    @given(CONTEXTS, PREFILLS, CHUNKS, st.integers(1, 5_000))
    def test_more_prefill_tokens_take_no_less_time(
        self, contexts: list[int], prefills: list[PrefillChunk], chunk: PrefillChunk, more: int
    ) -> None:
        """A step is monotone in the new tokens of a prefill."""
        longer = chunk._replace(new_tokens=chunk.new_tokens + more)
        for model in self.models():
            shorter_us = model.step_time(make_batch(contexts, [*prefills, chunk]))
            assert shorter_us <= model.step_time(make_batch(contexts, [*prefills, longer]))

    @contract
    @given(CONTEXTS, PREFILLS, CHUNKS, st.integers(1, 50_000))
    def test_more_context_takes_no_less_time(
        self, contexts: list[int], prefills: list[PrefillChunk], chunk: PrefillChunk, more: int
    ) -> None:
        """A step is monotone in the context of a prefill and in that of the decodes."""
        further = chunk._replace(context_tokens=chunk.context_tokens + more)
        for model in self.models():
            before_us = model.step_time(make_batch(contexts, [*prefills, chunk]))
            assert before_us <= model.step_time(make_batch(contexts, [*prefills, further]))
            if contexts:
                grown = [contexts[0] + more, *contexts[1:]]
                assert before_us <= model.step_time(make_batch(grown, [*prefills, chunk]))

    @contract
    @given(CONTEXTS, PREFILLS, CHUNKS, st.integers(1, MAX_CONTEXT))
    def test_more_requests_take_no_less_time(
        self, contexts: list[int], prefills: list[PrefillChunk], chunk: PrefillChunk, new: int
    ) -> None:
        """A step is monotone in the batch: one more prefill, one more decode."""
        for model in self.models():
            before_us = model.step_time(make_batch(contexts, prefills))
            assert before_us <= model.step_time(make_batch(contexts, [*prefills, chunk]))
            assert before_us <= model.step_time(make_batch([*contexts, new], prefills))

    @contract
    @given(CONTEXTS, PREFILLS, st.randoms(use_true_random=False))
    def test_order_of_prefills_does_not_matter(
        self, contexts: list[int], prefills: list[PrefillChunk], random: object
    ) -> None:
        """The same requests in another order take the same time, to the microsecond."""
        shuffled = list(prefills)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        for model in self.models():
            in_order_us = model.step_time(make_batch(contexts, prefills))
            assert in_order_us == model.step_time(make_batch(contexts, shuffled))

    @contract
    @given(CONTEXTS, PREFILLS)
    def test_a_model_has_no_memory(
        self, contexts: list[int], prefills: list[PrefillChunk]
    ) -> None:
        """Asked again, after other questions, a model gives the same answer."""
        batch = make_batch(contexts, prefills)
        for model in self.models():
            first_us = model.step_time(batch)
            model.decode_run(make_batch([7, 9]), 5)
            model.step_time(make_batch([3], [PrefillChunk(0, 4096)]))
            assert model.step_time(batch) == first_us

    @contract
    @given(DECODES, st.integers(1, 40))
    def test_decode_run_repeats_step_time(self, contexts: list[int], num_steps: int) -> None:
        """A run is its steps one by one, every member a token further each time."""
        batch = make_batch(contexts)
        for model in self.models():
            run = model.decode_run(batch, num_steps)
            assert run.dtype == np.int64
            assert run.shape == (num_steps,)
            stepwise = [model.step_time(advanced(batch, step)) for step in range(num_steps)]
            assert run.tolist() == stepwise

    @contract
    @given(DECODES, st.lists(st.integers(1, 300), min_size=1, max_size=6))
    def test_decode_run_may_be_cut_anywhere(self, contexts: list[int], parts: list[int]) -> None:
        """A run is the same to the bit however it is cut into parts."""
        batch = make_batch(contexts)
        for model in self.models():
            whole = model.decode_run(batch, sum(parts))
            pieces, done = [], 0
            for part in parts:
                pieces.append(model.decode_run(advanced(batch, done), part))
                done += part
            np.testing.assert_array_equal(whole, np.concatenate(pieces), strict=True)

    @contract
    @given(st.lists(DECODES, min_size=1, max_size=4), st.integers(1, 30))
    def test_uniform_time_is_that_of_every_step(
        self, batches: list[list[int]], num_steps: int
    ) -> None:
        """Where a model says that decode steps are equal they are, whatever the context."""
        for model in self.models():
            for contexts in batches:
                batch = make_batch(contexts)
                uniform_us = model.uniform_decode_time(batch)
                if uniform_us is not None:
                    assert type(uniform_us) is int
                    assert set(model.decode_run(batch, num_steps).tolist()) == {uniform_us}
                    elsewhere = make_batch([context + 977 for context in contexts])
                    assert model.uniform_decode_time(elsewhere) == uniform_us
