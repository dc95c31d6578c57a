"""What is known of the roofs of GPUs besides tensor peaks and the bandwidth of the memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from blis_sim.catalog.paths import configs_dir, read_shipped_yaml
from blis_sim.errors import CatalogError

FILE = "roofs.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRoofs:
    """Roofs of one GPU; None = not known.

    Attributes
    ----------
    half : str
        The 16-bit format of the tensor peak: ``bf16``, or ``fp16`` of GPUs before Ampere.
    int8_tflops_dense : float or None
        Dense int8 tensor peak of GPUs without fp8, 1e12 operations/s.
    fp32_vector_tflops : float or None
        fp32 peak of the vector units, TFLOP/s.
    l2_gb_per_s, l1_gb_per_s : float or None
        Measured read bandwidths of the caches, of the whole GPU, 1e9 bytes/s.
    measured : str
        On which GPU the bandwidths were measured when it was another one.
    """

    half: str = "bf16"
    int8_tflops_dense: float | None = None
    fp32_vector_tflops: float | None = None
    l2_gb_per_s: float | None = None
    l1_gb_per_s: float | None = None
    measured: str = ""


def roofs_of(gpu_name: str) -> GpuRoofs:
    """Return what ``configs/gpus/roofs.yaml`` says of a GPU, by its name in the catalog.

    Raises
    ------
    CatalogError
        The shipped file is missing or damaged.
    """
    return _read(configs_dir() / "gpus" / FILE).get(gpu_name, GpuRoofs())


@lru_cache(maxsize=4)
def _read(path: Path) -> dict[str, GpuRoofs]:
    import yaml

    try:
        entries = read_shipped_yaml(path)["gpus"]
        return {str(name): GpuRoofs(**values) for name, values in entries.items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as cause:
        raise CatalogError(f"{path} must be the shipped roofs of GPUs; got: {cause!r}") from cause
