"""Exact numbers: decisions of the gateway never depend on how floats round."""

from __future__ import annotations

from fractions import Fraction


def as_written(number: float) -> Fraction:
    """Return the decimal number that a user wrote.

    A tenth is exactly 1/10, which the float 0.1 is not: the shortest decimal that reads back as
    the float is taken.

    Parameters
    ----------
    number : float
        Finite.
    """
    return Fraction(repr(float(number)))
