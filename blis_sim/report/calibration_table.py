"""What a calibration found, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blis_sim.metrics.plain import to_plain
from blis_sim.report.text_columns import text_columns
from blis_sim.version import package_version

if TYPE_CHECKING:
    from blis_sim.calibration.accuracy import Accuracy
    from blis_sim.calibration.calibrate import Calibration, Errors
    from blis_sim.calibration.identify import Estimate


def render_calibration(calibration: Calibration, out: Path) -> str:
    """Return the coefficients, the errors and the notes as text for people.

    Parameters
    ----------
    calibration : Calibration
        What came out.
    out : Path
        Where the coefficients were written.
    """
    target = calibration.target
    heading = (
        f"{target.latency_model.value} for {target.model} on {target.gpu}, TP {target.tp}, "
        f"fitted to {' and '.join(each.source for each in calibration.errors)}"
    )
    lines = [heading, *text_columns(list(_coefficients(calibration)), left=(0, 2, 3)), ""]
    for errors in calibration.errors:
        lines += [errors.source, *text_columns(list(_errors(errors)), left=(0, 1))]
    lines += [""]
    lines += [f"note: {text}" for text in _held(calibration)]
    lines += [f"note: {notice}" for notice in calibration.notices]
    flag = f"blis run --coefficients {out}"
    lines.append(f"written to {out}: {flag} uses it")
    return "\n".join(lines)


def _coefficients(calibration: Calibration) -> Iterator[tuple[str, ...]]:
    yield "", "value", "95 % interval", "unit"
    for each in calibration.estimates:
        interval = "held, not determined"
        if each.low is not None and each.high is not None:
            interval = f"{each.low:.4g} to {each.high:.4g}"
        yield each.parameter.name, f"{each.value:.5g}", interval, each.parameter.unit


def _errors(errors: Errors) -> Iterator[tuple[str, ...]]:
    yield "", "", "measured ms", "predicted ms", "bias %", "MAPE %", "number"
    for part, found in (
        ("fitted to", errors.fitted),
        ("held out", errors.held_out),
        ("all, as shipped", errors.as_shipped),
    ):
        for each in found:
            yield (
                part,
                each.name,
                f"{each.measured_ms:,.2f}",
                f"{each.predicted_ms:,.2f}",
                f"{each.bias_pct:+.1f}",
                f"{each.mape_pct:.1f}",
                f"{each.num_values:,}",
            )


def _held(calibration: Calibration) -> Iterator[str]:
    """Yield why parameters are held, and which data would tell them."""
    held = [each for each in calibration.estimates if each.is_held]
    for each in held:
        yield f"{each.parameter.name} is held at {each.value:g}: {each.held_because}"
    for hint in dict.fromkeys(each.parameter.hint for each in held):
        names = ", ".join(each.parameter.name for each in held if each.parameter.hint == hint)
        yield f"{names} would be told by: {hint}"


def calibration_json(calibration: Calibration, out: Path) -> str:
    """Return everything as strict JSON text, ending in a newline."""
    target = calibration.target
    document: dict[str, Any] = {
        "blis_sim_version": package_version(),
        "latency_model": target.latency_model.value,
        "model": target.model,
        "gpu": target.gpu,
        "tensor_parallel_size": target.tp,
        "engine_version": target.engine_version,
        "coefficients_file": str(out),
        "confidence": 0.95,
        "parameters": [_parameter(each) for each in calibration.estimates],
        "errors": [
            {
                "source": each.source,
                "fitted": [_accuracy(one) for one in each.fitted],
                "held_out": [_accuracy(one) for one in each.held_out],
                "as_shipped": [_accuracy(one) for one in each.as_shipped],
            }
            for each in calibration.errors
        ],
        "num_simulations": calibration.num_simulations,
        "notices": list(calibration.notices),
    }
    return json.dumps(to_plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _parameter(estimate: Estimate) -> dict[str, Any]:
    parameter = estimate.parameter
    return {
        "name": parameter.name,
        "unit": parameter.unit,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "held_because": estimate.held_because or None,
        "data_needed": parameter.hint if estimate.is_held else None,
    }


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    return {**asdict(accuracy), "bias_pct": accuracy.bias_pct}
