"""Several deployments under one load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blis_sim import api
from blis_sim.catalog.gpus import load_gpu
from blis_sim.catalog.locate import locate
from blis_sim.catalog.models import load_model
from blis_sim.config.tree import with_paths
from blis_sim.errors import BlisError, CatalogError, ConfigError, SimulationError

if TYPE_CHECKING:
    from blis_sim.config.scenario import Scenario

Progress = Callable[[int | None], AbstractContextManager[Callable[[int, int], None] | None]]
"""Requests of a run, None when not known -> what shows its progress."""

LATENCY_TAGS = ("ttft", "tpot", "itl", "e2el")
METRICS = (
    *("duration", "completed", "failed", "total_input_tokens", "total_output_tokens"),
    *("request_throughput", "request_goodput", "output_throughput", "total_token_throughput"),
    *("output_throughput_per_gpu", "kv_usage_mean_frac", "kv_usage_peak_frac"),
    *("num_preemptions", "mean_running_requests", "mean_waiting_requests", "gpu_busy_frac"),
    *(
        f"{figure}_{tag}_ms"
        for tag in LATENCY_TAGS
        for figure in ("mean", "median", "p90", "p95", "p99")
    ),
)
"""Keys of a result's summary that a comparison keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One deployment and how it did.

    Attributes
    ----------
    model, gpu : str
        Their names in the catalog.
    tensor_parallel_size : int
        GPUs per instance.
    request_rate : float or None
        Configured requests per second; None = those of a trace or of several clients.
    reason : str
        Why nothing was simulated; empty = it was.
    load : str
        The load in words.
    latency_model, latency_reason, latency_source : str
        Which latency model answered, why, and where its data come from.
    num_kv_blocks : int or None
        KV blocks of an instance.
    metrics : mapping of str to float or None
        By the keys of `METRICS`; None = no data.
    notices : sequence of str
        What the user should know about the run.
    """

    model: str
    gpu: str
    tensor_parallel_size: int
    request_rate: float | None
    reason: str = ""
    load: str = ""
    latency_model: str = ""
    latency_reason: str = ""
    latency_source: str = ""
    num_kv_blocks: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    notices: Sequence[str] = ()

    @property
    def is_simulated(self) -> bool:
        """Whether there are numbers."""
        return not self.reason


def compare(
    scenarios: Sequence[Scenario], progress: Progress | None = None
) -> tuple[ComparedRun, ...]:
    """Simulate scenarios and return one row for each, in their order.

    Scenarios that differ in the deployment only meet the same requests: the load is drawn
    from the seed alone.

    Parameters
    ----------
    scenarios : sequence of Scenario
        What to simulate, at least one.
    progress : callable, optional
        Shows the progress of each run.

    Returns
    -------
    tuple of ComparedRun
        A deployment that cannot be simulated (weights do not fit, TP does not split the
        heads, no coefficients, ...) is a row with its reason.

    Raises
    ------
    CatalogError
        A model or GPU is unknown.
    TraceError
        A trace is not acceptable.
    ConfigError, SimulationError
        No scenario can be simulated, all for the same reason: it lies in what they share.
    """
    for scenario in scenarios:
        _names(scenario)
    rows: list[ComparedRun] = []
    errors: list[BlisError] = []
    for scenario in scenarios:
        try:
            rows.append(_simulated(scenario, progress))
        except (ConfigError, CatalogError, SimulationError) as error:
            errors.append(error)
            rows.append(_row(scenario, str(error)))
    if len(errors) == len(rows) and len({str(error) for error in errors}) == 1:
        raise errors[0]
    return tuple(rows)


def _simulated(scenario: Scenario, progress: Progress | None) -> ComparedRun:
    resolved = api.resolve(scenario)
    shown = nullcontext() if progress is None else progress(resolved.workload.num_requests)
    with shown as update:
        result = api.run(resolved, progress=update)
    context = result.context
    return ComparedRun(
        model=context.model,
        gpu=context.gpu,
        tensor_parallel_size=context.tensor_parallel_size,
        request_rate=context.request_rate,
        load=resolved.workload.description,
        latency_model=context.latency_model,
        latency_reason=context.latency_reason,
        latency_source=context.latency_source,
        num_kv_blocks=context.num_kv_blocks,
        metrics={key: result.summary[key] for key in METRICS},
        notices=tuple(context.notices),
    )


def _row(scenario: Scenario, reason: str) -> ComparedRun:
    model, gpu = _names(scenario)
    return ComparedRun(
        model=model,
        gpu=gpu,
        tensor_parallel_size=scenario.engine.tensor_parallel_size,
        request_rate=scenario.workload.request_rate,
        reason=" ".join(reason.split()),
    )


def _names(scenario: Scenario) -> tuple[str, str]:
    """Return the catalog's names of model and GPU; CatalogError when one is unknown."""
    latency = with_paths(scenario.latency, lambda path: locate(path).path)
    model = load_model(scenario.model, latency.model_config_folder)
    return model.name, load_gpu(scenario.hardware, latency.hardware_config).name


def comparability(rows: Iterable[ComparedRun]) -> str:
    """Return a warning when different latency models answered, empty when one did."""
    gpus: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.is_simulated:
            where = f"{row.gpu} TP {row.tensor_parallel_size}"
            gpus.setdefault(row.latency_model, {})[where] = None
    if len(gpus) < 2:
        return ""
    answered = "; ".join(f"{model}: {', '.join(names)}" for model, names in gpus.items())
    return (
        f"different latency models answered ({answered}): their rows are not comparable; choose "
        "one for all with --latency-model"
    )
