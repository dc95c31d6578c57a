"""The array types of this room."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def floats(values: Any) -> FloatArray:
    """Return ``values`` as float64."""
    return np.asarray(values, dtype=np.float64)
