"""What a step yields, recorded at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blis_sim.metrics.records import ABSENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blis_sim.engine.batch import ScheduledBatch
    from blis_sim.engine.request import Request
    from blis_sim.metrics.recorder import Recorder
    from blis_sim.metrics.records import EngineCounters


class Delivery:
    """Records the tokens of ordinary steps.

    Parameters
    ----------
    recorder, counters
        The instance's own.
    token_us : int
        Client-side delay per token.
    """

    def __init__(self, recorder: Recorder, counters: EngineCounters, token_us: int) -> None:
        self._recorder = recorder
        self._counters = counters
        self._token_us = token_us

    def deliver(self, batch: ScheduledBatch, now_us: int, gone: Sequence[Request]) -> None:
        """Record the tokens of the step that ends now, but for those of requests being aborted.

        Parameters
        ----------
        batch : ScheduledBatch
            The step.
        now_us : int
            Its end.
        gone : sequence of Request
            Running requests whose clients have left.
        """
        recorder, counters, token_us = self._recorder, self._counters, self._token_us
        num_regular = batch.num_regular
        counters.num_prefill_tokens += batch.num_prefill_tokens
        counters.num_decode_tokens += batch.num_decodes
        counters.batch_requests += batch.num_decodes + len(batch.prefills)
        if gone:
            num_regular -= batch.num_dropped(gone, now_us)
        num_tokens = num_regular
        if num_regular:
            recorder.add_gaps(now_us - batch.start_us + token_us, num_regular)
        for request in batch.irregular:
            if request.aborted_us >= now_us:
                recorder.add_gaps(now_us - request.last_token_us + token_us, 1)
                num_tokens += 1
        for request in batch.completing:
            if request.aborted_us < now_us:
                continue
            num_tokens += 1
            if request.first_token_us == ABSENT:
                request.first_token_us = now_us
            else:
                recorder.add_gaps(now_us - request.last_token_us + token_us, 1)
            request.last_token_us = now_us
        for request in batch.pausing:
            request.last_token_us = now_us
        if num_tokens:
            counters.num_generated_tokens += num_tokens
            recorder.add_tokens(now_us, num_tokens)
