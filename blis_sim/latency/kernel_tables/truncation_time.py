"""How long top-k and top-p take, from measurements that vLLM's developers published.

All figures were measured with rows of 131,072 logits, most of them on an H100 with 132 SMs, and
are taken to be proportional to the logits of a row and inverse to the SMs of a GPU: neither
sorting nor searching is bound by the memory.

- Sorting rows with PyTorch, up to vLLM 0.16 and for less than 8 rows also later: 4.258 ms at 256
  rows and 0.128 ms at one (pull requests 32558 and 42191), most of the latter for launching. The
  line between them is below what was published for few rows (0.338 and 1.22 ms at 4 and 48, where
  the host launches sorts one after the other and the GPU waits), and within a fifth of it for 128
  and 512 rows of 32,768 logits on a B200 (0.626 and 1.694 ms, pull request 40376).
- Searching with the Triton kernel of vLLM 0.17: 0.324, 1.09 and 1.85 ms at 4, 48 and 256 rows for
  top-p alone, 0.168 and 0.179 ms at 4 and 48 rows when a top-k narrows the search (pull requests
  32558, 33538 and 42191). Some 256 rows with a top-k are as many times 48 as 512 rows of 32,768
  logits are 128 of them (0.314 and 0.143 ms, pull request 40376).
- From vLLM 0.21 on FlashInfer draws the token without masking: 0.05 to 0.13 ms for 128 to 512
  rows of 32,768 logits (pull request 40376), about what drawing it takes anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from blis_sim.transformer.kernels import Truncation, TruncationMethod

if TYPE_CHECKING:
    from blis_sim.latency.kernel_tables.arrays import FloatArray

_MEASURED_LOGITS, _MEASURED_SMS = 131_072, 132
_LAUNCH_US = 42.0
"""Sorting is 14 kernels, each of which takes at least 3 us."""
_SORT_US_PER_LOGIT = (4258 - 128) / (255 * _MEASURED_LOGITS)
_FEW_ROWS = 8
"""With fewer rows newer engines sort, too."""
_SEARCH_ROWS = (4.0, 48.0, 256.0)
_TOP_P_US = (324.0, 1090.0, 1850.0)
_TOP_K_US = (168.0, 179.0, 393.0)


def truncation_us(kernel: Truncation, factor: FloatArray, num_sms: int | None) -> FloatArray:
    """Return how long masking takes with that many times the rows, microseconds.

    Parameters
    ----------
    kernel : Truncation
        What is done.
    factor : float array
        Multiples of its rows, > 0.
    num_sms : int or None
        Streaming multiprocessors of the GPU; None = as many as an H100 has.
    """
    rows = kernel.rows * factor
    scale = _MEASURED_SMS / (num_sms or _MEASURED_SMS)
    sort_us = _LAUNCH_US + scale * _SORT_US_PER_LOGIT * kernel.vocab * rows
    if kernel.method is TruncationMethod.SORT:
        return sort_us
    us = _TOP_K_US if kernel.has_top_k else _TOP_P_US
    slope = (us[2] - us[1]) / (_SEARCH_ROWS[2] - _SEARCH_ROWS[1])
    beyond = np.maximum(rows - _SEARCH_ROWS[2], 0)
    search_us = np.interp(rows, _SEARCH_ROWS, us) + slope * beyond
    search_us *= scale * kernel.vocab / _MEASURED_LOGITS
    return np.where(rows < _FEW_ROWS, sort_us, search_us)
