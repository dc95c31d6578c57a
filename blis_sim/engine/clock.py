"""The clock: whole microseconds, and a total order of simultaneous events.

SimPy breaks ties by the order of insertion. A coalesced run inserts its end at another
moment than the plain loop would, so ties must be broken by what an event *is*: its
:class:`Priority`, then the instance and request it belongs to. Both are packed into the
integer SimPy sorts by.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import simpy

if TYPE_CHECKING:
    from collections.abc import Callable

    from simpy.events import EventCallbacks

_REQUEST_BITS = 40
_INSTANCE_BITS = 16


class Priority(IntEnum):
    """Order of events at one instant, first to last."""

    STEP_END = 0
    TRANSFER_END = 1
    ARRIVAL = 2
    """Arrivals, aborts and timeouts."""
    GATEWAY = 3
    SCHEDULING = 4
    OBSERVER = 5
    HORIZON = 6


def order_key(priority: Priority, instance: int = 0, request_id: int = 0) -> int:
    """Return the sort key of an event among those of its instant."""
    return ((priority << _INSTANCE_BITS | instance) << _REQUEST_BITS) | request_id


class Latch(simpy.Event):
    """An event that is fired from outside, for an exact instant, in the order of a key.

    It may be fired again, for another instant: the earliest firing counts, the others find no
    callbacks and do nothing.
    """

    _waiting: EventCallbacks

    def __init__(self, env: simpy.Environment) -> None:
        # As simpy.Timeout: triggered from the start, without the base class's detour.
        self.env = env
        self._waiting = []
        self._value = None
        self._ok = True

    # SimPy takes the callbacks away by setting None, which the next firing could not read.
    @property
    def callbacks(self) -> EventCallbacks:
        """Who waits for it."""
        return self._waiting

    @callbacks.setter
    def callbacks(self, value: EventCallbacks | None) -> None:
        self._waiting = [] if value is None else value

    def fire(self, delay_us: int, key: int) -> None:
        """Fire ``delay_us`` from now, ordered by ``key``."""
        self.env.schedule(self, key, delay_us)  # type: ignore[arg-type]


class Moment(Latch):
    """A latch that is fired when it is made."""

    def __init__(self, env: simpy.Environment, delay_us: int, key: int) -> None:
        self.env = env
        self._waiting = []
        self._value = None
        self._ok = True
        env.schedule(self, key, delay_us)  # type: ignore[arg-type]


class Alarm(Latch):
    """A latch that calls the same function every time it is fired.

    Parameters
    ----------
    env : simpy.Environment
        The clock.
    action : callable
        What it calls.
    """

    def __init__(self, env: simpy.Environment, action: Callable[[], None]) -> None:
        super().__init__(env)
        self._always: EventCallbacks = [lambda _event: action()]

    @property
    def callbacks(self) -> EventCallbacks:
        """Who waits for it."""
        return self._always

    @callbacks.setter
    def callbacks(self, value: EventCallbacks | None) -> None:
        """Stay."""


def call_at(env: simpy.Environment, delay_us: int, key: int, action: Callable[[], None]) -> None:
    """Call ``action`` ``delay_us`` from now, ordered by ``key``."""

    def run(_event: simpy.Event) -> None:
        action()

    Moment(env, delay_us, key).callbacks.append(run)
