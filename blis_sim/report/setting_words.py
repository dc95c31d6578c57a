"""Settings that set points apart, as people say them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from blis_sim.report.compare_names import short_model
from blis_sim.report.number_words import as_float, counted, rate

RATE = "workload.request_rate"
MODEL, GPU, TP = "model", "hardware", "engine.tensor_parallel_size"
_INSTANCES = "cluster.num_instances"
_HEADERS = {
    MODEL: "model",
    GPU: "GPU",
    TP: "TP",
    RATE: "requests/s",
    _INSTANCES: "instances",
}
_FIRST = (MODEL, GPU, TP)
"""What a deployment is called by before anything else."""


def header(path: str, among: Iterable[str] = ()) -> str:
    """Return the heading of a setting: its last part, unless another one ends so, too."""
    if path in _HEADERS:
        return _HEADERS[path]
    last = path.rpartition(".")[2]
    return path if sum(other.rpartition(".")[2] == last for other in among) > 1 else last


def value_words(value: Any, path: str = "") -> str:
    """Return a setting's value."""
    if path == MODEL:
        return short_model(str(value))
    if path == RATE and value == "inf":
        return "all at once"
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    return rate(value) if isinstance(value, int | float) else str(value)


def setting_words(path: str, value: Any, among: Iterable[str] = ()) -> str:
    """Return a setting with its name where the value does not speak for itself."""
    shown = value_words(value, path)
    if path in (MODEL, GPU):
        return shown
    if path == RATE:
        return shown if value == "inf" else f"{shown} request{'' if shown == '1' else 's'}/s"
    if path == _INSTANCES and isinstance(value, int):
        return counted(value, "instance")
    return f"{header(path, among)} {shown}"


def point_words(labels: Mapping[str, Any], *, without: Iterable[str] = ()) -> str:
    """Return what sets a point apart: ``H100 TP 2, max_num_seqs 64, 8 requests/s``."""
    left_out = set(without)
    paths = [path for path in labels if path not in left_out]
    first = [path for path in _FIRST if path in paths]
    rest = [path for path in paths if path not in first and path != RATE]
    rest += [path for path in paths if path == RATE]
    place = " ".join(setting_words(path, labels[path], paths) for path in first if path != MODEL)
    model = setting_words(MODEL, labels[MODEL]) if MODEL in first else ""
    deployed = f"{model} on {place}" if model and place else model or place
    parts = [deployed] if deployed else []
    return ", ".join(parts + [setting_words(path, labels[path], paths) for path in rest])


def varying(labels: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings that are not the same everywhere, in order of appearance."""
    paths = dict.fromkeys(path for each in labels for path in each)
    return [path for path in paths if len({repr(each.get(path)) for each in labels}) > 1]


def number_of(value: Any) -> float | None:
    """Return the value of a setting as a number, None where it is none."""
    return as_float(value)
