"""What a run was asked and what it answers, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blis_sim.report.averaged import with_derived
from blis_sim.report.compare_names import short_model
from blis_sim.report.html.answer import mapping, sentence
from blis_sim.report.html.limiting import limiting_words
from blis_sim.report.metric_words import GOODPUT_FRAC, USD_PER_HOUR, USD_PER_MILLION
from blis_sim.report.number_words import (
    as_float,
    counted,
    joined,
    milliseconds,
    number,
    percent,
    rate,
    usd,
)
from blis_sim.report.plots.distributions import TAGS

if TYPE_CHECKING:
    from blis_sim.report.html.run_document import RunDocument


def deployment_words(manifest: Mapping[str, Any]) -> str:
    """Return what a run runs on: ``Llama-3.1-8B-Instruct on 2 x H100 TP 4``; empty = unknown."""
    parts: dict[str, list[str]] = {}
    for pool in manifest.get("pools") or [manifest]:
        if not pool.get("model"):
            continue
        place = f"{pool.get('num_instances', 1)} x {pool.get('gpu')}"
        if (pool.get("tensor_parallel_size") or 1) > 1:
            place += f" TP {pool['tensor_parallel_size']}"
        if pool.get("role", "mixed") != "mixed":
            place += f" ({pool['role']})"
        if pool.get("max_instances"):
            place = place.replace(
                f"{pool.get('num_instances', 1)} x",
                f"{pool.get('min_instances') or 1} to {pool['max_instances']} x",
                1,
            )
        parts.setdefault(short_model(str(pool["model"])), []).append(place)
    return " and ".join(f"{model} on {' + '.join(places)}" for model, places in parts.items())


def rate_unit(run: RunDocument) -> str:
    """Return what arrives at the configured rate: a conversation begins, or a request comes."""
    workload = mapping(mapping(run.manifest.get("scenario")).get("workload"))
    return "conversations/s" if workload.get("sessions") else "requests/s"


def load_words(run: RunDocument) -> str:
    """Return the load in words, as far as the manifest tells."""
    workload = mapping(mapping(run.manifest.get("scenario")).get("workload"))
    number_of = run.figure("num_prompts")
    asked = as_float(run.summary.get("request_rate"))
    words = counted(int(number_of), "request") if number_of is not None else "requests"
    if workload.get("trace"):
        words += f" of the trace {workload['trace']}"
    elif workload.get("preset"):
        words += f", lengths as in {workload['preset']}"
    if asked is not None:
        at_once = asked == float("inf")
        words += ", all at once" if at_once else f", {rate(asked)} {rate_unit(run)}"
    return words


def question_words(run: RunDocument, deployed: str) -> str:
    """Return the question that a run answers."""
    asked = as_float(run.summary.get("request_rate"))
    if not deployed:
        return f"What does {run.place} say?"
    if asked is None or asked == float("inf"):
        return f"How does {deployed} serve this load?"
    unit = rate_unit(run).replace("s/", "/") if asked == 1 else rate_unit(run)
    return f"How does {deployed} serve {rate(asked)} {unit}?"


def answer_sentence(run: RunDocument, deployed: str) -> str:
    """Return what was served, how fast, at what cost, and what limits it."""
    completed = run.figure("completed") or 0
    injected = run.figure("num_prompts") or completed
    if not completed:
        return sentence(f"none of {counted(int(injected), 'request')} was completed")
    of = f"{completed:,.0f}" if completed == injected else f"{completed:,.0f} of {injected:,.0f}"
    served = run.figure("request_throughput")
    words = f"{deployed or 'The deployment'} served {of} request{'' if completed == 1 else 's'}"
    if served is not None:
        words += f" at {number(served)}/s"
    if run.figure("output_throughput") is not None:
        words += f" ({number(run.figure('output_throughput'))} output tokens/s)"
    words += _latency_words(run) + _good_words(run)
    money = _money(run)
    words += f", for {money}" if money else ""
    limiting = limiting_words(run)
    return f"{words}; {limiting}." if limiting else f"{words}."


def _latency_words(run: RunDocument) -> str:
    told = []
    for tag in ("ttft", "tpot"):
        mean, p99 = run.figure(f"mean_{tag}_ms"), run.figure(f"p99_{tag}_ms")
        if mean is not None and p99 is not None:
            told.append(
                f"a {TAGS[tag]} of {milliseconds(mean)} on average and {milliseconds(p99)} at p99"
            )
    return f" with {joined(told)}" if told else ""


def _good_words(run: RunDocument) -> str:
    """Return how many requests stayed within their limits, where they have some."""
    good = with_derived(run.summary).get(GOODPUT_FRAC)
    return "" if good is None else f", {percent(good)} of them within their limits"


def _money(run: RunDocument) -> str:
    per_hour = with_derived(run.summary).get(USD_PER_HOUR)
    per_token = run.figure(USD_PER_MILLION)
    if per_hour is None:
        return ""
    words = f"{usd(per_hour)} per hour"
    return words if per_token is None else f"{words} ({usd(per_token)} per million output tokens)"
