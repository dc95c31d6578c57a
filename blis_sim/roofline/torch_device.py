"""PyTorch and a device to time on: found, or one line that says what is missing."""

from __future__ import annotations

import importlib
import platform
import re
from dataclasses import dataclass
from typing import Any

from blis_sim.errors import ConfigError

_LEAST_VERSION = (2, 5)
_ASSUMED_CACHE_BYTES = 64 * 10**6
_CPU_BYTES = 8 * 10**9


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A device and the library that drives it.

    Attributes
    ----------
    torch : module
        PyTorch.
    device : str
        ``cuda``, ``cuda:1``, ``cpu``.
    name : str
        What the driver calls it.
    free_bytes : int
        Memory that is free.
    cache_bytes : int
        Its last-level cache.
    """

    torch: Any
    device: str
    name: str
    free_bytes: int
    cache_bytes: int

    @property
    def is_cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.startswith("cuda")

    @property
    def software(self) -> str:
        """Version of PyTorch and of what is below it."""
        below = self.torch.version.cuda or getattr(self.torch.version, "hip", None)
        return f"PyTorch {self.torch.__version__}" + (f", CUDA {below}" if self.is_cuda else "")

    def wait(self) -> None:
        """Return when all work that was given to it is done."""
        if self.is_cuda:
            self.torch.cuda.synchronize(self.device)


def open_torch(device: str) -> TorchDevice:
    """Return a device.

    Parameters
    ----------
    device : str
        ``cuda``, ``cuda:N``, or ``cpu``: PyTorch on the processor.

    Raises
    ------
    ConfigError
        The name is another, PyTorch is not installed or too old, or it sees no such GPU.
    """
    wanted = device.strip().lower()
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", wanted):
        raise ConfigError(f"device must be cuda, cuda:N or cpu; got {device!r}")
    torch = _load_torch()
    if wanted == "cpu":
        name = platform.processor() or platform.machine()
        return TorchDevice(torch, wanted, name, _CPU_BYTES, _ASSUMED_CACHE_BYTES)
    if not torch.cuda.is_available():
        has_cuda = torch.version.cuda or getattr(torch.version, "hip", None)
        reason = (
            "sees no GPU: check nvidia-smi, the driver and CUDA_VISIBLE_DEVICES"
            if has_cuda
            else "is a build without CUDA: install one with CUDA from https://pytorch.org"
        )
        raise ConfigError(f"{wanted} must be a GPU; PyTorch {torch.__version__} {reason}")
    number = int(wanted.partition(":")[2] or 0)
    if number >= torch.cuda.device_count():
        raise ConfigError(
            f"device must be one of the {torch.cuda.device_count()} GPUs there are, from cuda:0; "
            f"got {wanted}"
        )
    properties = torch.cuda.get_device_properties(number)
    free_bytes, _ = torch.cuda.mem_get_info(number)
    cache = int(getattr(properties, "L2_cache_size", 0)) or _ASSUMED_CACHE_BYTES
    return TorchDevice(torch, f"cuda:{number}", str(properties.name), int(free_bytes), cache)


def _load_torch() -> Any:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ConfigError(
            "timing a model on a GPU needs PyTorch, which cannot be imported "
            f"({error}); install it with: pip install torch (https://pytorch.org/get-started)"
        ) from None
    found = re.match(r"(\d+)\.(\d+)", str(torch.__version__))
    if found is None or (int(found[1]), int(found[2])) < _LEAST_VERSION:
        raise ConfigError(
            f"PyTorch must be >= 2.5; got {torch.__version__}; pip install --upgrade torch"
        )
    return torch
