"""What serving costs beyond the kernels of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import yaml

from blis_sim.catalog.paths import configs_dir, read_shipped_yaml
from blis_sim.errors import CatalogError


@dataclass(frozen=True, slots=True)
class HostModel:
    """One set of figures for all models and GPUs, in microseconds, each >= 0.

    A step takes longer than its kernels by ``constant_us + per_request_us * requests +
    per_layer_us * layers + rank_wait_us * collectives * (H(tp) - 1)``, where H(n) = 1 + 1/2 +
    ... + 1/n. The last part is the wait for the slowest rank: the ranks of a tensor-parallel
    group reach an all-reduce at different times, and the greatest of n independent exponential
    delays with mean m is H(n) m on average. Where the next batch is formed only when a step has
    ended (engines without asynchronous scheduling) the GPU waits for that, too:
    ``scheduling_us + scheduling_per_request_us * requests``.

    Attributes
    ----------
    frontend_us, frontend_per_prompt_token_us : float
        From the arrival of a request to the engine's waiting queue: HTTP, tokenisation, the
        way to the engine. With it goes the way back to the client, which no measurement from
        outside can tell from the way there.
    scheduling_us, scheduling_per_request_us : float
        Of a step: what the host does between two steps when it cannot do it while one runs:
        handing out tokens, forming the next batch, preparing its inputs, launching it.
    constant_us, per_request_us, per_layer_us : float
        Of a step: reading sampled tokens back, bookkeeping, gaps between kernels.
    rank_wait_us : float
        Mean delay of a rank at a collective.
    """

    frontend_us: float = 0.0
    frontend_per_prompt_token_us: float = 0.0
    scheduling_us: float = 0.0
    scheduling_per_request_us: float = 0.0
    constant_us: float = 0.0
    per_request_us: float = 0.0
    per_layer_us: float = 0.0
    rank_wait_us: float = 0.0

    def step_us(
        self, num_requests: int, num_layers: int, tp: int = 1, *, hides_host: bool = True
    ) -> float:
        """Return what a step with so many requests takes beyond its kernels.

        Parameters
        ----------
        num_requests, num_layers : int
            Of the batch and of the model.
        tp : int
            Ranks, >= 1; two all-reduces per layer and one behind the embedding join them.
        hides_host : bool
            Whether what the host does between steps is hidden behind a running step.
        """
        collectives = 2 * num_layers + 1
        exposed_us = 0.0
        if not hides_host:
            exposed_us = self.scheduling_us + self.scheduling_per_request_us * num_requests
        return (
            exposed_us
            + self.constant_us
            + self.per_request_us * num_requests
            + self.per_layer_us * num_layers
            + self.rank_wait_us * collectives * rank_wait(tp)
        )


def rank_wait(tp: int) -> float:
    """Return the mean wait for the slowest of ``tp`` ranks, in mean delays of one: H(tp) - 1."""
    return sum(1 / rank for rank in range(2, tp + 1))


@lru_cache(maxsize=4)
def _read(path: Path) -> HostModel:
    names = [field.name for field in fields(HostModel)]
    try:
        document = read_shipped_yaml(path)
        figures = {name: float(document[name]) for name in names}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as cause:
        raise CatalogError(f"{path} must have {', '.join(names)}; got: {cause!r}") from cause
    if not all(math.isfinite(figure) and figure >= 0 for figure in figures.values()):
        raise CatalogError(f"{path} must have figures >= 0; got {figures}")
    return HostModel(**figures)


def shipped_host() -> HostModel:
    """Return the host model of ``configs/host.yaml``.

    Raises
    ------
    CatalogError
        The file is missing or damaged.
    """
    return _read(configs_dir() / "host.yaml")
