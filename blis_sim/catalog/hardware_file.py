"""Read hardware files in the JSON form of the BLIS simulator.

The file is an object: GPU name -> constants. Keys are accepted in any case::

    {"H100": {"TFlopsPeak": 989.5, "BwPeakTBs": 3.35, "mfuPrefill": 0.65, "MemoryGiB": 79.2}}

Only what the file says is returned; what it leaves out is filled elsewhere.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from blis_sim.errors import CatalogError, nearest


@dataclass(frozen=True, slots=True)
class _Key:
    """What one JSON key means and which values it may take."""

    field: str
    unit: str
    can_be_zero: bool = False
    at_most: float = math.inf

    @property
    def constraint(self) -> str:
        lower = ">= 0" if self.can_be_zero else "> 0"
        upper = "" if math.isinf(self.at_most) else f" and <= {self.at_most:g}"
        return f"a finite number {lower}{upper} ({self.unit})"

    def accepts(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        try:
            number = float(value)
        except OverflowError:
            return False
        if not math.isfinite(number) or number > self.at_most:
            return False
        return number > 0 or (self.can_be_zero and number == 0)


def _keys() -> dict[str, _Key]:
    """Return the meaning of every key in its usual spelling."""
    efficiency = _Key("bandwidth_efficiency", "share of the peak bandwidth", at_most=1)
    return {
        "TFlopsPeak": _Key("peak_tflops", "TFLOP/s, dense"),
        "BwPeakTBs": _Key("bandwidth_tb_per_s", "TB/s"),
        "BwEffConstant": efficiency,
        "bwEfficiencyFactor": efficiency,
        "mfuPrefill": _Key("mfu_prefill", "share of the peak", at_most=1),
        "mfuDecode": _Key("mfu_decode", "share of the peak", at_most=1),
        "perLayerOverhead": _Key("per_layer_overhead_us", "us per layer", can_be_zero=True),
        "TOverheadMicros": _Key("fixed_overhead_us", "us per step", can_be_zero=True),
        "allReduceLatency": _Key("allreduce_us", "us per all-reduce", can_be_zero=True),
        "MemoryGiB": _Key("memory_gib", "GiB"),
        "TpScalingExponent": _Key("tp_scaling_exponent", "compute is divided by tp to this power"),
        "PrefillBwFactor": _Key("prefill_bw_factor", "times the bandwidth"),
        "DecodeBwFactor": _Key("decode_bw_factor", "times the bandwidth"),
    }


@dataclass(frozen=True, slots=True)
class HardwareEntry:
    """What a hardware file says about one GPU.

    Attributes
    ----------
    name : str
        The GPU's name as written in the file.
    where : str
        File and GPU, for error messages.
    values : dict of str to float
        Only the constants that the file gives, by the field names of
        `blis_sim.catalog.gpus.RooflineV1Constants`, and ``memory_gib``.
    """

    name: str
    where: str
    values: dict[str, float] = field(default_factory=dict)


class _Object(dict[str, Any]):
    """A JSON object that remembers a key given twice."""

    repeated: str | None = None


def _make_object(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    seen: set[str] = set()
    for key, _ in pairs:
        if key.lower() in seen:
            made.repeated = key
        seen.add(key.lower())
    return made


def read_hardware_file(path: Path) -> tuple[HardwareEntry, ...]:
    """Read a hardware file.

    Parameters
    ----------
    path : Path
        A JSON file in BLIS form.

    Returns
    -------
    tuple of HardwareEntry
        In the order of the file, at least one.

    Raises
    ------
    CatalogError
        The file is missing, malformed (with line and column) or empty; a key is unknown or
        given twice; a value has the wrong type or is out of range.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else "not UTF-8 text"
        raise CatalogError(f"{path} must be a readable hardware file; got: {reason}") from cause
    try:
        document = json.loads(text, object_pairs_hook=_make_object)
    except json.JSONDecodeError as cause:
        raise CatalogError(
            f"{path}:{cause.lineno}:{cause.colno} must be valid JSON; got: {cause.msg}"
        ) from cause
    except RecursionError:
        raise CatalogError(f"{path} must be valid JSON; got: nested too deeply") from None
    except ValueError:
        # Python refuses to convert integers of thousands of digits.
        raise CatalogError(f"{path} must be valid JSON; got a number too long") from None
    if not isinstance(document, _Object) or not document:
        raise CatalogError(
            f"{path} must be a JSON object of GPU name -> constants with at least one GPU; "
            f"got {_shown(document)}"
        )
    if document.repeated is not None:
        raise CatalogError(
            f"{_at(path, text, document.repeated)} must name each GPU once; "
            f"got {document.repeated!r} twice"
        )
    return tuple(_entry(path, text, name, body) for name, body in document.items())


def _entry(path: Path, text: str, name: str, body: object) -> HardwareEntry:
    where = _at(path, text, name)
    if not isinstance(body, _Object):
        raise CatalogError(
            f"{where}: {name} must be a JSON object of constants, e.g. "
            f'{{"TFlopsPeak": 989.5, "BwPeakTBs": 3.35}}; got {_shown(body)}'
        )
    if body.repeated is not None:
        raise CatalogError(
            f"{_at(path, text, name, body.repeated)}: {name} must hold each key once; "
            f"got {body.repeated!r} twice"
        )
    keys = _keys()
    by_lower = {key.lower(): key for key in keys}
    values: dict[str, float] = {}
    for written, value in body.items():
        at = _at(path, text, name, written)
        if written.lower() not in by_lower:
            _unknown_key(at, name, written, list(keys))
        key = keys[by_lower[written.lower()]]
        if not key.accepts(value):
            raise CatalogError(
                f"{at}: {name}.{written} must be {key.constraint}; got {_shown(value)}"
            )
        if key.field in values:
            raise CatalogError(
                f"{at}: {name} must give {key.field} once; got a second spelling {written!r}"
            )
        values[key.field] = float(value)
    return HardwareEntry(name, where, values)


def _unknown_key(at: str, name: str, written: str, known: list[str]) -> NoReturn:
    raise CatalogError(
        f"{at}: {name}.{written} must be a known key; got {written!r}; "
        f"nearest: {', '.join(nearest(written, known))}; known: {', '.join(known)}"
    )


def _at(path: Path, text: str, *keys: str) -> str:
    """Return ``path:line`` of a key inside a chain of objects; ``path`` when not found."""
    position = 0
    for key in keys:
        found = text.find(json.dumps(key), position)
        if found < 0:
            return str(path)
        position = found
    return f"{path}:{text.count(chr(10), 0, position) + 1}"


def _shown(value: object) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
