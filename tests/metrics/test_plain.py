from __future__ import annotations

import hashlib
import math
from pathlib import PurePosixPath

import numpy as np
import pytest

from blis_sim.metrics.plain import canonical_sha256, to_plain
from blis_sim.metrics.records import Status


def test_every_value_becomes_plain() -> None:
    """Numpy values, enums, paths, tuples and non-finite floats get their JSON form."""
    value = {
        "rate": math.inf,
        "below": -math.inf,
        "nothing": math.nan,
        "count": np.int64(3),
        "array": np.array([1.5, math.nan]),
        "state": Status.DROPPED,
        "path": PurePosixPath("a/b"),
        "pair": (1, True),
    }
    assert to_plain(value) == {
        "rate": "inf",
        "below": "-inf",
        "nothing": None,
        "count": 3,
        "array": [1.5, None],
        "state": 4,
        "path": "a/b",
        "pair": [1, True],
    }
    assert type(to_plain(np.int64(3))) is int


def test_unknown_type_is_an_error() -> None:
    """A value without a JSON form is refused rather than written by its repr."""
    with pytest.raises(TypeError, match="a set has no JSON form"):
        to_plain({1, 2})


def test_hash_ignores_the_order_of_keys() -> None:
    """Equal scenarios have equal hashes; another value has another one."""
    assert canonical_sha256({"a": 1, "b": [2]}) == canonical_sha256({"b": [2], "a": 1})
    assert canonical_sha256({"a": 1}) != canonical_sha256({"a": 2})


def test_hash_is_that_of_the_canonical_text() -> None:
    """The hash can be recomputed by anybody from the documented text form."""
    text = '{"rate":"inf","who":"é"}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert canonical_sha256({"who": "é", "rate": math.inf}) == expected
