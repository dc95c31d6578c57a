"""The coefficient file that ``blis run --coefficients`` reads."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from blis_sim.atomic import atomic_write
from blis_sim.calibration import blackbox, host
from blis_sim.calibration.calibrate import Calibration
from blis_sim.config.latency import LatencyModelName
from blis_sim.errors import ConfigError
from blis_sim.latency.roofline_v2.host_file import HOST_SUFFIXES

_DIGITS = 6


def check_suffix(path: Path, model: LatencyModelName) -> None:
    """Check that the name of a coefficient file fits its latency model.

    Raises
    ------
    ConfigError
        It does not: the file would be read as another kind.
    """
    known = (".csv",) if model is LatencyModelName.BLACKBOX else HOST_SUFFIXES
    if path.suffix.lower() not in known:
        raise ConfigError(
            f"--out must be a {' or '.join(known)} file for {model.value}; got {path}: the name "
            "says what is in a coefficient file"
        )


def coefficients_text(calibration: Calibration) -> str:
    """Return the text of the coefficient file: CSV for blackbox, YAML for roofline-v2."""
    numbers = [f"{each.value:.{_DIGITS}g}" for each in calibration.estimates]
    if calibration.target.latency_model is LatencyModelName.BLACKBOX:
        return _csv(calibration, numbers)
    return _yaml(calibration, numbers)


def write_coefficients(calibration: Calibration, path: Path) -> None:
    """Write the coefficient file, whole or not at all.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(coefficients_text(calibration), encoding="utf-8", newline="")


def _csv(calibration: Calibration, numbers: list[str]) -> str:
    target = calibration.target
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "gpu", "tp", "vllm_version", *blackbox.NAMES])
    writer.writerow([target.model, target.gpu, target.tp, target.engine_version or "", *numbers])
    return text.getvalue()


def _yaml(calibration: Calibration, numbers: list[str]) -> str:
    target = calibration.target
    about = [
        "What a step costs beyond its kernels, for roofline-v2: microseconds, fitted by blis "
        "calibrate",
        f"for {target.model} on {target.gpu}, TP {target.tp}",
        *(f"to {each.source}" for each in calibration.errors),
    ]
    lines = [f"# {' '.join(line.split())}" for line in about]
    for name, number, each in zip(host.NAMES, numbers, calibration.estimates, strict=True):
        if each.is_held:
            lines.append(f"# not determined, held: {each.held_because}")
        elif each.low is not None and each.high is not None:
            lines.append(f"# 95 % interval: {each.low:.4g} to {each.high:.4g}")
        lines.append(f"{name}: {float(number)!r}")
    return "\n".join([*lines, ""])
