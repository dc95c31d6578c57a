"""``--requests-out``: one row per request, in order of ``request_id``.

``*_us`` are whole microseconds of client time, empty when absent; ``*_ms`` have three decimals
(``tpot_ms`` six).
"""

from __future__ import annotations

from blis_sim.metrics.columns import request_columns
from blis_sim.report.columns_file import RunTable

REQUESTS = RunTable("--requests-out", request_columns)
