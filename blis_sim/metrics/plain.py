"""Values as JSON can hold them, and the hash of a scenario."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np


def to_plain(value: Any) -> Any:
    """Return ``value`` with plain Python types only, ready for strict JSON.

    Numpy scalars and arrays, enums, paths, tuples and mappings are converted; infinity
    becomes the string ``"inf"`` (as vLLM writes it), NaN becomes None.

    Raises
    ------
    TypeError
        A value of a type that has no JSON form.
    """
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, np.generic | np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, float):
        return _plain_float(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(to_plain(key)): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    raise TypeError(f"a {type(value).__name__} has no JSON form: {value!r}")


def _plain_float(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def canonical_sha256(value: Any) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of ``value``.

    Canonical: keys sorted, no spaces, UTF-8. Equal values have equal hashes whatever the
    order of their keys.
    """
    text = json.dumps(
        to_plain(value),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
