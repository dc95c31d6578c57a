"""The profile of a measured machine: its file, and the roofs it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blis_sim.errors import ConfigError
from blis_sim.roofline.ceilings import DRAM, Bandwidth, Ceilings, Peak
from blis_sim.roofline.host_kernels import HostKernel
from blis_sim.roofline.repeated_timing import Timing

FORMAT: Literal["blis-machine-profile"] = "blis-machine-profile"
READ, COPY, TRIAD = "read", "copy", "triad"
_STREAMS = (READ, COPY, TRIAD)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MeasuredRate(_Strict):
    """A rate and how sure it is."""

    name: str = Field(min_length=1)
    """``read``, ``copy``, ``triad``, ``gemm fp32``, ``gemv fp32``, ..."""
    gb_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """1e9 bytes of memory per second, > 0; None = bytes do not matter."""
    tflops: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """1e12 operations per second, > 0; None = there are none."""
    spread_frac: float = Field(ge=0, allow_inf_nan=False)
    """Distance of the quartiles of the runs / their median, >= 0."""
    runs: int = Field(ge=3)
    """Timed runs behind the warm-up."""
    call_s: float = Field(gt=0, allow_inf_nan=False)
    """What one call took, s, > 0: what the rates are worked out from."""
    median_s: float = Field(gt=0, allow_inf_nan=False)
    """Median over the runs, s per call, > 0."""
    longer_run_s: float = Field(gt=0, allow_inf_nan=False)
    """The longer run that checks it, s per call, > 0."""
    threads: int = Field(ge=1)
    """Threads that worked."""
    how: str = ""
    """In which way, where several were tried and this is the fastest."""

    @property
    def is_longer_run(self) -> bool:
        """Whether the longer run is reported because it did not confirm the median."""
        return self.call_s != self.median_s

    @classmethod
    def of(cls, kernel: HostKernel, timing: Timing, threads: int) -> MeasuredRate:
        """Return the rates of something that was timed; 0 bytes or FLOPs give none."""
        return cls(
            name=kernel.name,
            how=kernel.how,
            gb_per_s=kernel.bytes / timing.call_s / 1e9 or None,
            tflops=kernel.flops / timing.call_s / 1e12 or None,
            spread_frac=timing.spread_frac,
            runs=timing.runs,
            call_s=timing.call_s,
            median_s=timing.median_s,
            longer_run_s=timing.check_s,
            threads=threads,
        )


class MachineProfile(_Strict):
    """What was measured of a machine, and how."""

    format: Literal["blis-machine-profile"] = FORMAT
    """Says what the file is."""
    version: Literal[1] = 1
    """Version of the form."""
    machine: str = Field(min_length=1)
    """Model of the processor."""
    measured_at: str
    """When, ISO 8601."""
    software: str
    """Versions of Python and numpy, and the library that multiplies matrices."""
    threads: int = Field(ge=1)
    """Threads that read, copied and combined."""
    blas_threads: int = Field(ge=1)
    """Threads of the library that multiplied."""
    blas_threads_from: str
    """Where their number is known from."""
    cache_bytes: int = Field(gt=0)
    """Last-level cache, bytes, > 0."""
    array_bytes: int = Field(gt=0)
    """Each array that was read, copied or combined, bytes, > 0."""
    is_quick: bool = False
    """Whether runs were short: the figures are rough."""
    rates: tuple[MeasuredRate, ...] = Field(min_length=1)
    """What was measured."""
    notes: tuple[str, ...] = ()
    """What one should know."""

    def rate(self, name: str) -> MeasuredRate:
        """Return the rate with a name.

        Raises
        ------
        ConfigError
            There is none.
        """
        for rate in self.rates:
            if rate.name == name:
                return rate
        known = ", ".join(rate.name for rate in self.rates)
        raise ConfigError(f"a machine profile must have the rate {name}; it has {known}")

    def ceilings(self) -> Ceilings:
        """Return the roofs: peaks of products by type, bandwidths by kind of access.

        ``DRAM`` is the highest of the bandwidths of read, copy and triad, and the default;
        each of them follows as ``DRAM read`` and so on.

        Raises
        ------
        ConfigError
            The profile has no product or no bandwidth.
        """
        peaks = [
            Peak(rate.name.removeprefix("gemm "), rate.tflops)
            for rate in self.rates
            if rate.name.startswith("gemm ") and rate.tflops is not None
        ]
        streams = [
            Bandwidth(f"{DRAM} {rate.name}", rate.gb_per_s)
            for rate in self.rates
            if rate.name in _STREAMS and rate.gb_per_s is not None
        ]
        if not peaks or not streams:
            raise ConfigError(
                "a machine profile must have a gemm and one of read, copy and triad; measure the "
                "machine again: blis roofline measure"
            )
        dram = Bandwidth(DRAM, max(stream.gb_per_s for stream in streams))
        source = f"measured {self.measured_at}, {self.threads} threads"
        return Ceilings(self.machine, tuple(peaks), (dram, *streams), source)


def load_profile(path: Path) -> MachineProfile:
    """Return a profile from a file that ``write_profile`` wrote.

    Raises
    ------
    ConfigError
        The file cannot be read, or is no such profile; the message names the key.
    """
    values = _json(path) if path.suffix.lower() == ".json" else _yaml(path)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ConfigError(
            f"{path} must be a machine profile (format: {FORMAT}); make one with: blis roofline "
            "measure --out FILE"
        )
    try:
        return MachineProfile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{path}: {where} must be as 'blis roofline measure' writes it; got "
            f"{first.get('input')!r}: {first['msg']}"
        ) from None


def read_profile(path: Path) -> Ceilings:
    """Return the roofs of a measured machine from its profile.

    Raises
    ------
    ConfigError
        The file cannot be read, is no profile, or has no peak or bandwidth.
    """
    try:
        return load_profile(path).ceilings()
    except ConfigError as error:
        message = str(error)
        prefix = "" if message.startswith(str(path)) else f"{path}: "
        raise ConfigError(f"{prefix}{message}") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} must be a readable file; got: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} must be valid JSON; got: {error}") from None


def _yaml(path: Path) -> Any:
    from blis_sim.config.yaml_file import read_yaml

    return read_yaml(path, what="machine profile").values


def write_profile(profile: MachineProfile, path: Path) -> None:
    """Write a profile, whole or not at all: JSON for ``*.json``, else YAML.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    import yaml

    from blis_sim.atomic import atomic_write

    values = profile.model_dump(mode="json", exclude_none=True)
    is_json = path.suffix.lower() == ".json"
    text = json.dumps(values, indent=2) if is_json else yaml.safe_dump(values, sort_keys=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text.rstrip("\n") + "\n", encoding="utf-8", newline="")
