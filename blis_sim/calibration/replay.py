"""The measured requests once more, simulated with a candidate of a latency model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from blis_sim.calibration.problem import Backdrop, BoolArray, FloatArray, Measurements
from blis_sim.calibration.served import Served
from blis_sim.engine.simulation import EngineConfig, Simulation
from blis_sim.latency.base import LatencyModel
from blis_sim.metrics.records import Status
from blis_sim.workload.request import RequestSpec

TTFT, TPOT, E2E = "TTFT", "TPOT", "E2E"
KINDS = (TTFT, TPOT)
"""What is fitted; E2E follows from them."""
_NUM_OTHERS = 3
"""Runs with other arrivals from which it is known what to expect."""
_SEED = 0
_GAPS_OF_NOTE = 20.0
"""The TPOT of an answer with so many gaps counts half: whether the prompt of another request
falls between the tokens of a short one is chance."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Client latencies of requests, microseconds, in order of arrival; NaN = none.

    Attributes
    ----------
    ttft_us, tpot_us, e2e_us : float64 array
        One entry per request.
    """

    ttft_us: FloatArray
    tpot_us: FloatArray
    e2e_us: FloatArray

    @classmethod
    def of(cls, ttft_us: FloatArray, e2e_us: FloatArray, gaps: FloatArray) -> Latencies:
        """Return latencies with the time per output token after the first.

        Parameters
        ----------
        ttft_us, e2e_us : float64 array
            Times of the first and of the last token since the arrival.
        gaps : float64 array
            Tokens less one, >= 0; where it is 0 there is no TPOT.
        """
        several = gaps >= 1
        tpot_us = np.full(ttft_us.shape, np.nan)
        tpot_us[several] = (e2e_us - ttft_us)[several] / gaps[several]
        return cls(ttft_us, tpot_us, e2e_us)

    @classmethod
    def measured(cls, served: Served) -> Latencies:
        """Return what a server needed."""
        ttft_us, e2e_us = (each.astype(np.float64) for each in (served.ttft_us, served.e2e_us))
        return cls.of(ttft_us, e2e_us, served.gaps.astype(np.float64))

    @property
    def by_kind(self) -> dict[str, FloatArray]:
        """All of them by their names."""
        return {TTFT: self.ttft_us, TPOT: self.tpot_us, E2E: self.e2e_us}

    def fitted_us(self) -> FloatArray:
        """Return the latencies that are fitted, one kind after the other."""
        return np.concatenate([self.by_kind[kind] for kind in KINDS])


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What went on around each request while it was answered.

    Attributes
    ----------
    decodes : float64 array
        Requests between their first and last token, on average over that time of the request,
        itself included; >= 0.
    prompt_tokens_per_gap : float64 array
        Prompts whose first token came in that time, tokens per gap between its own.
    prompts_before : float64 array
        Tokens of other prompts whose first token came while it waited for its own.
    """

    decodes: FloatArray
    prompt_tokens_per_gap: FloatArray
    prompts_before: FloatArray

    @classmethod
    def of(cls, served: Served, latencies: Latencies) -> Surroundings:
        """Return the surroundings of requests that are answered so."""
        arrival = served.requests.arrival_us.astype(np.float64)
        prompts = served.requests.prompt_tokens.astype(np.float64)
        first, last = arrival + latencies.ttft_us, arrival + latencies.e2e_us
        seen = _seen(first, first, last) - _seen(last, first, last)
        order = np.argsort(first)
        sums = np.concatenate([[0.0], np.cumsum(prompts[order])])

        def until(times: FloatArray, side: Literal["left", "right"] = "right") -> FloatArray:
            done: FloatArray = sums[np.searchsorted(first[order], times, side=side)]
            return done

        return cls(
            np.maximum(seen / np.maximum(last - first, 1.0), 0.0),
            (until(last) - until(first)) / np.maximum(served.gaps, 1),
            until(first, "left") - until(arrival),
        )


@dataclass(slots=True)
class Replay:
    """Simulates the requests that a server answered.

    Attributes
    ----------
    config : EngineConfig
        The engine.
    served : Served
        The requests.
    model_of : callable
        From values of the parameters to a latency model.
    """

    config: EngineConfig
    served: Served
    model_of: Callable[[FloatArray], LatencyModel]
    _specs: list[RequestSpec] = field(default_factory=list)
    _others: list[list[RequestSpec]] = field(default_factory=list)

    def __post_init__(self) -> None:
        requests = self.served.requests
        columns = (requests.arrival_us, requests.prompt_tokens, requests.output_tokens)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        self._specs = [RequestSpec(number, *row) for number, row in enumerate(rows)]
        rng = np.random.default_rng(_SEED)
        self._others = [self._shifted(rng) for _ in range(_NUM_OTHERS)]

    def latencies(self, values: FloatArray) -> Latencies:
        """Return what the simulation says with given values of the parameters.

        Raises
        ------
        SimulationError
            The simulation could not be carried out.
        """
        return self._simulated(values, self._specs)

    def _simulated(self, values: FloatArray, specs: list[RequestSpec]) -> Latencies:
        columns = Simulation(self.config, self.model_of(values), specs).run().requests
        done = columns.status == Status.COMPLETED
        ttft_us, e2e_us = np.full((2, done.size), np.nan)
        ttft_us[done] = (columns.first_token_us - columns.arrival_us)[done]
        e2e_us[done] = (columns.last_token_us - columns.arrival_us)[done]
        return Latencies.of(ttft_us, e2e_us, np.maximum(columns.output_tokens - 1.0, 0.0))

    def measured_us(self) -> FloatArray:
        """Return what was measured, NaN where nothing was: one kind after the other."""
        return Latencies.measured(self.served).fitted_us()

    def measurements(self, keep: BoolArray) -> Measurements:
        """Return what is fitted to.

        Parameters
        ----------
        keep : bool array
            Which of `measured_us`; all must have a value.
        """
        count = self.served.requests.num_requests
        order = self.served.requests.arrival_us.astype(np.float64)
        gaps = self.served.gaps.astype(np.float64)
        return Measurements(
            values_us=self.measured_us()[keep],
            kind=np.repeat(np.arange(len(KINDS)), count)[keep],
            kinds=KINDS,
            count=np.concatenate([np.ones(count), gaps / (gaps + _GAPS_OF_NOTE)])[keep],
            order=np.tile(order, len(KINDS))[keep],
        )

    def backdrop(self, values: FloatArray, keep: BoolArray) -> Backdrop:
        """Return what to expect of each measurement, from runs with slightly other arrivals.

        Parameters
        ----------
        values : float64 array
            Of the parameters.
        keep : bool array
            Which of `measured_us`.
        """
        reference: list[FloatArray] = []
        features: list[FloatArray] = []
        for specs in self._others:
            latencies = self._simulated(values, specs)
            reference.append(latencies.fitted_us())
            features.append(self._features(latencies))
        whole = np.tile(np.mean(features, axis=0), (len(KINDS), 1))
        jumps_us = reference[0] - reference[1]
        return Backdrop(np.mean(reference, axis=0)[keep], whole[keep], jumps_us[keep])

    def _features(self, latencies: Latencies) -> FloatArray:
        """Return what latencies depend on: prompts, and what else is in the batches."""
        around = Surroundings.of(self.served, latencies)
        prompts = self.served.requests.prompt_tokens.astype(np.float64)
        columns = (around.decodes, around.prompt_tokens_per_gap, around.prompts_before)
        return np.column_stack([np.ones(prompts.size), prompts, *columns])

    def _shifted(self, rng: np.random.Generator) -> list[RequestSpec]:
        """Return the requests with arrivals moved by about a step, in their new order."""
        tpot_us = Latencies.measured(self.served).tpot_us
        known = tpot_us[np.isfinite(tpot_us)]
        most = 2 * float(np.median(known)) if known.size else float(self.served.ttft_us.mean())
        moves = rng.integers(0, max(int(most), 1), len(self._specs), endpoint=True).tolist()
        moved = [
            spec._replace(arrival_us=spec.arrival_us + move)
            for spec, move in zip(self._specs, moves, strict=True)
        ]
        return sorted(moved, key=lambda spec: (spec.arrival_us, spec.request_id))


def _seen(events: FloatArray, begin: FloatArray, end: FloatArray) -> FloatArray:
    """Return, for each stretch of time, the time since each event, summed and integrated."""
    ordered = np.sort(events)
    sums = np.concatenate([[0.0], np.cumsum(ordered - ordered[0])])

    def until(times: FloatArray) -> FloatArray:
        number = np.searchsorted(ordered, times, side="right")
        total: FloatArray = number * (times - ordered[0]) - sums[number]
        return total

    return until(end) - until(begin)
