"""What was simulated: all that the reports say and the run itself did not measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blis_sim.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceContext:
    """What one GPU costs.

    Attributes
    ----------
    usd_per_gpu_hour : float
        Median of the offers known, USD per GPU and hour.
    num_offers : int
        How many they are.
    sources : sequence of str
        Who asked these prices, and when.
    """

    usd_per_gpu_hour: float
    num_offers: int
    sources: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayContext:
    """How the requests of a cluster get to its instances, in words.

    Attributes
    ----------
    routing : str
        The policy in force, with weights and the age of what it sees.
    queue : str
        Who is turned away and who waits; empty = every request is sent on at once.
    disaggregation : str
        Which prompts are computed apart; empty = there are no pools for that.
    max_outstanding_per_instance : int or None
        Requests an instance has at most, the others wait; None = no limit.
    """

    routing: str
    queue: str = ""
    disaggregation: str = ""
    max_outstanding_per_instance: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedKind:
    """What decides how well the latencies of an instance are known.

    Attributes
    ----------
    latency_model, gpu : str
        Which latency model answered; name of the GPU.
    architecture : str
        ``dense`` or ``moe``.
    tensor_parallel_size : int
        GPUs per instance, >= 1.
    num_parameters : int
        Of the whole model, >= 1.
    quantization : str
        Method of the weights; ``none`` = 16 or 32 bits.
    kv_cache_dtype : str
        ``auto`` (the model's) or ``fp8``.
    own_settings : tuple of str
        Settings of the latency model that the user gave, but for its name.
    """

    latency_model: str
    gpu: str
    architecture: str
    tensor_parallel_size: int
    num_parameters: int
    quantization: str = "none"
    kv_cache_dtype: str = "auto"
    own_settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolContext:
    """One pool of a cluster.

    Attributes
    ----------
    name : str
        Its name.
    role : str
        ``mixed``, ``prefill`` or ``decode``.
    model, gpu : str
        Names of the model and of the GPU.
    tensor_parallel_size, num_instances : int
        GPUs per instance and instances (at the start when it is autoscaled), >= 1.
    num_kv_blocks : int
        KV blocks of one instance.
    kv_blocks_source : str
        Where that number comes from.
    latency_model, latency_reason, latency_source : str
        Which latency model answered, why, and where its data come from.
    latency_alternatives : sequence of str
        What else was available.
    engine_settings : mapping
        Every engine setting in force, by vLLM's name.
    min_instances, max_instances : int or None
        Bounds of an autoscaled pool, None for a pool of fixed size.
    data_parallel_size : int
        Ranks of a server, >= 1; each of them is an instance.
    """

    name: str
    role: str
    model: str
    gpu: str
    tensor_parallel_size: int
    num_instances: int
    num_kv_blocks: int
    kv_blocks_source: str
    latency_model: str
    latency_reason: str
    latency_source: str
    latency_alternatives: Sequence[str] = ()
    engine_settings: Mapping[str, Any] = field(default_factory=dict)
    min_instances: int | None = None
    max_instances: int | None = None
    data_parallel_size: int = 1

    @property
    def num_gpus(self) -> int:
        """GPUs of the pool, at the start when it is autoscaled."""
        return self.tensor_parallel_size * self.num_instances

    @property
    def instances(self) -> str:
        """How many servers it has, in words: ``2``, or ``1 to 8`` of an autoscaled pool."""
        if self.max_instances is None:
            return str(self.num_instances // self.data_parallel_size)
        return f"{self.min_instances or 1} to {self.max_instances}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What was simulated: everything the reports say that the run itself did not measure.

    Attributes
    ----------
    scenario : mapping
        The resolved scenario, as the user could have written it.
    model, gpu : str
        Names of the model and of the GPU.
    tensor_parallel_size, num_instances : int
        GPUs per instance and instances, >= 1; of the first pool and of all pools.
    request_rate : float or None
        Configured rate, requests per second; ``inf`` = all at once, None = a trace's own.
    burstiness : float or None
        Gamma shape of the gaps, None where it does not apply.
    max_concurrency : int or None
        Most requests outstanding at once, None = no limit.
    latency_model : str
        Which latency model answered.
    latency_reason : str
        Why it was chosen.
    latency_alternatives : sequence of str
        What else was available.
    latency_source : str
        Where its data come from.
    num_kv_blocks : int
        KV blocks of one instance.
    kv_blocks_source : str
        Where that number comes from.
    engine_settings : mapping
        Every engine setting in force, by vLLM's name.
    notices : sequence of str
        What the user should know about the run, one sentence each.
    seed : int
        Seed of all random streams.
    package_version, numpy_version : str
        Versions that made the numbers.
    slo : mapping of str to float or None
        Limits for goodput, milliseconds: ``ttft_ms``, ``tpot_ms``, ``e2el_ms``.
    percentiles : sequence of float
        Percentiles (0..100) reported besides 50, 90, 95 and 99.
    backend : str
        Name under vLLM's key ``backend``.
    pools : sequence of PoolContext
        The pools of a cluster, in the order of ``RunData.pools``; empty without one. What
        stands above of model, GPU, latency model, KV cache and engine is then of the first.
    gateway : GatewayContext or None
        How requests get to the pools; None without a cluster.
    prices : mapping of str to PriceContext
        By the names of the GPUs; those without a known price are absent.
    kinds : sequence of DeployedKind
        The distinct kinds of instances; empty = nothing can be said of their accuracy.

    Raises
    ------
    ConfigError
        A percentile lies outside 0..100.
    """

    scenario: Mapping[str, Any]
    model: str
    gpu: str
    tensor_parallel_size: int
    num_instances: int
    request_rate: float | None
    latency_model: str
    latency_reason: str
    latency_source: str
    num_kv_blocks: int
    kv_blocks_source: str
    engine_settings: Mapping[str, Any]
    seed: int
    package_version: str
    numpy_version: str
    burstiness: float | None = None
    max_concurrency: int | None = None
    latency_alternatives: Sequence[str] = ()
    notices: Sequence[str] = ()
    slo: Mapping[str, float | None] = field(default_factory=dict)
    percentiles: Sequence[float] = ()
    backend: str = "blis_sim"
    pools: Sequence[PoolContext] = ()
    gateway: GatewayContext | None = None
    prices: Mapping[str, PriceContext] = field(default_factory=dict)
    kinds: Sequence[DeployedKind] = ()

    def __post_init__(self) -> None:
        for rank in self.percentiles:
            if not 0 <= rank <= 100:
                raise ConfigError(f"a metric percentile must be in 0..100; got {rank}")

    @property
    def num_gpus(self) -> int:
        """GPUs of the whole deployment, at the start when it is autoscaled."""
        if self.pools:
            return sum(pool.num_gpus for pool in self.pools)
        return self.tensor_parallel_size * self.num_instances

    @property
    def deployment(self) -> str:
        """Which model runs on what, in one line."""
        if len(self.pools) > 1:
            pools = ", ".join(map(self._pool_in_words, self.pools))
            return f"{self.model} on {self.num_gpus} GPUs: {pools}"
        number = self.pools[0].instances if self.pools else str(self.num_instances)
        plural = "" if number == "1" else "s"
        num_ranks = self.pools[0].data_parallel_size if self.pools else 1
        ranks = f" of {num_ranks} data-parallel ranks" if num_ranks > 1 else ""
        return (
            f"{self.model} on {self.gpu}, TP {self.tensor_parallel_size}, "
            f"{number} instance{plural}{ranks}"
        )

    def _pool_in_words(self, pool: PoolContext) -> str:
        model = "" if pool.model == self.model else f"{pool.model} on "
        name = pool.name if pool.role in {pool.name, "mixed"} else f"{pool.name}, {pool.role}"
        ranks = f" DP{pool.data_parallel_size}" if pool.data_parallel_size > 1 else ""
        kind = f"{model}{pool.gpu} TP{pool.tensor_parallel_size}{ranks}"
        return f"{pool.instances} x {kind} ({name})"
