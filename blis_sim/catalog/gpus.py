"""The GPU catalog: shipped specifications, overridden by a user's hardware file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from blis_sim.catalog.hardware_file import HardwareEntry, read_hardware_file
from blis_sim.catalog.paths import configs_dir, read_shipped_yaml
from blis_sim.errors import CatalogError, unknown_name

_COUNTS = frozenset({"num_sms", "flash_attention_version", "nvlink_gpus"})
_VENDOR_WORDS = frozenset({"nvidia", "amd", "geforce", "tesla", "instinct", "gpu"})


@dataclass(frozen=True, slots=True)
class RooflineV1Constants:
    """Constants of the roofline-v1 latency model for one GPU.

    The defaults are BLIS's calibration; it is the same for all GPUs.

    Attributes
    ----------
    peak_tflops : float
        Dense 16-bit peak, TFLOP/s, > 0.
    bandwidth_tb_per_s : float
        Memory bandwidth, TB/s, > 0.
    bandwidth_efficiency : float
        Share of the bandwidth that is reached, in (0, 1].
    mfu_prefill, mfu_decode : float
        Share of the peak that prefill and decode reach, in (0, 1].
    per_layer_overhead_us : float
        Added per layer and step, us, >= 0.
    fixed_overhead_us : float
        Added per step, us, >= 0.
    allreduce_us : float
        Duration of one all-reduce (two per layer when tp > 1), us, >= 0.
    tp_scaling_exponent : float
        Compute is divided by ``tp ** tp_scaling_exponent``, > 0.
    prefill_bw_factor, decode_bw_factor : float
        Factors on the bandwidth of each phase, > 0.
    """

    peak_tflops: float
    bandwidth_tb_per_s: float
    bandwidth_efficiency: float = 0.72
    mfu_prefill: float = 0.65
    mfu_decode: float = 0.12
    per_layer_overhead_us: float = 20.0
    fixed_overhead_us: float = 500.0
    allreduce_us: float = 20.0
    tp_scaling_exponent: float = 1.0
    prefill_bw_factor: float = 1.0
    decode_bw_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU.

    Attributes
    ----------
    name : str
        Name in the catalog, or as written in the user's hardware file.
    bf16_tflops_dense : float
        Dense bf16 tensor peak, TFLOP/s; fp16 where the chip has no bf16 (see ``notes``).
    hbm_gb_per_s : float
        Memory bandwidth, 1e9 bytes/s.
    roofline_v1 : RooflineV1Constants
        Constants of the roofline-v1 model.
    aliases : tuple of str
        Other names.
    fp8_tflops_dense : float or None
        Dense fp8 tensor peak, TFLOP/s; None = no fp8 units, or not known.
    memory_gb_label : float or None
        The marketing figure, GB.
    memory_gib : float or None
        What the driver reports as total, GiB; None = not given in the hardware file.
    memory_gib_is_estimate : bool
        Whether ``memory_gib`` was derived from the label instead of read off a card.
    nvlink_gb_per_s : float or None
        GPU-to-GPU link, both directions together, GB/s; None = PCIe only, or not known.
    nvlink_gpus : int or None
        How many GPUs that link joins, >= 2: bridges join pairs; None = as many as a group needs.
    tdp_w : float or None
        Board power, W.
    num_sms : int or None
        Streaming multiprocessors (compute units); None = not known.
    flash_attention_version : int or None
        The FlashAttention vLLM takes on this architecture for 16-bit caches: 2 or 3; None = other
        kernels, or not known.
    notes : str
        Remarks.
    source : str
        File the constants come from.
    """

    name: str
    bf16_tflops_dense: float
    hbm_gb_per_s: float
    roofline_v1: RooflineV1Constants
    aliases: tuple[str, ...] = ()
    fp8_tflops_dense: float | None = None
    memory_gb_label: float | None = None
    memory_gib: float | None = None
    memory_gib_is_estimate: bool = False
    nvlink_gb_per_s: float | None = None
    nvlink_gpus: int | None = None
    tdp_w: float | None = None
    num_sms: int | None = None
    flash_attention_version: int | None = None
    notes: str = ""
    source: str = field(default="", compare=False)

    def direct_gb_per_s(self, num_gpus: int) -> float | None:
        """Return the link within a group of GPUs, both directions; None = it crosses PCIe."""
        is_joined = self.nvlink_gpus is None or num_gpus <= self.nvlink_gpus
        return self.nvlink_gb_per_s if is_joined else None


def list_gpus() -> tuple[GpuSpec, ...]:
    """Return the shipped GPUs in the order of the catalog file.

    Raises
    ------
    CatalogError
        The shipped file is missing or damaged.
    """
    return _read_gpus(configs_dir() / "gpus" / "gpus.yaml")


# Looking up a deployment asks for the catalog several times, a study does so for each point.
@lru_cache(maxsize=4)
def _read_gpus(path: Path) -> tuple[GpuSpec, ...]:
    import yaml

    try:
        document = read_shipped_yaml(path)
        shared = document["roofline_v1"]
        return tuple(_from_yaml(entry, shared, str(path)) for entry in document["gpus"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as cause:
        raise CatalogError(f"{path} must be the shipped GPU catalog; got: {cause!r}") from cause


def _from_yaml(entry: dict[str, Any], shared: dict[str, float], source: str) -> GpuSpec:
    own: dict[str, Any] = {
        key: float(value) if type(value) is int and key not in _COUNTS else value
        for key, value in entry.items()
    }
    constants = {
        "peak_tflops": own["bf16_tflops_dense"],
        "bandwidth_tb_per_s": own["hbm_gb_per_s"] / 1000,
        **shared,
        **own.pop("roofline_v1", {}),
    }
    own["aliases"] = tuple(own["aliases"])
    return GpuSpec(**own, roofline_v1=RooflineV1Constants(**constants), source=source)


def canonical_gpu_name(name: str) -> str | None:
    """Return the catalog's name of a shipped GPU, None when it is not in the catalog.

    The comparison ignores case, punctuation and the vendor's words, and knows aliases:
    ``NVIDIA H100 80GB HBM3``, ``h100-sxm`` and ``H100`` are the same GPU.
    """
    found = _find_shipped(name, list_gpus())
    return None if found is None else found.name


def same_gpu_key(name: str, gpus: Iterable[GpuSpec] | None = None) -> str:
    """Return a key that is equal for all names of one GPU, also of one not in the catalog.

    Parameters
    ----------
    name : str
        Any name.
    gpus : iterable of GpuSpec, optional
        The catalog, when the caller has it at hand already.
    """
    found = _find_shipped(name, list_gpus() if gpus is None else gpus)
    return _normalised(name if found is None else found.name)


def load_gpu(name: str, hardware_config: Path | None = None) -> GpuSpec:
    """Return the specification of a GPU.

    Parameters
    ----------
    name : str
        GPU name: any case, aliases and the driver's long names are known.
    hardware_config : Path, optional
        Hardware file in BLIS JSON form. What it says about the GPU wins over the shipped
        constants; the GPU must be in it. A GPU that is not shipped needs ``TFlopsPeak`` and
        ``BwPeakTBs``; the other constants have BLIS's calibration as defaults.

    Returns
    -------
    GpuSpec
        The specification.

    Raises
    ------
    CatalogError
        The name is unknown (the nearest are listed), not in the given file (what it has is
        listed), or the file is unusable.
    """
    shipped = list_gpus()
    known = _find_shipped(name, shipped)
    if hardware_config is not None:
        entry = _find_entry(name, read_hardware_file(hardware_config), shipped, hardware_config)
        if known is None:
            # The asked name may be unknown while the file uses a shipped one, never the reverse.
            known = _find_shipped(entry.name, shipped)
        return _merged(known, entry, str(hardware_config))
    if known is None:
        names = [n for gpu in shipped for n in (gpu.name, *gpu.aliases)]
        raise CatalogError(
            f"{unknown_name('hardware', name, names)}; 'blis gpus' lists all, "
            "--hardware-config FILE adds others"
        )
    return known


def _find_entry(
    name: str, entries: tuple[HardwareEntry, ...], shipped: tuple[GpuSpec, ...], path: Path
) -> HardwareEntry:
    wanted = _normalised(name)
    literal = [entry for entry in entries if _normalised(entry.name) == wanted]
    key = same_gpu_key(name, shipped)
    by_alias = [entry for entry in entries if same_gpu_key(entry.name, shipped) == key]
    matches = literal or by_alias
    if not matches:
        raise CatalogError(
            f"hardware must be a GPU of {path}; got {name!r}; "
            f"the file has: {', '.join(entry.name for entry in entries)}"
        )
    if any(other.values != matches[0].values for other in matches[1:]):
        raise CatalogError(
            f"{path} must say one thing about {name}; got different constants under "
            f"{', '.join(entry.name for entry in matches)}; use one of these names"
        )
    return matches[0]


def _merged(known: GpuSpec | None, entry: HardwareEntry, source: str) -> GpuSpec:
    values = dict(entry.values)
    memory_gib = values.pop("memory_gib", None)
    if known is None:
        needed = {"TFlopsPeak": "peak_tflops", "BwPeakTBs": "bandwidth_tb_per_s"}
        missing = [key for key, constant in needed.items() if constant not in values]
        if missing:
            raise CatalogError(
                f"{entry.where}: {entry.name} must give TFlopsPeak and BwPeakTBs, as it is not "
                f"in the shipped catalog; missing: {', '.join(missing)}"
            )
        constants = RooflineV1Constants(**values)
        known = GpuSpec(entry.name, constants.peak_tflops, 0.0, constants)
    else:
        constants = replace(known.roofline_v1, **values)
    merged = replace(
        known,
        bf16_tflops_dense=constants.peak_tflops,
        hbm_gb_per_s=round(constants.bandwidth_tb_per_s * 1000, 6),
        roofline_v1=constants,
        source=source,
    )
    if memory_gib is None:
        return merged
    return replace(merged, memory_gib=memory_gib, memory_gib_is_estimate=False)


def _find_shipped(name: str, gpus: Iterable[GpuSpec]) -> GpuSpec | None:
    wanted = _normalised(name)
    for gpu in gpus:
        if any(_normalised(known) == wanted for known in (gpu.name, *gpu.aliases)):
            return gpu
    return None


@lru_cache(maxsize=4096)
def _normalised(name: str) -> str:
    """Return the name without case, punctuation and vendor words."""
    words = [w for w in re.split(r"[^0-9a-z]+", name.lower()) if w]
    kept = [w for w in words if w not in _VENDOR_WORDS]
    return "".join(kept or words)
