"""Candidates that are plain numbers, and that count what is read of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from blis_sim.cluster.asked import Asked
from blis_sim.cluster.routing.base import Candidate, Report, Router, Snapshot
from blis_sim.cluster.routing.select import make_router
from blis_sim.config.cluster import RoutingSettings
from tests.engine.builders import make_spec


class FakeCandidate:
    """A candidate with nothing but what the protocol has: reading anything else fails."""

    __slots__ = (
        "_cached_prompt_tokens",
        "_expected_ttft_us",
        "_report",
        "block_size",
        "index",
        "num_cache_questions",
        "num_outstanding",
        "num_reports",
        "num_sent",
        "num_ttft_questions",
    )

    def __init__(
        self,
        index: int = 0,
        *,
        num_sent: int = 0,
        num_outstanding: int = 0,
        block_size: int = 4,
        cached_prompt_tokens: int = 0,
        expected_ttft_us: int = 0,
        **report: int,
    ) -> None:
        self.index = index
        self.num_sent = num_sent
        self.num_outstanding = num_outstanding
        self.block_size = block_size
        self._cached_prompt_tokens = cached_prompt_tokens
        self._expected_ttft_us = expected_ttft_us
        numbers = {field.name: 0 for field in fields(Snapshot)}
        numbers |= {"kv_blocks": 100, "num_sent": num_sent}
        # A report may be older than the candidate: reported_sent is its num_sent.
        if "reported_sent" in report:
            numbers["num_sent"] = report.pop("reported_sent")
        self._report = Snapshot(**(numbers | report))
        self.num_reports = self.num_cache_questions = self.num_ttft_questions = 0

    def report(self) -> Report:
        self.num_reports += 1
        return self._report

    def cached_prompt_tokens(self, asked: Asked) -> int:
        self.num_cache_questions += 1
        return self._cached_prompt_tokens

    def expected_ttft_us(self, asked: Asked) -> int:
        self.num_ttft_questions += 1
        return self._expected_ttft_us


def make_candidates(number: int | None = None, **columns: Sequence[int]) -> list[FakeCandidate]:
    """Return candidates 0, 1, …: one per entry of each column, e.g. ``num_waiting=[3, 0]``."""
    if number is None:
        number = len(next(iter(columns.values())))
    rows = [{name: column[row] for name, column in columns.items()} for row in range(number)]
    return [FakeCandidate(**{"index": row, **rows[row]}) for row in range(number)]


def make_asked(**spec: Any) -> Asked:
    return Asked(make_spec(**spec))


def router_of(policy: str, *, seed: int = 0, **settings: Any) -> Router:
    chosen = RoutingSettings.model_validate({"policy": policy, **settings})
    return make_router(chosen, np.random.Generator(np.random.PCG64(seed)))


def send(router: Router, asked: Asked, candidates: Sequence[Candidate]) -> int:
    """Choose, tell the router, and return the number of the instance."""
    chosen = candidates[router.choose(asked, candidates).position]
    router.sent(asked, chosen)
    return chosen.index
