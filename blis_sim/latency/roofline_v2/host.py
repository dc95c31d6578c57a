"""What a step costs beyond its kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import yaml

from blis_sim.catalog.paths import configs_dir, read_shipped_yaml
from blis_sim.errors import CatalogError


@dataclass(frozen=True, slots=True)
class HostModel:
    """Time per step in which the GPU waits for the host, or between kernels.

    ``constant_us + per_request_us * requests + per_layer_us * layers``: one set of figures for
    all models. Launching a step's CUDA graph, preparing its inputs and reading the sampled
    tokens back cost about the same for every model; gaps between kernels grow with the layers,
    bookkeeping with the requests in the batch.

    Attributes
    ----------
    constant_us, per_request_us, per_layer_us : float
        Microseconds, >= 0.
    """

    constant_us: float = 0.0
    per_request_us: float = 0.0
    per_layer_us: float = 0.0

    def step_us(self, num_requests: int, num_layers: int) -> float:
        """Return the overhead of a step with so many requests in its batch."""
        return (
            self.constant_us + self.per_request_us * num_requests + self.per_layer_us * num_layers
        )


def shipped_host() -> HostModel:
    """Return the host model of ``configs/host.yaml``.

    Raises
    ------
    CatalogError
        The file is missing or damaged.
    """
    path = configs_dir() / "host.yaml"
    names = [field.name for field in fields(HostModel)]
    try:
        document = read_shipped_yaml(path)
        figures = {name: float(document[name]) for name in names}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as cause:
        raise CatalogError(f"{path} must have {', '.join(names)}; got: {cause!r}") from cause
    if not all(math.isfinite(figure) and figure >= 0 for figure in figures.values()):
        raise CatalogError(f"{path} must have figures >= 0; got {figures}")
    return HostModel(**figures)
