"""What a simulation returns: the numbers, the tables and where they come from."""

from __future__ import annotations

import html
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.catalog.error_bands import load_error_bands
from blis_sim.metrics import parts
from blis_sim.metrics import summary as build
from blis_sim.metrics.accuracy import Accuracy, accuracy_of, served_load
from blis_sim.metrics.columns import request_columns, timeseries_columns, to_frame
from blis_sim.metrics.conservation import check_conservation, conservation
from blis_sim.metrics.context import PoolContext, RunContext
from blis_sim.metrics.decision_columns import decision_columns
from blis_sim.metrics.definitions import (
    CLUSTER_METRICS,
    LATENCIES,
    SERVING_METRICS,
    Group,
    metric_definitions,
)
from blis_sim.metrics.measured import Measured
from blis_sim.metrics.plain import canonical_sha256, to_plain
from blis_sim.metrics.records import RunData
from blis_sim.metrics.replications import Replications
from blis_sim.metrics.timeline import step_columns
from blis_sim.metrics.window import window_of

if TYPE_CHECKING:
    import pandas as pd

    from blis_sim.metrics.roofline import RunRoofline

__all__ = ["PoolContext", "Result", "RunContext", "RunInfo", "check_conservation"]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Facts of the wall clock and the host; comparisons of results leave them out."""

    date: datetime
    """When the run started, with its time zone."""
    wall_s: float
    """How long it took."""
    python_version: str = ""
    platform: str = ""
    cpu_count: int | None = None

    @classmethod
    def collect(cls, *, started: datetime | None = None, wall_s: float) -> RunInfo:
        """Return the facts of this host; ``started`` is now unless given."""
        return cls(
            date=started or datetime.now(UTC),
            wall_s=wall_s,
            python_version=platform.python_version(),
            platform=platform.platform(),
            cpu_count=os.cpu_count(),
        )


class Result:
    """The outcome of one simulation.

    Parameters
    ----------
    run : RunData
        What was measured; its conservation laws have been checked.
    context : RunContext
        What was simulated.
    run_info : RunInfo
        When, where and how long.
    """

    def __init__(self, run: RunData, context: RunContext, run_info: RunInfo) -> None:
        self.run = run
        self.context = context
        self._run_info = run_info
        self.replications: Replications | None = None
        """Figures of several seeds, where `replicate` simulated them."""
        self.roofline: RunRoofline | None = None
        """Intensity, MFU, MBU and what bound the time, where that was asked for."""

    @cached_property
    def summary(self) -> dict[str, Any]:
        """All metrics in one flat dictionary of fixed order, vLLM's keys first.

        Units are in the keys or as in vLLM (``duration`` in seconds, throughputs per
        second); None = no data. See :func:`metric_definitions` for the formulas. Only
        ``date`` differs between two runs of one scenario.
        """
        return {
            **self._serving,
            **build.group_summary(self.run, self.context, Group.KV_CACHE),
            **build.group_summary(self.run, self.context, Group.ENGINE),
            **build.group_summary(self.run, self.context, Group.CLUSTER),
        }

    @cached_property
    def _serving(self) -> dict[str, Any]:
        # vLLM writes its date in this form.
        date = self._run_info.date.strftime("%Y%m%d-%H%M%S")
        return build.serving_summary(self.run, self.context, date)

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row per request in order of ``request_id``; the columns of ``--requests-out``."""
        return to_frame(request_columns(self.run))

    @cached_property
    def timeseries(self) -> pd.DataFrame | None:
        """One row per sample and instance, or None when the run was not sampled."""
        columns = timeseries_columns(self.run)
        return None if columns is None else to_frame(columns)

    @cached_property
    def decisions(self) -> pd.DataFrame | None:
        """One row per decision of the router and candidate, or None when they were not kept."""
        columns = decision_columns(self.run)
        return None if columns is None else to_frame(columns)

    @cached_property
    def steps(self) -> pd.DataFrame | None:
        """One row per engine step of the timeline, or None when none was recorded."""
        columns = step_columns(self.run)
        return None if columns is None else to_frame(columns)

    @cached_property
    def conservation(self) -> dict[str, int]:
        """Where every injected request ended, each count also when it is 0."""
        return conservation(self.run)

    @cached_property
    def per_class(self) -> dict[str, dict[str, Any]]:
        """Counts, rates and latencies of each SLO class."""
        return parts.per_class_block(self.run, self.context)

    @cached_property
    def per_tenant(self) -> dict[str, dict[str, Any]]:
        """Counts, rates and latencies of each tenant."""
        return parts.per_tenant_block(self.run, self.context)

    @cached_property
    def per_pool(self) -> dict[str, dict[str, Any]]:
        """What each pool of a cluster is and did, by name; empty without a cluster."""
        return parts.per_pool_block(self.run, self.context)

    @cached_property
    def per_instance(self) -> list[dict[str, Any]]:
        """What each instance of a cluster did, by number; empty without a cluster."""
        return parts.per_instance_block(self.run, self.context)

    @cached_property
    def cluster(self) -> dict[str, Any]:
        """GPU-hours (also by GPU), instances over time, fairness, transfers, gateway."""
        return build.cluster_block(self.run, self.context)

    @cached_property
    def accuracy(self) -> Accuracy | None:
        """How far such figures were off where servers were measured; None = none served."""
        num_instances = self.summary["mean_instances"] or self.context.num_instances
        load = served_load(self.run.requests, None, num_instances)
        return accuracy_of(self.context.kinds, load, load_error_bands())

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Where the numbers come from: scenario, its hash, versions, latency model, data."""
        context = self.context
        return {
            "scenario": to_plain(context.scenario),
            "scenario_sha256": canonical_sha256(context.scenario),
            "seed": context.seed,
            "blis_sim_version": context.package_version,
            "numpy_version": context.numpy_version,
            "model": context.model,
            "gpu": context.gpu,
            "tensor_parallel_size": context.tensor_parallel_size,
            "num_instances": context.num_instances,
            "latency_model": context.latency_model,
            "latency_model_reason": context.latency_reason,
            "latency_model_alternatives": to_plain(list(context.latency_alternatives)),
            "latency_model_source": context.latency_source,
            "num_kv_blocks": context.num_kv_blocks,
            "num_kv_blocks_source": context.kv_blocks_source,
            "engine_settings": to_plain(context.engine_settings),
            "slo": to_plain(context.slo),
            "notices": list(context.notices),
            "pools": [to_plain(asdict(pool)) for pool in context.pools],
            "gateway": None if context.gateway is None else to_plain(asdict(context.gateway)),
            "prices": {gpu: to_plain(asdict(price)) for gpu, price in context.prices.items()},
        }

    @cached_property
    def run_info(self) -> dict[str, Any]:
        """Wall-clock facts: date, run time, host, and how much work the simulator did."""
        info = self._run_info
        return {
            "date": info.date.isoformat(),
            "wall_s": info.wall_s,
            "python_version": info.python_version,
            "platform": info.platform,
            "cpu_count": info.cpu_count,
            "num_engine_events": sum(counters.num_events for counters in self.run.counters),
        }

    @cached_property
    def measured(self) -> Measured:
        """The view of the run that the metric formulas read."""
        return build.measure(self.run, self.context)

    def window(self) -> Result:
        """Return the figures between the first and the last mark of the run.

        Raises
        ------
        ConfigError
            The run has fewer than two marks, see ``marks_s`` of `run`.
        """
        return Result(window_of(self.run), self.context, self._run_info)

    def to_json_dict(self, *, detailed: bool = False) -> dict[str, Any]:
        """Return the whole result as plain values for strict JSON, in a fixed order.

        Parameters
        ----------
        detailed : bool
            Add vLLM's per-request arrays (``input_lens``, ``output_lens``, ``start_times``,
            ``ttfts``, ``errors``).
        """
        report: dict[str, Any] = dict(self._serving)
        definitions = metric_definitions() | build.BLOCK_DEFINITIONS
        if detailed:
            report |= build.detailed_arrays(self.run)
            definitions |= build.DETAILED_DEFINITIONS
        report |= {
            "kv_cache": build.kv_cache_block(self.run, self.context),
            "engine": build.engine_block(self.run, self.context),
            "conservation": self.conservation,
            "per_class": self.per_class,
            "per_tenant": self.per_tenant,
            "per_pool": self.per_pool,
            "per_instance": self.per_instance,
            "cluster": self.cluster,
            "accuracy": None if self.accuracy is None else self.accuracy.to_json_dict(),
            "manifest": self.manifest,
            "run_info": self.run_info,
            "metric_definitions": definitions,
        }
        if self.roofline is not None:
            report["roofline"] = self.roofline.to_json_dict()
        if self.replications is not None:
            report["replications"] = self.replications.to_json_dict()
        plain: dict[str, Any] = to_plain(report)
        return plain

    def save(self, path: str | Path, *, detailed: bool = False) -> None:
        """Write the result as JSON, whole or not at all.

        Raises
        ------
        ConfigError
            The file cannot be written.
        """
        # The one step up the layers: a convenience of the Python API, taken only when asked.
        from blis_sim.report.json_report import write_json

        write_json(self, Path(path), detailed=detailed)

    def __repr__(self) -> str:
        """Return a line for the interpreter's prompt."""
        done = f"{self.conservation['completed']}/{self.conservation['injected']} completed"
        return f"<Result {self.context.model} on {self.context.gpu}: {done}>"

    def _repr_html_(self) -> str:
        """Return the headline numbers as a table for notebooks."""
        rows = [(d.header, self.summary[d.tag]) for d in SERVING_METRICS]
        if self.run.pools:
            rows += [(d.header, self.summary[d.tag]) for d in CLUSTER_METRICS]
        for latency in LATENCIES:
            if latency.group is Group.CLUSTER and not self.run.pools:
                continue
            for name in ("mean", "median", "p99"):
                label = f"{name.capitalize()} {latency.header} (ms)"
                rows.append((label, self.summary[f"{name}_{latency.tag}_ms"]))
        body = "".join(
            f"<tr><td>{html.escape(label)}</td>"
            f"<td style='text-align:right'>{_html_number(value)}</td></tr>"
            for label, value in rows
        )
        caption = f"{self.context.deployment}, {self.context.latency_model}"
        return f"<table><caption>{html.escape(caption)}</caption>{body}</table>"


def _html_number(value: float | None) -> str:
    if value is None:
        return "n/a"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
