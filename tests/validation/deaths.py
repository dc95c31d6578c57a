"""A task of which a worker dies; it is imported there, and little with it."""

from __future__ import annotations

import os


def die_at_2(number: int) -> int:
    """Return the number; the worker that gets 2 is gone."""
    if number == 2:
        os._exit(1)
    return number
