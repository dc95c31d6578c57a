"""One row of a comparison: what was deployed, and how it did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

LATENCY_TAGS = ("ttft", "tpot", "itl", "e2el")
METRICS = (
    *("duration", "completed", "failed", "total_input_tokens", "total_output_tokens"),
    *("request_throughput", "request_goodput", "output_throughput", "total_token_throughput"),
    *("output_throughput_per_gpu", "mean_gpus", "gpu_hours"),
    *("kv_usage_mean_frac", "kv_usage_peak_frac", "prefix_hit_rate", "num_preemptions"),
    *("mean_running_requests", "mean_waiting_requests", "gpu_busy_frac"),
    *("load_imbalance", "num_transfers", "num_scaling_events"),
    *(
        f"{figure}_{tag}_ms"
        for tag in LATENCY_TAGS
        for figure in ("mean", "median", "p90", "p95", "p99")
    ),
)
"""Keys of a result's summary that a comparison keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedPool:
    """Instances of one kind.

    Attributes
    ----------
    role : str
        ``mixed``, ``prefill`` or ``decode``.
    model, gpu : str
        Their names in the catalog.
    tensor_parallel_size, num_instances : int
        GPUs per instance, and instances (at the start when they are autoscaled).
    scaled : tuple of (int, int), or None
        Fewest and most instances of an autoscaled pool; None = their number is fixed.
    latency_model, latency_reason, latency_source : str
        Which latency model answered, why, and where its data come from; empty = none did.
    num_kv_blocks : int or None
        KV blocks of an instance; None = nothing was simulated.
    """

    model: str
    gpu: str
    tensor_parallel_size: int
    role: str = "mixed"
    num_instances: int = 1
    scaled: tuple[int, int] | None = None
    latency_model: str = ""
    latency_reason: str = ""
    latency_source: str = ""
    num_kv_blocks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One deployment and how it did.

    Attributes
    ----------
    pools : sequence of ComparedPool
        What was deployed; one engine is a pool of one.
    seed : int
        That of the load.
    request_rate : float or None
        Configured requests per second; None = those of a trace or of several clients.
    name : str
        How the user knows it; empty = by what was deployed.
    reason : str
        Why nothing was simulated; empty = it was.
    load : str
        The load in words.
    metrics : mapping of str to float or None
        By the keys of `METRICS`; None = no data.
    notices : sequence of str
        What the user should know about the run.
    """

    pools: Sequence[ComparedPool]
    seed: int
    request_rate: float | None
    name: str = ""
    reason: str = ""
    load: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    notices: Sequence[str] = ()

    @property
    def is_simulated(self) -> bool:
        """Whether there are numbers."""
        return not self.reason

    @property
    def model(self) -> str:
        """Its model; of pools with different ones, all of them."""
        return _each_once((pool.model for pool in self.pools), " + ")

    @property
    def gpu(self) -> str:
        """Its GPU; of pools with different ones, all of them."""
        return _each_once((pool.gpu for pool in self.pools), " + ")

    @property
    def tensor_parallel_size(self) -> int | None:
        """GPUs per instance; None where pools differ."""
        return _common([pool.tensor_parallel_size for pool in self.pools])

    @property
    def num_kv_blocks(self) -> int | None:
        """KV blocks of an instance; None where pools differ, or nothing was simulated."""
        return _common([pool.num_kv_blocks for pool in self.pools])

    @property
    def num_instances(self) -> int:
        """Engine instances, at the start when they are autoscaled."""
        return sum(pool.num_instances for pool in self.pools)

    @property
    def gpus(self) -> float:
        """GPUs of all instances: the mean over the run, or those of the start without one."""
        mean = self.metrics.get("mean_gpus")
        at_start = sum(pool.num_instances * pool.tensor_parallel_size for pool in self.pools)
        return at_start if mean is None else mean

    @property
    def latency_model(self) -> str:
        """Which latency model answered; of pools with different ones, all of them."""
        return _each_once((pool.latency_model for pool in self.pools), " + ")

    @property
    def latency_reason(self) -> str:
        """Why that latency model was chosen."""
        return _each_once((pool.latency_reason for pool in self.pools), "; ")

    @property
    def latency_source(self) -> str:
        """Where its data come from."""
        return _each_once((pool.latency_source for pool in self.pools), "; ")


def _each_once(texts: Iterable[str], between: str) -> str:
    return between.join(filter(None, dict.fromkeys(texts)))


def _common(numbers: Sequence[int | None]) -> int | None:
    return numbers[0] if len(set(numbers)) == 1 else None


def comparability(rows: Iterable[ComparedRun]) -> str:
    """Return a warning when different latency models answered, empty when one did."""
    places: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.is_simulated:
            where = row.name or f"{row.gpu} TP {row.tensor_parallel_size}"
            places.setdefault(row.latency_model, {})[where] = None
    if len(places) < 2:
        return ""
    answered = "; ".join(f"{model}: {', '.join(names)}" for model, names in places.items())
    return (
        f"different latency models answered ({answered}): their rows are not comparable; choose "
        "one for all with --latency-model"
    )
