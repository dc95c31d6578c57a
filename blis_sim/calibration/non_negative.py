"""Linear least squares with coefficients >= 0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_TOLERANCE = 1e-10


def non_negative_least_squares(matrix: FloatArray, target: FloatArray) -> FloatArray:
    """Return ``x >= 0`` that minimises ``|matrix @ x - target|``.

    Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23: the active set method.

    Parameters
    ----------
    matrix : float64 array, shape (rows, columns)
        Columns of zeros get 0.
    target : float64 array, shape (rows,)
        What is to be reached.
    """
    norms = np.linalg.norm(matrix, axis=0)
    scaled = matrix / np.where(norms > 0, norms, 1.0)
    num_columns = matrix.shape[1]
    is_free = np.zeros(num_columns, dtype=bool)
    x = np.zeros(num_columns)
    least = _TOLERANCE * max(float(np.linalg.norm(target)), 1e-300)
    for _ in range(10 * num_columns + 10):
        gradient = scaled.T @ (target - scaled @ x)
        gradient[is_free] = -np.inf
        if is_free.all() or gradient.max() <= least:
            break
        is_free[int(gradient.argmax())] = True
        while True:
            trial = np.zeros(num_columns)
            trial[is_free] = np.linalg.lstsq(scaled[:, is_free], target, rcond=None)[0]
            below = is_free & (trial <= 0)
            if not below.any():
                x = trial
                break
            shares = x[below] / np.maximum(x[below] - trial[below], 1e-300)
            x = x + float(shares.min()) * (trial - x)
            is_free &= x > _TOLERANCE * max(float(np.abs(x).max()), 1e-300)
            x[~is_free] = 0.0
            if not is_free.any():
                break
    return x / np.where(norms > 0, norms, 1.0)
