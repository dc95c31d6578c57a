"""What every workload offers: a lazy stream of requests and a few facts about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from blis_sim.workload.clients import Clients, OpenSource
from blis_sim.workload.request import RequestSpec

Int64Array = npt.NDArray[np.int64]

CHUNK_REQUESTS = 4096
"""Requests drawn, or taken from a trace, at a time."""

MAX_TOKENS = 2**31 - 1
"""Largest length of a prompt or an answer, tokens."""

MAX_TIME_US = 10**15
"""Latest arrival a workload may have (about 31 years after the start), microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload(ABC):
    """A stream of requests that can be walked any number of times, always the same.

    Attributes
    ----------
    num_requests : int or None
        Length of the stream; None where only the walk itself can tell (a generated load
        that ends at the horizon).
    description : str
        One line for reports: what the load is and where it comes from.
    source : pathlib.Path or None
        The trace file; None for a generated load.
    notices : list of str
        What a user should know about how the settings or the file were read.
    slo_classes, tenants : tuple of str
        The labels that occur, in order of first appearance.
    """

    num_requests: int | None
    description: str
    source: Path | None = None
    notices: list[str] = field(default_factory=list)
    slo_classes: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()

    @abstractmethod
    def requests(self) -> Iterator[RequestSpec]:
        """Yield the requests in order of ``(arrival_us, request_id)``.

        The ids are 0, 1, 2, … without gaps. In a generated load and in a trace that is
        sorted by arrival they also increase along the stream; in an unsorted trace the id
        is the position of the row among the rows used. Of clients who wait for answers, what
        a server that answers at once would get.
        """

    @property
    def is_open(self) -> bool:
        """Whether the arrivals depend on nothing the server does."""
        return True

    def clients(self) -> Clients:
        """Return clients at the beginning of the load; their answers decide what they send."""
        return Clients(OpenSource(self.requests()))

    def __iter__(self) -> Iterator[RequestSpec]:
        return self.requests()


def build_requests(rows: Iterable[tuple[Any, ...]]) -> Iterator[RequestSpec]:
    """Return the rows as requests; each row has every field of RequestSpec, in its order.

    ``tuple.__new__`` builds the named tuple without a Python frame per request: a third of
    the cost of ``RequestSpec(*row)``.
    """
    make = cast("Callable[[tuple[Any, ...]], RequestSpec]", partial(tuple.__new__, RequestSpec))
    return map(make, rows)
