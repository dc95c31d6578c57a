"""What may be deployed, and what it would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from blis_sim.capacity.search import FoundRate, Measurement, Verdict

if TYPE_CHECKING:
    from blis_sim.capacity.slo import Limit
    from blis_sim.capacity.study import Label
    from blis_sim.config.scenario import Scenario

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, eq=False)
class PlanCandidate:
    """One kind of replica.

    Attributes
    ----------
    scenario : Scenario
        One replica under the load; its rate and number of requests are replaced.
    model, gpu : str
        Names in the catalog, or as written where they are unknown.
    settings : mapping of str to Label
        Further settings that set it apart, by their paths.
    """

    scenario: Scenario
    model: str
    gpu: str
    settings: Mapping[str, Label] = field(default_factory=dict)

    @property
    def tensor_parallel_size(self) -> int:
        """GPUs of a replica."""
        return self.scenario.engine.tensor_parallel_size

    def labels(self) -> dict[str, Label]:
        """Return what sets it apart."""
        return {
            "model": self.model,
            "hardware": self.gpu,
            "engine.tensor_parallel_size": self.tensor_parallel_size,
            **self.settings,
        }

    def words(self) -> str:
        """Return it as people say it: ``H100 TP 2, max_num_seqs=64``."""
        parts = [f"{self.gpu} TP {self.tensor_parallel_size}"]
        parts += [f"{path.rpartition('.')[2]}={value}" for path, value in self.settings.items()]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatePlan:
    """What a candidate carries, and what the target would take.

    Attributes
    ----------
    candidate : PlanCandidate
    found : FoundRate or None
        The search; None = nothing was simulated.
    reason : str
        Why it carries nothing; empty when it does.
    binds : str
        What binds first at the highest rate: a limit, and what the engine runs out of.
    metrics : mapping
        Figures of one replica at the highest rate.
    accuracy : str
        How far such figures were off where servers were measured; empty = not known.
    gpus_per_replica : int
        GPUs of a replica.
    usd_per_gpu_hour : float or None
        Price; None = not known.
    output_tokens : float
        Mean tokens generated for an arrival.
    num_simulations, num_requests : int
        What the search took.
    is_simulated : bool
        Whether anything was simulated.
    rank : int or None
        By cost, among the candidates of its model; None = it carries nothing.
    is_pareto : bool
        Whether no other candidate is both no dearer and no slower for its users.
    num_replicas, num_gpus : int or None
        What the target takes; None without one.
    headroom_frac : float or None
        Share of the capacity that the target leaves free.
    usd_per_hour, usd_per_million_output_tokens : float or None
        Cost of that; None = the price is not known, or no target.
    """

    candidate: PlanCandidate
    found: FoundRate | None
    reason: str = ""
    binds: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    accuracy: str = ""
    gpus_per_replica: int = 1
    usd_per_gpu_hour: float | None = None
    output_tokens: float = 0.0
    num_simulations: int = 0
    num_requests: int = 0
    is_simulated: bool = True
    rank: int | None = None
    is_pareto: bool = False
    num_replicas: int | None = None
    num_gpus: int | None = None
    headroom_frac: float | None = None
    usd_per_hour: float | None = None
    usd_per_million_output_tokens: float | None = None

    @property
    def rate(self) -> float:
        """Highest rate of one replica, requests/s; 0 = none."""
        return 0.0 if self.found is None else self.found.rate

    @property
    def usd_per_replica_hour(self) -> float | None:
        """USD per hour of one replica; None = the price is not known."""
        price = self.usd_per_gpu_hour
        return None if price is None else price * self.gpus_per_replica

    @property
    def usd_per_rate(self) -> float | None:
        """USD per hour for each request per second at the highest rate."""
        if self.usd_per_replica_hour is None or self.rate <= 0:
            return None
        return self.usd_per_replica_hour / self.rate

    @property
    def tokens_per_s_per_user(self) -> float | None:
        """Tokens a second that a user sees at the highest rate: 1000 / mean TPOT in ms."""
        tpot_ms = self.metrics.get("mean_tpot_ms")
        return 1000 / tpot_ms if tpot_ms else None

    @property
    def tokens_per_s_per_gpu(self) -> float | None:
        """Output tokens per second and GPU at the highest rate."""
        if self.rate <= 0 or not self.output_tokens:
            return None
        return self.rate * self.output_tokens / self.gpus_per_replica

    def with_replicas(self, num_replicas: int, target_rate: float) -> CandidatePlan:
        """Return the plan for a number of replicas at a target rate."""
        num_gpus = num_replicas * self.gpus_per_replica
        price = self.usd_per_gpu_hour
        usd_per_hour = None if price is None else num_gpus * price
        million_tokens = target_rate * self.output_tokens * SECONDS_PER_HOUR / 1e6
        per_million = None
        if usd_per_hour is not None and million_tokens > 0:
            per_million = usd_per_hour / million_tokens
        return replace(
            self,
            num_replicas=num_replicas,
            num_gpus=num_gpus,
            headroom_frac=1 - target_rate / (num_replicas * self.rate),
            usd_per_hour=usd_per_hour,
            usd_per_million_output_tokens=per_million,
        )

    def to_json_dict(self) -> dict[str, Any]:
        """Return plain values."""
        found, candidate = self.found, self.candidate
        finite = found is not None and found.upper < float("inf")
        return {
            "rank": self.rank,
            "model": candidate.model,
            "gpu": candidate.gpu,
            "tensor_parallel_size": candidate.tensor_parallel_size,
            "settings": dict(candidate.settings),
            "status": "found" if self.rate > 0 else "infeasible",
            "reason": self.reason,
            "rate_per_replica": self.rate,
            "rate_low": self.rate,
            "rate_high": found.upper if finite and found is not None else None,
            "replicas": self.num_replicas,
            "gpus_per_replica": self.gpus_per_replica,
            "num_gpus": self.num_gpus,
            "usd_per_gpu_hour": self.usd_per_gpu_hour,
            "usd_per_hour": self.usd_per_hour,
            "usd_per_million_output_tokens": self.usd_per_million_output_tokens,
            "headroom_frac": self.headroom_frac,
            "binds": self.binds,
            "is_pareto": self.is_pareto,
            "tokens_per_s_per_user": self.tokens_per_s_per_user,
            "tokens_per_s_per_gpu": self.tokens_per_s_per_gpu,
            "metrics": dict(self.metrics),
            "accuracy": self.accuracy,
            "probes": [] if found is None else [probe_json(m) for m in found.measurements],
            "num_simulations": self.num_simulations,
            "num_requests": self.num_requests,
        }


def probe_json(measurement: Measurement) -> dict[str, Any]:
    """Return one step of a search as plain values."""
    return {
        "rate": measurement.probe.rate,
        "num_requests": measurement.probe.num_requests,
        "values": dict(measurement.values),
        "margins": {name: measurement.clipped(name) for name in measurement.margins},
        "verdict": measurement.verdict.value,
        "is_saturated": measurement.is_saturated,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The winner as a whole cluster at the target rate.

    Attributes
    ----------
    model : str
    num_replicas, num_planned : int
        Replicas simulated last, and those the plan began with.
    num_requests : int
        Simulated.
    duration_s : float
        In which they arrive.
    is_short : bool
        Whether that is too short to be the steady state.
    values : mapping of str to float or None
        Of each limited metric.
    limits : sequence of Limit
    verdict : Verdict
        Whether the limits are kept.
    metrics : mapping
        All figures.
    """

    model: str
    num_replicas: int
    num_planned: int
    num_requests: int
    values: Mapping[str, float | None]
    limits: Sequence[Limit]
    verdict: Verdict
    duration_s: float = 0.0
    is_short: bool = False
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def words(self) -> str:
        """Return what the cluster showed: ``simulated as a whole: p99 TTFT 120 of 500 ms``."""
        parts = []
        for limit in self.limits:
            value = self.values.get(limit.metric)
            if value is not None:
                parts.append(limit.reached(value))
        more = ""
        if self.num_replicas != self.num_planned:
            more = f" ({self.num_planned} replicas missed a limit)"
        if self.is_short:
            more += f", for {self.duration_s:.3g} s only"
        unclear = "too short to tell" if self.is_short else "within chance of the limit"
        kept = {Verdict.KEPT: "kept", Verdict.UNCLEAR: unclear, Verdict.MISSED: "MISSED"}
        return f"simulated as a whole{more}: {', '.join(parts)}, {kept[self.verdict]}"

    def to_json_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "model": self.model,
            "replicas": self.num_replicas,
            "replicas_planned": self.num_planned,
            "num_requests": self.num_requests,
            "duration_s": self.duration_s,
            "is_short": self.is_short,
            "values": dict(self.values),
            "verdict": self.verdict.value,
            "metrics": dict(self.metrics),
        }
