"""Random streams: one per purpose, all from one seed."""

from __future__ import annotations

import hashlib

import numpy as np

from blis_sim.errors import ConfigError


def named_stream(seed: int, *names: str) -> np.random.Generator:
    """Return the random stream of one purpose, e.g. ``named_stream(42, "workload", "arrivals")``.

    The names are hashed (SHA-256) into the spawn key of a ``SeedSequence``, so that a new
    purpose never disturbs the draws of another, and the same seed and names give the same
    stream in every process and on every machine with the same numpy.

    Parameters
    ----------
    seed : int
        Seed of the run, >= 0.
    *names : str
        What the stream is for, from the general to the particular.

    Returns
    -------
    numpy.random.Generator
        A fresh PCG64 generator at the start of its stream.

    Raises
    ------
    ConfigError
        If ``seed`` is negative.
    """
    if seed < 0:
        raise ConfigError(f"seed must be a whole number >= 0; got {seed}")
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    spawn_key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4))
    sequence = np.random.SeedSequence(seed, spawn_key=spawn_key)
    return np.random.Generator(np.random.PCG64(sequence))
