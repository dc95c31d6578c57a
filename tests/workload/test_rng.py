from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from blis_sim.errors import ConfigError
from blis_sim.rng import named_stream

_PROGRAM = """
import hashlib
from blis_sim.config.workload import WorkloadSettings
from blis_sim.workload.stream import open_workload
settings = WorkloadSettings(
    num_requests=3000, arrivals={"burstiness": 0.7}, prefix_tokens=64, num_prefix_groups=5
)
print(hashlib.sha256(repr(list(open_workload(settings, 7))).encode()).hexdigest())
"""


def test_same_seed_and_names_give_the_same_stream() -> None:
    """A stream depends on the seed and its names only."""
    first, second = (named_stream(7, "workload", "arrivals").random(5) for _ in range(2))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize(
    ("seed", "names"),
    [(8, ("a", "b")), (7, ("a",)), (7, ("b", "a")), (7, ("ab",)), (7, ("a", "b", ""))],
)
def test_other_seeds_and_names_give_other_streams(seed: int, names: tuple[str, ...]) -> None:
    """Names are told apart, also where they would be equal written one after the other."""
    reference = named_stream(7, "a", "b").random(5)
    assert named_stream(seed, *names).random(5).tolist() != reference.tolist()


def test_streams_are_not_correlated() -> None:
    """Two purposes of one seed draw independently of one another."""
    count = 20_000
    one, two = (named_stream(1, name).standard_normal(count) for name in ("one", "two"))
    assert abs(float(np.mean(one * two))) < 4.5 / np.sqrt(count)


def test_negative_seed_is_refused() -> None:
    """A seed is a whole number from 0."""
    with pytest.raises(ConfigError, match=r"seed must be a whole number >= 0; got -1"):
        named_stream(-1, "x")


def test_workload_does_not_depend_on_the_process() -> None:
    """The same seed gives the same requests whatever PYTHONHASHSEED is."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "4242")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64
