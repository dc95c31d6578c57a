"""How far a latency model was off where it was compared with measured servers.

``blis validate --bands-out`` writes the file; every result reads its entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from blis_sim.catalog.paths import configs_dir, read_shipped_yaml
from blis_sim.errors import CatalogError

FILE = "error_bands.yaml"
ALL_GPUS = "all"
"""Stands for the name of a GPU in the entry of all of them together."""
FIGURES = ("ttft_mean", "ttft_p99", "tpot_mean", "e2e_mean")
"""Of which there are errors."""
RANGES = (
    "tensor_parallel_size",
    "num_instances",
    "billion_parameters",
    "prompt_tokens",
    "output_tokens",
    "requests_in_flight",
)
"""What is kept of the deployments and loads that were measured."""


@dataclass(frozen=True, slots=True)
class FigureErrors:
    """Errors of one figure, predicted over measured, less 1, in percent.

    Attributes
    ----------
    mape_pct : float
        Mean without the signs, >= 0.
    bias_pct : float
        Mean with the signs: > 0 = predictions are too high.
    worst_pct : float
        The largest error, with its sign.
    num_rows : int
        Measured figures, >= 1.
    """

    mape_pct: float
    bias_pct: float
    worst_pct: float
    num_rows: int


@dataclass(frozen=True, slots=True)
class Range:
    """From the lowest to the highest that was measured."""

    lowest: float
    highest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBand:
    """Errors of one kind of deployment.

    Attributes
    ----------
    latency_model : str
        Which model answered.
    gpu : str
        Name in the catalog, or `ALL_GPUS`.
    architecture : str
        ``dense`` or ``moe``.
    num_deployments : int
        Distinct combinations of model, GPU and tensor parallel size, >= 1.
    num_experiments : int
        Measured runs, >= 1.
    source : str
        What was measured: names of files and roles, and settings that were given for all.
    quantizations : sequence of str
        Of the weights that were measured; ``none`` = 16 or 32 bits.
    kv_cache_dtypes : sequence of str
        Settings of the KV cache that were measured; ``auto`` = the model's type.
    errors : mapping of str to FigureErrors
        Those of `FIGURES` that were measured.
    ranges : mapping of str to Range
        All of `RANGES`: GPUs per instance, instances, parameters in billions, tokens of prompts
        and of answers (means of a run), requests in flight per instance (its mean).
    """

    latency_model: str
    gpu: str
    architecture: str
    num_deployments: int
    num_experiments: int
    source: str
    quantizations: Sequence[str]
    kv_cache_dtypes: Sequence[str] = ("auto",)
    errors: Mapping[str, FigureErrors]
    ranges: Mapping[str, Range]


def load_error_bands() -> tuple[ErrorBand, ...]:
    """Return the shipped entries in the order of the file; none without the file.

    Raises
    ------
    CatalogError
        The file is damaged.
    """
    return _loaded(configs_dir() / FILE)


# Each result of a study asks for them.
@lru_cache(maxsize=4)
def _loaded(path: Path) -> tuple[ErrorBand, ...]:
    return read_error_bands(path) if path.is_file() else ()


def read_error_bands(path: Path) -> tuple[ErrorBand, ...]:
    """Return the entries of a file that ``blis validate --bands-out`` wrote.

    Raises
    ------
    CatalogError
        It is something else.
    """
    import yaml

    try:
        return tuple(_from_yaml(entry) for entry in read_shipped_yaml(path)["entries"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as cause:
        reason = " ".join(repr(cause).split())
        raise CatalogError(
            f"{path} must be a file of error bands, as blis validate --bands-out writes it; "
            f"got: {reason}"
        ) from cause


def _from_yaml(entry: Mapping[str, Any]) -> ErrorBand:
    errors, ranges = entry["errors"], entry["ranges"]
    return ErrorBand(
        latency_model=str(entry["latency_model"]),
        gpu=str(entry["gpu"]),
        architecture=str(entry["architecture"]),
        num_deployments=int(entry["num_deployments"]),
        num_experiments=int(entry["num_experiments"]),
        source=str(entry["source"]),
        quantizations=tuple(map(str, entry["quantizations"])),
        # A file of before says nothing of it.
        kv_cache_dtypes=tuple(map(str, entry.get("kv_cache_dtypes", ["auto"]))),
        errors={name: FigureErrors(**errors[name]) for name in FIGURES if name in errors},
        ranges={name: Range(*map(float, ranges[name])) for name in RANGES},
    )
