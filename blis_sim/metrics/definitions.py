"""The registry of metrics: each is declared once, and every report iterates it."""

from __future__ import annotations

from blis_sim.metrics.cluster_metrics import CLUSTER_METRICS
from blis_sim.metrics.engine_metrics import ENGINE_METRICS, KV_CACHE_METRICS
from blis_sim.metrics.latencies import LATENCIES
from blis_sim.metrics.metric import Group, LatencyMetric, Metric, Scope
from blis_sim.metrics.serving_metrics import SERVING_METRICS

__all__ = [
    "CLUSTER_METRICS",
    "ENGINE_METRICS",
    "KV_CACHE_METRICS",
    "LATENCIES",
    "METRICS",
    "SERVING_METRICS",
    "Group",
    "LatencyMetric",
    "Metric",
    "Scope",
    "metric",
    "metric_definitions",
]

METRICS: tuple[Metric, ...] = (
    *SERVING_METRICS,
    *KV_CACHE_METRICS,
    *ENGINE_METRICS,
    *CLUSTER_METRICS,
)


def metric(tag: str) -> Metric:
    """Return the declaration of ``tag``; KeyError when there is none."""
    for declared in METRICS:
        if declared.tag == tag:
            return declared
    raise KeyError(tag)


def metric_definitions() -> dict[str, dict[str, str]]:
    """Return what every reported number means: tag → keys, header, unit, formula."""
    definitions: dict[str, dict[str, str]] = {}
    for declared in METRICS:
        definitions[declared.tag] = {
            "header": declared.header,
            "unit": declared.unit,
            "formula": declared.formula,
        }
    for latency in LATENCIES:
        definitions[latency.tag] = {
            "header": latency.title,
            "keys": f"mean|median|std|p<percentile>_{latency.tag}_ms",
            "unit": "ms",
            "formula": f"{latency.formula}; std over the population; percentiles by linear "
            "interpolation at p/100*(n-1)",
        }
    return definitions
